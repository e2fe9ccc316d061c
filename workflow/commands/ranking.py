"""AUROC of in-distribution against out-of-distribution scores, or AUPRC of labelled hold-out scores: one record.

The record's value ranks by the energy. `extra["scores"]` holds the same measurement by every other score in the files.
An AUROC also has it by the "reversed" energy.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from dtri.arrays import read_arrays
from dtri.data import store
from dtri.finite import NonFinite
from dtri.metrics import ranking
from dtri.metrics.ranking import Ranking
from workflow.commands.cli import run
from workflow.commands.measuring import BATCH_NORM, Measurement, variant

BN, _ = BATCH_NORM["running"]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True, type=Path, help="train.json of the run")
    parser.add_argument("--code", required=True)
    parser.add_argument("--scores", required=True, type=Path, nargs="+", help="of the test set, or of each split")
    parser.add_argument("--against", type=Path, help="scores of the out-of-distribution set: AUROC")
    parser.add_argument("--against-data", type=Path, help="its prepared dataset")
    parser.add_argument("--labels-of", type=Path, help="prepared hold-out dataset: AUPRC")
    parser.add_argument("--split", nargs="+", choices=("test", "test_leaky"), help="of each scores file: AUPRC")
    parser.add_argument("--out", required=True, type=Path, nargs="+", help="one record per scores file")
    arguments = parser.parse_args(argv)
    if (arguments.against is None) == (arguments.labels_of is None):
        raise ValueError("expected exactly one of --against (AUROC) and --labels-of (AUPRC)")

    if arguments.against:
        _auroc(read_arrays(arguments.scores[0]), arguments)
    else:
        for path, split, out in zip(arguments.scores, arguments.split, arguments.out, strict=True):
            _auprc(read_arrays(path), split, out, arguments)
    return 0


def _measurement(arguments: argparse.Namespace, data: dict[str, str]) -> Measurement:
    return Measurement(arguments.train, arguments.code, data, "cpu", "numpy", "scikit-learn")


def _finite(job: Measurement, rank: Callable[[], Any]) -> Any:
    """What `rank` finds; None where scores are not finite, and then the run counts as diverged."""
    try:
        return rank()
    except NonFinite as error:
        job.diverge(str(error))
        print(f"diverged in scoring: {error}")
        return None


def _other_scores(scores, rank: Callable[[str], list[Ranking]]) -> dict[str, dict[str, Any]]:
    """The same measurement by every score but the energy: values, warnings and, of an AUPRC, average precisions.

    Each of the three maps the score's name. A value is the mean over sets of weights, None where a score is not finite.
    A warning is "" where there is none.
    """
    found: dict[str, dict[str, Any]] = {"scores": {}, "score_warnings": {}, "score_precisions": {}}
    for name in (name for name in scores.files if name != "energy" and "@" not in name):
        try:
            ranked = rank(name)
        except NonFinite as error:
            found["scores"][name], found["score_warnings"][name] = None, str(error)
            continue
        found["scores"][name], found["score_warnings"][name] = mean(one.value for one in ranked), _warning(ranked)
        if ranked[0].average_precision is not None:
            found["score_precisions"][name] = mean(one.average_precision for one in ranked)
    return found


def _warning(ranked: list[Ranking]) -> str:
    """The last warning among sets of weights, and how many have one."""
    warnings = [one.warning for one in ranked if one.warning]
    if not warnings:
        return ""
    return warnings[-1] + (f" ({len(warnings)} of {len(ranked)} sets of weights)" if len(ranked) > 1 else "")


def _auroc(scores, arguments: argparse.Namespace) -> None:
    against = store.load(arguments.against_data)
    job = _measurement(arguments, {against.name: against.content})
    other = read_arrays(arguments.against)
    n_id, n_ood = len(scores["energy"]), len(other["energy"])
    protocol = f"AUROC, energy of {n_id} test images below that of {n_ood} of {against.name}; {BN}"
    path, metric = arguments.out[0], "auroc"
    sizes = {"n_samples": n_id, "n_reference": n_ood}
    result = None if job.diverged else _finite(job, lambda: ranking.auroc(scores["energy"], other["energy"]))
    if result is None:
        job.record(path, metric, None, protocol=protocol, **sizes)
        return
    extra = _other_scores(scores, lambda name: [ranking.auroc(scores[name], other[name], interval=False)])
    extra["scores"]["reversed"] = 1.0 - result.value
    extra["score_warnings"]["reversed"] = result.warning
    extra |= {**asdict(result), "chance": 0.5, "against": against.name}
    job.record(path, metric, result.value, protocol=protocol, extra=extra, **sizes)


def _auprc(scores, split: str, out: Path, arguments: argparse.Namespace) -> None:
    dataset = store.load(arguments.labels_of)
    labels = dataset.labels(split)
    job = _measurement(arguments, {dataset.name: dataset.content})
    leaky = split == "test_leaky"
    metric = "auprc_leaky" if leaky else "auprc"
    composition = "leaky EGBAD split (test normals seen in training)" if leaky else "clean EGBAD split"
    protocol = f"AUPRC (trapezoid), anomalies positive, energy as score, {composition}; {BN}"
    n_anomalies = int(labels.sum())
    sizes = {"n_samples": len(labels), "n_reference": n_anomalies}
    late = _late(scores)
    ranked = None
    if not job.diverged:
        ranked = _finite(job, lambda: [ranking.auprc(scores[name], labels) for name in _all("energy", late)])
    if ranked is None:
        job.record(out, metric, None, protocol=protocol, **sizes)
        return
    each = [asdict(one) for one in ranked]
    averaged = {key: mean(one[key] for one in each) for key in ("value", "ci_low", "ci_high", "average_precision")}
    other_scores = _other_scores(
        scores, lambda name: [ranking.auprc(scores[one], labels, interval=False) for one in _all(name, late)]
    )
    variants = {}
    if late:
        variants["weights at the end"] = (each[-1]["value"], f"{protocol}; weights at the end", ranked[-1].warning)
        protocol += f"; mean over {len(each)} sets of weights, from iteration {late[0]} to the last"
    precision = protocol.replace("AUPRC (trapezoid)", "average precision")
    variants["average precision"] = (averaged["average_precision"], precision, _warning(ranked))
    extra = {
        **each[-1],
        **averaged,
        **other_scores,
        "warning": _warning(ranked),
        "late": [one["value"] for one in each],
        "late_std": stdev(one["value"] for one in each) if late else None,
        "variants": {
            name: variant(value, protocol=how, warning=warning, **sizes)
            for name, (value, how, warning) in variants.items()
        },
    }
    job.record(out, metric, averaged["value"], protocol=protocol, extra=extra, **sizes)


def _late(scores) -> list[int]:
    """Iterations before the end for which the file has scores, ascending."""
    return sorted(int(name.partition("@")[2]) for name in scores.files if name.startswith("energy@"))


def _all(name: str, late: list[int]) -> list[str]:
    """A score's names in the file: of the weights before the end, then of the final weights."""
    return [*(f"{name}@{t}" for t in late), name]


if __name__ == "__main__":
    sys.exit(run(main))
