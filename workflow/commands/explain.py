"""Say before anything starts what would run, why, and what the training would cost.

    python -m workflow.commands.explain demo
    python -m workflow.commands.explain results/paper/table1.csv results/paper/table2.csv

Which jobs would run is Snakemake's answer. Changed modules are found by comparing this checkout with the commit that a
record names; hours by the images per second of the training runs there are below results/.
"""

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from dtri.experiment import TrainSpec
from dtri.report.records import read_sealed
from workflow import params, plan, status
from workflow.commands.cli import run
from workflow.fingerprint import ROOMS, ROOT, closure, fingerprint, module_hash

WHY = {  # beginning of a reason of Snakemake's -> ours
    "Missing output files": "not made yet",
    "Incomplete output files": "interrupted",
    "Forced execution": "forced",
    "Params have changed": "changed",
    "Code has changed": "changed",
    "Set of input files has changed": "changed",
    "Updated input files": "new input",
    "Input files updated by another job": "follows",
}
RECORDS = {  # rule -> the records whose seconds are those of the whole job
    "generation": ("prc_inception", "prc_domain"),
    "reconstruct": ("mse",),
    "auroc": ("auroc_*",),
    "auprc": ("auprc",),
}


@dataclass(frozen=True)
class Job:
    """One job of Snakemake's dry run."""

    rule: str
    output: tuple[str, ...] = ()
    wildcards: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def why(self) -> str:
        """The first cause in the order of WHY."""
        return next((ours for theirs, ours in WHY.items() if theirs in self.reason), "other")

    @property
    def run(self) -> plan.Run:
        return params.run_of(SimpleNamespace(**self.wildcards))


@dataclass(frozen=True)
class Speed:
    """Images per second of one finished training run."""

    spec: TrainSpec
    images_per_s: float
    device: str

    @property
    def on_gpu(self) -> bool:
        return not self.device.startswith("cpu")


# What would run


def dry_run(targets: list[str], *options: str) -> list[Job]:
    """The jobs that Snakemake would run; ValueError with its message when it cannot plan."""
    options = ("--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--cores", "1", *options)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *options, "--", *targets], capture_output=True, text=True, errors="replace"
    )
    text = done.stdout + done.stderr
    if done.returncode:
        raise ValueError(_complaint(text))
    return parse(text)


def parse(text: str) -> list[Job]:
    """Jobs in the text of a dry run; those without outputs (targets such as `all`) are left out."""
    blocks: list[tuple[str, dict[str, str]]] = []
    for line in text.splitlines():
        if begin := re.fullmatch(r"(?:local)?(?:rule|checkpoint) (\w+):", line):
            blocks.append((begin[1], {}))
        elif blocks and (entry := re.fullmatch(r" {4}(\w+): (.*)", line)):
            blocks[-1][1].setdefault(entry[1], entry[2])
    return [
        Job(
            rule,
            tuple(values["output"].split(", ")),
            dict(pair.split("=", 1) for pair in values.get("wildcards", "").split(", ") if pair),
            values.get("reason", ""),
        )
        for rule, values in blocks
        if "output" in values
    ]


def _complaint(text: str) -> str:
    """The one line of a failed planning that says what is wrong."""
    if inner := re.search(r"^\s*\w*(?:Error|Exception): (\S.*)$", text, re.M):
        return inner[1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    start = next((i for i, line in enumerate(lines) if re.search(r"(Error|Exception)\b", line)), len(lines) - 1)
    return " ".join(lines[start : start + 7])


# Why


def modules_of(job: Job) -> tuple[str, ...]:
    """Modules whose closure is the job's code, as plan.code takes them."""
    return plan.modules(job.rule, job.run.model)


def differences(job: Job) -> Iterator[str]:
    """What differs between a job's product on disk and what this checkout would make, one line each."""
    paths = [path for path in map(Path, job.output) if path.suffix == ".json" and path.exists()]
    found = {path: _unaccepted(path) for path in paths}
    path = next((path for path in paths if found[path]), None)
    if path is None:
        if job.why == "changed":
            yield from re.findall(r"before: .*? now: [^;]*", job.reason)
        return
    made = json.loads(path.read_text("utf-8"))
    for one in found[path]:
        if one.what == "training specification" and isinstance(made["spec"], dict):
            yield from _spec_changes(made["spec"], json.loads(plan.train_spec(job.run).text))
        elif one.what in ("training code", "measuring code"):
            modules = modules_of(job) if one.what == "measuring code" else plan.modules("train", job.run.model)
            yield f"{one}: {_changed_modules(modules, {**made, 'code': one.old})}"
        else:
            yield str(one)


def _unaccepted(path: Path) -> list[status.Difference]:
    return status.unaccepted(path)


def unknown_to_snakemake(targets: list[str], jobs: list[Job], *options: str) -> list[Path]:
    """Products of the targets that are stale by what they say of their making, and that Snakemake would not make again.

    It knows of changes by notes of its own: those are elsewhere for products that came along, and forged by `--touch`.
    """
    planned = {path for job in jobs for path in job.output}
    paths = (
        Path(path) for job in dry_run(targets, "--forceall", *options) for path in job.output if path not in planned
    )
    return [path for path in paths if path.suffix == ".json" and path.exists() and _unaccepted(path)]


def _spec_changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    old, new = _flat(old), _flat(new)
    for key in sorted(old | new):
        if old.get(key) != new.get(key):
            yield f"{key} {old.get(key, 'default')} -> {new.get(key, 'default')}"


def _flat(spec: dict[str, Any]) -> dict[str, Any]:
    hparams = {f"hparams.{name}": value for name, value in spec["hparams"].items()}
    return {**{name: value for name, value in spec.items() if name != "hparams"}, **hparams}


def _changed_modules(modules: tuple[str, ...], made: dict[str, Any]) -> str:
    """Names of the modules that changed since the commit a record names, and how far that can be trusted."""
    commit, dirty = made["provenance"]["commit"], made["provenance"]["dirty"]
    then = _checkout(commit) if commit else None
    if then is None:
        return f"changed modules unknown, {f'no commit {commit[:7]} here' if commit else 'made outside a git checkout'}"
    try:
        old = {name: module_hash(name, then) for name in closure(modules, then)}
    except ValueError as error:
        return f"changed modules unknown, {error} at {commit[:7]}"
    new = {name: module_hash(name) for name in closure(modules)}
    names = ", ".join(
        f"{name}{'' if name in old and name in new else ' (new)' if name in new else ' (gone)'}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    )
    if fingerprint(modules, then) == made["code"]:
        return f"{names} (since {commit[:7]})"
    doubt = "made with uncommitted edits" if dirty else "hashed by another version of workflow.fingerprint"
    return f"{names or 'no module'} since {commit[:7]}, but {doubt}"


_folders: list[tempfile.TemporaryDirectory] = []  # removed when the process ends


@cache
def _checkout(commit: str) -> Path | None:
    """Our Python files at a commit, in a temporary folder; None when git does not know it."""
    rooms = _git("ls-tree", "--name-only", commit)
    archive = rooms and _git("archive", commit, *(room for room in ROOMS if room in rooms.decode().split()))
    if not archive:
        return None
    _folders.append(tempfile.TemporaryDirectory())
    folder = Path(_folders[-1].name)
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> bytes | None:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


# What it costs


def speeds(results: Path = Path("results")) -> list[Speed]:
    """Of every training run on disk, whatever preset it belongs to."""
    found = []
    for path in sorted(results.glob("*/*/*/seed*/train.json")):
        made = read_sealed(path, "a training summary")
        try:
            spec = TrainSpec.parse(json.dumps(made["spec"]))
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


# The text


def summary(jobs: list[Job]) -> Iterator[str]:
    for rule, count in Counter(job.rule for job in jobs).most_common():
        causes = Counter(job.why for job in jobs if job.rule == rule)
        yield f"  {rule:16}{count:5}   {', '.join(f'{n} {why}' for why, n in causes.most_common())}"


def reasons(jobs: list[Job]) -> Iterator[str]:
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if lines := tuple(differences(job)):
            groups.setdefault((job.rule, *lines), []).append(job)
    for (rule, *lines), alike in groups.items():
        first = alike[0].run.folder if "seed" in alike[0].wildcards else alike[0].output[0]
        yield f"  {rule} {first}{f' and {len(alike) - 1} more' if len(alike) > 1 else ''}"
        yield from (f"    {line}" for line in lines)


def costs(jobs: list[Job]) -> Iterator[str]:
    """Runs that cost the same for the same reason on one line."""
    measured = speeds()
    groups: dict[tuple[str, str, Estimate], list[str]] = {}
    for job in jobs:
        if job.rule == "train":
            on_gpu = bool(params.gpus(SimpleNamespace(**job.wildcards)))
            cost = estimate(plan.train_spec(job.run), on_gpu, measured)
            groups.setdefault((job.run.preset, job.run.model, cost), []).append(job.run.dataset)
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


def measuring(jobs: list[Job]) -> Iterator[str]:
    """One line per measuring rule; drawing samples and scoring have no record of their own."""
    for rule in RECORDS:
        n = sum(job.rule == rule for job in jobs)
        if n and (known := measured_seconds(rule)):
            yield f"  {n:>5} x {_rounded(median(known))} s  {rule}, median of {len(known)} jobs"
        elif n:
            yield f"  {n:>5} x unknown  {rule}, none was measured yet"


def _rounded(amount: float) -> str:
    return f"{amount:.0f}" if amount >= 10 else f"{amount:.2g}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="a file or rule, as for snakemake")
    parser.add_argument(
        "--downloads", default="downloads", help="drop folder of raw files, as snakemake's --config has"
    )
    arguments = parser.parse_args(argv)

    configured = ("--config", f"downloads={arguments.downloads}")
    jobs = dry_run(arguments.targets, *configured)
    if stale := unknown_to_snakemake(arguments.targets, jobs, *configured):
        print(
            f"{len(stale)} products are stale, and Snakemake does not know: {stale[0]} ({_unaccepted(stale[0])[0]}) "
            "and so on; delete them to make them anew, or accept them (workflow.commands.accept)"
        )
    if not jobs:
        print(f"nothing would run{'' if stale else ': everything is up to date'}")
        return 0
    print(f"{len(jobs)} jobs would run", *summary(jobs), sep="\n")
    if differing := list(reasons(jobs)):
        print("what differs from the products on disk", *differing, sep="\n")
    if any(job.rule == "train" for job in jobs):
        print("cost of training: steps x batch size / images per second", *costs(jobs), sep="\n")
    if lines := list(measuring(jobs)):
        print("cost of measuring", *lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
