"""The table of rooms and arrows, which tests/test_architecture.py checks, and the page made of it.

python -m tests.architecture        writes docs/architecture.md
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEAVES = ("dtri.finite", "dtri.images", "dtri.memory", "dtri.seeding")
PARTS = (*LEAVES, "dtri.networks", "dtri.objectives", "dtri.sampling")
MACHINERY = (
    *("dtri.engine", "dtri.batches", "dtri.ema", "dtri.stepper", "dtri.recording", "dtri.proof"),
    *("dtri.progress", "dtri.distributed", "dtri.process_group", "dtri.checkpoint", "dtri.snapshots", "dtri.weights"),
    *("dtri.experiment", "dtri.device", "dtri.numerics", "dtri.slots", "dtri.counting", "dtri.costs"),
)
FILES_ROOM = ("dtri.files", "dtri.messages", "dtri.curve", "dtri.sealed", "dtri.arrays")
MODELS = ("dtri.models", "baselines")
METHOD = ("dtri.model", "dtri.networks", "dtri.objectives", "dtri.sampling")

# Commands that read the plan; jobs get what they need as arguments.
REPORTERS = (
    "table",
    "measured",
    "compare",
    "status",
    "claims",
    "figure",
    "explain",
    "findings",
    "columns",
    "overview",
    "verify",
    "accept",
    "export",
    "tensorboard",
    "report",
)
READERS = (*REPORTERS, "growth_memory", "run", "new")

# room -> what its modules may import; the longest room that fits a module's name counts.
MAY_IMPORT = {
    "dtri.finite": (),
    "dtri.images": (),
    "dtri.memory": (),
    "dtri.seeding": (),
    "dtri.networks": (*LEAVES, "dtri.networks"),
    "dtri.objectives": (*LEAVES, "dtri.objectives"),
    "dtri.sampling": (*LEAVES, "dtri.sampling"),
    "dtri.model": PARTS,
    "dtri.models": METHOD,
    "baselines": METHOD,
    **dict.fromkeys(FILES_ROOM, FILES_ROOM),
    "dtri.files": (),
    "dtri.messages": (),
    "dtri.curve": (),
    **dict.fromkeys(MACHINERY, (*LEAVES, *MACHINERY, "dtri.model", "dtri.files", "dtri.curve")),
    "dtri.evaluation": (*PARTS, "dtri.model"),
    "dtri.anomaly": (*PARTS, "dtri.model", "dtri.evaluation"),
    "dtri.trained": (*PARTS, "dtri.model", "dtri.evaluation", "dtri.experiment", "dtri.weights"),
    "dtri.data": (*LEAVES, "dtri.data", *FILES_ROOM),
    "dtri.metrics": (*LEAVES, "dtri.metrics", *FILES_ROOM),
    "dtri.landscape": (*PARTS, "dtri.model", "dtri.landscape"),
    "dtri.report": ("dtri.report", *FILES_ROOM),
    "workflow.fingerprint": (),
    "workflow.overlay": (),
    "workflow.configuration": (
        *("dtri.experiment", "dtri.landscape.settings", "dtri.report.cells"),
        *("workflow.fingerprint", "workflow.overlay", "workflow.settings_file"),
    ),
    "workflow.specs": ("dtri.experiment", "workflow.configuration"),
    "workflow.jobcode": ("dtri.experiment", "workflow.configuration", "workflow.fingerprint", "workflow.specs"),
    "workflow.plan": (
        *("dtri.report.cells", "dtri.report.claims", "dtri.metrics.imagenet_lite"),
        *("workflow.configuration", "workflow.overlay", "workflow.specs"),
    ),
    "workflow.status": (
        *(
            "dtri.experiment",
            "dtri.messages",
            "dtri.metrics.imagenet_lite",
            "dtri.sealed",
            "dtri.report.cells",
            "dtri.report.records",
            "dtri.report.tidy",
        ),
        *("workflow.configuration", "workflow.left_out", "workflow.specs", "workflow.jobcode", "workflow.plan"),
    ),
    "workflow.left_out": ("dtri.report.cells", "workflow.configuration", "workflow.settings_file"),
    "workflow.costs": (
        *("dtri.costs", "dtri.counting", "dtri.experiment", "dtri.sealed"),
        *("workflow.counted", "workflow.specs", "workflow.plan"),
    ),
    "workflow.reasons": (
        *("dtri.sealed", "workflow.fingerprint", "workflow.specs", "workflow.jobcode", "workflow.status"),
        "workflow.commands.provenance",
    ),
    "workflow.reruns": (),
    "workflow.session": ("workflow.configuration", "workflow.fingerprint", "workflow.overlay"),
    "workflow.params": (
        *("dtri.experiment", "dtri.files", "dtri.data.rawfiles"),
        *("workflow.configuration", "workflow.specs", "workflow.jobcode", "workflow.plan"),
        *("workflow.session", "workflow.status"),
    ),
    "workflow.checks": (
        *("dtri.experiment", "dtri.data.contents", "workflow.configuration", "workflow.fingerprint"),
        *("workflow.specs", "workflow.jobcode", "workflow.plan"),
    ),
    "workflow.targets": (
        *("workflow.checks", "workflow.configuration", "workflow.specs", "workflow.plan"),
        "workflow.fingerprint",
    ),
    "workflow.cli": ("workflow.commands.cli", "workflow.overlay"),
    "workflow.memory": ("dtri.sealed", "workflow.checks", "workflow.specs"),
    "workflow.console": (),
    "workflow.settings_file": (),
    "workflow.clock": (),
    "workflow.forkserver": (),
    "workflow.tables": ("dtri.report.cells",),
    "workflow.claims": ("dtri.report.cells", "dtri.report.claims", "workflow.tables"),
    "workflow.figures": ("dtri.report", "dtri.arrays", "workflow.tables"),
    "workflow.commands": ("dtri", "workflow.commands"),
    **{f"workflow.commands.{name}": ("dtri", "workflow") for name in READERS},
    "dtri.costs": (),
    "workflow.counted": ("dtri.costs", "dtri.experiment"),
    "bench": (
        *("dtri", "baselines", "bench", "workflow.configuration", "workflow.specs", "workflow.plan"),
        *("workflow.counted", "workflow.commands.cli"),
    ),
}

PAGE = "docs/architecture.md"
HEAD = """\
# Who may import whom, and why

Written by `python -m tests.architecture` from the table that `tests/test_architecture.py` checks. Imports decide what
is made anew: a job's hash of code covers each module that it reaches (`workflow/fingerprint.py`), so an arrow in this
table costs training. The longest name that fits a module counts. A package's `__init__.py` is empty, and all imports
are absolute.

| module or package | may import | why |
|-|-|-|
"""
# What each room is for, and why it reaches no more.
WHY = {
    "dtri.finite": "checks numbers; everything may call it",
    "dtri.images": "the only conversions between bytes and [-1, 1]",
    "dtri.memory": "counts bytes of arrays",
    "dtri.seeding": "seeds by name, so that no draw depends on another",
    "dtri.networks": "layers: an edit trains anew what is built of them, so they know no method",
    "dtri.objectives": "losses as pure functions of tensors",
    "dtri.sampling": "Langevin dynamics and the replay buffer, pure functions too",
    "dtri.model": "the contract of a method; it knows parts alone",
    "dtri.models": "one file per method: no method reaches another, or an edit of one would train both",
    "baselines": "as dtri.models",
    "dtri.files": "atomic writing; every job reaches it, so it reaches nothing",
    "dtri.messages": "wording of errors, in no hash",
    "dtri.curve": "the file of losses",
    "dtri.sealed": "JSON with a checksum",
    "dtri.arrays": "arrays on disk",
    "dtri.evaluation": "what evaluation shares; training must not reach it",
    "dtri.anomaly": "scores of images; larger is stranger",
    "dtri.trained": "loads trained weights for evaluation",
    "dtri.data": "one file per dataset: arrays come from raw files alone",
    "dtri.metrics": "arrays to numbers: a metric cannot know which model made them",
    "dtri.landscape": "maps an energy; it needs a model's contract alone",
    "dtri.report": "records to tables and pages, without torch",
    "workflow.fingerprint": "which code a job reaches; it decides what is made anew, so it depends on nothing",
    "workflow.overlay": "where configuration of one's own lies; it adds, and reads nothing",
    "workflow.configuration": "the YAML files as typed entries",
    "workflow.specs": "datasets and runs by name, and what each training is told",
    "workflow.jobcode": "which code each kind of job reaches, for its hash",
    "workflow.plan": "which records tables, figures and claims ask for, and what products were made of",
    "workflow.status": "the one answer to whether a product is stale, and why",
    "workflow.left_out": "why somebody made no measurement; it changes words beside a number, never a number",
    "workflow.costs": "hours and seconds from earlier runs; only `explain` asks",
    "workflow.reasons": "which keys and modules differ; only `explain` asks, so tables do not reach git",
    "workflow.reruns": "what Snakemake compares",
    "workflow.session": "settings of one start of Snakemake: where jobs run, and which overlay they read",
    "workflow.params": "values for the rules; commands do not reach it",
    "workflow.checks": "entries that meet each other, refused while planning",
    "workflow.targets": "what a folder stands for on the command line",
    "workflow.cli": "the command `dtri`; it imports a command when it is asked for, so that help is light",
    "workflow.memory": "memory that jobs ask for",
    "workflow.console": "what Snakemake prints; it imports Snakemake alone",
    "workflow.settings_file": "YAML with line numbers",
    "workflow.clock": "inputs from the future",
    "workflow.forkserver": "forks jobs from one process; it imports libraries of others alone",
    "workflow.tables": "what the papers print",
    "workflow.claims": "what the papers claim, as data",
    "workflow.figures": "draws; a figure may show a table's systems",
    "workflow.commands": "jobs get arguments: one that read the plan would run again after edits of a table",
    "dtri.costs": "operations and speeds of devices, as arithmetic",
    "workflow.counted": "counted operations as data, readable without Snakemake",
    "bench": "measures speed; nothing depends on it",
    **dict.fromkeys(
        MACHINERY, "training: the loop, its state, its device; every run reaches it, so it knows no method by import"
    ),
    **{
        f"workflow.commands.{name}": "reports on products: it may read the plan, since its products are made in seconds"
        for name in READERS
    },
}


def page() -> str:
    """The page as markdown: rooms with the same arrows for the same reason share a line."""
    rows: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for room, imported in MAY_IMPORT.items():
        rows.setdefault((tuple(dict.fromkeys(imported)), WHY[room]), []).append(room)
    lines = (f"| {_code(rooms)} | {_code(imported) or '-'} | {why} |\n" for (imported, why), rooms in rows.items())
    return HEAD + "".join(lines)


def _code(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    (ROOT / PAGE).write_text(page(), "utf-8")
