"""Hash products again, and compare what they say of their making with this checkout.

    dtri verify results
    dtri verify results/demo/digits/vae results/data/mnist

Every file whose hash another file holds is hashed again: prepared arrays (meta.json), weights and curves of training
runs (train.json), classifiers. So are raw files that are still in the drop folder (fetch.json). Records and summaries
carry their own seal. Tables are rendered again from the records. What a figure notes of its inputs is compared. Every
product is in one of these states:

    ok        as it was made, by this checkout's code, data and configuration
    accepted  unchanged; what this checkout would make otherwise was accepted (dtri accept)
    changed   not what was written
    missing   another product was made of it or holds its hash, and it is not there
    stale     unchanged, but this checkout would make another

The exit code is 0 where all are ok or accepted, else 1; it is 1 too where there was nothing to check. For results, or a
preset's folder, the command also counts expected products that are not there.

Delete what is changed, missing or stale: the command that made it makes it anew. Weights that a training kept before
its end are made anew with its train.json. Grids, interpolations, pages and scores do not say how they were made.
Snakemake alone knows whether they are stale.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dtri.data import rawfiles, store
from dtri.files import digest
from dtri.messages import reason
from dtri.report import style
from dtri.report.records import Record
from dtri.sealed import read_sealed
from workflow import configuration, plan, specs, status
from workflow.commands import figure
from workflow.commands.cli import run

TROUBLE = ("changed", "missing", "stale")


@dataclass(frozen=True)
class Finding:
    """The state of a product, and why."""

    status: str
    path: Path
    why: str = ""


def findings(folder: Path, downloads: Path) -> Iterator[Finding]:
    """A finding for every product below `folder`."""
    known: set[Path] = set()
    for finding in _findings(folder, downloads):
        if finding.path not in known:
            known.add(finding.path)
            yield finding


def _findings(folder: Path, downloads: Path) -> Iterator[Finding]:
    files = sorted(_files(folder))
    for path in sorted((path for path in files if path.suffix == ".json"), key=lambda path: path.name != "meta.json"):
        if path.name == "meta.json":
            yield from _prepared(path)
        elif path.name == "fetch.json":
            yield from _raw(path, downloads)
        elif path.name == "classifier.json":
            yield from _sealed(path, lambda made, path=path: {path.with_suffix(".safetensors").name: made["sha256"]})
        elif path.name == "train.json":
            yield from _trained(path)
        elif path.name == status.ACCEPTED:
            yield from _sealed(path, lambda made: {})
        elif path.parent.name == "metrics":
            yield from _record(path)
    copied = (*(f"{name}.*" for name in plan.TABLES), "claims*", "figures/*")
    for path in (one for name in copied for one in sorted(folder.glob(name))):
        if folder.name == "results":
            yield from _copy(path, folder)
    for path in files:
        known = path.parent.parent.name == "results" and path.parent.name in configuration.presets()
        if known and path.suffix == ".csv" and path.stem in plan.TABLES:
            yield _table(path)
    for path in files:
        if is_figure(path):
            yield from drawn(path)


def is_figure(path: Path) -> bool:
    """Whether a path is the PNG of a preset's figure."""
    match path.parts[-4:]:
        case ("results", name, "figures", _):
            return name in configuration.presets() and path.suffix == ".png" and path.stem in plan.FIGURES
    return False


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, also behind links to other disks; a link to a folder around it is passed over."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent).resolve()
        folders[:] = [name for name in folders if not here.is_relative_to(Path(parent, name).resolve())]
        yield from (Path(parent, name) for name in names)


def _judged(path: Path) -> Finding:
    """Stale, accepted or ok, of a product that is as it was written; stale too where its sources are damaged."""
    try:
        stale, accepted = status.judged(path)
    except ValueError as error:
        return Finding("stale", path, str(error))
    return Finding("stale" if stale else "accepted" if accepted else "ok", path, ", ".join(stale or accepted))


def _sources(path: Path, sources: list[str]) -> Iterator[Finding]:
    """A finding for each product that `path` was made of and that is not there."""
    yield from (Finding("missing", Path(one), f"{path} was made of it") for one in sources if not Path(one).exists())


def _hashed(path: Path, expected: str, algorithm: str = "sha256") -> Finding:
    if not path.is_file():
        return Finding("missing", path)
    found = digest(path, algorithm)
    if found != expected:
        return Finding("changed", path, f"expected {algorithm} {expected[:12]}, found {found[:12]}")
    return Finding("ok", path)


def _prepared(path: Path) -> Iterator[Finding]:
    try:
        dataset = store.load(path.parent)
    except ValueError as error:
        yield Finding("changed", path, str(error))
        return
    judged, shared = _judged(path), dataset.meta.get("n_test_in_train")
    note = f"{shared} test images are training images too" if shared else ""
    yield replace(judged, why="; ".join(filter(None, (judged.why, note))))
    for name, expected in dataset.meta["sha256"].items():
        yield _hashed(path.parent / name, expected)


def _raw(path: Path, downloads: Path) -> Iterator[Finding]:
    """Raw files may be deleted once they are prepared; those that are there have to be the same."""
    try:
        listed, base = read_sealed(path, "a record of raw files"), specs.dataset(path.parent.name).base
        hashes = {downloads / base / one["file"]: one["sha256"] for one in listed.values() if isinstance(one, dict)}
    except (ValueError, LookupError, TypeError) as error:
        yield Finding("changed", path, reason(error))
        return
    for raw, expected in hashes.items():
        if raw.exists():
            yield _hashed_raw(raw, expected)


def _hashed_raw(path: Path, expected: str) -> Finding:
    """Hash a raw file, or a folder of images."""
    try:
        found = rawfiles.sha256_of(path)
    except (OSError, ValueError) as error:
        return Finding("changed", path, str(error))
    if found != expected:
        return Finding("changed", path, f"expected sha256 {expected[:12]}, found {found[:12]}; it was prepared before")
    return Finding("ok", path)


def _sealed(path: Path, vouched: Callable[[dict[str, Any]], dict[str, str]]) -> Iterator[Finding]:
    """A summary, and the files beside it whose sha256 it holds."""
    try:
        hashes = dict(vouched(read_sealed(path, "a summary")))
    except (ValueError, LookupError, TypeError) as error:
        yield Finding("changed", path, reason(error))
        return
    yield _judged(path)
    for name, expected in hashes.items():
        yield _hashed(path.parent / name, expected)


def _trained(path: Path) -> Iterator[Finding]:
    """Findings of a run; for weights kept before the end they say what to delete, since Snakemake does not."""
    for finding in _sealed(path, lambda made: made.get("files", {})):
        if finding.path.parent.name == "snapshots" and finding.status != "ok":
            why = "; ".join(filter(None, (finding.why, f"delete {path} to make it anew")))
            finding = replace(finding, why=why)
        yield finding


def _record(path: Path) -> Iterator[Finding]:
    try:
        Record.read(path)
    except ValueError as error:
        yield Finding("changed", path, str(error))
        return
    yield _judged(path)
    yield from _sources(path, plan.record_sources(path))


def _copy(path: Path, results: Path) -> Iterator[Finding]:
    """A finding for a table, figure or page of claims right below results/, which is a copy of preset paper's."""
    original = results / "paper" / path.relative_to(results)
    if not original.exists():
        yield Finding("missing", original, f"{path} is a copy of it")
    elif path.read_bytes() != original.read_bytes():
        yield Finding("stale", path, f"expected a copy of {original}, found another")
    else:
        yield Finding("ok", path)


def drawn(path: Path) -> Iterator[Finding]:
    """Findings of a figure: its inputs, its PNG, which notes what it was drawn from, and its PDF."""
    preset = configuration.preset(path.parent.parent.name)
    products = plan.figure_products(preset, path.stem)
    yield from _sources(path, [str(product.path) for product in products])
    try:
        made = style.origin_of(path)
    except ValueError as error:
        yield Finding("changed", path, str(error))
        return
    now = figure.origin(path.stem, preset, [product for product in products if product.path.exists()])
    differing = [f"other {name}" for name in now if made.get(name) != now[name]]
    yield Finding("stale" if differing else "ok", path, ", ".join(differing) if made else "drawn by an earlier version")
    if made:
        yield _hashed(path.with_suffix(".pdf"), made["pdf"])


def _table(path: Path) -> Finding:
    """A finding for a table, which is rendered again from the records in this directory."""
    from dtri.report.render import render

    preset = configuration.preset(path.parent.name)
    table = plan.preset_table(preset, path.stem)
    try:
        frame = status.frame(preset, table)
    except ValueError as error:
        return Finding("changed", path, str(error))
    if render(table, frame, preset.label, "csv") != path.read_text("utf-8"):
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
            if arguments.all or finding.status != "ok" or finding.why:
                print(f"{finding.status:8}  {finding.path}{f': {finding.why}' if finding.why else ''}")
    asked = {folder.resolve() for folder in arguments.folders}
    for name, preset in configuration.presets().items():
        begun = Path("results", name)
        if begun.is_dir() and {one.resolve() for one in (begun, begun.parent)} & asked:
            expected = plan.expected_products(preset)
            n_absent = sum(not Path(path).exists() for path in expected)
            print(f"{name}: {n_absent} of the {len(expected)} products that the plan expects are not there")
    if not counts:
        print("nothing was checked: no product here says how it was made")
        return 1
    shown = ("ok", *["accepted"] * bool(counts["accepted"]), *TROUBLE)
    print(", ".join(f"{counts[status]} {status}" for status in shown))
    return int(any(counts[status] for status in TROUBLE))


if __name__ == "__main__":
    sys.exit(run(main))
