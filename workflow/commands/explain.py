"""Say before anything starts what would run, why, and what the training would cost.

    dtri plan demo
    dtri plan results/paper/table1.csv results/paper/table2.csv
    dtri plan results/demo/digits/vae/seed0

Snakemake says which jobs would run. Changed modules are found by comparing this checkout with the commit that a record
names. Hours come from training runs below results/, else from the cost model (workflow/costs.py).
"""

import argparse
import re
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from workflow import costs, params, reasons, specs, status, targets
from workflow.commands.cli import run
from workflow.fingerprint import ROOT

WHY = {  # part of a reason of Snakemake's -> ours
    "Missing output files": "not made yet",
    "Incomplete output files": "interrupted",
    "Forced execution": "forced",
    "Params have changed": "changed",
    "Code has changed": "changed",
    "Set of input files has changed": "changed",
    "Updated input files": "new input",
    "Input files updated by another job": "follows",
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
    def run(self) -> specs.Run:
        return params.run_of(SimpleNamespace(**self.wildcards))


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


def differences(job: Job) -> Iterator[str]:
    """What differs between a job's products on disk and what this checkout would make, each line once."""
    paths = [path for path in map(Path, job.output) if path.suffix == ".json" and path.exists()]
    found = dict.fromkeys(line for path in paths for line in reasons.details(path))
    yield from found
    if not found and job.why == "changed":
        yield from re.findall(r"before: .*? now: [^;]*", job.reason)


def kept(targets: list[str], jobs: list[Job], *options: str) -> list[Path]:
    """Summaries and records of the targets that exist and that Snakemake would not make again."""
    planned = {path for job in jobs for path in job.output}
    products = (Path(path) for job in dry_run(targets, "--forceall", *options) for path in job.output)
    return [path for path in products if path.suffix == ".json" and str(path) not in planned and path.exists()]


def without_notes(paths: list[Path]) -> Iterator[str]:
    """A line on products without Snakemake's note in .snakemake/metadata, as where results/ alone was copied."""
    notes = Path(".snakemake", "metadata")
    found = [path for path in paths if not (notes / urlsafe_b64encode(str(path).encode()).decode()).exists()]
    if found:
        yield (
            f"{len(found)} products came without Snakemake's notes of their making ({found[0]} and so on), so it takes "
            "them for current. What they say themselves is compared here, of figures and tables by dtri verify; "
            "copy .snakemake/metadata too (docs/sharing.md)"
        )


def unknown_to_snakemake(paths: list[Path]) -> Iterator[str]:
    """What is wrong with products that Snakemake takes for current.

    Snakemake keeps notes of how products were made. They are elsewhere for products that were copied here, and wrong
    after `--touch`. Weights that a training keeps before its end are no outputs of a rule.
    """
    if stale := [path for path in paths if status.unaccepted(path)]:
        yield (
            f"{len(stale)} products are stale, and Snakemake does not know: {stale[0]} "
            f"({status.unaccepted(stale[0])[0]}) and so on; delete them to make them anew, or accept them "
            "(dtri accept)"
        )
    for path in paths:
        if path.name == "train.json" and (gone := status.lost(path)):
            yield f"{gone[0]} and {len(gone) - 1} more weights of {path} are gone; delete {path} to train anew"


def summary(jobs: list[Job]) -> Iterator[str]:
    for rule, count in Counter(job.rule for job in jobs).most_common():
        causes = Counter(job.why for job in jobs if job.rule == rule)
        yield f"  {rule:16}{count:5}   {', '.join(f'{n} {why}' for why, n in causes.most_common())}"


def differing(jobs: list[Job]) -> Iterator[str]:
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if lines := tuple(differences(job)):
            groups.setdefault((job.rule, *lines), []).append(job)
    for (rule, *lines), alike in groups.items():
        first = alike[0].run.folder if "seed" in alike[0].wildcards else alike[0].output[0]
        yield f"  {rule} {first}{f' and {len(alike) - 1} more' if len(alike) > 1 else ''}"
        yield from (f"    {line}" for line in lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "targets", nargs="+", metavar="TARGET", help="as for dtri run: a file, a rule, a folder below results/"
    )
    parser.add_argument("--downloads", default="downloads", help="drop folder of raw files")
    arguments = parser.parse_args(argv)
    arguments.targets = [path for word in arguments.targets for path in targets.expand(word)]

    configured = ("--config", f"downloads={arguments.downloads}")
    jobs = dry_run(arguments.targets, *configured)
    current = kept(arguments.targets, jobs, *configured)
    unknown = [*without_notes(current), *unknown_to_snakemake(current)]
    print(*unknown, sep="\n", end="\n" if unknown else "")
    if not jobs:
        print(f"nothing would run{'' if unknown else ': everything is up to date'}")
        return 0
    print(f"{len(jobs)} jobs would run", *summary(jobs), sep="\n")
    if lines := list(differing(jobs)):
        print("what differs from the products on disk", *lines, sep="\n")
    trained = [(job.run, bool(params.gpus(SimpleNamespace(**job.wildcards)))) for job in jobs if job.rule == "train"]
    if trained:
        print("cost of training", *costs.training(trained), sep="\n")
    if lines := list(costs.measuring(job.rule for job in jobs)):
        print("cost of measuring", *lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
