"""What a job's code hash counts: every line that can change a number or lose a state, and little more."""

import ast
import io
import keyword
import shutil
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from workflow import fingerprint, jobcode, specs
from workflow.fingerprint import UNHASHED, closure, hashed, path_of

ROOT = Path(__file__).resolve().parents[1]
ENTRY = "baselines.dcgan"
TRAIN = (jobcode.COMMAND["train"], ENTRY)

# Kind of job -> lines of code at most that its command's hash counts, without the model's. Before what a job reaches
# was cut: 1,614 (train), 773, 1,012, 1,012, 978, 987, 1,242, 1,028, 2,105, 1,265, 780, 780.
CEILINGS = {
    "train": 1_220,
    "classifier": 380,
    "sample": 690,
    "grid": 690,
    "interpolate": 780,
    "growth": 760,
    "reconstruct": 990,
    "score": 800,
    "landscape": 1_870,
    "generation": 1_080,
    "auroc": 600,
    "auprc": 600,
}


@pytest.mark.parametrize("kind", CEILINGS)
def test_jobs_reach_few_lines(kind: str) -> None:
    assert fingerprint.lines([jobcode.COMMAND[kind]]) <= CEILINGS[kind]


# Seven commits changed code that every training reached, and no number. Where what they changed is defined today:

CHANGED_WITHOUT_A_NUMBER = {
    "6035f07": {"dtri.data.rawfiles": {"RawFile", "find_raw", "verify_raw", "measure", "identity"}},
    "895ba05": {
        "dtri.data.rawfiles": {"RawFile"},
        "dtri.data.saving": {"Arrays", "Streamed", "save", "check_space"},
    },
    "7918636": {"dtri.data.saving": {"save"}, "dtri.arrays": {"write_array"}},
    "460481f": {"dtri.report.records": {"Record"}},
    "188c311": {"dtri.process_group": {"ProcessGroup"}},
    "4486923": {"dtri.process_group": {"LocalRows"}},
    "0fb4163": {"dtri.process_group": {"LocalRows"}},
}


@pytest.mark.parametrize("commit", CHANGED_WITHOUT_A_NUMBER)
def test_such_a_commit_would_make_no_training_of_one_process_stale(commit: str) -> None:
    for module, names in CHANGED_WITHOUT_A_NUMBER[commit].items():
        assert names <= set(definitions(path_of(module).read_text("utf-8")))
        assert module not in closure(TRAIN)


def test_a_training_of_several_processes_reaches_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    run = specs.Run("demo", "cifar10", "dcgan", 0)
    alone, code = jobcode.train_modules(run), jobcode.training_code(run)
    spec = specs.train_spec(run)
    several = type(spec)(**{**vars(spec), "processes": 2, "batch_size": 2 * spec.batch_size})
    monkeypatch.setattr(jobcode, "train_spec", lambda _: several)
    assert set(closure(jobcode.train_modules(run))) - set(closure(alone)) == {"dtri.process_group"}
    assert jobcode.training_code(run) != code


# Mutation: every definition counts where it is reached, and nowhere else


def definitions(text: str) -> dict[str, ast.stmt]:
    """Functions, classes and their methods, and assignments of a module, by name."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, ast.FunctionDef):
                    found[f"{node.name}.{part.name}"] = part
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found[ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)] = node
    return found


def mutants(text: str) -> Iterator[tuple[str, str]]:
    """(definition, the module's text with one number, operator or name of it changed), for every definition."""
    swapped = {"<": ">", ">": "<", "<=": "<", ">=": ">", "==": "!=", "and": "or"}
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for name, node in definitions(text).items():
        last = node.body[-1] if isinstance(node, ast.FunctionDef | ast.ClassDef) else node
        inside = [token for token in tokens if last.lineno <= token.start[0] <= last.end_lineno]
        numbers = [token for token in inside if token.type == tokenize.NUMBER]
        operators = [token for token in inside if token.string in swapped]
        words = [*inside, *(token for token in tokens if token.start[0] == node.lineno)]
        names = [token for token in words if token.type == tokenize.NAME and not keyword.iskeyword(token.string)]
        for token in [*numbers, *operators, *names][:1]:
            lines = text.splitlines(keepends=True)
            row, column = token.start[0] - 1, token.start[1]
            longer = f"1{token.string}" if token.type == tokenize.NUMBER else f"{token.string}1"
            new = swapped.get(token.string, longer)
            lines[row] = lines[row][:column] + new + lines[row][column + len(token.string) :]
            yield name, "".join(lines)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources, whose hashes leave nothing in the memory of this one's."""
    known: dict = {}
    monkeypatch.setattr(fingerprint, "_memory", lambda: known)
    for room in ("dtri", "baselines", "workflow"):
        ignored = shutil.ignore_patterns("__pycache__", "profiles")
        shutil.copytree(ROOT / room, tmp_path / room, ignore=ignored)
    yield tmp_path
    forget()


def forget() -> None:
    for remembered in (fingerprint._read, fingerprint.imports, fingerprint.fingerprint):
        remembered.cache_clear()


def hash_of(root: Path) -> str:
    forget()
    return fingerprint.fingerprint(TRAIN, root)


def test_every_definition_counts_where_it_is_reached_and_nowhere_else(checkout: Path) -> None:
    before, reached = hash_of(checkout), set(hashed(TRAIN))
    wrong, counted = [], 0
    for path in sorted(checkout.rglob("*.py")):
        module = ".".join(path.relative_to(checkout).with_suffix("").parts)
        text = path.read_text("utf-8")
        for name, mutant in mutants(text):
            path.write_text(mutant, "utf-8")
            if (hash_of(checkout) != before) != (module in reached):
                wrong.append(f"{module}.{name}")
            counted += module in reached
            path.write_text(text, "utf-8")
            if module not in reached:
                break  # one of a module that is not reached will do
    assert wrong == []
    assert counted > 150
    assert hash_of(checkout) == before


# What no hash counts


def test_what_no_hash_counts_is_told_numbers_and_makes_none() -> None:
    """Such a module imports nothing that a number is made with, but for torch to ask for devices."""
    for module in UNHASHED:
        nodes = list(ast.walk(ast.parse(path_of(module).read_text("utf-8"))))
        packages = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        packages |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        found = {name.split(".")[0] for name in packages} & {"torch", "numpy", "random", "math"}
        assert found <= ({"torch"} if module == "dtri.device" else set())


def test_what_no_hash_counts_returns_words() -> None:
    """Words, paths and devices, but for an exit code, free memory, and how often a run was started."""
    words = {"None", "str", "Iterator[None]", "dict[str, str]", "dict[str, Any]", "str | None"}
    words |= {"Path", "dict[str, Path]", "torch.device", "Iterator[torch.device]", "Iterator[list[torch.device]]"}
    others = {}
    for module in UNHASHED:
        for name, node in definitions(path_of(module).read_text("utf-8")).items():
            returned = ast.unparse(node.returns) if isinstance(node, ast.FunctionDef) and node.returns else "None"
            if returned not in words and not name.split(".")[-1].startswith("_"):
                others[f"{module}.{name}"] = returned
    assert others == {
        "dtri.device.free_bytes": "int",  # of memory, for advice
        "dtri.progress.earlier_attempts": "int",
        "dtri.slots.hold": "Iterator[list[int]]",
        "workflow.commands.cli.run": "int",
    }
