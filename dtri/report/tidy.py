"""Records to one tidy frame per table: published beside measured, one row per cell."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from statistics import mean, stdev

import pandas as pd

from dtri.report.cells import Cell, CellResult, Table
from dtri.report.records import Record


@dataclass(frozen=True)
class Row:
    """One row of the tidy frame: a cell, its published number and what was measured. Fields are columns in order."""

    table: str
    paper: str
    metric: str
    dataset: str
    model: str
    published: float | None
    published_std: float | None
    published_note: str
    mean: float | None
    std: float | None
    n_seeds: int
    values: str
    n_samples: str
    n_reference: str
    protocol: str
    extractor: str
    status: str
    tolerance: float | None
    verdict: str
    gpu_hours: float | None
    against: str
    score: str
    measured_on: str
    variant: str
    ci_low: float | None
    ci_high: float | None
    chance: float | None
    minimum: float | None
    noise: float | None
    preset: str
    comparable: str
    reason: str
    train_seconds: float | None
    measure_seconds: float | None
    train_device: str
    average_precision: float | None
    warning: str


COLUMNS = tuple(column.name for column in fields(Row))
IMPOSSIBLE = "the printed value is below the minimum possible on the data measured on"
Lookup = Callable[[Cell, int], CellResult]


def tidy(table: Table, preset: str, seeds: Sequence[int], lookup: Lookup) -> pd.DataFrame:
    """One row per cell of `table`, in its order, with exactly `COLUMNS`; an empty float is NaN, an empty text "".

    A row uses the records that belong to this checkout; only where there is none does it show stale ones, as stale.
    `comparable` is "yes" or "no" where something was measured; `reason` says why not, or why nothing is there. A value
    with a `warning` means little by itself, so it is not comparable. Behind
    the cells follow the same quantities by other protocols, one row per cell and `variant`, never with a verdict.
    """
    rows, further = [], []
    for cell in table.cells:
        found = [_scored(lookup(cell, seed), cell.score) for seed in seeds]
        rows.append(_row(table, preset, cell, found, seeds))
        for name in [] if cell.score else _variants(found):
            varied = [_varied(one, name) for one in found]
            further.append(replace(_row(table, preset, cell, varied, seeds), variant=name))
    frame = pd.DataFrame([vars(row) for row in rows + further], columns=list(COLUMNS))
    return frame.astype({column.name: "float64" for column in fields(Row) if column.type == float | None})


def _variants(found: Sequence[CellResult]) -> list[str]:
    """Names of the other protocols that the records measured, in their order."""
    return list(dict.fromkeys(n for f in found if f.record is not None for n in f.record.extra.get("variants", {})))


def _varied(found: CellResult, name: str) -> CellResult:
    """The record of the same quantity by another protocol; one that lacks it counts as none."""
    record = found.record
    if record is None or name not in record.extra.get("variants", {}):
        return replace(found, record=None)
    own = record.extra["variants"][name]
    said = {key: own[key] for key in ("warning", "diverged") if key in own}
    varied = replace(record, **{key: own[key] for key in own.keys() - said.keys()}, extra=said)
    return replace(found, record=varied, comparable=False, reason=f"another protocol: {name}")


def _scored(found: CellResult, score: str) -> CellResult:
    """The record with the named score's value in place of the energy's; one that lacks the score counts as none."""
    record = found.record
    if not score or record is None:
        return found
    scores = record.extra.get("scores", {})
    if score not in scores and not _diverged(record):
        return replace(found, record=None, expected=False, reason=f"no score {score!r} in the record")
    protocol = f"{record.protocol}; score {score!r} in place of the energy"
    value, warning = scores.get(score), record.extra.get("score_warnings", {}).get(score, "")
    own = {"average_precision": record.extra.get("score_precisions", {}).get(score)}
    own |= {"warning": warning, "diverged": ""} if value is not None else {"warning": "", "diverged": warning}
    if _diverged(record):
        own = {}
    return replace(found, record=replace(record, value=value, protocol=protocol, extra={**record.extra, **own}))


def _row(table: Table, preset: str, cell: Cell, found: Sequence[CellResult], seeds: Sequence[int]) -> Row:
    current = [f for f in found if f.record is not None and not f.stale]
    shown = current or [f for f in found if f.record is not None]
    records = [f.record for f in shown]
    values = [r.value for r in records if not _diverged(r)]
    status = _status(current, shown, len(seeds))
    average = mean(values) if values else None
    minimum = _agreed(r.extra.get("minimum") for r in records)
    impossible = None not in (minimum, cell.published) and cell.published < minimum
    warning = _joined(r.extra.get("warning") for r in records)
    comparable = all(f.comparable for f in shown) and not impossible and not warning
    return Row(
        table=table.name,
        paper=cell.paper,
        metric=cell.metric,
        dataset=cell.dataset,
        model=cell.model,
        published=cell.published,
        published_std=cell.published_std,
        published_note=cell.note,
        mean=average,
        std=stdev(values) if len(values) > 1 else None,
        n_seeds=len(values),
        values=";".join(format(value, ".6g") for value in values),
        n_samples=_joined(r.n_samples for r in records),
        n_reference=_joined(r.n_reference for r in records),
        protocol=_joined(r.protocol for r in records),
        extractor=_joined(r.extractor for r in records),
        status=status,
        tolerance=None if cell.published is None else cell.tolerance,
        verdict="" if status == "stale" else verdict(cell, average, comparable),
        gpu_hours=_total(r.gpu_hours for r in records),
        against=cell.against,
        score=cell.score,
        measured_on=_joined(f.measured_on for f in shown),
        variant="",
        ci_low=None if cell.score else _agreed(r.extra.get("ci_low") for r in records),
        ci_high=None if cell.score else _agreed(r.extra.get("ci_high") for r in records),
        chance=_agreed(r.extra.get("chance") for r in records),
        minimum=minimum,
        noise=_agreed(r.extra.get("noise") for r in records),
        preset=preset,
        comparable=("yes" if comparable else "no") if records else "",
        reason="; ".join([IMPOSSIBLE] * impossible + _reasons(found, shown, seeds)),
        train_seconds=_total(r.train_seconds for r in records),
        measure_seconds=_total(r.seconds for r in records),
        train_device=_joined(r.train_device for r in records),
        average_precision=_agreed(r.extra.get("average_precision") for r in records),
        warning=warning,
    )


def verdict(cell: Cell, average: float | None, comparable: bool) -> str:
    """One of reproduced, better, worse, not comparable; "" where nothing is published or nothing measured."""
    if cell.published is None or average is None:
        return ""
    if not comparable:
        return "not comparable"
    difference = round(average - cell.published, 9)  # 0.68 - 0.63 must count as 0.05
    if abs(difference) <= cell.tolerance:
        return "reproduced"
    return "better" if (difference < 0) == (cell.direction == "lower") else "worse"


def _status(current: list[CellResult], shown: list[CellResult], n_seeds: int) -> str:
    if not shown:
        return "missing"
    if not current:
        return "stale"
    diverged = sum(_diverged(f.record) for f in current)
    if diverged:
        return f"diverged {diverged}/{n_seeds}"
    return "measured" if len(current) == n_seeds else "partial"


def _reasons(found: Sequence[CellResult], shown: list[CellResult], seeds: Sequence[int]) -> list[str]:
    """Why the row is not simply a comparable measurement; empty where it is one."""
    if not shown:
        return [_joined("not run" if f.expected else f.reason or "not in the configuration" for f in found)]
    parts = [_joined(f.reason or "not comparable" for f in shown if not f.comparable)]
    for word in ("stale", "accepted"):
        seeds_of: dict[str, list[str]] = {}
        for one, seed in zip(found, seeds):
            if one.record is not None and getattr(one, word):
                seeds_of.setdefault(", ".join(getattr(one, word)), []).append(str(seed))
        parts += [f"{word} (seed {', '.join(which)}): {why}" for why, which in seeds_of.items()]
    parts += [f"diverged: {why}" for why in dict.fromkeys(f.record.extra.get("diverged", "") for f in shown) if why]
    return [part for part in parts if part]


def _diverged(record: Record) -> bool:
    return record.value is None or record.status == "diverged"


def _joined(items: Iterable[object]) -> str:
    """The distinct items in their order, joined; usually there is one."""
    return "; ".join(dict.fromkeys(str(item) for item in items if item not in ("", None)))


def _total(items: Iterable[float | None]) -> float | None:
    """The sum over seeds of a cost; None where none is known."""
    known = [item for item in items if item is not None]
    return sum(known) if known else None


def _agreed(items: Iterable[float | None]) -> float | None:
    """The mean over seeds of a level that they share, or of a bound of their intervals."""
    levels = [item for item in items if item is not None]
    return mean(levels) if levels else None
