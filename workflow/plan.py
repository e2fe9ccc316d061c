"""Configuration -> typed experiments: which runs a table needs, where their products lie, what each job reads.

Read while Snakemake parses: no torch, no pandas. Every spec handed to a rule is one canonical JSON text.
"""

import fcntl
import importlib
import json
import os
import re
import shlex
import signal
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from dtri.experiment import LATE, TrainSpec, canonical, check_hparams, check_sampler
from dtri.landscape.settings import Settings as LandscapeSettings
from dtri.report.cells import Cell, Found, Missing, Product, Table, Want, stand_in
from dtri.report.records import Record
from workflow.fingerprint import fingerprint

CONFIG = Path(__file__).parent / "config"
TABLES = ("table1", "table2", "table3", "table4")
LANDSCAPE = ("disconnectivity", "landscape_sensitivity")
FIGURES = (
    *("samples", "reconstructions", "histograms", "ood_examples", "interpolation", "training_curves", "anomaly"),
    *("growth", "growth_compared", "high_resolution", "large_scale"),
    *LANDSCAPE,
)
GENERATION_METRICS = ("fid", "is", "kid", "prc")
SCORED_TRAIN_IMAGES = 10_000  # of the training split, for the last panel of A Fig. 3
INCEPTION_RECORD = "results/data/inception.json"
INCEPTION_WEIGHTS = "inception/weights-inception-2015-12-05-6726825d.pth"  # below the drop folder


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Comparison(Strict):
    """How many samples against which images of the dataset: the first `n_reference` of a split, or all.

    With `batch_statistics` the samples are drawn anew, batch norm using the statistics of each batch.
    """

    n_samples: PositiveInt
    reference: Literal["train", "test"] = "train"
    n_reference: PositiveInt | None = None
    batch_statistics: bool = False


class GenerationProtocol(Comparison):
    """The comparison behind the tables' numbers, and others of the same samples that are reported beside it."""

    also: tuple[Comparison, ...] = ()

    @model_validator(mode="after")
    def _eval_mode(self) -> "GenerationProtocol":
        if self.batch_statistics:
            raise ValueError("expected batch_statistics below `also` only: the tables' numbers are of eval mode")
        return self


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
    seeds: tuple[int, ...] = Field(min_length=1)
    width: PositiveFloat = 1.0
    max_steps: MaxSteps | None = None
    max_samples: PositiveInt | None = None
    stand_ins: dict[str, str | None] = Field(default_factory=dict)
    extractor: Literal["inception", "domain"]
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
    path = CONFIG / file
    entries = yaml.safe_load(path.read_text()) or {}
    if not isinstance(entries, dict):
        raise ValueError(f"expected a mapping in {path.name}, found {type(entries).__name__}")
    loaded = {}
    for name, entry in entries.items():
        try:
            loaded[name] = kind.model_validate(entry)
        except ValidationError as error:
            first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a misspelled key says more
            key = ".".join(str(part) for part in (name, *first["loc"]))
            given = first.get("input")
            found = "" if isinstance(given, dict) else f", found {given!r}"  # of an entry the message says it
            raise ValueError(f"{path.name}: {key}: {first['msg'].removeprefix('Value error, ')}{found}") from error
    return loaded


class Settings(Strict):
    """What a user may set by `--config key=value`: where and how jobs run, never what they compute."""

    downloads: str = "downloads"
    device: Literal["auto", "cpu", "gpu"] | None = None
    offline: bool = False
    runs_per_gpu: PositiveInt = 1


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
            f"--config {key}: {first['msg']}, found {first.get('input')!r} (known keys: {known})"
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
    """ValueError naming file, key and what is known, when anything in the three files is unknown or impossible."""
    for name, chosen in presets().items():
        for capped in chosen.max_steps.models if chosen.max_steps else ():
            try:
                _known("model", capped, models())
            except ValueError as error:
                raise ValueError(f"presets.yaml: {name}.max_steps.models: {error}") from error
    for name, data in datasets().items():
        try:
            if data.variant_of:
                _known("dataset", data.variant_of, datasets())
        except ValueError as error:
            raise ValueError(f"datasets.yaml: {name}.variant_of: {error}") from error
    for name, entry in models().items():
        for family, override in {"": ModelOverride(), **entry.datasets}.items():
            try:
                if family:
                    _known("dataset", family, datasets())
                check_hparams(entry.entry, {**entry.hparams, **override.hparams})
            except ValueError as error:
                raise ValueError(f"models.yaml: {name}{'.datasets.' + family if family else ''}: {error}") from error


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
    chosen, entry, data = preset(run.preset), model(run.model), dataset(run.dataset)
    if not data.trainable:
        raise ValueError(f"dataset {run.dataset!r} is for out-of-distribution tests only, it has no training images")
    overrides = _overrides(entry, data)
    steps = overrides.steps or entry.steps
    if chosen.max_steps:
        steps = min(steps, chosen.max_steps.of(run, holdout=data.digit is not None))
    hparams = {**entry.hparams, **overrides.hparams}
    if chosen.width != 1.0:
        hparams["width"] = chosen.width * hparams.get("width", 1.0)
    try:
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
    except ValueError as error:
        raise ValueError(f"models.yaml: {run.model} on {data.family}: {error}") from error


def _late_every(steps: int) -> int:
    """Iterations per epoch of a hold-out, for averages over the last epochs: at full length 50 epochs of 500."""
    return max(1, steps // 50) if steps >= LATE else 0


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


def n_samples(run: Run, batch_statistics: bool = False) -> int:
    """As many as the largest comparison needs of those samples."""
    return max((one.n_samples for one in comparisons(run) if one.batch_statistics == batch_statistics), default=0)


# What each kind of job depends on: the command's modules, and the model's where a model is built.

COMMAND = {
    "fetch": "workflow.commands.fetch",
    "prepare": "workflow.commands.prepare",
    "classifier": "workflow.commands.classifier",
    "train": "workflow.commands.train",
    "sample": "workflow.commands.sample",
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
    "figure": "workflow.commands.figure",
}


BUILDS_MODEL = ("train", "sample", "interpolate", "growth", "reconstruct", "score", "landscape")
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


def model_code(kind: str, name: str) -> str:
    return fingerprint(modules(kind, name))


def measure_code(metric: str, name: str) -> str:
    """Code of a measurement: that of the job that writes the record, and of the job before it."""
    return model_code("generation" if metric in GENERATION_METRICS else WRITERS[metric], name)


# Tables and figures


@cache
def table(name: str) -> Table:
    return importlib.import_module(f"workflow.tables.{name}").TABLE


def figure_wants(name: str) -> tuple[Want, ...]:
    return importlib.import_module(f"workflow.figures.{name}").WANTS


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
    if cell.metric in GENERATION_METRICS:
        if _lacks_extractor(preset_name, run):
            return None
        name = f"{cell.metric}_{preset(preset_name).extractor}"
    if cell.metric == "auroc":
        against = measured_on(preset_name, cell.against, dataset(run.dataset))
        if against is None:
            return None
        name = f"auroc_{against}"
    return f"{run.folder}/metrics/{name}.json"


def _lacks_extractor(preset_name: str, run: Run) -> bool:
    """Whether the preset wants domain features on a dataset without labels to train their network on."""
    return preset(preset_name).extractor == "domain" and not dataset(run.dataset).classes_of


def table_records(preset_name: str, name: str) -> list[str]:
    """Every record that a table asks for, each once, in the table's order."""
    paths = (cell_record(preset_name, cell, s) for cell in table(name).cells for s in preset(preset_name).seeds)
    return list(dict.fromkeys(path for path in paths if path is not None))


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


def _resolved(preset_name: str, want: Want, seed: int) -> Product | None:
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
        gaps.append(Missing(want.dataset, want.model, reason))
    return gaps


def lookup(preset_name: str, cell: Cell, seed: int) -> Found:
    """What is on disk for a cell and seed, compared with what this checkout would make."""
    run, path = cell_run(preset_name, cell, seed), cell_record(preset_name, cell, seed)
    if run is not None and cell.metric in GENERATION_METRICS and _lacks_extractor(preset_name, run):
        reason = f"{run.dataset} has no labels to train a domain extractor on"
        return Found(None, expected=False, comparable=False, reason=reason)
    if run is None or path is None:
        lacking = f"system {cell.model}" if cell.model not in models() else f"dataset {cell.against or cell.dataset}"
        return Found(None, expected=False, comparable=False, reason=f"{lacking} is not in the configuration")
    comparable, reason = _comparable(preset_name, cell, run)
    if not Path(path).exists():
        return Found(None, measured_on=run.dataset, comparable=comparable, reason=reason)
    record = Record.read(Path(path))
    return Found(record, stale(record, run, cell.metric), run.dataset, True, comparable, reason)


def _comparable(preset_name: str, cell: Cell, run: Run) -> tuple[bool, str]:
    """Whether a measurement may stand beside the published number, and why not."""
    reasons = []
    if run.dataset != cell.dataset:
        reasons.append(f"measured on the stand-in {run.dataset}")
    if cell.metric in GENERATION_METRICS and preset(preset_name).extractor == "domain":
        reasons.append("features of a domain classifier, not of the 2015 Inception network")
    if preset_name != "paper":
        reasons.append(f"preset {preset_name}: reduced steps and widths")
    return not reasons, "; ".join(reasons)


def stale(record: Record, run: Run, metric: str) -> tuple[str, ...]:
    """Why the record of a run's metric was made by something other than this checkout; empty when it is current."""
    differs = []
    if (record.preset, record.dataset, record.model, record.seed, record.metric) != (*astuple(run), metric):
        differs.append(f"record of {record.preset}/{record.dataset}/{record.model}/seed{record.seed} {record.metric}")
    if record.spec != train_spec(run).hash:
        differs.append("training specification")
    if record.train_code != model_code("train", run.model):
        differs.append("training code")
    if record.code != measure_code(metric, run.model):
        differs.append("measuring code")
    if metric in GENERATION_METRICS and (record.status == "done" or "diverged" in record.extra):
        if record.extra.get("sampler", {}) != sampler(run):
            differs.append("sampler")
        if record.extra.get("comparisons") != [one.model_dump() for one in comparisons(run)]:
            differs.append("comparisons")
        if (network := _extractor_hash(run)) and record.extra["extractor_sha256"] != network:
            differs.append("extractor")
    return (*differs, *changed_data(record.data))


def changed_data(data: dict[str, str]) -> list[str]:
    """Which of the datasets, by name and data hash, are prepared otherwise here; one that is not here passes."""
    metas = {name: Path(dataset(name).folder) / "meta.json" for name in data}
    contents = {name: json.loads(meta.read_text())["content"] for name, meta in metas.items() if meta.exists()}
    return [f"data {name}" for name, content in contents.items() if content != data[name]]


def _extractor_hash(run: Run) -> str:
    """sha256 of the feature network's weights on disk; "" where it is not there."""
    domain = preset(run.preset).extractor == "domain"
    known = Path(f"{dataset(dataset(run.dataset).classes_of).folder}/classifier.json" if domain else INCEPTION_RECORD)
    return json.loads(known.read_text())["sha256"] if known.exists() else ""


def runs(preset_name: str) -> Iterator[Run]:
    """Every run that the preset's tables and figures ask for, each once."""
    cells = (
        run
        for name in TABLES
        for cell in table(name).cells
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


def preset_products(preset_name: str) -> list[str]:
    """Every table and figure of a preset, and the page over all of them."""
    tables = [f"results/{preset_name}/{name}.csv" for name in TABLES]
    figures = [f"results/{preset_name}/figures/{name}.png" for name in FIGURES]
    return [*tables, *figures, f"results/{preset_name}/overview.html"]


def check_target(target: str) -> None:
    """ValueError naming what is known, where a path below results/ has an unknown part.

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
    return " ".join(arguments)


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
    options = shlex.quote(canonical(data.config.options))
    raw = f'"$DTRI_DOWNLOADS/{data.kin}"'
    return f"--module {data.config.module} --image-shape {shape} --options {options} --raw {raw} --seed 0 {ending}"


def prepare_code(wildcards: Any) -> str:
    return code("prepare", dataset(wildcards.dataset).config.module or "dtri.data.holdout")


def threads(wildcards: Any) -> int:
    return preset(wildcards.preset).threads


def device(wildcards: Any) -> str:
    """What jobs of this preset compute on, unless --config says otherwise."""
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
    return train_spec(run_of(wildcards)).text


def train_code(wildcards: Any) -> str:
    return model_code("train", wildcards.model)


def train_arguments(wildcards: Any) -> str:
    run = run_of(wildcards)
    return f"--data {dataset(run.dataset).folder} --preset {run.preset} --out {run.folder}"


def sample_count(wildcards: Any) -> int:
    return n_samples(run_of(wildcards))


def batch_sample_count(wildcards: Any) -> int:
    return n_samples(run_of(wildcards), batch_statistics=True)


def sampler_text(wildcards: Any) -> str:
    return canonical(sampler(run_of(wildcards)))


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
    return canonical(asdict(preset(wildcards.preset).landscape))


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
    if wildcards.extractor == "inception":
        return [INCEPTION_RECORD]
    return [f"{classes_folder(wildcards)}/classifier.{ending}" for ending in ("safetensors", "json")]


def generation_spec(wildcards: Any) -> str:
    run = run_of(wildcards)
    return canonical({"comparisons": [one.model_dump() for one in comparisons(run)], "sampler": sampler(run)})


def generation_arguments(wildcards: Any) -> str:
    run = run_of(wildcards)
    folder = dataset(run.dataset).folder
    shared = f"--extractor {wildcards.extractor} --data {folder} --cache {folder}/features --out {run.folder}/metrics"
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


def table_spec(wildcards: Any) -> str:
    chosen = preset(wildcards.preset)
    return canonical({"label": chosen.label, "seeds": chosen.seeds, "extractor": chosen.extractor})


def table_code(wildcards: Any) -> str:
    return code("table", f"workflow.tables.{wildcards.table}")


def table_labels(wildcards: Any) -> dict[str, str]:
    return {"table": table(wildcards.table).title, "preset": wildcards.preset}


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
    return canonical({"label": preset(wildcards.preset).label, "products": shown})


def figure_code(wildcards: Any) -> str:
    return code("figure", f"workflow.figures.{wildcards.figure}")


def figure_caption(wildcards: Any) -> str:
    return importlib.import_module(f"workflow.figures.{wildcards.figure}").CAPTION


def figure_labels(wildcards: Any) -> dict[str, str]:
    module = importlib.import_module(f"workflow.figures.{wildcards.figure}")
    return {"figure": f"{module.TITLE} ({module.PAPER})", "preset": wildcards.preset}


# Around the jobs


def shell_prefix(python: str) -> str:
    """Shell text before every job: this interpreter first on the path, and the user's settings as variables."""
    variables = {"DTRI_DOWNLOADS": _settings.downloads, "DTRI_OFFLINE": "1" if _settings.offline else ""}
    if _settings.device:
        variables["DTRI_DEVICE"] = _settings.device
    if _settings.runs_per_gpu > 1:
        variables["DTRI_RUNS_PER_GPU"] = str(_settings.runs_per_gpu)
    exports = [f"export {name}={shlex.quote(value)}; " for name, value in variables.items()]
    return "".join([f'export PATH={shlex.quote(str(Path(python).parent))}:"$PATH"; ', *exports])


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
    _lock = open(path, "w")  # noqa: SIM115 - held until the process ends
    try:
        fcntl.flock(_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError("another snakemake is working on this directory; wait for it or stop it") from None
