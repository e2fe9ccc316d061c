"""Stale or not, and why: the one comparison of a product on disk with what this checkout would make.

Every command that judges a product asks here. Compared are specification, code, sampler, comparisons, settings of the
landscape, feature network and data.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtri.experiment import canonical_json
from dtri.messages import AGAIN, reason
from dtri.metrics import imagenet_lite
from dtri.report.cells import Cell, CellResult, Table
from dtri.report.records import Record
from dtri.sealed import read_sealed
from workflow import configuration, jobcode, plan, specs
from workflow.configuration import GENERATION_METRICS, Preset
from workflow.left_out import LeftOut, explained

if TYPE_CHECKING:
    import pandas as pd


def frame(preset: Preset, table: Table, left_out: Sequence[LeftOut] = ()) -> "pd.DataFrame":
    """The tidy rows of a table, from the records on disk as this checkout judges them.

    Args:
        preset: whose records are read.
        table: what the papers print.
        left_out: why measurements are missing.
    """
    from dtri.report.tidy import tidy  # imports pandas, which takes a second: only for rendering

    return tidy(table, preset.name, preset.seeds, partial(lookup, preset, left_out=left_out))


def lookup(preset: Preset, cell: Cell, seed: int, left_out: Sequence[LeftOut] = ()) -> CellResult:
    """What is on disk for a cell and seed, compared with what this checkout would make; else why there is nothing."""
    return explained(_on_disk(preset, cell, seed), cell, seed, left_out)


def _on_disk(preset: Preset, cell: Cell, seed: int) -> CellResult:
    target = plan.target(preset, cell, seed)
    if target.path is None:
        return CellResult(None, expected=False, comparable=False, reason=target.reason)
    on, comparable, reason = target.run.dataset, target.comparable, target.reason
    if not target.path.exists():
        if problem := plan.network_problem(target.path):
            return CellResult(None, expected=False, comparable=False, reason=problem)
        return CellResult(None, measured_on=on, comparable=comparable, reason=reason)
    stale, accepted = judged(target.path)
    seen = _seen_in_training(on, cell.metric)
    return CellResult(Record.read(target.path), stale, on, True, comparable, reason, accepted, seen)


def _seen_in_training(name: str, metric: str) -> str:
    """How many test images of a dataset are training images too; "" for none, or where it is not prepared here."""
    path = Path(specs.dataset(name).folder) / "meta.json"
    if not path.exists():
        return ""
    with _complete(path):
        meta = _meta(path)
        if metric == "auprc_leaky":
            return f"{meta['source']['leaked_fraction']:.0%} of the normal test images of {name} are training images"
        n = meta.get("n_test_in_train", 0)
        return f"{n} of the {meta['sizes']['test']} test images of {name} are training images" if n else ""


def records(folder: Path) -> list[Path]:
    """Every record in a preset's folder, whether a table has a cell for it or not."""
    return sorted(folder.glob("*/*/seed*/metrics/*.json"))


@dataclass(frozen=True)
class Difference:
    """A difference between what a product was made by, `old`, and what this checkout would make it by, `new`.

    Both are hashes or short texts. `new` is "" where this checkout could not make the product, which `what` explains.
    """

    what: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.what} {self.old[:16]} -> {self.new[:16]}"


def differences(path: Path) -> list[Difference]:
    """Differences of a meta.json, classifier.json, train.json or record; [] where it is current, and for other files.

    Raises:
        ValueError: the file is damaged.
        OSError: there is no such file.
    """
    with _complete(path):
        match path.name, path.parent.name:
            case "meta.json", _:
                return _of_data(path)
            case "classifier.json", _:
                return _of_classifier(read_sealed(path, "the summary of a classifier"))
            case "train.json", _:
                return _of_training(read_sealed(path, "a training summary"))
            case _, "metrics":
                return _of_record(Record.read(path), path)
    return []


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    """Name the file that lacks an entry, as a file of another version without a seal may."""
    try:
        yield
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"expected all entries in {path}, found this: {reason(error)}; {AGAIN}") from error


def _meta(path: Path) -> dict[str, Any]:
    return read_sealed(path, "the description of a dataset")


def _pairs(*compared: tuple[str, str | None, str | None]) -> list[Difference]:
    """Differences from (what, old, new); none where old or new is unknown."""
    return [Difference(what, old, new) for what, old, new in compared if None not in (old, new) and old != new]


def _of_data(path: Path) -> list[Difference]:
    """Differences of a dataset, and for a hold-out also of its source."""
    try:
        data = specs.dataset(path.parent.name)
    except ValueError as error:
        return [Difference(str(error), "", "")]
    made = _meta(path).get("source", {}).get("code")
    return [
        *_pairs((f"data {data.name} code", made, jobcode.data_code(data))),
        *(_changed_data({data.config.holdout_of: None}) if data.config.holdout_of else []),
    ]


def _changed_data(used: dict[str, str | None]) -> list[Difference]:
    """Differences of datasets, given by name and data hash; a dataset that is not here has none."""
    found = []
    for name, content in used.items():
        path = Path(specs.dataset(name).folder) / "meta.json"
        if path.exists():
            with _complete(path):
                found += _pairs((f"data {name}", content, _meta(path)["content"]))
            found += unaccepted(path)
    return found


def _of_classifier(summary: dict[str, Any]) -> list[Difference]:
    return [
        *_pairs(("classifier code", summary.get("code") or None, jobcode.code("classifier"))),
        *_changed_data({summary["dataset"]: summary["data"]} if "dataset" in summary else {}),
    ]


def _of_training(summary: dict[str, Any]) -> list[Difference]:
    run = _planned_run(summary)
    if isinstance(run, str):
        return [Difference(run, "", "")]
    return [
        *_pairs(
            ("training specification", summary["spec_hash"], specs.train_spec(run).hash),
            ("training code", summary["code"], jobcode.training_code(run)),
        ),
        *_changed_data(summary["data"]),
    ]


def _of_record(record: Record, path: Path) -> list[Difference]:
    """Differences of a record; a record in the folder of a run has to be that run's. Copies lie elsewhere."""
    planned = _planned_run(vars(record))
    run = specs.run_at(path) or planned
    if isinstance(run, str):
        return [Difference(run, "", "")]
    metric = "auroc" if path.stem.startswith("auroc_") else re.sub("_(inception|domain|imagenet_lite)$", "", path.stem)
    found = []
    if (record.preset, record.dataset, record.model, record.seed, record.metric) != (*astuple(run), metric):
        made = f"record of {record.preset}/{record.dataset}/{record.model}/seed{record.seed} {record.metric}"
        found.append(Difference(made, "", ""))
    found += _pairs(
        ("training specification", record.spec, specs.train_spec(run).hash),
        ("training code", record.train_code, jobcode.training_code(run)),
        ("measuring code", record.code, jobcode.measure_code(metric, run.model)),
    )
    if record.status == "done" or "diverged" in record.extra:
        found += _of_protocol(record, run, metric, path)
    return [*found, *_changed_data(record.data)]


def _of_protocol(record: Record, run: specs.Run, metric: str, path: Path) -> list[Difference]:
    """Differences in how a finished measurement was taken, and by which network."""
    found = []
    if metric in GENERATION_METRICS:
        ways = [one.model_dump() for one in specs.comparisons(run)]
        found += _pairs(
            ("sampler", canonical_json(record.extra.get("sampler", {})), canonical_json(specs.sampler(run))),
            ("comparisons", canonical_json(record.extra.get("comparisons")), canonical_json(ways)),
        )
    if metric == "landscape_purity" and "settings" in record.extra:
        settings = canonical_json(asdict(configuration.preset(run.preset).landscape))
        found += _pairs(("landscape settings", canonical_json(record.extra["settings"]), settings))
    if metric in (*GENERATION_METRICS, "landscape_purity"):
        if record.extractor.startswith("imagenet_lite:"):
            return [*found, *_pairs(("extractor", record.extra.get("extractor_sha256"), imagenet_lite.HASH))]
        known = _extractor(run, path)
        if known.exists():
            network = read_sealed(known, "the summary of a feature network")
            found += _pairs(("extractor", record.extra.get("extractor_sha256"), network["sha256"]))
            if known.name == "classifier.json":
                found += unaccepted(known)
    return list(dict.fromkeys(found))


def _extractor(run: specs.Run, path: Path) -> Path:
    """The summary of the feature network that a record names; a landscape's is the domain classifier's."""
    extractor = "inception" if path.stem.endswith("_inception") else "domain"
    return Path(plan.extractor_files(run.dataset, extractor)[-1])


def _planned_run(made: dict[str, Any]) -> specs.Run | str:
    """The run that a summary or record names, or why the configuration has no such run."""
    planned = specs.Run(made["preset"], made["dataset"], made["model"], made["seed"])
    try:
        specs.train_spec(planned)
    except ValueError as error:
        return str(error)
    return planned


ACCEPTED = "accepted.json"


def acceptances(path: Path) -> tuple[Path, str]:
    """The file that notes what was accepted of a product, and the product's name in it."""
    folder = path.parent.parent if path.parent.name == "metrics" else path.parent
    return folder / ACCEPTED, path.relative_to(folder).as_posix()


def acceptance(path: Path, difference: Difference) -> dict[str, str] | None:
    """Who accepted exactly this difference of a product, when and why; None where nobody did.

    A record copies from train.json what made the training. So what was accepted of train.json is accepted of the
    record.
    """
    noted, product = acceptances(path)
    if not noted.exists():
        return None
    wanted = asdict(difference).items()
    entries = read_sealed(noted, "accepted results")
    with _complete(noted):
        of_product = [entry for entry in entries["accepted"] if entry["product"] in (product, "train.json")]
        return next((entry for entry in of_product if wanted <= entry.items()), None)


def unaccepted(path: Path) -> list[Difference]:
    """Differences that nobody accepted; they make a product stale."""
    return [one for one in differences(path) if acceptance(path, one) is None]


def lost(path: Path) -> list[Path]:
    """Weights that a training kept before its end, that its train.json lists, and that are not there.

    Snakemake does not know them. Jobs that read them fail and say so; they are made anew with train.json.
    """
    files = [path.parent / name for name in read_sealed(path, "a training summary").get("files", {})]
    return [file for file in files if file.parent != path.parent and not file.exists()]


def judged(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(why the product is stale, what was accepted of it), in words."""
    stale, accepted = [], []
    for one in differences(path):
        entry = acceptance(path, one)
        if entry is None:
            stale.append(one.what)
        else:
            accepted.append(f"{one}, by {entry['who']} on {entry['when'][:10]}: {entry['reason']}")
    return tuple(stale), tuple(accepted)
