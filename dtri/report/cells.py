"""What tables and figures ask for: published cells with the runs that answer them, and products to draw.

Standard library only: the plan reads table and figure files while Snakemake parses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dtri.report.records import Record


@dataclass(frozen=True)
class Cell:
    """One published number and the measurement that answers it.

    `dataset` and `model` are keys of the configuration (a system or dataset that does not exist yet renders as
    missing); `metric` is a record name such as "fid", "rmse", "auroc", "auprc"; `against` is the second dataset of an
    AUROC. `score` names a further number of the same record (in its extra["scores"], or extra itself), whose value is
    shown in place of the record's, such as "recall" beside precision; "" for the record's. `published` is None where
    the paper prints "-" or where the column is ours alone; `published_text` is the string as printed ("0.5" is not
    "0.500"), "-" for a printed dash and "" where the paper has no such cell; `bold` as printed, never recomputed.
    `tolerance` is the largest |mean - published| still called reproduced, written before any run. `direction` is
    "lower" or "higher" (better). `row` and `column` place the cell in the rendered layout and carry the paper's own
    names. `incomparable` says why no measurement of ours may be set beside the printed number; "" where the papers give
    no reason.
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
    """A column of reference levels beside the cells of one metric, such as the chance level of an AUPRC.

    `measure` names the column of the tidy frame that holds the same level for the data really measured on;
    `values` are (row, text) for the paper's data.
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

    `stale` lists why the record was made by something other than this checkout (empty: current). `measured_on` is the
    dataset really used, which differs from the cell's for a stand-in. `expected` is False where the system or dataset
    does not exist in the configuration. `comparable` is False for presets other than paper, for stand-ins and for
    domain features; `reason` says why it is False, or why it is not expected: several are parted by "; ". `accepted`
    lists what differs from this checkout and was accepted all the same, with who, when and why. `seen_in_training` says
    how many test images are training images too, "" for none.
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
    """One per-run product that a figure draws, in the papers' names; the plan resolves stand-ins and paths.

    `file` is relative to the run's folder, or "data:<file>" for the dataset's own images (then `model` is ""). Where
    it holds "{against}", the plan replaces that by the dataset really used for the key `against`.
    """

    dataset: str
    model: str
    file: str
    against: str = ""


@dataclass(frozen=True)
class Product:
    """A wanted file that the plan resolved: the paper's keys, what was really used, and where the file lies.

    `file` and `against` are those of the FigureInput; `measured_on` and `against_on` are the datasets really used.
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
    """A want without a picture of its own, for figures that show gaps (`SHOWS_MISSING`), and why in words."""

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
    """The paper's name of `dataset`; with the set really used in front where that is another one."""
    name = PAPER_NAMES.get(dataset, dataset)
    return name if measured_on in ("", dataset) else f"{measured_on} (for {name})"


def first_seeds(products: Sequence[Product]) -> list[Product]:
    """One product per want, the one of the smallest seed, in the order of first appearance."""
    best: dict[tuple[str, ...], Product] = {}
    for product in products:
        key = (product.dataset, product.model, product.file, product.against)
        if key not in best or product.seed < best[key].seed:
            best[key] = product
    return list(best.values())


NOT_IN_PAPER = "not in the paper"
DASH_IN_PAPER = "'-' in the paper"


def printed(text: str) -> tuple[float | None, float | None]:
    """Mean and spread of a printed cell: "0.281 ± 0.035" -> (0.281, 0.035); "-" and "" -> (None, None)."""
    if text in ("", "-"):
        return None, None
    mean, _, std = text.partition("±")
    return float(mean), float(std) if std else None


def blank_note(text: str) -> str:
    """The note of a cell without a number: why there is none."""
    return {"": NOT_IN_PAPER, "-": DASH_IN_PAPER}.get(text, "")
