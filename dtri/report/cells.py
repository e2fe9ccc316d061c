"""Cells of the papers' tables: what was published, and which record answers it.

Standard library only: the plan reads table files while Snakemake parses.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One published number and the measurement that answers it.

    `dataset` and `model` are keys of the configuration (a system or dataset that does not exist yet renders as
    missing); `metric` is a record name such as "fid", "rmse", "auroc", "auprc"; `against` is the second dataset of an
    AUROC. `published` is None where the paper prints "-" or where the column is ours alone. `tolerance` is the largest
    |mean - published| still called reproduced, written before any run. `direction` is "lower" or "higher" (better).
    `row` and `column` place the cell in the rendered layout and carry the paper's own names.
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


@dataclass(frozen=True)
class Table:
    """A table of results: its cells in the papers' order, and notes that hold for all of them."""

    name: str
    title: str
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
