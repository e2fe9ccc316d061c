"""What tables and figures ask for: published cells with the runs that answer them, and products to draw.

This module needs the standard library only: the plan reads table and figure files while Snakemake parses.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from dtri.report.records import Record


@dataclass(frozen=True)
class Cell:
    """One published number and the measurement that answers it.

    Attributes:
        paper: "A" or "B"; "" for a number that neither paper prints.
        metric: name of a record, such as "fid", "rmse", "auroc", "auprc".
        dataset, model: keys of the configuration. A key that does not exist there renders as missing.
        row, column: place in the rendered layout, in the paper's own words.
        published: None where the paper prints "-" or has no such cell.
        direction: which values are better, "lower" or "higher".
        tolerance: largest |mean - published| that counts as reproduced, written before any run.
        published_std: printed spread.
        note: what is known of the printed number, or why there is none.
        against: second dataset of an AUROC.
        score: name of another number in the record, shown in place of its value, such as "recall" beside precision. It
            stands in extra["scores"], or in extra itself. "": the record's value.
        published_text: the number digit by digit ("0.5" is not "0.500"), "-" for a dash, "" for no such cell.
        bold: as printed, never recomputed.
        incomparable: why no measurement of ours may be set beside the printed number. "": nothing speaks against it.
    """

    paper: str
    metric: str
    dataset: str
    model: str
    row: str
    column: str
    published: float | None
    direction: str
    tolerance: float
    published_std: float | None = None
    note: str = ""
    against: str = ""
    score: str = ""
    published_text: str = ""
    bold: bool = False
    incomparable: str = ""


@dataclass(frozen=True)
class ReferenceColumn:
    """Reference levels beside the cells of one metric, for example the chance level of an AUPRC.

    Attributes:
        metric: of the cells that they stand beside.
        heading: of the column.
        measure: column of the tidy frame that holds the level on the data really measured on.
        values: (row, level as text) on the paper's data.
    """

    metric: str
    heading: str
    measure: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table of results: its cells in the papers' order, and notes that hold for all of them.

    Cells of one (paper, metric) form a block; `headings` are (paper, metric, heading of the block).
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    headings: tuple[tuple[str, str, str], ...] = ()
    references: tuple[ReferenceColumn, ...] = ()


@dataclass(frozen=True)
class CellResult:
    """What is on disk for one cell and seed.

    Attributes:
        record: None where nothing was measured.
        stale: why this checkout would make another record. Empty: the record is current.
        measured_on: dataset really used, which differs from the cell's for a stand-in.
        expected: False where it is known why there is no number: a system, dataset, label, network or score does not
            exist, or somebody left the measurement out for a reason.
        comparable: False for presets other than paper, stand-ins, other feature networks and other protocols.
        reason: why not comparable, or why not expected. A "; " parts two reasons.
        accepted: differences from this checkout that somebody accepted, with who, when and why.
        seen_in_training: how many test images are training images too, in words. "": none.
    """

    record: Record | None
    stale: tuple[str, ...] = ()
    measured_on: str = ""
    expected: bool = True
    comparable: bool = True
    reason: str = ""
    accepted: tuple[str, ...] = ()
    seen_in_training: str = ""


@dataclass(frozen=True)
class FigureInput:
    """One product that a figure draws, in the papers' names; the plan resolves stand-ins and paths.

    Attributes:
        dataset, model: keys of the configuration; `model` is "" for images of the dataset itself.
        file: relative to the run's folder, or "data:<file>" for a file of the dataset. The plan replaces "{against}" by
            the dataset that is really used for `against`.
        against: second dataset of a score.
    """

    dataset: str
    model: str
    file: str
    against: str = ""


@dataclass(frozen=True)
class Product:
    """An input of a figure as the plan resolved it: the paper's keys, what was really used, and where the file lies.

    `dataset`, `model`, `file`, `against` are the input's; `measured_on` and `against_on` are the datasets really used.
    """

    dataset: str
    measured_on: str
    model: str
    model_label: str
    seed: int
    file: str
    path: Path
    against: str = ""
    against_on: str = ""

    @property
    def place(self) -> str:
        """Where it was measured, in the paper's words: "CIFAR-10", or "digits (for CIFAR-10)" for a stand-in."""
        return stand_in(self.dataset, self.measured_on)

    @property
    def against_place(self) -> str:
        return stand_in(self.against, self.against_on)


@dataclass(frozen=True)
class Missing:
    """An input that has no picture, and why in words; figures with `SHOWS_MISSING` draw an empty panel for it."""

    dataset: str
    model: str
    reason: str
    model_label: str = ""

    @property
    def place(self) -> str:
        return stand_in(self.dataset, "")


PAPER_NAMES = {
    "cifar10": "CIFAR-10",
    "celeba": "CelebA",
    "celeba32": "CelebA",
    "celeba_hq": "CelebA-HQ",
    "lsun_bedroom": "LSUN-bedroom",
    "lsun_tower": "LSUN-tower",
    "lsun_church_outdoor": "LSUN-church outdoor",
    "imagenet32": "ImageNet",
    "fashion_mnist": "Fashion-MNIST",
    "svhn": "SVHN",
    "uniform": "Uniform noise",
    "dtd": "Texture",
    **{f"mnist_holdout{digit}": f"MNIST without {digit}" for digit in range(10)},
}


def stand_in(dataset: str, measured_on: str) -> str:
    """The paper's name of `dataset`; where another dataset was used, that one's name stands in front."""
    name = PAPER_NAMES.get(dataset, dataset)
    return name if measured_on in ("", dataset) else f"{measured_on} (for {name})"


def first_seeds(products: Sequence[Product]) -> list[Product]:
    """The product of the smallest seed for every input, in the order of first appearance."""
    best: dict[tuple[str, ...], Product] = {}
    for product in products:
        key = (product.dataset, product.model, product.file, product.against)
        if key not in best or product.seed < best[key].seed:
            best[key] = product
    return list(best.values())


NOT_IN_PAPER = "not in the paper"
DASH_IN_PAPER = "'-' in the paper"
LABEL_FREE = "fid_imagenet_lite"
LABEL_FREE_HEADING = "In neither paper: FID (ImageNet lite), by features of EfficientNet-Lite0 that need no labels"


def with_label_free(table: Table) -> Table:
    """`table` with a further block behind its own: FID by features that need no labels.

    The block has every system and dataset that has an FID in the table.
    """
    systems: dict[tuple[str, str], Cell] = {}
    for cell in table.cells:
        if cell.metric == "fid":
            systems.setdefault((cell.dataset, cell.model), cell)
    if not systems:
        return table
    ours = {"paper": "", "metric": LABEL_FREE, "published": None, "published_std": None, "published_text": ""}
    ours |= {"note": NOT_IN_PAPER, "bold": False, "incomparable": ""}
    cells = (replace(cell, **ours) for cell in systems.values())
    headings = (*table.headings, ("", LABEL_FREE, LABEL_FREE_HEADING))
    return replace(table, cells=(*table.cells, *cells), headings=headings)


def with_systems(table: Table, systems: Sequence[tuple[str, str, Container[str]]]) -> Table:
    """`table` with a line for each further system, in every block whose metric the system has.

    No paper prints these cells.

    Args:
        table: as a paper prints it.
        systems: key, label and metrics of each.

    Raises:
        ValueError: a label that another system of the table has.
    """
    blocks: dict[tuple[str, str], list[Cell]] = {}
    for cell in table.cells:
        blocks.setdefault((cell.paper, cell.metric), []).append(cell)
    further = []
    for model, label, metrics in systems:
        for (_, metric), cells in blocks.items():
            if metric in metrics:
                further += _line(cells, model, label)
    return replace(table, cells=(*table.cells, *further))


def _line(cells: Sequence[Cell], model: str, label: str) -> list[Cell]:
    """Cells of a further system in a block, one wherever all systems of the block have a cell."""
    places: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        places.setdefault((cell.dataset, cell.against, cell.score), []).append(cell)
    in_rows = any(one.column == other.column for some in places.values() for one, other in pairwise(some))
    if label in {cell.row if in_rows else cell.column for cell in cells}:
        raise ValueError(f"expected a label that no other system has, found {label!r} of {model}")
    of_score = {score: {cell.model for cell in cells if cell.score == score} for _, _, score in places}
    blank = {"published": None, "published_std": None, "published_text": "", "bold": False, "incomparable": ""}
    blank |= {"model": model, "note": NOT_IN_PAPER, "row" if in_rows else "column": label}
    return [
        replace(some[0], **blank)
        for (_, _, score), some in places.items()
        if of_score[score] == {cell.model for cell in cells}
    ]


def printed(text: str) -> tuple[float | None, float | None]:
    """Mean and spread of a printed cell: "0.281 ± 0.035" -> (0.281, 0.035); "-" and "" -> (None, None)."""
    if text in ("", "-"):
        return None, None
    mean, _, std = text.partition("±")
    return float(mean), float(std) if std else None


def blank_note(text: str) -> str:
    """The note of a cell without a number: why there is none."""
    return {"": NOT_IN_PAPER, "-": DASH_IN_PAPER}.get(text, "")
