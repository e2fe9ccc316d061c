"""pyproject.toml, environment.yml, requirements.lock, the Makefile and the imports describe one environment."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from snakemake.cli import get_argument_parser

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()

CONDA_NAMES = {
    "pytorch-gpu": "torch",
    "matplotlib-base": "matplotlib",
    "snakemake-minimal": "snakemake",
    "python-lmdb": "lmdb",
}
IMPORT_NAMES = {"sklearn": "scikit-learn", "yaml": "pyyaml", "PIL": "pillow"}
OWN_ROOMS = ("dtri", "baselines", "workflow", "bench", "tests")
# In pieces, so that this file does not match itself.
INDEX_ADDRESSES = re.compile(
    "|".join(
        (
            r"pypi\." + "org",
            r"pythonhosted\." + "org",
            r"download\.pytorch\." + "org/whl",
            r"conda\.anaconda\." + "org",
            r"(?:https?|file)://\S*/" + r"simple\b",
        )
    )
)


def parse(lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


EXTRAS = {name: parse(lines) for name, lines in PROJECT["optional-dependencies"].items()}
RUNTIME = parse(PROJECT["dependencies"])


def conda_requirements() -> dict[str, Requirement]:
    """environment.yml as requirements under their package-index names, without python and pip."""
    lines: list[str] = []
    for entry in CONDA["dependencies"]:
        if isinstance(entry, dict):
            lines += entry["pip"]
            continue
        name, _, bounds = entry.split("::")[-1].partition(" ")
        if name not in ("python", "pip"):
            lines.append(f"{CONDA_NAMES.get(name, name)}{bounds}")
    return parse(lines)


def pins() -> list[tuple[Requirement, int]]:
    """Every pin of the lock file with its number of sha256 hashes."""
    text = "\n".join(line for line in LOCK.splitlines() if not line.lstrip().startswith("#")).replace("\\\n", " ")
    return [(Requirement(line.split(" --hash")[0]), line.count("--hash=sha256:")) for line in text.splitlines()]


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere in it; a workflow file is read line by line, as it is not Python."""
    text = path.read_text()
    if path.suffix != ".py":
        return set(re.findall(r"^\s*(?:import|from)\s+(\w+)", text, re.MULTILINE))
    names: set[str] = set()
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).split(".")[0])
    return names


def sources(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        yield from sorted((ROOT / room).rglob("*.py"))
        yield from sorted((ROOT / room).rglob("*.smk"))


def undeclared(paths: Iterator[Path], declared: set[str]) -> set[str]:
    """`file: package` for every third-party import that is not declared."""
    known = {*sys.stdlib_module_names, *OWN_ROOMS}
    return {
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for name in imports(path) - known
        if canonicalize_name(IMPORT_NAMES.get(name, name)) not in declared
    }


def test_conda_names_and_bounds_are_those_of_pyproject() -> None:
    expected = {name: r.specifier for name, r in {**RUNTIME, **EXTRAS["slurm"]}.items()}
    assert {name: r.specifier for name, r in conda_requirements().items()} == expected


def test_conda_channels() -> None:
    assert CONDA["channels"] == ["conda-forge", "bioconda", "nodefaults"]


def test_conda_python_is_supported() -> None:
    (python,) = [d for d in CONDA["dependencies"] if isinstance(d, str) and d.split()[0] == "python"]
    assert python.split()[1].lstrip("=") in SpecifierSet(PROJECT["requires-python"])


def test_makefile_accepts_the_supported_pythons() -> None:
    bounds = {s.operator: s.version.replace(".", ", ") for s in SpecifierSet(PROJECT["requires-python"])}
    expected = f"({bounds['>=']}) <= sys.version_info[:2] < ({bounds['<']})"
    assert expected in (ROOT / "Makefile").read_text()


def test_lock_pins_every_declared_package_inside_its_range() -> None:
    locked = {canonicalize_name(r.name): next(iter(r.specifier)) for r, _ in pins()}
    for name, declared in {**RUNTIME, **EXTRAS["slurm"], **EXTRAS["dev"]}.items():
        assert name in locked, f"{name} is not in requirements.lock: make lock"
        assert locked[name].operator == "=="
        assert locked[name].version in declared.specifier, f"{name} {locked[name]} outside {declared.specifier}"


def test_lock_has_one_exact_pin_per_package_with_a_hash() -> None:
    entries = pins()
    assert len({canonicalize_name(r.name) for r, _ in entries}) == len(entries)
    for requirement, n_hashes in entries:
        assert re.fullmatch(r"==[\w.+!]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert n_hashes >= 1, f"{requirement.name} has no sha256"


def test_lock_names_no_address() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*-(?!-hash=)", LOCK, re.MULTILINE), "an option line, such as an index or find-links"


def test_lock_names_the_command_that_makes_it() -> None:
    header = " ".join(LOCK.split("\n", 2)[1].lstrip("# ").split())
    recipe = " ".join((ROOT / "Makefile").read_text().replace("\\\n", " ").split())
    assert header.replace(" --output-file", " --quiet --output-file") in recipe


def test_imports_of_the_program_are_runtime_dependencies() -> None:
    optional = {name for extra, packages in EXTRAS.items() if extra != "dev" for name in packages}
    paths = [*sources("dtri", "baselines", "workflow", "bench"), *ROOT.glob("Snakefile")]
    assert not undeclared(iter(paths), {*RUNTIME, *optional})


def test_imports_of_the_tests_are_declared() -> None:
    assert not undeclared(sources("tests"), {*RUNTIME, *(name for packages in EXTRAS.values() for name in packages)})


def test_no_tracked_file_names_a_package_index() -> None:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    texts = {p.relative_to(ROOT): p.read_text(errors="replace") for p in paths if p.is_file()}
    assert not [f"{path}: {hit[0]}" for path, text in texts.items() if (hit := INDEX_ADDRESSES.search(text))]


def test_the_makefile_calls_snakemake_as_its_parser_understands() -> None:
    """An option that takes several words swallows the targets behind it: `--quiet all results/demo/all.csv`."""
    lines = (line.strip().lstrip("@") for line in (ROOT / "Makefile").read_text("utf-8").splitlines())
    calls = [line.replace("$(CORES)", "2").partition("&&")[0] for line in lines if line.startswith("snakemake ")]
    parsed = [get_argument_parser().parse_args(shlex.split(call)[1:]) for call in calls]
    assert {word for one in parsed for word in one.targets} >= {"demo", "results/demo/all.csv"}
