"""Configuration -> typed experiments: which runs a table needs, where their products lie, what each job reads.

Read while Snakemake parses: no torch, no pandas. Every spec handed to a rule is one canonical JSON text.
"""

import ast
import fcntl
import importlib
import json
import os
import re
import shlex
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from dtri.data import rawfiles
from dtri.experiment import N_SNAPSHOTS, TrainSpec, canonical_json, check_hparams, check_sampler, text_hash
from dtri.landscape.settings import Settings as LandscapeSettings
from dtri.metrics import imagenet_lite
from dtri.report.cells import (
    LABEL_FREE,
    PAPER_NAMES,
    Cell,
    CellResult,
    FigureInput,
    Missing,
    Product,
    Table,
    stand_in,
    with_label_free,
)
from dtri.report.claims import Book, Claim, book
from dtri.report.records import Record
from dtri.sealed import read_sealed
from workflow import settings_file
from workflow.fingerprint import ROOT, fingerprint, imports, path_of

CONFIG = Path(__file__).parent / "config"
TABLES = ("table1", "table2", "table3", "table4")
CLAIMS = ("paper_a", "paper_b", "printed")
CLAIM_FORMATS = ("csv", "md", "tex", "html", "png", "pdf")
LANDSCAPE = ("disconnectivity", "landscape_sensitivity")
FIGURES = (
    *(
        "systems",
        "samples",
        "reconstructions",
        "histograms",
        "ood_examples",
        "interpolation",
        "training_curves",
        "anomaly",
    ),
    *("growth", "growth_compared", "high_resolution", "large_scale"),
    *LANDSCAPE,
)
GENERATION_METRICS = ("fid", "is", "kid", "prc")
UNPUBLISHED = {"domain": "a domain classifier", "imagenet_lite": "EfficientNet-Lite0"}  # feature networks of our own
FEWEST_IMAGES = 10  # that sample quality is measured with: dtri.metrics.generation.IS_SPLITS
RESERVED = ("data", "figures", "reference", "logs")  # folders below results/
COUNTS = ("n", "limit", "n_source", "holdout")  # options of dataset modules
TEMPORARY = ("samples.npy", "samples_variants.npz")  # products that Snakemake removes once they are measured
SCORED_TRAIN_IMAGES = 10_000  # of the training split, for the last panel of A Fig. 3
INCEPTION_RECORD = "results/data/inception.json"
INCEPTION_WEIGHTS = "inception/weights-inception-2015-12-05-6726825d.pth"  # below the drop folder


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Comparison(Strict):
    """How many samples against which images of the dataset: the first `n_reference` of a split, or all."""

    n_samples: int = Field(ge=FEWEST_IMAGES)
    reference: Literal["train", "test"] = "train"
    n_reference: int | None = Field(None, ge=FEWEST_IMAGES)


class GenerationProtocol(Comparison):
    """The comparison behind the tables' numbers, and others of the same samples that are reported beside it."""

    also: tuple[Comparison, ...] = ()


class DatasetConfig(Strict):
    label: str
    module: str = ""
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    any_shape: bool = False
    test_only: bool = False
    classes: bool = False
    holdout_of: str = ""
    variant_of: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    generation: GenerationProtocol = GenerationProtocol(n_samples=10000)

    @model_validator(mode="after")
    def _one_kind(self) -> "DatasetConfig":
        kinds = [bool(self.holdout_of), self.any_shape, self.image_shape is not None]
        if sum(kinds) != 1:
            raise ValueError("expected exactly one of image_shape, any_shape, holdout_of")
        if not self.holdout_of and not self.module:
            raise ValueError("expected module")
        if self.test_only and self.image_shape is None:
            raise ValueError("expected test_only beside image_shape alone")
        return self


class ModelOverride(Strict):
    steps: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    processes: PositiveInt | None = None
    sync_batch_norm: bool | None = None
    hparams: dict[str, Any] = Field(default_factory=dict)
    sampler: dict[str, Any] = Field(default_factory=dict)


class ModelConfig(Strict):
    label: str
    entry: str
    steps: PositiveInt
    batch_size: PositiveInt
    processes: PositiveInt = 1
    sync_batch_norm: bool = True
    hparams: dict[str, Any] = Field(default_factory=dict)
    sampler: dict[str, Any] = Field(default_factory=dict)
    datasets: dict[str, ModelOverride] = Field(default_factory=dict)


class MaxSteps(Strict):
    """Upper limits of training iterations: on hold-outs, and elsewhere by system."""

    default: PositiveInt
    holdout: PositiveInt
    models: dict[str, PositiveInt] = Field(default_factory=dict)

    def of(self, run: "Run", holdout: bool) -> int:
        return self.holdout if holdout else self.models.get(run.model, self.default)


class PresetConfig(Strict):
    label: str
    caveat: str = ""
    seeds: tuple[int, ...] = Field(min_length=1)
    width: PositiveFloat = 1.0
    max_steps: MaxSteps | None = None
    max_samples: int | None = Field(None, ge=FEWEST_IMAGES)
    stand_ins: dict[str, str | None] = Field(default_factory=dict)
    extractor: Literal["inception", "domain", "imagenet_lite"]
    label_free_extractor: Literal["imagenet_lite"] | None = None
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    threads: PositiveInt = 1
    landscape: LandscapeSettings = LandscapeSettings()

    @model_validator(mode="after")
    def _seeds(self) -> "PresetConfig":
        if any(seed < 0 for seed in self.seeds) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"expected distinct non-negative seeds, found {list(self.seeds)}")
        return self


def _load(file: str, kind: type[Strict]) -> dict[str, Any]:
    """Entries by name; ValueError naming file, line and key of the first that is impossible."""
    source = settings_file.read(CONFIG / file)
    if not source.entries:
        raise ValueError(f"expected at least one entry in {source.name}, found none")
    loaded = {}
    for name, entry in source.entries.items():
        if not re.fullmatch("[a-z0-9_]+", name) or name in RESERVED:
            raise ValueError(f"{source.where(name)}: expected a name of a-z, 0-9 and _ but {', '.join(RESERVED)}")
        try:  # as JSON, in which a list may be a tuple, and true is no number
            loaded[name] = kind.model_validate_json(json.dumps(entry), strict=True)
        except ValidationError as error:
            first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a misspelled key says more
            given = first.get("input")
            found = "" if isinstance(given, dict) else f", found {given!r}"  # of an entry the message says it
            message = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{source.where(name, *first['loc'])}: {message}{found}") from error
    return loaded


class Settings(Strict):
    """What a user may set by `--config key=value`: where and how jobs run, never what they compute."""

    downloads: str = Field("downloads", min_length=1)
    device: Literal["auto", "cpu", "gpu"] | None = None
    offline: bool = False
    runs_per_gpu: PositiveInt = 1

    @field_validator("downloads")
    @classmethod
    def _home(cls, folder: str) -> str:
        """No shell expands the `~` of `downloads=~/raw`."""
        expanded = os.path.expanduser(folder)
        if expanded.startswith("~"):
            raise ValueError(f"expected a folder, found no home of {folder.partition('/')[0]!r}")
        if Path(expanded).exists() and not Path(expanded).is_dir():
            raise ValueError("expected a folder, found a file")
        return expanded

    @field_validator("runs_per_gpu", mode="before")
    @classmethod
    def _whole(cls, runs: Any) -> Any:
        if isinstance(runs, bool):
            raise ValueError("expected a whole number")
        return runs


_settings = Settings()


def configure(config: dict[str, Any]) -> None:
    """Take Snakemake's `--config`; ValueError for an unknown key or value."""
    global _settings
    try:
        _settings = Settings.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        key, known = first["loc"][0], ", ".join(Settings.model_fields)
        raise ValueError(
            f"--config {key}: {first['msg'].removeprefix('Value error, ')}, found {first.get('input')!r} "
            f"(known keys: {known})"
        ) from error


@cache
def datasets() -> dict[str, DatasetConfig]:
    return _load("datasets.yaml", DatasetConfig)


@cache
def models() -> dict[str, ModelConfig]:
    return _load("models.yaml", ModelConfig)


@cache
def presets() -> dict[str, PresetConfig]:
    return _load("presets.yaml", PresetConfig)


def _known(kind: str, name: str, names: Iterable[str]) -> None:
    if name not in names:
        raise ValueError(f"unknown {kind} {name!r} (known: {', '.join(names)})")


def preset(name: str) -> PresetConfig:
    _known("preset", name, presets())
    return presets()[name]


def model(name: str) -> ModelConfig:
    _known("model", name, models())
    return models()[name]


def check_configuration() -> None:
    """ValueError naming file, line, key and what is known, when anything in the three files is unknown or impossible.

    Whatever can be known without data and without building a model is said here, before anything is trained.
    """
    read = datasets(), models(), presets()
    for entries, check in zip(read, (_check_dataset, _check_model, _check_preset), strict=True):
        for name, entry in entries.items():
            check(name, entry)
    _check_claims()


@contextmanager
def _at(file: str, *keys: str) -> Iterator[None]:
    """Name file, line and key in front of what is said of an entry."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{settings_file.read(CONFIG / file).where(*keys)}: {error}") from error


def _check_claims() -> None:
    """ValueError naming the claim that is about a cell, system or dataset that does not exist."""
    claim_book()
    for claim in claims():
        for one in claim.quantities:
            try:
                model(one.model)
                for name in (one.dataset, one.against):
                    if name and name not in datasets():
                        dataset(name)
            except ValueError as error:
                raise ValueError(f"claim {claim.id}: {error}") from error


def _check_dataset(name: str, data: DatasetConfig) -> None:
    at = partial(_at, "datasets.yaml", name)
    if data.variant_of:
        with at("variant_of"):
            _known("dataset", data.variant_of, datasets())
    if data.holdout_of:
        with at("holdout_of"):
            _known("dataset with classes", data.holdout_of, [n for n, d in datasets().items() if d.classes])
        return
    with at("module"):
        known = known_options(data.module)
    for option, value in data.options.items():
        with at("options", option):
            if known is not None and option not in known:
                raise ValueError(f"unknown option {option!r} of {data.module} (known: {', '.join(known) or 'none'})")
            if option in COUNTS and (type(value) is not int or value < 1):
                raise ValueError(f"expected a positive whole number, found {value!r}")
            if option == "sha256" and not re.fullmatch("[0-9a-f]{64}", str(value)):
                raise ValueError(f"expected 64 hexadecimal digits, found {value!r}")
    if data.image_shape:
        with at("image_shape"):
            channels, height, width = data.image_shape
            if channels not in (1, 3) or height != width or height >> max(height.bit_length() - 3, 0) < 4:
                raise ValueError(
                    "expected 1 or 3 channels and a square whose side is 4 to 7 times a power of two, "
                    f"found {list(data.image_shape)}"
                )


@cache
def known_options(module: str) -> tuple[str, ...] | None:
    """Options that a dataset module takes: what it hands to `check_options`, or what that does to which it leaves all.

    None where neither is written out; ValueError where there is no such module.
    """
    path = path_of(module)
    if path is None:
        raise ValueError(f"expected a module with `prepare`, found {module!r}")
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "checks.check_options":
            return _written_out(node.args[1], tree)
    prepare = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "prepare"), None)
    match prepare and prepare.body[-1]:
        case ast.Return(ast.Call(ast.Attribute(ast.Name(left_to)))):
            reached = (name for name in sorted(imports(module)) if name.rpartition(".")[2] == left_to)
            return next((known_options(name) for name in reached), None)
    return None


def _written_out(value: ast.expr, tree: ast.Module) -> tuple[str, ...] | None:
    """A tuple, or the one that a module gives a name to; None where it is computed."""
    if isinstance(value, ast.Name):
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == value.id for target in targets):
                return _written_out(node.value, tree)
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None


def _check_model(name: str, entry: ModelConfig) -> None:
    with _at("models.yaml", name, "entry"):
        check_hparams(entry.entry, {})
    trainable = [n for n, d in datasets().items() if not d.any_shape and not d.test_only]
    plain = next((n for n in trainable if n not in entry.datasets), trainable[0])
    for family, override in {"": entry, **entry.datasets}.items():
        keys = (name, "datasets", family) if family else (name,)
        with _at("models.yaml", *keys):
            _known("dataset", family or plain, trainable)
        for kind, check in (("hparams", check_hparams), ("sampler", check_sampler)):
            for argument, value in getattr(override, kind).items():
                with _at("models.yaml", *keys, kind, argument):
                    check(entry.entry, {argument: value})
        on = family or plain
        with _at("models.yaml", *keys):
            _spec(Run(next(iter(presets())), f"{on}0" if datasets()[on].holdout_of else on, name, 0))


def _check_preset(name: str, chosen: PresetConfig) -> None:
    for capped in chosen.max_steps.models if chosen.max_steps else ():
        with _at("presets.yaml", name, "max_steps", "models", capped):
            _known("model", capped, models())
    for paper, ours in chosen.stand_ins.items():
        with _at("presets.yaml", name, "stand_ins", paper):
            _known("dataset", paper, dict.fromkeys([*datasets(), *PAPER_NAMES]))
            if ours is not None:
                _known("dataset", ours, datasets())
                if bool(datasets()[ours].holdout_of) != bool(datasets().get(paper, datasets()[ours]).holdout_of):
                    raise ValueError(f"expected a hold-out family for a hold-out family alone, found {ours!r}")


# Datasets: a configured name, `<family><digit>` of a hold-out family, or `<name>_<C>x<H>x<W>` where any shape goes.


@dataclass(frozen=True)
class Dataset:
    """A dataset as it lies on disk: `name` is its folder, `family` its entry in datasets.yaml."""

    name: str
    family: str
    config: DatasetConfig
    image_shape: tuple[int, int, int]
    digit: int | None = None

    @property
    def folder(self) -> str:
        return f"results/data/{self.name}"

    @property
    def trainable(self) -> bool:
        return not self.config.any_shape and not self.config.test_only

    @property
    def files(self) -> list[str]:
        """What preparing writes."""
        names = ["train.npy"] * self.trainable + ["test.npy"] + ["test_leaky.npy"] * (self.digit is not None)
        return [f"{self.folder}/{name}" for name in (*names, "index.npz", "meta.json")]

    @property
    def kin(self) -> str:
        """The entry that names the drop folder."""
        return self.config.variant_of or self.family

    @property
    def classes_of(self) -> str:
        """The dataset whose labels train the domain extractor; "" where there are none."""
        if self.config.holdout_of:
            return dataset(self.config.holdout_of).classes_of
        return self.name if self.config.classes else ""


@cache
def dataset(name: str) -> Dataset:
    """ValueError naming the known datasets when there is no such one."""
    known = datasets()
    if name in known and known[name].image_shape:
        return Dataset(name, name, known[name], known[name].image_shape)
    if match := re.fullmatch(r"(\w+?)(\d)", name):
        family = known.get(match[1])
        if family is not None and family.holdout_of:
            source = dataset(family.holdout_of)
            return Dataset(name, match[1], family, source.image_shape, int(match[2]))
    if match := re.fullmatch(r"(\w+?)_(\d+)x(\d+)x(\d+)", name):
        family = known.get(match[1])
        if family is not None and family.any_shape:
            return Dataset(name, match[1], family, (int(match[2]), int(match[3]), int(match[4])))
    forms = [f"{n}<digit>" if c.holdout_of else f"{n}_<C>x<H>x<W>" if c.any_shape else n for n, c in known.items()]
    raise ValueError(f"unknown dataset {name!r} (known: {', '.join(forms)})")


def measured_on(preset_name: str, paper_dataset: str, like: Dataset | None = None) -> str | None:
    """The dataset that stands for the paper's in this preset; None when the configuration has none.

    `like` gives the image shape of sets that are made at any shape, and has to have that of test sets of one shape.
    """
    stand_ins = preset(preset_name).stand_ins
    name = stand_ins.get(paper_dataset, paper_dataset)
    match = re.fullmatch(r"(\w+?)(\d)", name or "")
    if match and match[1] in datasets() | stand_ins:
        family = stand_ins.get(match[1], match[1])
        name = family and family + match[2]
    if name is None:
        return None
    entry = datasets().get(name)
    if entry is not None and like is not None:
        if entry.any_shape:
            return f"{name}_{'x'.join(map(str, like.image_shape))}"
        if entry.test_only and entry.image_shape != like.image_shape:
            return None
    try:
        return dataset(name).name
    except ValueError:
        return None


# Runs


@dataclass(frozen=True)
class Run:
    """One training run and its folder."""

    preset: str
    dataset: str
    model: str
    seed: int

    @property
    def folder(self) -> str:
        return f"results/{self.preset}/{self.dataset}/{self.model}/seed{self.seed}"


def _overrides(entry: ModelConfig, data: Dataset) -> ModelOverride:
    """What models.yaml says for the dataset, or else for the one that it is a variant of."""
    return entry.datasets.get(data.family) or entry.datasets.get(data.kin) or ModelOverride()


def train_spec(run: Run) -> TrainSpec:
    """The run's specification: configuration of the model, overridden by dataset, capped by the preset."""
    preset(run.preset), model(run.model)
    if not dataset(run.dataset).trainable:
        raise ValueError(f"dataset {run.dataset!r} is for out-of-distribution tests only, it has no training images")
    try:
        return _spec(run)
    except ValueError as error:
        raise ValueError(f"models.yaml: {run.model} on {dataset(run.dataset).family}: {error}") from error


def _spec(run: Run) -> TrainSpec:
    chosen, entry, data = preset(run.preset), model(run.model), dataset(run.dataset)
    overrides = _overrides(entry, data)
    steps = overrides.steps or entry.steps
    if chosen.max_steps:
        steps = min(steps, chosen.max_steps.of(run, holdout=data.digit is not None))
    hparams = {**entry.hparams, **overrides.hparams}
    if chosen.width != 1.0:
        hparams["width"] = chosen.width * hparams.get("width", 1.0)
    return TrainSpec(
        dataset=run.dataset,
        model=run.model,
        entry=entry.entry,
        image_shape=data.image_shape,
        hparams=hparams,
        steps=steps,
        batch_size=overrides.batch_size or entry.batch_size,
        seed=run.seed,
        precision=chosen.precision,
        threads=chosen.threads,
        late_every=_late_every(steps) if data.digit is not None else 0,
        processes=overrides.processes or entry.processes,
        sync_batch_norm=entry.sync_batch_norm if overrides.sync_batch_norm is None else overrides.sync_batch_norm,
    )


def _late_every(steps: int) -> int:
    """Iterations per epoch of a hold-out, for averages over the last epochs: at full length 50 epochs of 500."""
    return max(1, steps // 50) if steps >= N_SNAPSHOTS else 0


def sampler(run: Run) -> dict[str, Any]:
    """How the system's Markov chains run at evaluation, where the configuration says so; no training reads it."""
    entry, data = model(run.model), dataset(run.dataset)
    arguments = {**entry.sampler, **_overrides(entry, data).sampler}
    try:
        check_sampler(entry.entry, arguments)
    except ValueError as error:
        raise ValueError(f"models.yaml: {run.model} on {data.family}: {error}") from error
    return arguments


def comparisons(run: Run) -> list[Comparison]:
    """How the run's samples are compared with images, capped by the preset: the tables' way first, each once."""
    protocol, cap = dataset(run.dataset).config.generation, preset(run.preset).max_samples
    wanted = [Comparison(**one.model_dump(exclude={"also"})) for one in (protocol, *protocol.also)]
    capped = (one.model_copy(update={"n_samples": min(one.n_samples, cap or one.n_samples)}) for one in wanted)
    return list(dict.fromkeys(capped))


def n_samples(run: Run) -> int:
    """As many as the largest comparison needs."""
    return max(one.n_samples for one in comparisons(run))


# What each kind of job depends on: the command's modules, and the model's where a model is built.

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
    "overview": "workflow.commands.overview",
    "claims": "workflow.commands.claims",
    "figure": "workflow.commands.figure",
}


BUILDS_MODEL = ("train", "sample", "grid", "interpolate", "growth", "reconstruct", "score", "landscape")
# The job whose products a measurement reads: a record names the code of both, so that a copied one can be judged.
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
    """Modules that a job on a run of the system `name` reaches first: its command, and the model where one is built."""
    entry = model(name).entry.partition(":")[0]
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
    """Code of a measurement: that of the job that writes the record, and of the job before it."""
    return model_code("generation" if metric in GENERATION_METRICS else WRITERS[metric], name)


# Tables and figures


@cache
def table(name: str) -> Table:
    return importlib.import_module(f"workflow.tables.{name}").TABLE


def preset_table(preset_name: str, name: str) -> Table:
    """A table as the preset shows it: with FID by features that need no labels where it asks for that."""
    return with_label_free(table(name)) if preset(preset_name).label_free_extractor else table(name)


def figure_wants(name: str) -> tuple[FigureInput, ...]:
    return importlib.import_module(f"workflow.figures.{name}").INPUTS


def cell_run(preset_name: str, cell: Cell, seed: int) -> Run | None:
    """The run that answers a cell; None when its system or dataset is not in the configuration."""
    on = measured_on(preset_name, cell.dataset)
    if cell.model not in models() or on is None:
        return None
    return Run(preset_name, on, cell.model, seed)


def cell_record(preset_name: str, cell: Cell, seed: int) -> str | None:
    """Path of the record that answers a cell for a seed; None when the configuration cannot."""
    run = cell_run(preset_name, cell, seed)
    if run is None:
        return None
    name = cell.metric
    if used := _cell_extractor(preset_name, cell):
        if used == "domain" and not dataset(run.dataset).classes_of:
            return None
        name = f"{cell.metric.removesuffix(f'_{used}')}_{used}"
    if cell.metric == "auroc":
        against = measured_on(preset_name, cell.against, dataset(run.dataset))
        if against is None:
            return None
        name = f"auroc_{against}"
    return f"{run.folder}/metrics/{name}.json"


def _cell_extractor(preset_name: str, cell: Cell) -> str:
    """The feature network that a cell is measured with; "" where it needs none."""
    if cell.metric == LABEL_FREE:
        return preset(preset_name).label_free_extractor or ""
    return preset(preset_name).extractor if cell.metric in GENERATION_METRICS else ""


def table_records(preset_name: str, name: str) -> list[str]:
    """Every record that a table asks for, each once, in the table's order; none whose feature network is not here."""
    paths = (
        cell_record(preset_name, cell, s)
        for cell in preset_table(preset_name, name).cells
        for s in preset(preset_name).seeds
    )
    return _obtainable(paths)


def _obtainable(paths: Iterable[str | None]) -> list[str]:
    """Records that can be made here, each once: none whose feature network is not here."""
    found = dict.fromkeys(path for path in paths if path is not None)
    return [path for path in found if not (path.endswith("_imagenet_lite.json") and imagenet_lite.problem())]


def figure_products(preset_name: str, name: str) -> list[Product]:
    """The products a figure draws, resolved: systems and datasets that do not exist are left out, doubles too.

    Pictures show the preset's first seed; curves and measurements all of them.
    """
    seeds = preset(preset_name).seeds
    products: dict[str, Product] = {}
    for want in figure_wants(name):
        shown = seeds if want.file.startswith(("train.csv", "metrics/")) else seeds[:1]
        for product in (_resolved(preset_name, want, seed) for seed in shown):
            if product is not None:
                products.setdefault(str(product.path), product)
    return list(products.values())


def _resolved(preset_name: str, want: FigureInput, seed: int) -> Product | None:
    """Out-of-distribution sets are shown at the shape of the dataset that they are scored against."""
    scored = measured_on(preset_name, "cifar10")
    on = measured_on(preset_name, want.dataset, dataset(scored) if scored else None)
    if on is None or (want.model and want.model not in models()):
        return None
    against = measured_on(preset_name, want.against, dataset(on)) if want.against else ""
    if against is None:
        return None
    if want.file.startswith("data:"):
        path = f"{dataset(on).folder}/{want.file.removeprefix('data:')}"
    else:
        path = f"{Run(preset_name, on, want.model, seed).folder}/{want.file.format(against=against)}"
    label = models()[want.model].label if want.model else ""
    return Product(want.dataset, on, want.model, label, seed, want.file, Path(path), want.against, against)


def figure_missing(preset_name: str, name: str) -> list[Missing]:
    """Wants of a figure that have no picture of their own, at this moment, in the figure's order."""
    gaps, drawn = [], {}
    for want in figure_wants(name):
        product = _resolved(preset_name, want, preset(preset_name).seeds[0])
        if product is None:
            lacking = "the system is not in the configuration" if want.model not in ("", *models()) else "left out"
            reason = f"{lacking} of preset {preset_name}" if lacking == "left out" else lacking
        elif product.path in drawn:
            reason = f"{product.measured_on} stands in, shown for {stand_in(drawn[product.path], '')}"
        elif product.path.exists():
            drawn[product.path] = want.dataset
            continue
        else:
            reason = "not made yet"
        label = models()[want.model].label if want.model in models() else want.model
        gaps.append(Missing(want.dataset, want.model, reason, label))
    return gaps


def lookup(preset_name: str, cell: Cell, seed: int) -> CellResult:
    """What is on disk for a cell and seed, compared with what this checkout would make."""
    run, path = cell_run(preset_name, cell, seed), cell_record(preset_name, cell, seed)
    used = _cell_extractor(preset_name, cell)
    if run is not None and path is None and used == "domain":
        reason = f"{run.dataset} has no labels to train a domain extractor on"
        return CellResult(None, expected=False, comparable=False, reason=reason)
    if run is None or path is None:
        lacking = f"system {cell.model}" if cell.model not in models() else f"dataset {cell.against or cell.dataset}"
        return CellResult(None, expected=False, comparable=False, reason=f"{lacking} is not in the configuration")
    comparable, reason = _comparable(preset_name, cell, run)
    if not Path(path).exists():
        if used == "imagenet_lite" and imagenet_lite.problem():
            return CellResult(None, expected=False, comparable=False, reason=imagenet_lite.problem())
        return CellResult(None, measured_on=run.dataset, comparable=comparable, reason=reason)
    stale, accepted = judged(Path(path), differences(Path(path)))
    seen = _seen_in_training(run.dataset, cell.metric)
    return CellResult(Record.read(Path(path)), stale, run.dataset, True, comparable, reason, accepted, seen)


def _seen_in_training(name: str, metric: str) -> str:
    """How many test images of a dataset are training images too; "" for none, or where it is not prepared here."""
    path = Path(dataset(name).folder) / "meta.json"
    if not path.exists():
        return ""
    meta = _meta(path)
    if metric == "auprc_leaky":
        return f"{meta['source']['leaked_fraction']:.0%} of the normal test images of {name} are training images"
    n = meta.get("n_test_in_train", 0)
    return f"{n} of the {meta['sizes']['test']} test images of {name} are training images" if n else ""


def own_network(preset_name: str, cell: Cell) -> str:
    """The feature network of a cell in words, where the papers used another; "" where they used the same or none."""
    return UNPUBLISHED.get(_cell_extractor(preset_name, cell), "")


def _comparable(preset_name: str, cell: Cell, run: Run) -> tuple[bool, str]:
    """Whether a measurement may stand beside the published number, and why not."""
    reasons = []
    if run.dataset != cell.dataset:
        reasons.append("measured on a stand-in")
    if network := own_network(preset_name, cell):
        reasons.append(f"features of {network}, not of the 2015 Inception network")
    if preset_name != "paper":
        reasons.append(f"preset {preset_name}: reduced steps and widths")
    return not reasons, "; ".join(reasons)


# Stale or not: the one comparison of a product on disk with what this checkout would make, for tables, verify, explain


@dataclass(frozen=True)
class Difference:
    """What a product was made by, `old`, and what this checkout would make it by, `new`: hashes, or short texts."""

    what: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.what} {self.old[:16]} -> {self.new[:16]}"


def differences(path: Path) -> list[Difference]:
    """Of a meta.json, classifier.json, train.json or record; none where it is current, or of a kind that says nothing.

    ValueError where it is damaged, OSError where it is not there.
    """
    match path.name, path.parent.name:
        case "meta.json", _:
            return _of_data(path)
        case "classifier.json", _:
            return _of_classifier(read_sealed(path, "the summary of a classifier"))
        case "train.json", _:
            return _of_training(read_sealed(path, "a training summary"))
        case _, "metrics":
            return _of_record(Record.read(path), path)
    return []


def _meta(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, found: {error}; delete it and give the command again") from error


def _pairs(*compared: tuple[str, str | None, str | None]) -> list[Difference]:
    """Of (what, old, new); nothing is said where either is unknown."""
    return [Difference(what, old, new) for what, old, new in compared if None not in (old, new) and old != new]


def _of_data(path: Path) -> list[Difference]:
    """Of a dataset, or of the one that it holds a class out of."""
    try:
        data = dataset(path.parent.name)
    except ValueError as error:
        return [Difference(str(error), "", "")]
    made = _meta(path).get("source", {}).get("code")
    return [
        *_pairs((f"data {data.name} code", made, data_code(data))),
        *(_changed_data({data.config.holdout_of: None}) if data.config.holdout_of else []),
    ]


def _changed_data(used: dict[str, str | None]) -> list[Difference]:
    """How the datasets, by name and data hash, are prepared otherwise here; one that is not here passes."""
    found = []
    for name, content in used.items():
        path = Path(dataset(name).folder) / "meta.json"
        if path.exists():
            found += _pairs((f"data {name}", content, _meta(path)["content"]))
            found += [one for one in _of_data(path) if not acceptance(path, one)]
    return found


def _of_classifier(summary: dict[str, Any]) -> list[Difference]:
    return [
        *_pairs(("classifier code", summary.get("code") or None, code("classifier"))),
        *_changed_data({summary["dataset"]: summary["data"]} if "dataset" in summary else {}),
    ]


def _of_training(summary: dict[str, Any]) -> list[Difference]:
    run = planned_run(summary)
    if isinstance(run, str):
        return [Difference(run, "", "")]
    return [
        *_pairs(
            ("training specification", summary["spec_hash"], train_spec(run).hash),
            ("training code", summary["code"], training_code(run)),
        ),
        *_changed_data(summary["data"]),
    ]


def _of_record(record: Record, path: Path) -> list[Difference]:
    """A record in the folder of a run has to be of that run; copies lie elsewhere."""
    planned = planned_run(vars(record))
    run = _run_at(path) or planned
    if isinstance(run, str):
        return [Difference(run, "", "")]
    metric = "auroc" if path.stem.startswith("auroc_") else re.sub("_(inception|domain|imagenet_lite)$", "", path.stem)
    found = []
    if (record.preset, record.dataset, record.model, record.seed, record.metric) != (*astuple(run), metric):
        made = f"record of {record.preset}/{record.dataset}/{record.model}/seed{record.seed} {record.metric}"
        found.append(Difference(made, "", ""))
    found += _pairs(
        ("training specification", record.spec, train_spec(run).hash),
        ("training code", record.train_code, training_code(run)),
        ("measuring code", record.code, measure_code(metric, run.model)),
    )
    if record.status == "done" or "diverged" in record.extra:
        found += _of_protocol(record, run, metric)
    return [*found, *_changed_data(record.data)]


def _of_protocol(record: Record, run: Run, metric: str) -> list[Difference]:
    """How a finished measurement was taken, and by which network."""
    found = []
    if metric in GENERATION_METRICS:
        ways = [one.model_dump() for one in comparisons(run)]
        found += _pairs(
            ("sampler", canonical_json(record.extra.get("sampler", {})), canonical_json(sampler(run))),
            ("comparisons", canonical_json(record.extra.get("comparisons")), canonical_json(ways)),
        )
    if metric == "landscape_purity" and "settings" in record.extra:
        settings = canonical_json(asdict(preset(run.preset).landscape))
        found += _pairs(("landscape settings", canonical_json(record.extra["settings"]), settings))
    if metric in (*GENERATION_METRICS, "landscape_purity"):
        if record.extractor.startswith("imagenet_lite:"):
            return [*found, *_pairs(("extractor", record.extra.get("extractor_sha256"), imagenet_lite.HASH))]
        known = _extractor(run)
        if known.exists():
            network = read_sealed(known, "the summary of a feature network")
            found += _pairs(("extractor", record.extra.get("extractor_sha256"), network["sha256"]))
            if known.name == "classifier.json":
                found += [one for one in _of_classifier(network) if not acceptance(known, one)]
    return list(dict.fromkeys(found))


def _extractor(run: Run) -> Path:
    """The summary of the feature network that the preset measures with."""
    domain = preset(run.preset).extractor == "domain"
    return Path(f"{dataset(dataset(run.dataset).classes_of).folder}/classifier.json" if domain else INCEPTION_RECORD)


def planned_run(made: dict[str, Any]) -> Run | str:
    """The run that a summary or record names, or why the configuration has none such."""
    planned = Run(made["preset"], made["dataset"], made["model"], made["seed"])
    try:
        train_spec(planned)
    except ValueError as error:
        return str(error)
    return planned


def _run_at(path: Path) -> Run | None:
    """The run in whose folder a record lies; None where it lies elsewhere, as copies do."""
    match path.parts[-7:]:
        case ("results", name, data, system, seed, "metrics", _) if name in presets():
            return Run(name, data, system, int(seed.removeprefix("seed")))
    return None


# What products were made of: inputs of the jobs of tables and figures too, so that what was deleted is made anew


def trained(run: Run) -> list[str]:
    """Products of a training, and its data."""
    files = [f"{run.folder}/{name}" for name in ("model.safetensors", "train.csv", "train.json")]
    return [*files, *dataset(run.dataset).files]


def record_sources(path: Path) -> list[str]:
    """What a record in a run's folder was made of, and the other records of its job; nothing for another file."""
    run = _run_at(path)
    if run is None:
        return []
    scores, metrics = f"{run.folder}/scores/{run.dataset}__", f"{run.folder}/metrics"
    match path.stem.split("_")[0]:
        case "auroc":
            against = path.stem.removeprefix("auroc_")
            made = [
                f"{scores}test.npz",
                f"{run.folder}/scores/{against}__test.npz",
                *dataset(against).files,
            ]
        case "auprc":
            made = [
                f"{scores}test.npz",
                f"{scores}test_leaky.npz",
                f"{metrics}/auprc.json",
                f"{metrics}/auprc_leaky.json",
            ]
        case "rmse" | "mse":
            made = [f"{run.folder}/reconstructions.npy", f"{metrics}/rmse.json", f"{metrics}/mse.json"]
        case "landscape":
            made = [f"{run.folder}/landscape.npz", f"{run.folder}/landscape.csv"]
            made += extractor_inputs(SimpleNamespace(**asdict(run), extractor="domain"))
        case _:
            extractor = path.stem.partition("_")[2]
            made = [f"{metrics}/{name}_{extractor}.json" for name in GENERATION_METRICS]
            made += extractor_inputs(SimpleNamespace(**asdict(run), extractor=extractor))
    return [one for one in (*trained(run), *made) if one != str(path)]


def _sources_of(records: list[str]) -> list[str]:
    found = dict.fromkeys(source for record in records for source in record_sources(Path(record)))
    known = set(records)
    return [path for path in found if path not in known]


def expected_products(preset_name: str) -> list[str]:
    """Everything that a preset's tables and figures are and are made of, but for temporary files."""
    of_tables = [path for name in TABLES for path in table_records(preset_name, name)] + claim_records(preset_name)
    drawn = [SimpleNamespace(preset=preset_name, figure=name) for name in FIGURES]
    of_figures = [path for figure in drawn for path in (*figure_inputs(figure), *figure_sources(figure))]
    return list(dict.fromkeys([*preset_products(preset_name), *of_tables, *_sources_of(of_tables), *of_figures]))


# Accepted after a harmless change: noted beside the products (workflow/commands/accept.py)

ACCEPTED = "accepted.json"


def acceptances(path: Path) -> tuple[Path, str]:
    """The file that notes what was accepted of a product, and the product's name in it."""
    folder = path.parent.parent if path.parent.name == "metrics" else path.parent
    return folder / ACCEPTED, path.relative_to(folder).as_posix()


def acceptance(path: Path, difference: Difference) -> dict[str, str] | None:
    """Who accepted exactly this difference of a product, when and why; None where nobody did.

    A record copies what made the training from train.json: what was accepted there is accepted here.
    """
    noted, product = acceptances(path)
    if not noted.exists():
        return None
    wanted = asdict(difference).items()
    entries = read_sealed(noted, "accepted results")["accepted"]
    of_product = (entry for entry in entries if entry["product"] in (product, "train.json"))
    return next((entry for entry in of_product if wanted <= entry.items()), None)


def judged(path: Path, found: list[Difference]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(why the product is stale, what was accepted of it), in words."""
    stale, accepted = [], []
    for one in found:
        entry = acceptance(path, one)
        if entry is None:
            stale.append(one.what)
        else:
            accepted.append(f"{one}, by {entry['who']} on {entry['when'][:10]}: {entry['reason']}")
    return tuple(stale), tuple(accepted)


def runs(preset_name: str) -> Iterator[Run]:
    """Every run that the preset's tables and figures ask for, each once."""
    cells = (
        run
        for name in TABLES
        for cell in preset_table(preset_name, name).cells
        for seed in preset(preset_name).seeds
        if (run := cell_run(preset_name, cell, seed)) is not None
    )
    drawn = (
        Run(preset_name, product.measured_on, product.model, product.seed)
        for name in FIGURES
        for product in figure_products(preset_name, name)
        if product.model
    )
    yield from dict.fromkeys((*cells, *drawn))


def claims() -> list[Claim]:
    """What the papers claim, and every order that they print."""
    return [claim for name in CLAIMS for claim in importlib.import_module(f"workflow.claims.{name}").CLAIMS]


@cache
def claim_book() -> Book:
    """The cell of every quantity that a claim is about; ValueError naming the claim where there is none such."""
    further = importlib.import_module("workflow.claims.paper_b").FURTHER
    return book(claims(), [table(name) for name in TABLES], further)


def claim_cell(preset_name: str, cell: Cell) -> Cell:
    """The cell that answers a claim: for a dataset without labels, FID by features that need none."""
    labelled = cell.metric != "fid" or cell_record(preset_name, cell, preset(preset_name).seeds[0]) is not None
    if labelled or preset(preset_name).label_free_extractor is None:
        return cell
    return replace(cell, metric=LABEL_FREE)


def claim_records(preset_name: str) -> list[str]:
    """Every record that claims ask for, each once; none whose feature network is not here."""
    cells = dict.fromkeys(claim_cell(preset_name, one.cell) for one in claim_book().values())
    return _obtainable(cell_record(preset_name, cell, seed) for cell in cells for seed in preset(preset_name).seeds)


def preset_products(preset_name: str) -> list[str]:
    """Every table and figure of a preset in all its formats, its claims, and the page over all of them."""
    tables = [f"results/{preset_name}/{name}.{ending}" for name in TABLES for ending in ("csv", "md", "tex", "html")]
    figures = [f"results/{preset_name}/figures/{name}.{ending}" for name in FIGURES for ending in ("png", "pdf")]
    judged = [f"results/{preset_name}/claims.{ending}" for ending in CLAIM_FORMATS]
    return [*tables, *figures, *judged, f"results/{preset_name}/overview.html"]


def check_target(target: str) -> None:
    """ValueError naming what is known, where a path below results/ has an unknown part or needs weights not here.

    Other words pass. Snakemake itself would only say that no rule makes the path.
    """
    match Path(target).parts:
        case ("results", "data", name, _, *_):
            dataset(name)
        case ("results", "figures", file) | ("results", _, "figures", file):
            _known("figure", Path(file).stem, FIGURES)
        case ("results", file) | ("results", _, file) if file.startswith("table"):
            _known("table", Path(file).stem, TABLES)
        case ("results", _, data, system, _, *_):
            dataset(data)
            model(system)
    if target.endswith("_imagenet_lite.json") and imagenet_lite.problem():
        raise ValueError(f"{target}: {imagenet_lite.problem()}")
    match Path(target).parts:
        case ("results", first, _, *_) if first not in ("data", "figures", "reference"):
            preset(first)


# Inputs and params of rules: functions of wildcards alone, so that Snakemake can compare them between runs.


def dataset_pattern(*kinds: str) -> str:
    """Regular expression of the dataset names that are `trainable`, `ood` (test images only) or `holdout`."""
    names = {"trainable": [], "ood": [], "holdout": []}
    for name, entry in datasets().items():
        if entry.holdout_of:
            names["holdout"].append(f"{name}[0-9]")
        elif entry.any_shape:
            names["ood"].append(f"{name}_[0-9]+x[0-9]+x[0-9]+")
        elif entry.test_only:
            names["ood"].append(name)
        else:
            names["trainable"].append(name)
    return "|".join(name for kind in kinds for name in names[kind]) or "(?!)"


def run_of(wildcards: Any) -> Run:
    return Run(wildcards.preset, wildcards.dataset, wildcards.model, int(wildcards.seed))


def data_folder(wildcards: Any) -> str:
    return dataset(wildcards.dataset).folder


def run_folder(wildcards: Any) -> str:
    return run_of(wildcards).folder


def against_folder(wildcards: Any) -> str:
    return dataset(wildcards.against).folder


def fetch_arguments(wildcards: Any) -> str:
    data = dataset(wildcards.dataset)
    options = data.config.options
    arguments = [f'--module {data.config.module} --raw "$DTRI_DOWNLOADS/{data.kin}"']
    if "archive" in options:
        arguments.append(f"--archive {shlex.quote(options['archive'])}")
    if "sha256" in options:
        arguments.append(f"--sha256 {options['sha256']}")
    if index := options.get("split", {}).get("index"):
        arguments.append(f"--index {shlex.quote(index)}")
    return " ".join(arguments)


def replaced_raw(wildcards: Any) -> str:
    """Differs from what it was when raw files were replaced since they were fetched."""
    data = dataset(wildcards.dataset)
    return rawfiles.replaced(Path(data.folder) / "fetch.json", Path(_settings.downloads) / data.kin)


def fetch_code(wildcards: Any) -> str:
    return code("fetch", dataset(wildcards.dataset).config.module)


def prepare_inputs(wildcards: Any) -> list[str]:
    data = dataset(wildcards.dataset)
    if data.config.holdout_of:
        source = dataset(data.config.holdout_of).folder
        return [f"{source}/{file}" for file in ("train.npy", "test.npy", "index.npz", "meta.json")]
    return [f"{data.folder}/fetch.json"]


def prepare_arguments(wildcards: Any) -> str:
    data = dataset(wildcards.dataset)
    ending = f"--name {data.name} --out {data.folder}"
    if data.config.holdout_of:
        return f"--holdout-of {dataset(data.config.holdout_of).folder} --digit {data.digit} {ending}"
    shape = ",".join(map(str, data.image_shape))
    options = shlex.quote(canonical_json(data.config.options))
    raw = f'"$DTRI_DOWNLOADS/{data.kin}"'
    return f"--module {data.config.module} --image-shape {shape} --options {options} --raw {raw} --seed 0 {ending}"


def prepare_code(wildcards: Any) -> str:
    return data_code(dataset(wildcards.dataset))


def data_code(data: Dataset) -> str:
    """16 hex digits over what a dataset is made by: the code that fetches and prepares it, shape and options."""
    module = data.config.module
    made = [code("fetch", module), code("prepare", module)] if module else [code("prepare", "dtri.data.holdout")]
    return text_hash(*made, canonical_json([data.image_shape, data.config.options, data.digit]))[:16]


def threads(wildcards: Any) -> int:
    return preset(wildcards.preset).threads


def device(wildcards: Any) -> str:
    """What jobs of this preset compute on, unless --config says otherwise.

    A resource of the rules, no param: its change runs nothing again.
    """
    return preset(wildcards.preset).device


def gpus(wildcards: Any) -> int:
    """1 where jobs of this preset compute on a GPU: asked for, or "auto" and this machine has one."""
    wanted = _settings.device or device(wildcards)
    if wanted == "auto":
        return int(Path("/dev/nvidia0").exists())
    return int(wanted == "gpu")


def train_threads(wildcards: Any) -> int:
    return threads(wildcards) * train_spec(run_of(wildcards)).processes


def train_gpus(wildcards: Any) -> int:
    return gpus(wildcards) * train_spec(run_of(wildcards)).processes


def train_memory_mb(wildcards: Any) -> int:
    """On the CPU: libraries 0.7 GB, measured; weights, optimisers and activations at most 1.1 GB, the largest of 19
    pairs of a system and CIFAR-10 or CelebA at full width, counted on tensors without content; images held up to 4 GiB
    (dtri/engine.py). The rest is for the context of a GPU, which was not measured.
    """
    return 10_000 * train_spec(run_of(wildcards)).processes


def train_launcher(wildcards: Any) -> str:
    """The program that runs the train command, in as many processes as the run has."""
    processes = train_spec(run_of(wildcards)).processes
    if processes == 1:
        return "python -m workflow.warm train"
    return f"python -m torch.distributed.run --standalone --nproc-per-node {processes} -m workflow.commands.train"


def train_text(wildcards: Any) -> str:
    return train_spec(run_of(wildcards)).to_json()


def train_code(wildcards: Any) -> str:
    return training_code(run_of(wildcards))


def train_arguments(wildcards: Any) -> str:
    run = run_of(wildcards)
    return f"--data {dataset(run.dataset).folder} --preset {run.preset} --out {run.folder}"


def sample_count(wildcards: Any) -> int:
    return n_samples(run_of(wildcards))


def sampler_text(wildcards: Any) -> str:
    return canonical_json(sampler(run_of(wildcards)))


def sample_code(wildcards: Any) -> str:
    return model_code("sample", wildcards.model)


def interpolate_code(wildcards: Any) -> str:
    return model_code("interpolate", wildcards.model)


def growth_code(wildcards: Any) -> str:
    return model_code("growth", wildcards.model)


def reconstruct_code(wildcards: Any) -> str:
    return model_code("reconstruct", wildcards.model)


def score_arguments(wildcards: Any) -> str:
    limit = f" --limit {SCORED_TRAIN_IMAGES}" if wildcards.split == "train" else ""
    return f"--data {dataset(wildcards.scored).folder} --split {wildcards.split}{limit}"


def score_code(wildcards: Any) -> str:
    return model_code("score", wildcards.model)


def landscape_text(wildcards: Any) -> str:
    return canonical_json(asdict(preset(wildcards.preset).landscape))


def landscape_code(wildcards: Any) -> str:
    return model_code("landscape", wildcards.model)


def landscape_inputs(wildcards: Any) -> str:
    return f"{classes_folder(wildcards)}/classifier.safetensors"


def classes_folder(wildcards: Any) -> str:
    """Folder of the dataset whose labels train the domain extractor."""
    source = dataset(wildcards.dataset).classes_of
    if not source:
        raise ValueError(f"dataset {wildcards.dataset!r} has no labels to train a domain extractor on; use inception")
    return dataset(source).folder


def extractor_inputs(wildcards: Any) -> list[str]:
    if wildcards.extractor == "imagenet_lite":
        return []  # a package has the weights
    if wildcards.extractor == "inception":
        return [INCEPTION_RECORD]
    return [f"{classes_folder(wildcards)}/classifier.{ending}" for ending in ("safetensors", "json")]


def generation_spec(wildcards: Any) -> str:
    run = run_of(wildcards)
    return canonical_json({"comparisons": [one.model_dump() for one in comparisons(run)], "sampler": sampler(run)})


def generation_arguments(wildcards: Any) -> str:
    run = run_of(wildcards)
    folder = dataset(run.dataset).folder
    shared = f"--extractor {wildcards.extractor} --data {folder} --cache {folder}/features --out {run.folder}/metrics"
    if wildcards.extractor == "imagenet_lite":
        return shared
    if wildcards.extractor == "inception":
        return f'{shared} --weights "$DTRI_DOWNLOADS/{INCEPTION_WEIGHTS}"'
    weights, summary = extractor_inputs(wildcards)
    return f"{shared} --weights {weights} --summary {summary}"


def generation_code(wildcards: Any) -> str:
    return model_code("generation", wildcards.model)


def auroc_code(wildcards: Any) -> str:
    return model_code("auroc", wildcards.model)


def auprc_code(wildcards: Any) -> str:
    return model_code("auprc", wildcards.model)


def table_inputs(wildcards: Any) -> list[str]:
    return table_records(wildcards.preset, wildcards.table)


def table_sources(wildcards: Any) -> list[str]:
    return _sources_of(table_inputs(wildcards))


def table_absent(wildcards: Any) -> str:
    return _absent(f"results/{wildcards.preset}/{wildcards.table}.csv", table_inputs(wildcards))


def overview_absent(wildcards: Any) -> str:
    return _absent(f"results/{wildcards.preset}/overview.html", overview_inputs(wildcards))


def figure_absent(wildcards: Any) -> str:
    made = f"results/{wildcards.preset}/figures/{wildcards.figure}.png"
    return _absent(made, figure_inputs(wildcards), figure_sources(wildcards))


def _absent(made: str, inputs: list[str], sources: list[str] = ()) -> str:
    """What was deleted of the products behind one that is there: "" in all other cases.

    A param, since Snakemake makes an absent input anew only for a job that has another reason to run. What was never
    made, of a new seed for instance, lies in the folder of a run without a summary.
    """
    if not Path(made).exists():
        return ""
    behind = [*sources, *(source for path in inputs if Path(path).exists() for source in record_sources(Path(path)))]
    gone = [path for path in dict.fromkeys(behind) if not Path(path).exists()]
    begun = (path for path in inputs if (match := re.match(r"(results/.*/seed\d+)/", path)) and _is_trained(match[1]))
    return " ".join(dict.fromkeys([*gone, *(path for path in begun if not Path(path).exists())]))


def _is_trained(folder: str) -> bool:
    return Path(folder, "train.json").exists()


def overview_sources(wildcards: Any) -> list[str]:
    return _sources_of(overview_inputs(wildcards))


def figure_sources(wildcards: Any) -> list[str]:
    """The runs and the data behind what a figure draws."""
    products = figure_products(wildcards.preset, wildcards.figure)
    drawn = {str(product.path) for product in products}
    found: dict[str, None] = {}
    for one in products:
        if one.model:
            found |= dict.fromkeys(trained(Run(wildcards.preset, one.measured_on, one.model, one.seed)))
        else:
            found |= dict.fromkeys(dataset(one.measured_on).files)
    return [path for path in found if path not in drawn]


def table_spec(wildcards: Any) -> str:
    chosen = preset(wildcards.preset)
    extractors = [chosen.extractor, chosen.label_free_extractor]
    return canonical_json({"label": chosen.label, "seeds": chosen.seeds, "extractors": extractors})


def table_code(wildcards: Any) -> str:
    return code("table", f"workflow.tables.{wildcards.table}")


def table_labels(wildcards: Any) -> dict[str, str]:
    return {"table": table(wildcards.table).title, "preset": wildcards.preset}


def claim_inputs(wildcards: Any) -> list[str]:
    return claim_records(wildcards.preset)


def claim_sources(wildcards: Any) -> list[str]:
    return _sources_of(claim_inputs(wildcards))


def claim_absent(wildcards: Any) -> str:
    return _absent(f"results/{wildcards.preset}/claims.csv", claim_inputs(wildcards))


def claim_spec(wildcards: Any) -> str:
    return canonical_json([table_spec(wildcards), preset(wildcards.preset).caveat])


def claim_code(wildcards: Any) -> str:
    return code("claims")


def claim_labels(wildcards: Any) -> dict[str, str]:
    return {"page": "what the papers claim, and what holds", "preset": wildcards.preset}


def overview_inputs(wildcards: Any) -> list[str]:
    return list(dict.fromkeys(path for name in TABLES for path in table_records(wildcards.preset, name)))


def overview_code(wildcards: Any) -> str:
    return code("overview", *(f"workflow.tables.{name}" for name in TABLES))


def overview_labels(wildcards: Any) -> dict[str, str]:
    return {"page": "status of every cell, cost, findings", "preset": wildcards.preset}


def figure_inputs(wildcards: Any) -> list[str]:
    return [str(product.path) for product in figure_products(wildcards.preset, wildcards.figure)]


def figure_spec(wildcards: Any) -> str:
    products = figure_products(wildcards.preset, wildcards.figure)
    shown = [[product.dataset, product.model_label, str(product.path)] for product in products]
    return canonical_json({"label": preset(wildcards.preset).label, "products": shown})


def figure_code(wildcards: Any) -> str:
    return code("figure", f"workflow.figures.{wildcards.figure}")


def figure_caption(wildcards: Any) -> str:
    return importlib.import_module(f"workflow.figures.{wildcards.figure}").CAPTION


def figure_labels(wildcards: Any) -> dict[str, str]:
    module = importlib.import_module(f"workflow.figures.{wildcards.figure}")
    return {"figure": f"{module.TITLE} ({module.PAPER})", "preset": wildcards.preset}


# Around the jobs


def shell_prefix(python: str) -> str:
    """Shell text before every job: this interpreter and these sources first, wherever Snakemake was started from.

    And the user's settings as variables. Braces are doubled, since Snakemake formats it.
    """
    sources = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {
        "PYTHONPATH": sources,
        "DTRI_DOWNLOADS": _settings.downloads,
        "DTRI_OFFLINE": "1" if _settings.offline else "",
    }
    if _settings.device:
        variables["DTRI_DEVICE"] = _settings.device
    if _settings.runs_per_gpu > 1:
        variables["DTRI_RUNS_PER_GPU"] = str(_settings.runs_per_gpu)
    exports = [f"export {name}={shlex.quote(value)}; " for name, value in variables.items()]
    text = "".join([f'export PATH={shlex.quote(str(Path(python).parent))}:"$PATH"; ', *exports])
    return text.replace("{", "{{").replace("}", "}}")


def outlive_warnings() -> None:
    """In a job of Slurm, ignore SIGUSR1, and let the programs started here ignore it, but for those that handle it.

    Slurm sends it to every process of a job whose time limit nears. Training saves its state and stops; were Snakemake
    or a launcher to die of it, Slurm would take the job for finished and kill the training that saves.
    """
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


_lock = None


def lock_run() -> None:
    """Hold a kernel lock on this directory while Snakemake works; no death leaves it stale. OSError when taken."""
    global _lock
    path = Path(".snakemake/run.lock")
    path.parent.mkdir(exist_ok=True)
    _lock = open(path, "w", encoding="utf-8")  # noqa: SIM115 - held until the process ends
    try:
        fcntl.flock(_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError("another snakemake is working on this directory; wait for it or stop it") from None
