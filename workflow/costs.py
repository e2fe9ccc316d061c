"""What jobs cost: hours of training by the images per second of runs on disk, seconds of measuring by records."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dtri.experiment import TrainSpec
from dtri.sealed import read_sealed
from workflow import plan

RECORDS = {  # rule -> the records whose seconds are those of the whole job
    "generation": ("prc_inception", "prc_domain", "prc_imagenet_lite"),
    "reconstruct": ("mse",),
    "auroc": ("auroc_*",),
    "auprc": ("auprc",),
}


@dataclass(frozen=True)
class Speed:
    """Images per second of one finished training run."""

    spec: TrainSpec
    images_per_s: float
    device: str

    @property
    def on_gpu(self) -> bool:
        return not self.device.startswith("cpu")


def speeds(results: Path = Path("results")) -> list[Speed]:
    """Of every training run on disk, whatever preset it belongs to."""
    found = []
    for path in sorted(results.glob("*/*/*/seed*/train.json")):
        made = read_sealed(path, "a training summary")
        try:
            spec = TrainSpec.from_json(json.dumps(made["spec"]))
        except ValueError:  # of hyperparameters that are no more
            continue
        found.append(Speed(spec, made["images_per_s"], made["device"]))
    return found


@dataclass(frozen=True)
class Estimate:
    """`hours` of one training run on the device that `source` names; None when no run of its class was measured."""

    hours: float | None
    unit: str
    source: str


def estimate(spec: TrainSpec, on_gpu: bool, measured: list[Speed]) -> Estimate:
    """From runs of the same class, size and kind of device; else, roughly, from any run of the same class."""
    relatives = [speed for speed in measured if speed.spec.entry == spec.entry]
    alike = [speed for speed in relatives if speed.on_gpu == on_gpu and _size(speed.spec) == _size(spec)]
    same_device = [speed for speed in relatives if speed.on_gpu == on_gpu]
    chosen = alike or same_device or relatives
    if not chosen:
        return Estimate(None, "", f"no run of {spec.entry} was measured yet")
    rate = median(speed.images_per_s for speed in chosen)
    devices = ", ".join(sorted({speed.device for speed in chosen}))
    told = "as measured" if alike else f"rough: from {', '.join(sorted({_size_text(s.spec) for s in chosen}))}"
    unit = "GPU-hours" if chosen[0].on_gpu else "CPU hours"
    return Estimate(
        spec.processes * spec.steps * spec.batch_size / rate / 3600, unit, f"{told}, {rate:.0f} images/s on {devices}"
    )


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


def measured_seconds(rule: str, results: Path = Path("results")) -> list[float]:
    """What the jobs of a measuring rule took, by the last record that each wrote, whatever run it is of."""
    paths = (path for pattern in RECORDS[rule] for path in results.glob(f"*/*/*/seed*/metrics/{pattern}.json"))
    return [made["seconds"] for path in sorted(paths) if "seconds" in (made := read_sealed(path, "a record"))]


def training(runs: Iterable[tuple[plan.Run, bool]]) -> Iterator[str]:
    """Lines of text about runs, each with whether it computes on a GPU; those that cost the same share one."""
    measured = speeds()
    groups: dict[tuple[str, str, Estimate], list[str]] = {}
    for run, on_gpu in runs:
        cost = estimate(plan.train_spec(run), on_gpu, measured)
        groups.setdefault((run.preset, run.model, cost), []).append(run.dataset)
    sums: Counter[str] = Counter()
    unknown = 0
    for (preset, model, cost), datasets in groups.items():
        each = "unknown" if cost.hours is None else f"{len(datasets)} x {_rounded(cost.hours)} h"
        yield f"  {each:>14}  {preset} {model} on {', '.join(sorted(set(datasets)))}"
        yield f"  {'':14}  {cost.source}"
        if cost.hours is None:
            unknown += len(datasets)
        else:
            sums[cost.unit] += len(datasets) * cost.hours
    total = " and ".join(f"{_rounded(hours)} {unit}" for unit, hours in sums.items())
    parts = [total, f"{unknown} runs unknown" if unknown else ""]
    yield f"  sum: {', '.join(part for part in parts if part)}; a run with a saved state needs less"


def measuring(rules: Iterable[str]) -> Iterator[str]:
    """One line per measuring rule among the rules of jobs; drawing samples and scoring have no record of their own."""
    counts = Counter(rules)
    for rule in RECORDS:
        n = counts[rule]
        if n and (known := measured_seconds(rule)):
            yield f"  {n:>5} x {_rounded(median(known))} s  {rule}, median of {len(known)} jobs"
        elif n:
            yield f"  {n:>5} x unknown  {rule}, none was measured yet"


def _rounded(amount: float) -> str:
    return f"{amount:.0f}" if amount >= 10 else f"{amount:.2g}"
