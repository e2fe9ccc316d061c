"""The command `dtri`: light help, one name for one thing, folders as targets, pipes that end early."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.test_architecture import HEAVY, loaded
from workflow import cli, configuration, plan, specs, targets
from workflow.commands import run

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ROOT / "workflow" / "commands"
RUN = "results/demo/digits/vae/seed0"
SHARED_CODE = {"__init__", "cli", "measuring", "provenance"}  # of workflow/commands, and no command


def test_help_is_light() -> None:
    """No pandas, no torch, no YAML: it answers as fast as Python starts."""
    found = loaded("import sys; sys.argv = ['dtri', '--help']; from workflow import cli; cli.main()")
    assert found.isdisjoint({*HEAVY, "numpy", "yaml", "pydantic", "snakemake"})


def test_every_command_is_there_and_every_file_is_listed() -> None:
    listed = {target.partition(":")[0] for target, _ in cli.COMMANDS.values()} | set(cli.INTERNAL)
    assert listed == {path.stem for path in COMMANDS.glob("*.py")} - SHARED_CODE
    for target, what in cli.COMMANDS.values():
        module, _, function = target.partition(":")
        tree = ast.parse((COMMANDS / f"{module}.py").read_text("utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert what in cli.text()


def options(path: Path) -> dict[str, dict[str, str]]:
    """{option: its keyword arguments as text} of a command's file."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    added = [call for call in calls if ast.unparse(call.func).endswith("add_argument")]
    return {call.args[0].value: {one.arg: ast.unparse(one.value) for one in call.keywords} for call in added}


@pytest.mark.parametrize("path", sorted(COMMANDS.glob("*.py")), ids=lambda path: path.stem)
def test_one_name_for_one_option(path: Path) -> None:
    """Where to write, where to compute and where raw files lie are asked for by one name each."""
    names = options(path).keys()
    assert names.isdisjoint({"--output", "--outdir", "--gpu", "--cuda", "--drop-folder", "--results", "--weights-file"})
    if path.stem != "run":
        assert options(path).get("--device", {}).get("help") in (None, "'auto, cpu or gpu; DTRI_DEVICE overrides'")
    assert "drop folder" in options(path).get("--downloads", {}).get("help", "drop folder")


def test_unknown_commands_are_named(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["dtri", "tabel"])
    assert cli.main() == 2
    assert "unknown command 'tabel' (known: run, plan, " in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert cli.dispatch(words) == 0
    printed = capsys.readouterr().out
    public, _, internal = printed.partition("Called by rules")
    assert "sample" in public
    assert "generation" in internal
    assert "generation" not in public


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_completion_is_a_script_that_the_shell_accepts(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    script = cli.completion(shell)
    if shell == "bash":
        script += "COMP_WORDS=(dtri ta) COMP_CWORD=1; _dtri; echo ${COMPREPLY[*]}\n"
    done = subprocess.run(
        [program, "-n"] if shell == "zsh" else [program], input=script, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == ("table" if shell == "bash" else "")


def test_a_pipe_that_ends_early_is_no_error() -> None:
    many = "sys.exit(run(lambda: [print('x' * 99) for _ in range(10_000)] and 0))"
    command = f"import sys; from workflow.commands.cli import run; {many}"
    with subprocess.Popen(
        [sys.executable, "-c", command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == f"{'x' * 99}\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + 13


# Targets


def test_a_run_stands_for_its_metrics() -> None:
    found = targets.expand(f"{RUN}/")
    assert {Path(path).stem for path in found} == {
        *(f"{metric}_domain" for metric in configuration.GENERATION_METRICS),
        *("rmse", "mse", "auroc_photos_1x28x28", "auroc_uniform_1x28x28"),
    }
    assert all(path.startswith(f"{RUN}/metrics/") for path in found)


def test_a_run_has_the_metrics_of_its_maps_alone() -> None:
    """DCGAN has neither encoder nor energy; ranks on hold-outs need labels."""
    found = {Path(path).stem for path in targets.expand("results/demo/digits/dcgan/seed0")}
    assert found == {f"{metric}_domain" for metric in configuration.GENERATION_METRICS}
    assert "auprc" in {Path(path).stem for path in targets.expand("results/demo/digits_holdout4/vae/seed0")}


@pytest.mark.parametrize("name", configuration.models())
def test_every_record_that_tables_ask_for_is_among_those_of_its_run(name: str) -> None:
    """So the maps that are read from the text of a class are those that it has."""
    asked = [
        path
        for table in plan.TABLES
        for path in plan.table_records(configuration.preset("demo"), table)
        if f"/{name}/" in path
    ]
    for path in asked:
        run_, stem = specs.run_at(Path(path)), Path(path).stem
        assert stem in targets.possible(run_), path


def test_folders_of_presets_datasets_and_systems() -> None:
    assert targets.expand("results/demo") == plan.preset_products(configuration.preset("demo"))
    assert targets.expand("results/data/digits") == specs.dataset("digits").files
    seeds = {path.split("/")[4] for path in targets.expand("results/lite/mnist/vae")}
    assert seeds == {f"seed{seed}" for seed in configuration.preset("lite").seeds}
    assert targets.expand("demo") == ["demo"]
    assert targets.expand("results/demo/table1.csv") == ["results/demo/table1.csv"]


@pytest.mark.parametrize(
    "word, message",
    [
        ("results/dema", "unknown preset 'dema'"),
        ("results/demo/digitz/vae", "unknown dataset 'digitz'"),
        ("results/demo/digits/vea/seed0", "unknown model 'vea'"),
        ("results/data/digitz", "unknown dataset 'digitz'"),
        (f"{RUN}/metrics/fidd_domain.json", "unknown metric 'fidd_domain' \\(known: fid_inception, "),
        (f"{RUN}/metrics/fid.json", "unknown metric 'fid'"),
    ],
)
def test_unknown_parts_of_a_target_are_named(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        targets.expand(word)


# dtri run, fetch, prepare


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What this process would become."""
    calls: list[list[str]] = []

    def execv(program: str, words: list[str]) -> None:
        calls.append(words)
        raise SystemExit(0)

    monkeypatch.setattr(run.os, "execv", execv)
    monkeypatch.setattr(run, "_cores", lambda: 3)
    return calls


def command(function, *words: str) -> None:
    with pytest.raises(SystemExit):
        function(list(words))


SNAKEFILE = ["--snakefile", str(ROOT / "Snakefile")]


def test_run_passes_options_through(started: list[list[str]]) -> None:
    command(run.main, "demo", "--dry-run", "--resources", "gpu=4")
    command(run.main, "demo", "--cores", "1", "--downloads", "raw", "--offline", "--device", "cpu")
    command(run.main, "demo", "-j2", "--config", "runs_per_gpu=2")
    begin = [sys.executable, "-m", "snakemake", "demo"]
    assert started == [
        [*begin, "--dry-run", "--resources", "gpu=4", *SNAKEFILE, "--cores", "3"],
        [*begin, "--cores", "1", *SNAKEFILE, "--config", "downloads=raw", "device=cpu", "offline=True"],
        [*begin, "-j2", *SNAKEFILE, "--config", "runs_per_gpu=2"],
    ]


@pytest.mark.parametrize("home, here", [("home", False), ("file", True)])
def test_a_home_that_takes_no_cache(
    home: str, here: bool, started: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / home))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(sys, "argv", ["dtri", "run", "demo"])
    with pytest.raises(SystemExit):
        cli.dispatch(["run", "demo"])
    assert os.environ["XDG_CACHE_HOME"] == (str(tmp_path / ".snakemake" / "cache") if here else "")


def test_run_wants_a_target(started: list[list[str]]) -> None:
    for words in ([], ["--dry-run"]):
        with pytest.raises(ValueError, match="expected a TARGET as the first word, found none"):
            run.main(words)
    assert started == []


def test_fetch_and_prepare_take_names_of_datasets(started: list[list[str]]) -> None:
    command(run.fetch, "mnist", "svhn", "--downloads", "raw")
    command(run.prepare, "mnist_holdout4")
    assert [words[3:] for words in started] == [
        [
            *(f"results/data/{name}/fetch.json" for name in ("mnist", "svhn")),
            *(*SNAKEFILE, "--cores", "3", "--config", "downloads=raw"),
        ],
        [*specs.dataset("mnist_holdout4").files, *SNAKEFILE, "--cores", "3"],
    ]
    with pytest.raises(ValueError, match="unknown dataset 'minst'"):
        run.fetch(["minst"])


# Installed


def test_installed_in_place_without_a_network(tmp_path: Path) -> None:
    """As the Makefile does it: the command runs, and `import dtri` works, in any folder."""
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    if uv is None:
        pytest.skip("no uv beside this Python")
    checkout, elsewhere, venv = (tmp_path / name for name in ("checkout", "elsewhere", "venv"))
    elsewhere.mkdir()
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    for room in ("dtri", "workflow/commands"):
        shutil.copytree(ROOT / room, checkout / room, ignore=shutil.ignore_patterns("__pycache__", "*.csv"))
    for name in ("__init__.py", "cli.py", "overlay.py"):
        shutil.copy(ROOT / "workflow" / name, checkout / "workflow")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/*/site-packages")
    (site / "packages.pth").write_text(next(word for word in sys.path if word.endswith("site-packages")))
    makefile = (ROOT / "Makefile").read_text()
    options = next(line for line in makefile.splitlines() if "--editable" in line).split("$(BIN)/python")[1].split()
    python = venv / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--offline", "--python", python, *options], cwd=checkout, check=True
    )
    done = subprocess.run([venv / "bin" / "dtri", "--help"], cwd=elsewhere, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "dtri run results/demo/table1.csv" in done.stdout
    found = subprocess.run(
        [python, "-c", "import dtri; print(dtri.__file__)"], cwd=elsewhere, capture_output=True, text=True
    )
    assert found.stdout.strip() == str(checkout / "dtri" / "__init__.py")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"] == {"dtri": "workflow.cli:main"}


@pytest.mark.parametrize("word", ["results/data/digits/meta.json", "results/demo/figures/samples.png", "demo"])
def test_a_file_or_a_word_stays_as_it_is(word: str) -> None:
    assert targets.expand(word) == [word]
