"""Which runs and records tables, figures and claims ask for, where products lie, and what they were made of.

This module is read while Snakemake parses: it imports neither torch nor pandas.
"""

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

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
from workflow import configuration, overlay, specs
from workflow.configuration import (
    GENERATION_METRICS,
    Preset,
    check_known,
    datasets,
    models,
    presets,
)
from workflow.specs import Run, dataset, measured_on, run_at

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
                specs.merged(Run(first, f"{on}0" if datasets()[on].holdout_of else on, name, 0))
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
