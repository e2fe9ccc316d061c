"""Which code each kind of job reaches: the modules of its command, and those of the model where one is built."""

from functools import cache

from dtri.experiment import canonical_json, text_hash
from workflow import configuration
from workflow.configuration import GENERATION_METRICS
from workflow.fingerprint import fingerprint
from workflow.specs import Dataset, Run, train_spec

COMMAND = {
    "fetch": "workflow.commands.fetch",
    "prepare": "workflow.commands.prepare",
    "classifier": "workflow.commands.classifier",
    "train": "workflow.commands.train",
    "sample": "workflow.commands.sample",
    "grid": "workflow.commands.sample",
    "interpolate": "workflow.commands.interpolate",
    "growth": "workflow.commands.growth",
    "reconstruct": "workflow.commands.reconstruct",
    "score": "workflow.commands.score",
    "landscape": "workflow.commands.landscape",
    "generation": "workflow.commands.generation",
    "inception": "workflow.commands.inception",
    "auroc": "workflow.commands.ranking",
    "auprc": "workflow.commands.ranking",
    "table": "workflow.commands.table",
    "measured": "workflow.commands.measured",
    "overview": "workflow.commands.overview",
    "claims": "workflow.commands.claims",
    "figure": "workflow.commands.figure",
}
BUILDS_MODEL = ("train", "sample", "grid", "interpolate", "growth", "reconstruct", "score", "landscape")
# The job whose products a measurement reads: a record names the code of both, so that a copied record can be judged.
MEASURES = {"generation": "sample", "auroc": "score", "auprc": "score"}
WRITERS = {  # metric -> the job that writes its record
    "rmse": "reconstruct",
    "mse": "reconstruct",
    "auroc": "auroc",
    "auprc": "auprc",
    "auprc_leaky": "auprc",
    "landscape_purity": "landscape",
}


@cache
def code(kind: str, *modules: str) -> str:
    """Fingerprint of the job kind's command and of further modules that it loads by name."""
    return fingerprint((COMMAND[kind], *modules))


def modules(kind: str, name: str) -> tuple[str, ...]:
    """Modules that a job on a run of the system `name` reaches first.

    They are its command, the command whose products it reads, and the model where one is built.
    """
    entry = configuration.model(name).entry.partition(":")[0]
    if kind in MEASURES:
        return COMMAND[kind], COMMAND[MEASURES[kind]], entry
    return (COMMAND[kind], entry) if kind in BUILDS_MODEL else (COMMAND[kind],)


def model_code(kind: str, name: str, *further: str) -> str:
    return fingerprint((*modules(kind, name), *further))


def train_modules(run: Run) -> tuple[str, ...]:
    """Modules that the training of a run reaches first; several processes load one more by name."""
    return (*modules("train", run.model), *_group_modules(run))


def training_code(run: Run) -> str:
    return model_code("train", run.model, *_group_modules(run))


def _group_modules(run: Run) -> tuple[str, ...]:
    return ("dtri.process_group",) if train_spec(run).processes > 1 else ()


def measure_code(metric: str, name: str) -> str:
    """Fingerprint of a measurement: of the job that writes the record, and of the job whose products it reads."""
    return model_code(_writer(metric), name)


def measure_modules(metric: str, name: str) -> tuple[str, ...]:
    """Modules that a measurement of the system `name` reaches first."""
    return modules(_writer(metric), name)


def _writer(metric: str) -> str:
    """The kind of job that writes a metric's record."""
    return "generation" if metric in GENERATION_METRICS else WRITERS[metric]


def data_code(data: Dataset) -> str:
    """16 hex digits over how a dataset is made: the code that fetches and prepares it, its shape and options."""
    module = data.config.module
    made = [code("fetch", module), code("prepare", module)] if module else [code("prepare", "dtri.data.holdout")]
    return text_hash(*made, canonical_json([data.image_shape, data.config.options, data.digit]))[:16]
