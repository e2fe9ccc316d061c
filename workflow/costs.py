"""What jobs cost: hours of training by runs on disk and by counted operations, seconds of measuring by records.

Hours of training are of three kinds. `measured`: a run of the same system and size is on disk. `estimate`: runs on the
same kind of device are scaled by the counted work. `guess`: nothing was measured on such a device, so the cost model
alone decides (dtri/costs.py).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from dtri.costs import CARDS, CPU, WITHOUT_AVX512, Work, card_of
from dtri.experiment import TrainSpec
from dtri.sealed import read_sealed
from workflow import counted, plan, specs

RECORDS = {  # rule -> the records whose seconds cover the whole job
    "generation": ("prc_inception", "prc_domain"),
    "reconstruct": ("mse",),
    "auroc": ("auroc_*",),
    "auprc": ("auprc",),
}


@dataclass(frozen=True)
class Speed:
    """Images per second of one finished training run, of all its processes together."""

    spec: TrainSpec
    images_per_s: float
    device: str

    @property
    def on_gpu(self) -> bool:
        return not self.device.startswith("cpu")


def speeds(results: Path = Path("results")) -> list[Speed]:
    """The speed of every training run below `results`, of whatever preset; damaged runs are left out."""
    found = []
    for path in sorted(results.glob("*/*/*/seed*/train.json")):
        with suppress(ValueError, LookupError, TypeError):  # damaged, or with hyperparameters that no longer exist
            made = read_sealed(path, "a training summary")
            spec = TrainSpec.from_json(json.dumps(made["spec"]))
            found.append(Speed(spec, made["images_per_s"], made["device"]))
    return found


SHOWN = ("H100", "A100", "RTX 4090")  # cards for which hours are guessed
KINDS = {"measured": "as measured", "estimate": "estimated", "guess": "guessed"}


@dataclass(frozen=True)
class Estimate:
    """Hours of one training run, of all its processes together, in `unit`.

    `hours` has an entry per card where they are guessed for a GPU, else one entry under the name "".
    """

    hours: tuple[tuple[str, float], ...]
    unit: str
    kind: str  # of KINDS
    source: str


def estimate(spec: TrainSpec, on_gpu: bool, measured: list[Speed]) -> Estimate:
    """Hours of a training run: as measured, else estimated by counted work, else guessed by the cost model.

    Images alone are never scaled: an image costs a narrow network a hundredth of what it costs a wide one.

    Args:
        spec: of the run.
        on_gpu: whether it computes on a GPU.
        measured: speeds of runs on disk.
    """
    unit = "GPU-hours" if on_gpu else "CPU hours"
    same_device = [speed for speed in measured if speed.on_gpu == on_gpu]
    relatives = [speed for speed in same_device if speed.spec.entry == spec.entry]
    if alike := [speed for speed in relatives if _size(speed.spec) == _size(spec)]:
        rate = median(speed.images_per_s for speed in alike)
        hours = spec.processes * spec.steps * spec.batch_size / rate / 3600
        return Estimate((("", hours),), unit, "measured", f"as measured, {rate:.0f} images/s on {_devices(alike)}")
    needed = _work(spec)
    if chosen := relatives or same_device:
        # Of several processes each does a part of the work.
        factor = geometric_mean(_seconds(speed) / _modelled(speed.spec, speed.device) for speed in chosen)
        predicted = [_modelled(spec, device, needed) for device in sorted({speed.device for speed in chosen})]
        hours = spec.steps * factor * geometric_mean(predicted) / 3600
        sizes = ", ".join(sorted({f"{speed.spec.model} {_size_text(speed.spec)}" for speed in chosen}))
        told = f"estimate: counted work, by {sizes} on {_devices(chosen)}"
        return Estimate((("", hours),), unit, "estimate", told)
    if not on_gpu:
        cores, factor = ("cores with AVX-512", 1.0) if has_avx512() else ("cores without AVX-512", WITHOUT_AVX512)
        hours = factor * spec.steps * CPU.seconds(needed, spec.precision, spec.threads) / 3600
        return Estimate((("", hours),), unit, "guess", f"guess for {cores}: counted work, nothing measured")
    by_card = tuple(
        (card.name, spec.steps * card.seconds(needed, spec.precision) / 3600) for card in CARDS if card.name in SHOWN
    )
    cards = ", ".join(f"{name} {_rounded(hours)} h" for name, hours in by_card)
    return Estimate(by_card, unit, "guess", f"guess: {cards}; counted work, nothing measured on a GPU")


@cache
def has_avx512() -> bool:
    """Whether this machine's cores have AVX-512; True where there is no /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    return not path.exists() or "avx512f" in path.read_text("utf-8", "replace")


def _seconds(speed: Speed) -> float:
    """Measured device-seconds of an iteration, summed over the run's devices."""
    return speed.spec.processes * speed.spec.batch_size / speed.images_per_s


def _modelled(spec: TrainSpec, device: str, work: Work | None = None) -> float:
    """Seconds of an iteration by the cost model.

    An A100 stands for a device that the model does not know, or does not know at this precision.
    """
    card = card_of(device)
    if card is None or spec.precision not in card.peaks:
        card = next(card for card in CARDS if card.name == "A100")
    return card.seconds(work or _work(spec), spec.precision, spec.threads)


def _work(spec: TrainSpec) -> Work:
    """The work of an iteration: as committed, or counted now for a configuration that is not committed."""
    if (found := counted.work(spec)) is None:
        from dtri import counting  # PyTorch takes seconds to import

        found = counting.iteration(spec.entry, spec.image_shape, spec.hparams, spec.batch_size, spec.steps)
    return found


def _devices(speeds: list[Speed]) -> str:
    return ", ".join(sorted({speed.device for speed in speeds}))


def _size(spec: TrainSpec) -> tuple[Any, ...]:
    return (
        spec.image_shape,
        spec.hparams.get("width", 1.0),
        spec.batch_size,
        spec.precision,
        spec.threads,
        spec.processes,
    )


def _size_text(spec: TrainSpec) -> str:
    return f"{'x'.join(map(str, spec.image_shape))} at width {spec.hparams.get('width', 1.0):g}"


def measured_seconds(rule: str, results: Path = Path("results"), presets: str = "*") -> list[float]:
    """Seconds of a measuring rule's jobs, by the last record that each job wrote.

    Args:
        rule: of RECORDS.
        results: folder of results.
        presets: pattern of the folders below it that hold datasets of runs.
    """
    paths = (path for name in RECORDS[rule] for path in results.glob(f"{presets}/*/*/seed*/metrics/{name}.json"))
    found = []
    for path in sorted(paths):
        with suppress(ValueError, LookupError):  # damaged, or of a version that took no time
            found.append(read_sealed(path, "a record")["seconds"])
    return found


def training(runs: Iterable[tuple[specs.Run, bool]]) -> Iterator[str]:
    """Lines of text about the cost of runs, each given with whether it computes on a GPU.

    Runs that cost the same share a line. A line for each table that shows some of them follows, and one for all.
    """
    measured = speeds()
    costs = {run: estimate(specs.train_spec(run), on_gpu, measured) for run, on_gpu in runs}
    groups: dict[tuple[str, str, Estimate], list[str]] = {}
    for run, cost in costs.items():
        groups.setdefault((run.preset, run.model, cost), []).append(run.dataset)
    for (preset, model, cost), datasets in groups.items():
        each = f"{len(datasets)} x {_rounded(cost.hours[0][1])} h"
        yield f"  {each:>14}  {preset} {model} on {', '.join(sorted(set(datasets)))}"
        yield f"  {'':14}  {cost.source}"
    shown = {
        (row.preset, row.spec.dataset, row.spec.model): row.tables
        for preset in {run.preset for run in costs}
        for row in counted.planned(preset)
    }
    for name in plan.TABLES:
        if of_table := [
            cost for run, cost in costs.items() if name in shown.get((run.preset, run.dataset, run.model), ())
        ]:
            yield f"  {name}: {total(of_table)}"
    yield f"  sum: {total(list(costs.values()))}; a run with a saved state needs less"


def total(costs: list[Estimate]) -> str:
    """Hours added up by unit, for each card where some are guessed, and how many runs are of each kind."""
    texts = []
    for unit in sorted({cost.unit for cost in costs}):
        same = [cost for cost in costs if cost.unit == unit]
        names = next((list(dict(cost.hours)) for cost in same if len(cost.hours) > 1), [""])
        sums = {name: sum(dict(cost.hours).get(name, cost.hours[0][1]) for cost in same) for name in names}
        texts.append(
            ", ".join(f"{_rounded(hours)} {unit}{f' on {name}' if name else ''}" for name, hours in sums.items())
        )
    kinds = Counter(cost.kind for cost in costs)
    parts = ", ".join(f"{kinds[kind]} {text}" for kind, text in KINDS.items() if kinds[kind])
    return f"{' and '.join(texts)} ({'mixed: ' if len(kinds) > 1 else ''}{parts})"


def measuring(rules: Iterable[str]) -> Iterator[str]:
    """One line per measuring rule among the rules of jobs.

    Drawing samples and scoring are left out, since they write no record.
    """
    counts = Counter(rules)
    for rule in RECORDS:
        n = counts[rule]
        if n and (known := measured_seconds(rule)):
            yield f"  {n:>5} x {_rounded(median(known))} s  {rule}, median of {len(known)} jobs"
        elif n and (committed := measured_seconds(rule, presets="reference/*/records")):
            told = f"none was measured yet; median of {len(committed)} committed jobs of reduced presets on a CPU"
            yield f"  {n:>5} x about {_rounded(median(committed))} s  {rule}, {told}"
        elif n:
            yield f"  {n:>5} x unknown  {rule}, none was measured yet"


def _rounded(amount: float) -> str:
    return f"{amount:.0f}" if amount >= 10 else f"{amount:.2g}"
