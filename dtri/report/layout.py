"""The papers' layout of a tidy frame, for all formats: the printed number, below it what was measured.

A measurement that cannot be compared with the printed number (another preset, a stand-in dataset, other features)
stands in square brackets, carries its reason as a footnote and never gets a verdict.
"""

import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pandas as pd

from dtri.report.cells import Cell, Table

DECIMALS = {"fid": 2, "is": 2, "rmse": 4, "mse": 4, "auroc": 3, "auprc": 3, "auprc_leaky": 3}
METRICS = {
    "fid": "FID",
    "is": "Inception Score",
    "rmse": "RMSE",
    "mse": "MSE",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "auprc_leaky": "AUPRC (leaky split)",
}
LEGEND = (
    "Upper line: the number printed in the paper, with its precision; bold as printed; '-' is the paper's own dash; "
    "'·' means that the paper has no such cell.",
    "Lower line: measured here, mean ± standard deviation (ddof = 1) over seeds, the number of seeds in parentheses; "
    "below a reference level, the same level of the data measured on.",
    "[ ]: measured, but not comparable with the printed number, for the numbered reason.",
    "AP: average precision beside a trapezoid, which equal scores flatter. doubtful: the numbered reason says what the "
    "value hangs on.",
    "reproduced, better, worse: against the tolerance below, which was fixed before any run.",
    "partial: some seeds are missing. diverged k/n: k of n trainings, or what their models made, ended in non-finite "
    "values; the mean is over the others. "
    "stale: made by other code, data or configuration than this checkout's. not run: no measurement.",
)


@dataclass(frozen=True)
class RenderedCell:
    """One cell as shown. `refs` are footnotes of the printed number, `reasons` of the measured one."""

    printed: str
    bold: bool
    refs: tuple[str, ...]
    value: str
    n_seeds: int
    comparable: bool
    words: tuple[str, ...]
    reasons: tuple[str, ...]
    kind: str  # reproduced, better, worse, other, stale, diverged or missing: the colour in html

    @property
    def measured(self) -> str:
        """As "30.12 ± 0.45 (3)", in brackets where it is not comparable, "" where nothing was measured."""
        text = f"{self.value} ({self.n_seeds})" if self.value else ""
        return text if self.comparable or not text else f"[{text}]"


@dataclass(frozen=True)
class Block:
    """The cells of one paper and metric; `references` are columns of levels: (heading, {row: (printed, measured)})."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: dict[tuple[str, str], RenderedCell]
    references: tuple[tuple[str, dict[str, tuple[str, str]]], ...]
    methods: tuple[str, ...]


@dataclass
class Footnotes:
    """Texts with short marks, in order of first use; the same text keeps its mark."""

    marks: Callable[[int], str]
    texts: dict[str, str] = field(default_factory=dict)

    def mark(self, text: str) -> str:
        return self.texts.setdefault(text, self.marks(len(self.texts)))

    def items(self) -> list[tuple[str, str]]:
        return [(mark, text) for text, mark in self.texts.items()]


@dataclass(frozen=True)
class Layout:
    table: Table
    label: str
    summary: str
    blocks: tuple[Block, ...]
    notes: list[tuple[str, str]]
    reasons: list[tuple[str, str]]


def layout(table: Table, frame: pd.DataFrame, label: str) -> Layout:
    """Arrange the rows of `frame` as the papers print them."""
    rows = frame[frame["variant"] == ""].to_dict("records")
    found = [tuple(row[key] for key in ("paper", "metric", "dataset", "model", "against", "score")) for row in rows]
    expected = [(c.paper, c.metric, c.dataset, c.model, c.against, c.score) for c in table.cells]
    if found != expected:
        raise ValueError(f"expected the {len(expected)} rows of {table.name} in its order, found {len(found)} others")
    notes = Footnotes(lambda i: string.ascii_lowercase[i] if i < 26 else f"a{string.ascii_lowercase[i - 26]}")
    reasons = Footnotes(lambda i: str(i + 1))
    keys = dict.fromkeys((cell.paper, cell.metric) for cell in table.cells)
    blocks = tuple(
        _block(table, key, [(c, r) for c, r in zip(table.cells, rows) if (c.paper, c.metric) == key], notes, reasons)
        for key in keys
    )
    return Layout(table, label, _summary(rows), blocks, notes.items(), reasons.items())


def _block(
    table: Table, key: tuple[str, str], pairs: list[tuple[Cell, dict]], notes: Footnotes, reasons: Footnotes
) -> Block:
    paper, metric = key
    headings = {(p, m): heading for p, m, heading in table.headings}
    heading = headings.get(key, f"Paper {paper}: {METRICS.get(metric, metric)}")
    rows = tuple(dict.fromkeys(cell.row for cell, _ in pairs))
    references = tuple(
        (column.heading, {row: (dict(column.values).get(row, ""), _level(pairs, row, column.measure)) for row in rows})
        for column in table.references
        if column.metric == metric
    )
    return Block(
        heading=f"{heading} ({pairs[0][0].direction} is better)",
        columns=tuple(dict.fromkeys(cell.column for cell, _ in pairs)),
        rows=rows,
        cells={(cell.row, cell.column): _rendered(cell, row, notes, reasons) for cell, row in pairs},
        references=references,
        methods=_methods(pairs),
    )


def _rendered(cell: Cell, row: dict, notes: Footnotes, reasons: Footnotes) -> RenderedCell:
    known = cell.published_text not in ("", "-") and cell.note
    status, verdict = row["status"], row["verdict"]
    words = [] if status in ("measured", "missing") else [status]
    words += [verdict] if verdict not in ("", "not comparable") else []
    place = cell.against or cell.dataset
    if row["measured_on"] and row["measured_on"] not in (cell.dataset, place):
        words.append(f"on {row['measured_on']}")
    if status == "missing":
        words.append("not run")
    if not pd.isna(row["average_precision"]):
        words.append(f"AP {_number(row['average_precision'], cell.metric)}")
    if row["warning"]:
        words.append("doubtful")
    return RenderedCell(
        printed=cell.published_text or "·",
        bold=cell.bold,
        refs=(notes.mark(cell.note),) if known else (),
        value=_value(row, cell.metric),
        n_seeds=row["n_seeds"],
        comparable=row["comparable"] != "no",
        words=tuple(words),
        reasons=tuple(reasons.mark(text) for text in (row["reason"], row["warning"]) if text not in ("", "not run")),
        kind=verdict if verdict in ("reproduced", "better", "worse") else status.split()[0],
    )


def _value(row: dict, metric: str) -> str:
    """As "30.12 ± 0.45", without ± for one seed, "" where nothing was measured."""
    if pd.isna(row["mean"]):
        return ""
    spread = "" if pd.isna(row["std"]) else f" ± {_number(row['std'], metric)}"
    return f"{_number(row['mean'], metric)}{spread}"


def _number(value: float, metric: str) -> str:
    """Fixed decimals per metric; three significant digits where those would show nothing."""
    decimals = DECIMALS.get(metric, 3)
    tiny = 0 < abs(value) < 10.0**-decimals
    return format(value, ".2g") if tiny else format(value, f".{decimals}f")


def _level(pairs: list[tuple[Cell, dict]], row: str, measure: str) -> str:
    levels = dict.fromkeys(
        format(r[measure], ".3f") for cell, r in pairs if cell.row == row and not pd.isna(r[measure])
    )
    return " / ".join(levels)


def _methods(pairs: list[tuple[Cell, dict]]) -> tuple[str, ...]:
    """How the block was measured: each distinct protocol with its extractor and counts, and the sets it was used on."""
    used: dict[str, dict[str, None]] = {}
    for cell, row in pairs:
        if row["status"] == "missing":
            continue
        counts = f"{row['n_samples']} samples, {row['n_reference']} reference"
        parts = [row["protocol"], f"extractor {row['extractor']}" if row["extractor"] else "", counts]
        place = row["measured_on"] or cell.against or cell.dataset
        used.setdefault("; ".join(part for part in parts if part), {})[place] = None
    return tuple(f"{', '.join(places)}: {text}" for text, places in used.items())


def _summary(rows: list[dict]) -> str:
    """As "12 of 49 cells measured: 3 reproduced; 2.5 h of training on cpu (...)"."""
    measured = [row for row in rows if not pd.isna(row["mean"])]
    words = [row["verdict"] for row in measured if row["verdict"]]
    words += [row["status"].split()[0] for row in rows if row["status"] not in ("measured", "missing")]
    order = ("reproduced", "better", "worse", "not comparable", "partial", "diverged", "stale")
    counts = [f"{words.count(word)} {word}" for word in order if word in words]
    text = f"{len(measured)} of {len(rows)} cells measured" + (f": {', '.join(counts)}" if counts else "")
    return "; ".join(part for part in (text, cost(rows)) if part)


def cost(rows: list[dict]) -> str:
    """As "0.31 h of training on cpu (...)"; a training that several rows show counts once."""
    known = {(row["measured_on"], row["model"]): row for row in rows if not pd.isna(row["train_seconds"])}
    hours = sum(row["train_seconds"] for row in known.values()) / 3600
    devices = dict.fromkeys(row["train_device"] for row in known.values())
    return f"{hours:.2g} h of training on {', '.join(devices)}" if known else ""


def sections(page: Layout) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """The texts below a table: (title, [(mark, text)]), empty ones left out."""
    sections = (
        ("How to read it", [("", text) for text in LEGEND]),
        ("Why not comparable, doubtful, or not run", page.reasons),
        ("Notes on printed numbers", page.notes),
        ("Notes", [("", text) for text in page.table.notes]),
    )
    return [section for section in sections if section[1]]
