"""Rooms and arrows: which module may import which. The import graph is the rebuild graph, so an arrow costs retraining.

Imports are those that drive the fingerprints (`workflow.fingerprint.imports`), also those inside functions.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture import MAY_IMPORT, MODELS, PAGE, READERS, REPORTERS, WHY, page
from workflow.fingerprint import FIRST_PARTY, closure, imports, path_of

ROOT = Path(__file__).resolve().parents[1]


def named(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = sorted(path for room in FIRST_PARTY for path in (ROOT / room).rglob("*.py"))
MODULES = [named(path) for path in FILES if path.name != "__init__.py"]
METHODS = [module for module in MODULES if module.startswith(MODELS)]
JOBS = [m for m in MODULES if m.startswith("workflow.commands.") and m.split(".")[2] not in READERS]


def inside(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def forbidden(module: str, imported: frozenset[str]) -> list[str]:
    """What `module` imports against the table; ValueError when it stands in no room."""
    rooms = [room for room in MAY_IMPORT if inside(module, room)]
    if not rooms:
        raise ValueError(f"{module} stands in no room of the table")
    allowed = MAY_IMPORT[max(rooms, key=len)]
    return sorted(name for name in imported if not any(inside(name, room) for room in allowed))


def statements(module: str) -> list[ast.Import | ast.ImportFrom]:
    tree = ast.parse(path_of(module).read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def packages(module: str) -> set[str]:
    """Top-level names of all that a file imports, third parties included."""
    names = set()
    for node in statements(module):
        names.update([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    return {name.split(".")[0] for name in names if name}


@pytest.mark.parametrize("module", MODULES)
def test_arrows(module: str) -> None:
    assert forbidden(module, imports(module)) == []


@pytest.mark.parametrize(
    "module, imported",
    [
        ("dtri.engine", "workflow.plan"),
        ("dtri.engine", "dtri.models.divergence_triangle"),
        ("dtri.engine", "baselines.vae"),
        ("dtri.models.divergence_triangle", "dtri.engine"),
        ("dtri.models.divergence_triangle", "dtri.models.joint_vae_ebm"),
        ("baselines.vae", "baselines.dcgan"),
        ("baselines.vae", "dtri.metrics.ranking"),
        ("dtri.report.tidy", "dtri.model"),
        ("dtri.data.mnist", "dtri.report.records"),
        ("workflow.tables.table1", "dtri.report.render"),
        ("workflow.plan", "dtri.engine"),
        ("workflow.commands.train", "workflow.plan"),
        ("workflow.commands.train", "workflow.fingerprint"),
        ("workflow.commands.train", "dtri_other.thing"),
    ],
)
def test_the_table_refuses(module: str, imported: str) -> None:
    assert forbidden(module, frozenset({imported})) == [imported]


def test_the_page_is_current() -> None:
    """`python -m tests.architecture` writes it anew."""
    assert set(WHY) == set(MAY_IMPORT)
    assert (ROOT / PAGE).read_text("utf-8") == page()


def test_every_module_stands_in_a_room() -> None:
    with pytest.raises(ValueError, match=r"dtri\.attic stands in no room"):
        forbidden("dtri.attic", frozenset())


@pytest.mark.parametrize("path", FILES, ids=named)
def test_packages_are_empty_and_imports_absolute(path: Path) -> None:
    if path.name == "__init__.py":
        assert path.read_text() == "", "a package that imports makes every one of its modules a reason to retrain"
    else:
        relative = [node.lineno for node in statements(named(path)) if isinstance(node, ast.ImportFrom) and node.level]
        assert relative == [], "the fingerprint does not follow relative imports"


@pytest.mark.parametrize("method", METHODS)
def test_no_method_reaches_another(method: str) -> None:
    assert [module for module in closure([method]) if module in METHODS] == [method]


@pytest.mark.parametrize("job", JOBS)
def test_no_job_reaches_the_plan_or_a_method(job: str) -> None:
    """Else every edit of a table, a figure or a baseline would run it again."""
    reached = closure([job])
    rooms = (
        "workflow.configuration",
        "workflow.specs",
        "workflow.jobcode",
        "workflow.plan",
        "workflow.fingerprint",
        "workflow.tables",
        "workflow.figures",
        *MODELS,
    )
    assert [module for module in reached if any(inside(module, room) for room in rooms)] == []
    assert [m for m in reached if inside(m, "dtri.report")] in ([], ["dtri.report.records"])


def test_training_reaches_no_measurement() -> None:
    reached = closure(["workflow.commands.train"])
    rooms = ("dtri.metrics", "dtri.evaluation", "dtri.trained", "dtri.anomaly", "dtri.landscape")
    assert [module for module in reached if any(inside(module, room) for room in rooms)] == []


@pytest.mark.parametrize("job", JOBS)
def test_jobs_load_models_by_the_rule_of_batch_norm(job: str) -> None:
    """Whatever they make of them, from final weights or earlier ones."""
    assert "load_model" not in path_of(job).read_text("utf-8")


@pytest.mark.parametrize(
    "module", [m for m in MODULES if inside(m, "dtri.report") or m.startswith(("workflow.tables", "workflow.figures"))]
)
def test_reports_know_no_torch(module: str) -> None:
    assert {name for reached in closure([module]) for name in packages(reached)}.isdisjoint(
        {"torch", "torchvision", "torch_fidelity"}
    )


ASKING = {"is_available", "device_count", "current_device", "set_device", "mem_get_info"}


@pytest.mark.parametrize("module", MODULES)
def test_the_device_module_alone_asks_for_gpus(module: str) -> None:
    """What computes is handed the device that its command holds: else it takes one that another job holds."""
    found = []
    for node in ast.walk(ast.parse(path_of(module).read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and (node.attr in ASKING or node.attr.startswith("get_device_")):
            found += [node.attr] if ast.unparse(node.value).endswith("cuda") else []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
            found.append(ast.unparse(node))
        if isinstance(node, ast.Constant) and node.value in ("cuda:0", "DTRI_DEVICE"):
            found.append(node.value)
    assert (
        found == []
        or module in ("dtri.device", "bench.gpu")
        or (module, found) == ("workflow.session", ["DTRI_DEVICE"])
    )


BY_NAME = {
    "dtri.distributed",  # the code of several processes
    "dtri.experiment",
    "workflow.fingerprint",  # refuses such imports in code of one's own
    "workflow.overlay",
    "workflow.plan",
    "workflow.params",
    "workflow.cli",  # runs commands
    "workflow.forkserver",  # runs commands, and imports libraries of others
    "workflow.checks",  # asks dataset modules, of which no code hash depends on it
    "workflow.commands.prepare",
    "workflow.commands.figure",
}


@pytest.mark.parametrize("module", MODULES)
def test_few_load_modules_by_name(module: str) -> None:
    """The fingerprint cannot see these imports: workflow/jobcode.py lists what they load, job kind by job kind."""
    loads = re.search(r"import_module|__import__|\bexec\(|runpy", path_of(module).read_text("utf-8"))
    assert bool(loads) == (module in BY_NAME)


@pytest.mark.parametrize(
    "path", [ROOT / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))], ids=lambda p: p.name
)
def test_rules_import_the_plan_only(path: Path) -> None:
    found = re.findall(r"^[ \t]*(?:import|from) .*", path.read_text("utf-8"), re.M)
    assert {line.strip() for line in found} <= {
        "import sys",
        "from snakemake.utils import min_version",
        "from workflow import session",
        "from workflow import checks, clock, configuration, console, forkserver, jobcode, memory, params, plan, reruns",
    }
    assert not re.search(r"^[ \t]*def\b|\blambda\b", path.read_text("utf-8"), re.M)


def loaded(code: str) -> set[str]:
    """Top-level names in sys.modules after `code` ran in a fresh interpreter."""
    text = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


PLANNING = """
from workflow import configuration, plan
for name in plan.TABLES:
    plan.table_records(configuration.preset("paper"), name)
for name in plan.FIGURES:
    plan.figure_products(configuration.preset("paper"), name)
"""
HEAVY = {"torch", "torchvision", "pandas", "matplotlib", "seaborn", "sklearn", "scipy", "torch_fidelity", "PIL"}


def test_planning_is_light() -> None:
    """Snakemake plans at every start, and once more in every cluster job."""
    assert loaded(PLANNING) & HEAVY == set()


@pytest.mark.parametrize("command", REPORTERS)
def test_reporting_commands_start_without_torch(command: str) -> None:
    assert loaded(f"import workflow.commands.{command}") & {"torch", "torchvision", "sklearn"} == set()
