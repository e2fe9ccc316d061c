"""How a tidy frame is laid out for reading, in all formats: the printed number, below it what was measured.

What holds for every cell is said once above the tables: the data measured on, and why nothing may be compared. A
measurement that cannot be compared with the printed number stands in square brackets, with its reason as a footnote.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from dtri.report.cells import LABEL_FREE, PAPER_NAMES, Cell, Table

DECIMALS = {"fid": 2, LABEL_FREE: 2, "is": 2, "kid": 3, "prc": 3, "rmse": 4, "mse": 4}
DECIMALS |= {"auroc": 3, "auprc": 3, "auprc_leaky": 3}
METRICS = {
    "fid": "FID",
    LABEL_FREE: "FID (ImageNet lite)",
    "is": "Inception Score",
    "kid": "KID",
    "prc": "precision and recall",
    "rmse": "RMSE",
    "mse": "MSE",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "auprc_leaky": "AUPRC (leaky split)",
    "landscape_purity": "label purity of basins",
}
COUNTS = {  # metric -> what `n_samples` and `n_reference` count
    "is": "n = {n} samples",
    "rmse": "n = {n} test images",
    "mse": "n = {n} test images",
    "auroc": "n = {n} test images, m = {m} of the other set",
    "auprc": "n = {n} test images, {m} of them anomalies",
    "auprc_leaky": "n = {n} test images, {m} of them anomalies",
}
OUTCOMES = {  # outcome of a row -> as counted
    "reproduced": "reproduced",
    "better": "better",
    "worse": "worse",
    "not comparable": "not comparable",
    "own": "measured",
    "partial": "partial",
    "diverged": "diverged",
    "stale": "stale",
    "missing": "not run",
}
DISTINCT = 0.9  # share of distinct scores below which it is shown
BESIDE = 0.005  # difference of average precision and trapezoid above which it is shown
LEGEND = (
    "Upper line: the number printed in the paper, with its precision; bold as printed; '-' is the paper's own dash; "
    "'·' means that the paper has no such cell. Systems are rows, also where the paper has them as columns.",
    "Lower line: measured here, mean over seeds; the number of seeds in parentheses; ± half of Student's 95 % interval "
    "of that mean, so none for one seed. Below a reference level, the same level of the data measured on.",
    "images ±: half of the 95 % interval over test images, the trained weights fixed. total ±: half of the 95 % "
    "interval by seeds and images together. weights ±: standard deviation over ten sets of weights before the end of a "
    "training, as paper A's own ± is over its last ten epochs.",
    "[ ]: measured, but not comparable with the printed number, for the numbered reason or the one above the tables.",
    "AP: average precision, where it differs from the trapezoid, which equal scores flatter. distinct scores: how many "
    "there are per image. doubtful: the numbered reason says what the value hangs on.",
    "reproduced, better, worse: against the tolerance below, which was fixed before any run, once every seed has a "
    "value.",
    "partial: some seeds are missing. diverged k/n: k of n trainings, or what their models made, ended in non-finite "
    "values; the mean is over the others. "
    "stale: made by other code, data or configuration than this checkout's. not run: no measurement.",
)


@dataclass(frozen=True)
class RenderedCell:
    """One cell as shown. `refs` are footnotes of the printed number, `reasons` of the measured one.

    `kind` gives the colour in html: the row's outcome, or "other" for a number that is not comparable. `system` is
    (dataset really used, system), whose runs gave the number.
    """

    printed: str
    bold: bool
    refs: tuple[str, ...]
    value: str
    n_seeds: int
    comparable: bool
    words: tuple[str, ...]
    reasons: tuple[str, ...]
    kind: str
    system: tuple[str, str]

    @property
    def measured(self) -> str:
        """Mean, spread and seeds, as "30.12 ± 0.45 (3)", in brackets where not comparable; "" where not measured."""
        text = f"{self.value} ({self.n_seeds})" if self.value else ""
        return text if self.comparable or not text else f"[{text}]"


@dataclass(frozen=True)
class ReferenceLevel:
    """A level beside the cells: printed and measured text by row, or by column where the block was turned."""

    heading: str
    texts: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Block:
    """The cells of one paper and metric; `references` are further columns, `turned_references` further rows."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: dict[tuple[str, str], RenderedCell]
    references: tuple[ReferenceLevel, ...]
    turned_references: tuple[ReferenceLevel, ...]


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
    """`shared` are sentences on all cells, shown above the first block; `methods` say how each metric was measured.

    `notes` are footnotes on printed numbers, `reasons` on measured ones, both as (mark, text).
    """

    table: Table
    label: str
    summary: str
    shared: tuple[str, ...]
    blocks: tuple[Block, ...]
    methods: tuple[str, ...]
    notes: list[tuple[str, str]]
    reasons: list[tuple[str, str]]


def layout(table: Table, frame: pd.DataFrame, label: str) -> Layout:
    """Arrange the rows of a tidy frame for reading.

    Args:
        table: what the papers print.
        frame: what was measured, from `tidy`.
        label: the preset in words.

    Raises:
        ValueError: the rows are not this table's.
    """
    rows = frame[frame["variant"] == ""].to_dict("records")
    found = [tuple(row[key] for key in ("paper", "metric", "dataset", "model", "against", "score")) for row in rows]
    expected = [(c.paper, c.metric, c.dataset, c.model, c.against, c.score) for c in table.cells]
    if found != expected:
        raise ValueError(f"expected the {len(expected)} rows of {table.name} in its order, found {len(found)} others")
    notes = Footnotes(lambda i: string.ascii_lowercase[i] if i < 26 else f"a{string.ascii_lowercase[i - 26]}")
    reasons = Footnotes(lambda i: str(i + 1))
    shared = _shared(rows)
    keys = dict.fromkeys((cell.paper, cell.metric) for cell in table.cells)
    pairs = list(zip(table.cells, rows))
    keyed = {key: [(c, r) for c, r in pairs if (c.paper, c.metric) == key] for key in keys}
    blocks = tuple(_block(table, of_key, notes, reasons, shared) for of_key in keyed.values())
    above = (*_places(pairs), *_above(shared))
    return Layout(table, label, summary(rows), above, blocks, _methods(pairs), notes.items(), reasons.items())


def heading(table: Table, paper: str, metric: str) -> str:
    """The heading of a block, as the table has it; else its paper and metric."""
    known = {(p, m): text for p, m, text in table.headings}
    return known.get((paper, metric), f"Paper {paper}: {METRICS.get(metric, metric)}")


def _shared(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Reasons that all measured cells have, so that they are said once."""
    each = [row["reason"].split("; ") for row in rows if row["status"] != "missing"]
    return tuple(reason for reason in each[0] if reason and all(reason in other for other in each)) if each else ()


def _above(shared: Sequence[str]) -> list[str]:
    """Shared reasons as sentences; what is not about the paper's numbers stands apart."""
    apart = [reason for reason in shared if reason.startswith(("stale", "accepted", "diverged"))]
    others = ", ".join(reason for reason in shared if reason not in apart)
    sentence = f"No number measured here may be compared with a printed one: {others}"
    return [*([sentence] if others else []), *(f"Every number: {reason}" for reason in apart)]


def _places(pairs: Sequence[tuple[Cell, dict[str, Any]]]) -> list[str]:
    """Stand-ins, as "Measured on digits in place of CIFAR-10, CelebA", a sentence per dataset really used."""
    found: dict[str, dict[str, None]] = {}
    for cell, row in pairs:
        for paper, really in ((cell.dataset, "measured_on"), (cell.against, "measured_against")):
            for name in filter(None, row[really].split("; ")):
                if re.sub(r"_\d+x\d+x\d+$", "", name) != paper:
                    family = _family(name)
                    of = PAPER_NAMES.get(paper, paper)
                    of = re.sub(r"(?<=without )\d$", "<digit>", of) if family != name else of
                    found.setdefault(family, {})[of] = None
    return [f"Measured on {name} in place of {', '.join(papers)}" for name, papers in found.items()]


def _family(text: str) -> str:
    """`text` with <digit> for the digit of a hold-out set, so that all digits share a sentence or footnote."""
    return re.sub(r"(?<=holdout)\d\b", "<digit>", text)


def _block(
    table: Table, pairs: list[tuple[Cell, dict[str, Any]]], notes: Footnotes, reasons: Footnotes, shared: Sequence[str]
) -> Block:
    first = pairs[0][0]
    rows = tuple(dict.fromkeys(cell.row for cell, _ in pairs))
    columns = tuple(dict.fromkeys(cell.column for cell, _ in pairs))
    cells = {(cell.row, cell.column): _rendered(cell, row, notes, reasons, shared) for cell, row in pairs}
    levels = {
        column.heading: {row: (dict(column.values).get(row, ""), _level(pairs, row, column.measure)) for row in rows}
        for column in table.references
        if column.metric == first.metric
    }
    references = tuple(ReferenceLevel(*level) for level in levels.items() if any(map(any, level[1].values())))
    turned = len(columns) > len(rows)  # more rows than columns fit a page
    if turned:
        rows, columns, cells = columns, rows, {(column, row): cell for (row, column), cell in cells.items()}
    return Block(
        heading=f"{heading(table, first.paper, first.metric)} ({first.direction} is better)",
        columns=columns,
        rows=rows,
        cells=cells,
        references=() if turned else references,
        turned_references=references if turned else (),
    )


def _rendered(
    cell: Cell, row: dict[str, Any], notes: Footnotes, reasons: Footnotes, shared: Sequence[str]
) -> RenderedCell:
    known = cell.published_text not in ("", "-") and cell.note
    status, verdict, metric = row["status"], row["verdict"], cell.metric
    words = [] if status in ("measured", "missing") else [status]
    words += [verdict] if verdict not in ("", "not comparable") else []
    words += ["not run"] if status == "missing" else []
    words += [
        f"{name} ± {_number(half, metric)}"
        for name, half in (
            ("images", (row["image_high"] - row["image_low"]) / 2),
            ("total", (row["total_high"] - row["total_low"]) / 2),
            ("weights", row["late_std"]),
        )
        if not pd.isna(half)
    ]
    if abs(row["average_precision"] - row["mean"]) > BESIDE:
        words.append(f"AP {_number(row['average_precision'], metric)}")
    if row["unique_fraction"] < DISTINCT:
        words.append(f"{row['unique_fraction']:.0%} distinct scores")
    words += ["doubtful"] * bool(row["warning"])
    own = [reason for reason in row["reason"].split("; ") if reason not in shared]
    texts = [_family(text) for text in (*own, *row["warning"].split("; ")) if text not in ("", "not run")]
    comparable = row["comparable"] != "no"
    return RenderedCell(
        printed=cell.published_text or "·",
        bold=cell.bold,
        refs=(notes.mark(cell.note),) if known else (),
        value=_value(row, metric),
        n_seeds=row["n_seeds"],
        comparable=comparable,
        words=tuple(words),
        reasons=tuple(dict.fromkeys(reasons.mark(text) for text in texts)),
        kind=row["outcome"] if comparable else "other",
        system=(row["measured_on"], row["model"]),
    )


def _value(row: dict[str, Any], metric: str) -> str:
    """Mean and spread, as "30.12 ± 0.45", without ± for one seed; "" where nothing was measured."""
    if pd.isna(row["mean"]):
        return ""
    half = (row["seed_high"] - row["seed_low"]) / 2
    spread = "" if pd.isna(half) else f" ± {_number(half, metric)}"
    return f"{_number(row['mean'], metric)}{spread}"


def _number(value: float, metric: str) -> str:
    """A number with its metric's decimals, or with two significant digits where those would show zero."""
    decimals = DECIMALS.get(metric, 3)
    tiny = 0 < abs(value) < 10.0**-decimals
    return format(value, ".2g") if tiny else format(value, f".{decimals}f")


def _level(pairs: list[tuple[Cell, dict[str, Any]]], row: str, measure: str) -> str:
    levels = dict.fromkeys(
        format(r[measure], ".3f") for cell, r in pairs if cell.row == row and not pd.isna(r[measure])
    )
    return " / ".join(levels)


def _methods(pairs: list[tuple[Cell, dict[str, Any]]]) -> tuple[str, ...]:
    """How the table was measured: a line per protocol with the counts of each set, then images seen in training."""
    used: dict[str, dict[str, None]] = {}
    seen: dict[str, None] = {}
    for cell, row in pairs:
        if row["n_samples"] in ("", "0"):
            continue
        place = " against ".join(filter(None, (row["measured_on"] or cell.dataset, row["measured_against"])))
        counts = COUNTS.get(cell.metric, "n = {n} samples, m = {m} reference images")
        line = f"{place}: {counts.format(n=row['n_samples'], m=row['n_reference'])}"
        extractor = f"extractor {row['extractor']}" if row["extractor"] else ""
        name, protocol = METRICS.get(cell.metric, cell.metric), _general(row)
        protocol = protocol if protocol.startswith(name) else f"{name}: {protocol}"
        used.setdefault("; ".join(filter(None, (protocol, extractor))), {})[line] = None
        if row["seen_in_training"]:
            seen[row["seen_in_training"]] = None
    return (*(f"{text}. {'; '.join(lines)}" for text, lines in used.items()), *seen)


def _general(row: dict[str, Any]) -> str:
    """A protocol without names of sets and scores, which stand beside it; its counts become n and m."""
    text = row["protocol"].partition("; score ")[0]
    for name, word in ((row["measured_on"], "the dataset"), (row["measured_against"], "the other set")):
        text = text.replace(name, word) if name else text
    for count, letter in ((row["n_samples"], "n"), (row["n_reference"], "m")):
        text = re.sub(rf"(?<![\w.=]){re.escape(count)}(?![\w.])", letter, text, count=1) if count != "0" else text
    return text


def summary(rows: list[dict[str, Any]]) -> str:
    """Counts and cost, as "44 printed numbers: 41 not run; 5 others: 5 measured; 2.5 h of training on cpu (...)"."""
    parts = [counted(rows, word, published) for word, published in (("printed numbers", True), ("others", False))]
    return "; ".join(filter(None, (*parts, cost(rows))))


def outcomes(rows: list[dict[str, Any]], published: bool) -> Counter[str]:
    """How many rows have each outcome, among rows with a printed number or among the others."""
    return Counter(row["outcome"] for row in rows if pd.isna(row["published"]) != published)


def counted(rows: list[dict[str, Any]], word: str, published: bool) -> str:
    """Counts of outcomes, as "44 printed numbers: 3 reproduced, 41 not run"; "" where there are no rows.

    Args:
        rows: of the tidy frame.
        word: name of what is counted.
        published: whether rows with a printed number are counted, or the others.
    """
    found = outcomes(rows, published)
    counts = [f"{found[outcome]} {text}" for outcome, text in OUTCOMES.items() if found[outcome]]
    return f"{found.total()} {word}: {', '.join(counts)}" if counts else ""


def cost(rows: list[dict[str, Any]]) -> str:
    """Hours of training, as "0.31 h of training on cpu (...)"; a training that several rows show counts once."""
    known = trainings(rows).values()
    hours = sum(row["train_seconds"] for row in known) / 3600
    devices = dict.fromkeys(row["train_device"] for row in known)
    return f"{hours_in_words(hours)} of training on {', '.join(devices)}" if known else ""


def trainings(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """(data, system) -> of its rows the one that knows most of its trainings; rows without a training are left out."""
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = (row["measured_on"], row["model"])
        if not pd.isna(row["train_seconds"]) and (key not in known or row["n_trained"] > known[key]["n_trained"]):
            known[key] = row
    return known


def hours_in_words(hours: float) -> str:
    """Two significant digits or whole hours, as "0.31 h" or "331 h"."""
    return f"{hours:.0f} h" if hours >= 100 else f"{hours:.2g} h"


def sections(page: Layout) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """The texts below a table: (title, [(mark, text)]), empty ones left out."""
    titled = (
        ("Why not comparable, doubtful, or not run", page.reasons),
        ("Notes on printed numbers", page.notes),
        ("Notes", [("", text) for text in page.table.notes]),
        ("How to read it", [("", text) for text in LEGEND]),
    )
    return [section for section in titled if section[1]]
