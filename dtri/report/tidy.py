"""Records to one tidy frame per table: published beside measured, one row per cell."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from math import sqrt
from statistics import mean, stdev
from typing import Any

import pandas as pd

from dtri.report.cells import Cell, CellResult, Table
from dtri.report.intervals import in_total, over_seeds
from dtri.report.records import Record


def column(meaning: str) -> Any:
    """A field of `Row`; docs/columns.md is written from the meanings."""
    return field(metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the tidy frame: a cell, its printed number and what was measured.

    Fields are columns, in order.
    """

    table: str = column("table of this project")
    paper: str = column("paper that the cell is of, A or B; empty: neither prints such a number")
    metric: str = column("fid, fid_imagenet_lite, is, kid, prc (precision), rmse, mse, auroc, auprc or auprc_leaky")
    dataset: str = column("dataset of the paper, a key of datasets.yaml")
    model: str = column("system, a key of models.yaml")
    published: float | None = column("printed number")
    published_std: float | None = column("printed spread")
    published_text: str = column("what is printed, digit by digit; `-`: the paper's dash; empty: no such cell")
    published_note: str = column("what is known of the printed number")
    mean: float | None = column("mean over seeds")
    seed_std: float | None = column("standard deviation over seeds, ddof 1")
    seed_low: float | None = column("lower bound of Student's 95 % interval of the mean over seeds; from two seeds on")
    seed_high: float | None = column("its upper bound")
    image_low: float | None = column(
        "lower bound of the 95 % bootstrap interval over test images, with the trained weights fixed; mean over seeds"
    )
    image_high: float | None = column("its upper bound")
    total_low: float | None = column("lower bound of the 95 % interval by seeds and images together, where both exist")
    total_high: float | None = column("its upper bound")
    late_std: float | None = column(
        "standard deviation over the sets of weights before a training's end, root mean square over seeds; the "
        "counterpart of paper A's ± over its last ten epochs"
    )
    n_seeds: int = column("seeds with a value")
    seeds: str = column("these seeds, in the order of `values`")
    values: str = column("one value per seed")
    n_samples: str = column("samples or test images")
    n_reference: str = column(
        "reference images; of auroc images of the other set; of auprc and auprc_leaky anomalies among `n_samples`; "
        "of rmse and mse test images"
    )
    protocol: str = column("how it was measured")
    extractor: str = column("feature network and the first digits of its sha256")
    status: str = column(
        "measured: all seeds; partial: some are missing; diverged k/n: k of n seeds; stale: made by another checkout; "
        "missing: not run"
    )
    tolerance: float | None = column("largest abs(mean - published) that counts as reproduced")
    verdict: str = column(
        "reproduced, better, worse or not comparable; empty unless every seed has a value and a number is printed"
    )
    outcome: str = column(
        "one word per row, by which rows are counted: the verdict; or own (nothing is printed), partial, diverged, "
        "stale, missing"
    )
    gpu_hours: float | None = column("of the trainings, all seeds together; empty on a CPU")
    against: str = column("other dataset of an auroc, as in the paper")
    score: str = column("further number of the same record that the row shows; empty: the record's own")
    measured_on: str = column("dataset really used")
    measured_against: str = column("other dataset really used")
    variant: str = column("empty for the tables' protocol; else the name of another protocol, never with a verdict")
    chance: float | None = column("value of a random ranking on these data")
    minimum: float | None = column("lowest value that is possible on these data")
    noise: float | None = column("fid of uniform noise")
    preset: str = column("preset")
    comparable: str = column("yes or no: whether the mean may be set beside the printed number; empty: not measured")
    reason: str = column("why not comparable, stale, diverged or missing; several are parted by `; `")
    seen_in_training: str = column("how many test images are training images too")
    n_trained: int = column("trainings whose time is known, with or without a value")
    train_seconds: float | None = column("of these trainings together")
    measure_seconds: float | None = column("of the measurements, all seeds together")
    train_device: str = column("device of the trainings")
    average_precision: float | None = column("average precision beside the trapezoid of an auprc")
    unique_fraction: float | None = column("distinct scores per image of a ranking")
    warning: str = column("why the value may mean little; such a value is not comparable")


COLUMNS = tuple(one.name for one in fields(Row))
IMPOSSIBLE = "the printed value is below the minimum possible on the data measured on"
Lookup = Callable[[Cell, int], CellResult]


def tidy(table: Table, preset: str, seeds: Sequence[int], lookup: Lookup) -> pd.DataFrame:
    """One row per cell of `table`, in its order; columns are the fields of `Row`, an empty number is NaN.

    A row uses the records that belong to this checkout. It shows stale records only where no other exists. Rows for
    other protocols follow the cells: the same quantity, one row per cell and `variant`, without a verdict.

    Args:
        table: what the papers print.
        preset: its name.
        seeds: of the preset.
        lookup: (cell, seed) -> what is on disk.
    """
    rows, further = [], []
    for cell in table.cells:
        found = [scored(lookup(cell, seed), cell.score) for seed in seeds]
        rows.append(_row(table, preset, cell, found, seeds))
        for name in [] if cell.score else _variants(found):
            varied = [_varied(one, name) for one in found]
            further.append(replace(_row(table, preset, cell, varied, seeds), variant=name))
    frame = pd.DataFrame([vars(row) for row in rows + further], columns=list(COLUMNS))
    return frame.astype({one.name: "float64" for one in fields(Row) if one.type == float | None})


def _variants(found: Sequence[CellResult]) -> list[str]:
    """Names of the other protocols that the records measured, in their order."""
    return list(dict.fromkeys(n for f in found if f.record is not None for n in f.record.extra.get("variants", {})))


def _varied(found: CellResult, name: str) -> CellResult:
    """The record of the same quantity by another protocol; no record where it was not measured so."""
    record = found.record
    if record is None or name not in record.extra.get("variants", {}):
        return replace(found, record=None)
    own = record.extra["variants"][name]
    said = {key: own[key] for key in ("warning", "diverged") if key in own}
    varied = replace(record, **{key: own[key] for key in own.keys() - said.keys()}, extra=said)
    return replace(found, record=varied, comparable=False, reason=f"another protocol: {name}")


def scored(found: CellResult, score: str) -> CellResult:
    """The record with a further number in place of its value; no record where that number was not measured."""
    record = found.record
    if not score or record is None or is_diverged(record):
        return found
    extra = record.extra
    if "scores" not in extra:
        if score not in extra:
            return replace(found, record=None, expected=False, reason=f"no {score} in the record")
        return replace(found, record=replace(record, value=extra[score]))
    if score not in extra["scores"]:
        return replace(found, record=None, expected=False, reason=f"no score {score!r} in the record")
    value, warning = extra["scores"][score], extra.get("score_warnings", {}).get(score, "")
    own = {"average_precision": extra.get("score_precisions", {}).get(score), "unique_fraction": None}
    own |= {"warning": warning, "diverged": ""} if value is not None else {"warning": "", "diverged": warning}
    protocol = f"{record.protocol}; score {score!r} in place of the energy"
    return replace(found, record=replace(record, value=value, protocol=protocol, extra={**extra, **own}))


def _row(table: Table, preset: str, cell: Cell, found: Sequence[CellResult], seeds: Sequence[int]) -> Row:
    current = [f for f in found if f.record is not None and not f.stale]
    shown = current or [f for f in found if f.record is not None]
    records = [f.record for f in shown]
    valued = [(seed, f.record) for seed, f in zip(seeds, found) if f in shown and not is_diverged(f.record)]
    values = [record.value for _, record in valued]
    status = _status(current, shown, len(seeds))
    average = mean(values) if values else None
    minimum = _agreed(r.extra.get("minimum") for r in records)
    impossible = None not in (minimum, cell.published) and cell.published < minimum
    warning = _joined(r.extra.get("warning") for r in records)
    against_printed = [cell.incomparable] * bool(cell.incomparable and records) + [IMPOSSIBLE] * impossible
    comparable = all(f.comparable for f in shown) and not against_printed and not warning
    decided = verdict(cell, average, comparable) if status == "measured" else ""
    images = None if cell.score else _image_interval(records)
    by_seeds, total = over_seeds(values), in_total(values, images) if images else None
    return Row(
        table=table.name,
        paper=cell.paper,
        metric=cell.metric,
        dataset=cell.dataset,
        model=cell.model,
        published=cell.published,
        published_std=cell.published_std,
        published_text=cell.published_text,
        published_note=cell.note,
        mean=average,
        seed_std=stdev(values) if len(values) > 1 else None,
        seed_low=by_seeds and by_seeds[0],
        seed_high=by_seeds and by_seeds[1],
        image_low=images and images[0],
        image_high=images and images[1],
        total_low=total and total[0],
        total_high=total and total[1],
        late_std=None if cell.score else _root_mean_square(r.extra.get("late_std") for r in records),
        n_seeds=len(values),
        seeds=";".join(str(seed) for seed, _ in valued),
        values=";".join(format(value, ".6g") for value in values),
        n_samples=_joined(r.n_samples for r in records),
        n_reference=_joined(r.n_reference for r in records),
        protocol=_joined(r.protocol for r in records),
        extractor=_joined(r.extractor for r in records),
        status=status,
        tolerance=None if cell.published is None else cell.tolerance,
        verdict=decided,
        outcome=decided or ("own" if status == "measured" else status.split()[0]),
        gpu_hours=_total(r.gpu_hours for r in records),
        against=cell.against,
        score=cell.score,
        measured_on=_joined(f.measured_on for f in shown),
        measured_against=_joined(r.extra.get("against") for r in records),
        variant="",
        chance=_agreed(r.extra.get("chance") for r in records),
        minimum=minimum,
        noise=_agreed(r.extra.get("noise") for r in records),
        preset=preset,
        comparable=("yes" if comparable else "no") if records else "",
        reason="; ".join(against_printed + _reasons(found, shown, seeds)),
        seen_in_training=_joined(f.seen_in_training for f in shown),
        n_trained=sum(r.train_seconds is not None for r in records),
        train_seconds=_total(r.train_seconds for r in records),
        measure_seconds=_total(r.seconds for r in records),
        train_device=_joined(r.train_device for r in records),
        average_precision=_agreed(r.extra.get("average_precision") for r in records),
        unique_fraction=_agreed(r.extra.get("unique_fraction") for r in records),
        warning=warning,
    )


def verdict(cell: Cell, average: float | None, comparable: bool) -> str:
    """One of reproduced, better, worse, not comparable; "" where nothing is published or nothing measured.

    Args:
        cell: with the printed number, its direction and tolerance.
        average: mean over seeds; None where nothing was measured.
        comparable: whether the mean may be set beside the printed number.
    """
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
    diverged = sum(is_diverged(f.record) for f in current)
    words = [f"diverged {diverged}/{n_seeds}"] * bool(diverged) + ["partial"] * (len(current) < n_seeds)
    return ", ".join(words) or "measured"


def _reasons(found: Sequence[CellResult], shown: list[CellResult], seeds: Sequence[int]) -> list[str]:
    """Why the row is not simply a comparable measurement; empty where it is one."""
    if not shown:
        return [_joined("not run" if f.expected else f.reason or "not in the configuration" for f in found)]
    parts = [_joined(f.reason or "not comparable" for f in shown if not f.comparable)]
    for word, why_of in (
        ("stale", lambda one: ", ".join(one.stale)),
        ("accepted", lambda one: ", ".join(one.accepted)),
        ("no value", lambda one: "" if one.record is not None or one.expected else one.reason),
    ):
        seeds_of: dict[str, list[str]] = {}
        for one, seed in zip(found, seeds):
            if why := why_of(one):
                seeds_of.setdefault(why, []).append(str(seed))
        parts += [f"{word} (seed {', '.join(which)}): {why}" for why, which in seeds_of.items()]
    parts += [f"diverged: {why}" for why in dict.fromkeys(f.record.extra.get("diverged", "") for f in shown) if why]
    return [part for part in parts if part]


def is_diverged(record: Record) -> bool:
    return record.value is None or record.status == "diverged"


def _joined(items: Iterable[object]) -> str:
    """The distinct items in their order, joined; usually there is one."""
    return "; ".join(dict.fromkeys(str(item) for item in items if item not in ("", None)))


def _total(items: Iterable[float | None]) -> float | None:
    """The sum of a cost over seeds; None where no seed's cost is known."""
    known = [item for item in items if item is not None]
    return sum(known) if known else None


def _agreed(items: Iterable[float | None]) -> float | None:
    """The mean over seeds of a level that they share, such as chance; None where none is known."""
    levels = [item for item in items if item is not None]
    return mean(levels) if levels else None


def _image_interval(records: Sequence[Record]) -> tuple[float, float] | None:
    """Bounds of the interval over test images, as means over seeds; None where no record has any."""
    bounds = [_agreed(record.extra.get(name) for record in records) for name in ("ci_low", "ci_high")]
    return None if None in bounds else tuple(bounds)


def _root_mean_square(items: Iterable[float | None]) -> float | None:
    known = [item for item in items if item is not None]
    return sqrt(mean(item**2 for item in known)) if known else None
