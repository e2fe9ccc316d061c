"""Configuration -> typed experiments: which runs a table needs, where their products lie, what each job depends on.

This module is read while Snakemake parses: it imports neither torch nor pandas.
"""

import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from dtri.experiment import N_SNAPSHOTS, TrainSpec, canonical_json, check_sampler, text_hash
from dtri.metrics import imagenet_lite
from dtri.report.cells import (
    LABEL_FREE,
    Cell,
    FigureInput,
    Missing,
    Product,
    Table,
    stand_in,
    with_label_free,
    with_systems,
)
from dtri.report.claims import Book, Claim, book
from workflow import configuration, overlay
from workflow.configuration import (
    GENERATION_METRICS,
    Comparison,
    DatasetConfig,
    ModelConfig,
    ModelOverride,
    Preset,
    check_known,
    datasets,
    models,
    presets,
)
from workflow.fingerprint import fingerprint

TABLES = overlay.extended("tables", ("table1", "table2", "table3", "table4"))
OF_PAPERS = ("paper_a", "paper_b", "printed")
CLAIMS = overlay.extended("claims", OF_PAPERS)
CLAIM_FORMATS = ("csv", "md", "tex", "html", "png", "pdf")
TABLE_FORMATS, FIGURE_FORMATS = ("csv", "md", "tex", "html"), ("png", "pdf")
LANDSCAPE = ("disconnectivity", "landscape_sensitivity")
FIGURES = overlay.extended(
    "figures",
    (
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
    ),
)
TEMPORARY = ("samples.npy", "samples_variants.npz")  # products that Snakemake removes once they are measured
PICTURES = ("grid.npy", "reconstructions.npy")  # products that the page of a run shows
UNPUBLISHED = {"domain": "a domain classifier", "imagenet_lite": "EfficientNet-Lite0"}  # networks that no paper used
INCEPTION_RECORD = "results/data/inception.json"


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
        """Files that preparing writes."""
        names = ["train.npy"] * self.trainable + ["test.npy"] + ["test_leaky.npy"] * (self.digit is not None)
        return [f"{self.folder}/{name}" for name in (*names, "index.npz", "meta.json")]

    @property
    def base(self) -> str:
        """The entry of datasets.yaml that names the drop folder."""
        return self.config.variant_of or self.family

    @property
    def terms(self) -> tuple[str, bool]:
        """(terms of use of the images, whether they let images be passed on), of the entry or of its source."""
        if self.config.holdout_of and not self.config.terms:
            return dataset(self.config.holdout_of).terms
        entry = self.config if self.config.terms else datasets()[self.base]
        return entry.terms, entry.share_images

    @property
    def classes_of(self) -> str:
        """The dataset whose labels train the domain extractor; "" where there are none."""
        if self.config.holdout_of:
            return dataset(self.config.holdout_of).classes_of
        return self.name if self.config.classes else ""


@cache
def dataset(name: str) -> Dataset:
    """The dataset of that name; ValueError, naming the known datasets, where there is none."""
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


def measured_on(preset: Preset, paper_dataset: str, like: Dataset | None = None) -> str | None:
    """The dataset that stands for the paper's in this preset; None where the configuration has none.

    Args:
        preset: whose stand-ins apply.
        paper_dataset: key of the paper's dataset.
        like: dataset whose image shape is needed. A dataset of any shape is made at it; a test set of another shape
            does not count.
    """
    stand_ins = preset.stand_ins
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
    """What models.yaml sets for a dataset, or else for the dataset that it is a variant of."""
    return entry.datasets.get(data.family) or entry.datasets.get(data.base) or ModelOverride()


def train_spec(run: Run) -> TrainSpec:
    """The run's specification: configuration of the model, overridden by dataset, capped by the preset.

    Raises:
        ValueError: preset, system or dataset are unknown, the dataset has no training images, or a setting is
            impossible.
    """
    configuration.preset(run.preset), configuration.model(run.model)
    if not dataset(run.dataset).trainable:
        raise ValueError(f"dataset {run.dataset!r} is for out-of-distribution tests only, it has no training images")
    try:
        return _spec(run)
    except ValueError as error:
        raise ValueError(f"models.yaml: {run.model} on {dataset(run.dataset).family}: {error}") from error


def _spec(run: Run) -> TrainSpec:
    chosen, entry, data = configuration.preset(run.preset), configuration.model(run.model), dataset(run.dataset)
    overrides = _overrides(entry, data)
    steps = overrides.steps or entry.steps
    if chosen.max_steps:
        steps = chosen.max_steps.of(run.model, steps, holdout=data.digit is not None)
    hparams = {**entry.hparams, **overrides.hparams, **chosen.hparams.get(run.model, {})}
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
    """Iterations between the last snapshots of a hold-out run, for averages over the last epochs.

    They are a fiftieth of the run, an epoch: 500 for 25,000 iterations. 0 for a run shorter than N_SNAPSHOTS
    iterations.
    """
    return max(1, steps // 50) if steps >= N_SNAPSHOTS else 0


def sampler(run: Run) -> dict[str, Any]:
    """Arguments of the system's Markov chains at evaluation, where they are configured; no training reads them."""
    entry, data = configuration.model(run.model), dataset(run.dataset)
    arguments = {**entry.sampler, **_overrides(entry, data).sampler}
    try:
        check_sampler(entry.entry, arguments)
    except ValueError as error:
        raise ValueError(f"models.yaml: {run.model} on {data.family}: {error}") from error
    return arguments


def comparisons(run: Run) -> list[Comparison]:
    """How the run's samples are compared with images, capped by the preset.

    The tables' comparison comes first; equal ones appear once.
    """
    protocol, cap = dataset(run.dataset).config.generation, configuration.preset(run.preset).max_samples
    wanted = [Comparison(**one.model_dump(exclude={"also"})) for one in (protocol, *protocol.also)]
    capped = (one.model_copy(update={"n_samples": min(one.n_samples, cap or one.n_samples)}) for one in wanted)
    return list(dict.fromkeys(capped))


def n_samples(run: Run) -> int:
    """The number of samples that the largest comparison needs."""
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


# Tables and figures


@cache
def table(name: str) -> Table:
    """A table as its file has it, with a line for each system whose entry names it.

    Raises:
        ValueError: the file of an overlay holds another table, or two systems have one label.
    """
    found = importlib.import_module(f"workflow.tables.{name}").TABLE
    if found.name != name:
        raise ValueError(f"expected the table {name!r} in tables/{name}.py, found {found.name!r}")
    own = [(key, one.label, configuration.measurable(one.entry)) for key, one in models().items() if name in one.tables]
    return with_systems(found, own)


def preset_table(preset: Preset, name: str) -> Table:
    """A table as the preset shows it: with FID by features that need no labels, where it asks for that."""
    return with_label_free(table(name)) if preset.label_free_extractor else table(name)


def figure_wants(name: str) -> tuple[FigureInput, ...]:
    return importlib.import_module(f"workflow.figures.{name}").INPUTS


def figure_title(name: str) -> str:
    return importlib.import_module(f"workflow.figures.{name}").TITLE


@dataclass(frozen=True)
class Target:
    """What answers a cell for one seed: a run, and the path of its record.

    Either is None where the configuration has no such thing, and `reason` says why. `comparable`: whether the
    measurement may stand beside the published number; if not, `reason` says why.
    """

    run: Run | None
    path: Path | None
    comparable: bool
    reason: str


def target(preset: Preset, cell: Cell, seed: int) -> Target:
    """The one place where a cell of a table becomes a run and a record.

    Args:
        preset: whose stand-ins and extractor apply.
        cell: in the paper's words.
        seed: one of the preset's.
    """
    if cell.model not in models():
        return Target(None, None, False, f"system {cell.model} is not in the configuration")
    on = measured_on(preset, cell.dataset)
    if on is None:
        return Target(None, None, False, f"dataset {cell.dataset} is not in the configuration")
    run, name, reasons = Run(preset.name, on, cell.model, seed), cell.metric, []
    if on != cell.dataset:
        reasons.append("measured on a stand-in")
    if cell.metric == "auroc":
        against = measured_on(preset, cell.against, dataset(on))
        if against is None:
            return Target(run, None, False, f"dataset {cell.against} is not in the configuration")
        name = f"auroc_{against}"
    if used := _cell_extractor(preset, cell):
        if used == "domain" and not dataset(on).classes_of:
            return Target(run, None, False, f"{on} has no labels to train a domain extractor on")
        name = f"{cell.metric.removesuffix(f'_{used}')}_{used}"
        if network := own_network(preset, cell):
            reasons.append(f"features of {network}, not of the 2015 Inception network")
    if preset.name != "paper":
        reasons.append(f"preset {preset.name}: reduced steps and widths")
    return Target(run, Path(f"{run.folder}/metrics/{name}.json"), not reasons, "; ".join(reasons))


def _cell_extractor(preset: Preset, cell: Cell) -> str:
    """The feature network that a cell is measured with; "" where it needs none."""
    if cell.metric == LABEL_FREE:
        return preset.label_free_extractor or ""
    return preset.extractor if cell.metric in GENERATION_METRICS else ""


def own_network(preset: Preset, cell: Cell) -> str:
    """The feature network of a cell in words, where the papers used another; "" where they used the same or none."""
    return UNPUBLISHED.get(_cell_extractor(preset, cell), "")


def targets(preset: Preset, name: str) -> Iterator[Target]:
    """The target of every cell and seed of a preset's table, in the table's order."""
    return (target(preset, cell, seed) for cell in preset_table(preset, name).cells for seed in preset.seeds)


def network_problem(path: str | Path) -> str:
    """Why the feature network of a record cannot be used here; "" where it can."""
    return imagenet_lite.problem() if Path(path).name.endswith("_imagenet_lite.json") else ""


def table_records(preset: Preset, name: str) -> list[str]:
    """Every record that a table asks for, each once, in the table's order.

    Records whose feature network is not here are left out.
    """
    return _obtainable(targets(preset, name))


def _obtainable(asked: Iterable[Target]) -> list[str]:
    """Records that can be made here, each once; the others' feature network is not here."""
    found = dict.fromkeys(str(one.path) for one in asked if one.path is not None)
    return [path for path in found if not network_problem(path)]


def figure_products(preset: Preset, name: str) -> list[Product]:
    """The products that a figure draws, resolved; inputs that the configuration lacks, and doubles, are left out.

    Pictures show the preset's first seed; curves and measurements all of them.
    """
    products: dict[str, Product] = {}
    for want in figure_wants(name):
        shown = preset.seeds if want.file.startswith(("train.csv", "metrics/")) else preset.seeds[:1]
        for product in (_resolved(preset, want, seed) for seed in shown):
            if product is not None:
                products.setdefault(str(product.path), product)
    return list(products.values())


def _resolved(preset: Preset, want: FigureInput, seed: int) -> Product | None:
    """The product of a figure's input; None where the configuration lacks it.

    Out-of-distribution sets are shown at the shape of the dataset that they are scored against.
    """
    scored = measured_on(preset, "cifar10")
    on = measured_on(preset, want.dataset, dataset(scored) if scored else None)
    if on is None or (want.model and want.model not in models()):
        return None
    against = measured_on(preset, want.against, dataset(on)) if want.against else ""
    if against is None:
        return None
    if want.file.startswith("data:"):
        path = f"{dataset(on).folder}/{want.file.removeprefix('data:')}"
    else:
        path = f"{Run(preset.name, on, want.model, seed).folder}/{want.file.format(against=against)}"
    label = models()[want.model].label if want.model else ""
    return Product(want.dataset, on, want.model, label, seed, want.file, Path(path), want.against, against)


def figure_missing(preset: Preset, name: str) -> list[Missing]:
    """Inputs of a figure that have no separate picture at this moment, and why, in the figure's order."""
    gaps, drawn = [], {}
    for want in figure_wants(name):
        product = _resolved(preset, want, preset.seeds[0])
        if product is None:
            lacking = "the system is not in the configuration" if want.model not in ("", *models()) else "left out"
            reason = f"{lacking} of preset {preset.name}" if lacking == "left out" else lacking
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


# What products were made of. Jobs of tables and figures have it as input too, so that a deleted product is made anew.


def run_at(path: Path) -> Run | None:
    """The run in whose folder a record lies; None where it lies elsewhere, as copies do."""
    match path.parts[-7:]:
        case ("results", name, data, system, seed, "metrics", _) if name in presets():
            return Run(name, data, system, int(seed.removeprefix("seed")))
    return None


def extractor_files(dataset_name: str, extractor: str) -> list[str]:
    """Files of a feature network: the record of `inception`, weights and summary of `domain`.

    `imagenet_lite` has none, since its weights come with a package.

    Raises:
        ValueError: a dataset has no labels to train a domain extractor on.
    """
    if extractor == "inception":
        return [INCEPTION_RECORD]
    if extractor == "imagenet_lite":
        return []
    return [f"{classes_folder(dataset_name)}/classifier.{ending}" for ending in ("safetensors", "json")]


def classes_folder(dataset_name: str) -> str:
    """Folder of the dataset whose labels train the domain extractor; ValueError where there is none."""
    source = dataset(dataset_name).classes_of
    if not source:
        raise ValueError(f"dataset {dataset_name!r} has no labels to train a domain extractor on; use inception")
    return dataset(source).folder


def trained(run: Run) -> list[str]:
    """Products of a training, and the files of its dataset."""
    files = [f"{run.folder}/{name}" for name in ("model.safetensors", "train.csv", "train.json")]
    return [*files, *dataset(run.dataset).files]


def record_sources(path: Path) -> list[str]:
    """What a record in a run's folder was made of, and the other records of its job; nothing for another file."""
    run = run_at(path)
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
            made += extractor_files(run.dataset, "domain")
        case _:
            extractor = path.stem.partition("_")[2]
            made = [f"{metrics}/{name}_{extractor}.json" for name in GENERATION_METRICS]
            made += extractor_files(run.dataset, extractor)
    return [one for one in (*trained(run), *made) if one != str(path)]


def sources_of(records: list[str]) -> list[str]:
    """What records were made of, each once, without the records."""
    found = dict.fromkeys(source for record in records for source in record_sources(Path(record)))
    known = set(records)
    return [path for path in found if path not in known]


def figure_sources(preset: Preset, name: str) -> list[str]:
    """The runs and the data behind what a figure draws, without the products that it reads."""
    products = figure_products(preset, name)
    read = {str(product.path) for product in products}
    found: dict[str, None] = {}
    for one in products:
        if one.model:
            found |= dict.fromkeys(trained(Run(preset.name, one.measured_on, one.model, one.seed)))
        else:
            found |= dict.fromkeys(dataset(one.measured_on).files)
    return [path for path in found if path not in read]


def expected_products(preset: Preset) -> list[str]:
    """Tables, figures, claims and pages of a preset, and all products behind them.

    Temporary files are left out.
    """
    of_tables = [path for name in TABLES for path in table_records(preset, name)] + claim_records(preset)
    of_figures = [
        path
        for name in FIGURES
        for path in (*(str(product.path) for product in figure_products(preset, name)), *figure_sources(preset, name))
    ]
    return list(dict.fromkeys([*preset_products(preset), *of_tables, *sources_of(of_tables), *of_figures]))


def runs(preset: Preset) -> Iterator[Run]:
    """Every run that the preset's tables and figures ask for, each once."""
    cells = (one.run for name in TABLES for one in targets(preset, name) if one.run is not None)
    drawn = (
        Run(preset.name, product.measured_on, product.model, product.seed)
        for name in FIGURES
        for product in figure_products(preset, name)
        if product.model
    )
    yield from dict.fromkeys((*cells, *drawn))


def begun(preset: Preset) -> Iterator[Run]:
    """Every run that has a folder, whether a table asks for it or not."""
    for folder in sorted(Path("results", preset.name).glob("*/*/seed*")):
        *_, data, system, seed = folder.parts
        if system in models() and seed.removeprefix("seed").isdecimal():
            yield Run(preset.name, data, system, int(seed.removeprefix("seed")))


def variants(system: str) -> list[str]:
    """The systems of a sweep, or the one system; ValueError naming what is known where there is neither."""
    found = configuration.sweeps().get(system, [system])
    return [name for name in found if configuration.model(name)]


def claims() -> list[Claim]:
    """What the papers claim, every order that they print, and what overlays add."""
    return [claim for name in CLAIMS for claim in importlib.import_module(f"workflow.claims.{name}").CLAIMS]


def own_claims() -> list[Claim]:
    """Claims of overlays alone."""
    names = [name for name in CLAIMS if name not in OF_PAPERS]
    return [claim for name in names for claim in importlib.import_module(f"workflow.claims.{name}").CLAIMS]


@cache
def claim_book() -> Book:
    """The cell of every quantity that a claim is about; ValueError, naming the claim, where there is no such cell."""
    further = importlib.import_module("workflow.claims.paper_b").FURTHER
    return book(claims(), [table(name) for name in TABLES], further)


def claim_cell(preset: Preset, cell: Cell) -> Cell:
    """The cell that answers a claim; for a dataset without labels, FID by features that need none."""
    labelled = cell.metric != "fid" or target(preset, cell, preset.seeds[0]).path is not None
    if labelled or preset.label_free_extractor is None:
        return cell
    return replace(cell, metric=LABEL_FREE)


def claim_records(preset: Preset) -> list[str]:
    """Every record that claims ask for, each once; records whose feature network is not here are left out."""
    cells = dict.fromkeys(claim_cell(preset, one.cell) for one in claim_book().values())
    return _obtainable(target(preset, cell, seed) for cell in cells for seed in preset.seeds)


def preset_products(preset: Preset) -> list[str]:
    """Every table and figure of a preset in all its formats, its claims, and the pages over all of them."""
    tables = [f"results/{preset.name}/{name}.{ending}" for name in TABLES for ending in TABLE_FORMATS]
    figures = [f"results/{preset.name}/figures/{name}.{ending}" for name in FIGURES for ending in FIGURE_FORMATS]
    judged = [f"results/{preset.name}/claims.{ending}" for ending in CLAIM_FORMATS]
    pages = [f"results/{preset.name}/{name}" for name in ("overview.html", "runs/index.html")]
    return [*tables, *figures, *judged, *pages]


def run_page(run: Run) -> str:
    """The page of a run, which the job of the landing page writes.

    Dots separate the names. The name of a variant may have dots too; names of datasets and seeds have none.
    """
    return f"results/{run.preset}/runs/{run.dataset}.{run.model}.seed{run.seed}.html"


def originals(copy: str) -> list[str]:
    """Files of preset paper that a table, figure or page of claims below results/ copies; `copy` has no ending."""
    of_claims = CLAIM_FORMATS if copy == "results/claims" else TABLE_FORMATS
    formats = FIGURE_FORMATS if copy.startswith("results/figures/") else of_claims
    return [f"results/paper/{copy.removeprefix('results/')}.{ending}" for ending in formats]


def check_configuration() -> None:
    """Check the three settings files, before anything is trained, for all that needs no data and no built model.

    Raises:
        ValueError: an entry is unknown or impossible; the message names file, line, key and what is known.
    """
    configuration.check_entries()
    first = next(iter(presets()))
    trainable = [name for name, data in datasets().items() if not data.any_shape and not data.test_only]
    for name, entry in models().items():
        with configuration.at("models.yaml", name, "tables"):
            for shown in entry.tables:
                check_known("table", shown, TABLES)
                table(shown)
        plain = next((one for one in trainable if one not in entry.datasets), trainable[0])
        for family in ("", *entry.datasets):
            on, keys = family or plain, (name, "datasets", family) if family else (name,)
            with configuration.at("models.yaml", *keys):
                _spec(Run(first, f"{on}0" if datasets()[on].holdout_of else on, name, 0))
    _check_claims()


def _check_claims() -> None:
    """ValueError naming the claim that is about a cell, system or dataset that does not exist."""
    claim_book()
    for claim in claims():
        for one in claim.quantities:
            try:
                configuration.model(one.model)
                for name in (one.dataset, one.against):
                    if name and name not in datasets():
                        dataset(name)
            except ValueError as error:
                raise ValueError(f"claim {claim.id}: {error}") from error


def check_target(target: str) -> None:
    """Check the parts of a path below results/, of which Snakemake would only say that no rule makes it.

    Other words pass.

    Raises:
        ValueError: a part is unknown, or the path needs weights that are not here; the message names what is known.
    """
    match Path(target).parts:
        case ("results", "data", name, _, *_):
            dataset(name)
        case ("results", "figures", file) | ("results", _, "figures", file):
            check_known("figure", Path(file).stem, FIGURES)
        case ("results", file) | ("results", _, file) if file.startswith("table"):
            check_known("table", Path(file).stem, TABLES)
        case ("results", _, data, system, _, *_):
            dataset(data)
            configuration.model(system)
    match Path(target).parts:
        case ("results", first, _, *_) if first not in ("data", "figures", "reference"):
            configuration.preset(first)
    if problem := network_problem(target):
        raise ValueError(f"{target}: {problem}")
