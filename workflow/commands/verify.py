"""Hash products again, and compare what they say of their making with this checkout.

    python -m workflow.commands.verify results
    python -m workflow.commands.verify results/demo/digits/vae results/data/mnist

Every file that another one vouches for is hashed again: prepared arrays (meta.json), raw files that are still in the
drop folder (fetch.json), weights and curves of training runs (train.json), classifiers. Records and summaries carry a
seal of their own. Tables are rendered again from the records. Exit code 1 unless all is ok:

    ok        as it was made, by this checkout's code, data and configuration
    changed   not what was written
    missing   vouched for, and not there
    stale     unchanged, but this checkout would make another
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtri.data import rawfiles, store
from dtri.report.records import Record, read_sealed
from workflow import plan
from workflow.commands.cli import run

TROUBLE = ("changed", "missing", "stale")


@dataclass(frozen=True)
class Finding:
    status: str
    path: Path
    why: str = ""


def findings(folder: Path, downloads: Path) -> Iterator[Finding]:
    """Of every product below `folder`."""
    for path in sorted(folder.rglob("*.json")):
        if path.name == "meta.json":
            yield from _prepared(path)
        elif path.name == "fetch.json":
            yield from _raw(path, downloads)
        elif path.name == "classifier.json":
            yield from _classifier(path)
        elif path.name == "train.json":
            yield from _training(path)
        elif path.parent.name == "metrics":
            yield _record(path)
    for path in sorted(folder.rglob("table*.csv")):
        if path.parent.parent.name == "results" and path.parent.name in plan.presets():
            yield _table(path)


def _hashed(path: Path, expected: str, algorithm: str = "sha256", why: str = "") -> Finding:
    if not path.is_file():
        return Finding("missing", path)
    found = store.digest(path, algorithm)
    if found != expected:
        return Finding("changed", path, f"expected {algorithm} {expected[:12]}, found {found[:12]}")
    return Finding("stale" if why else "ok", path, why)


def _prepared(path: Path) -> Iterator[Finding]:
    try:
        dataset = store.load(path.parent)
    except ValueError as error:
        yield Finding("changed", path, str(error))
        return
    shared = dataset.meta.get("n_test_in_train")
    yield Finding("ok", path, f"{shared} test images are training images too" if shared else "")
    for name, expected in dataset.meta["sha256"].items():
        yield _hashed(path.parent / name, expected)


def _raw(path: Path, downloads: Path) -> Iterator[Finding]:
    """Raw files may be deleted once they are prepared; those that are there have to be the same."""
    try:
        listed, kin = json.loads(path.read_text()), plan.dataset(path.parent.name).kin
    except ValueError as error:
        yield Finding("changed", path, str(error))
        return
    for file in listed.values():
        if isinstance(file, dict) and (raw := downloads / kin / file["file"]).exists():
            yield _hashed_raw(raw, file["sha256"])


def _hashed_raw(path: Path, expected: str) -> Finding:
    """A file, or a folder of images."""
    try:
        found = rawfiles.sha256_of(path)
    except (OSError, ValueError) as error:
        return Finding("changed", path, str(error))
    if found != expected:
        return Finding("changed", path, f"expected sha256 {expected[:12]}, found {found[:12]}; it was prepared before")
    return Finding("ok", path)


def _classifier(path: Path) -> Iterator[Finding]:
    try:
        summary = read_sealed(path, "the summary of a classifier")
    except ValueError as error:
        yield Finding("changed", path, str(error))
        return
    why = ", ".join(plan.changed_data({summary["dataset"]: summary["data"]}))
    yield Finding("stale" if why else "ok", path, why)
    yield _hashed(path.with_suffix(".safetensors"), summary["sha256"])


def _training(path: Path) -> Iterator[Finding]:
    try:
        summary = read_sealed(path, "a training summary")
    except ValueError as error:
        yield Finding("changed", path, str(error))
        return
    why = ", ".join(_training_differences(summary))
    yield Finding("stale" if why else "ok", path, why)
    for name, expected in summary.get("files", {}).items():
        yield _hashed(path.parent / name, expected)


def _training_differences(summary: dict[str, Any]) -> Iterator[str]:
    planned = _run_of(summary)
    if isinstance(planned, str):
        yield planned
        return
    if summary["spec_hash"] != plan.train_spec(planned).hash:
        yield "training specification"
    if summary["code"] != plan.model_code("train", planned.model):
        yield "training code"
    yield from plan.changed_data(summary["data"])


def _record(path: Path) -> Finding:
    try:
        record = Record.read(path)
    except ValueError as error:
        return Finding("changed", path, str(error))
    planned = _run_of(vars(record))
    if isinstance(planned, str):
        return Finding("stale", path, planned)
    metric = "auroc" if path.stem.startswith("auroc_") else path.stem
    metric = metric.removesuffix("_inception").removesuffix("_domain")
    why = ", ".join(plan.stale(record, _run_at(path) or planned, metric))
    return Finding("stale" if why else "ok", path, why)


def _run_of(made: dict[str, Any]) -> plan.Run | str:
    """The run that a summary or record names, or why the configuration has none such."""
    planned = plan.Run(made["preset"], made["dataset"], made["model"], made["seed"])
    try:
        plan.train_spec(planned)
    except ValueError as error:
        return str(error)
    return planned


def _run_at(path: Path) -> plan.Run | None:
    """The run in whose folder a record lies; None where it lies elsewhere, as copies do."""
    match path.parts[-7:]:
        case ("results", preset, dataset, model, seed, "metrics", _) if preset in plan.presets():
            return plan.Run(preset, dataset, model, int(seed.removeprefix("seed")))
    return None


def _table(path: Path) -> Finding:
    """Rendered again from the records, those of this directory's results."""
    from dtri.report.render import render
    from dtri.report.tidy import tidy

    name, preset = path.stem, path.parent.name
    table, chosen = plan.table(name), plan.preset(preset)
    try:
        frame = tidy(table, preset, chosen.seeds, lambda cell, seed: plan.lookup(preset, cell, seed))
    except ValueError as error:
        return Finding("changed", path, str(error))
    if render(table, frame, chosen.label, "csv") != path.read_text():
        return Finding("changed", path, "its records give another table now")
    return Finding("ok", path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="results, or a folder below it")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="drop folder of raw files")
    parser.add_argument("--all", action="store_true", help="also list what is ok")
    arguments = parser.parse_args(argv)

    counts: Counter[str] = Counter()
    for folder in arguments.folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"expected a folder of products, found none at {folder}")
        for finding in findings(folder, arguments.downloads):
            counts[finding.status] += 1
            if arguments.all or finding.status != "ok":
                print(f"{finding.status:8}  {finding.path}{f': {finding.why}' if finding.why else ''}")
    print(", ".join(f"{counts[status]} {status}" for status in ("ok", *TROUBLE)))
    return int(any(counts[status] for status in TROUBLE))


if __name__ == "__main__":
    sys.exit(run(main))
