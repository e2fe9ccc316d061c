"""AUROC of in-distribution against out-of-distribution scores, or AUPRC of labelled hold-out scores: one record."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dtri.data import store
from dtri.metrics import ranking
from workflow.commands.cli import run
from workflow.commands.measuring import Measurement


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True, type=Path, help="train.json of the run")
    parser.add_argument("--code", required=True)
    parser.add_argument("--scores", required=True, type=Path, help="scores of the in-distribution or hold-out test set")
    parser.add_argument("--against", type=Path, help="scores of the out-of-distribution set: AUROC")
    parser.add_argument("--against-data", type=Path, help="its prepared dataset")
    parser.add_argument("--labels-of", type=Path, help="prepared hold-out dataset: AUPRC")
    parser.add_argument("--split", default="test", help="split whose labels are used: test (clean) or test_leaky")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args(argv)
    if (arguments.against is None) == (arguments.labels_of is None):
        raise ValueError("expected exactly one of --against (AUROC) and --labels-of (AUPRC)")

    scores = np.load(arguments.scores)
    if arguments.against:
        _auroc(scores, arguments)
    else:
        _auprc(scores, arguments)
    return 0


def _measurement(arguments: argparse.Namespace, data: dict[str, str]) -> Measurement:
    return Measurement(arguments.train, arguments.code, data, "cpu", "numpy", "scikit-learn")


def _auroc(scores, arguments: argparse.Namespace) -> None:
    against = store.load(arguments.against_data)
    job = _measurement(arguments, {against.name: against.content})
    other = np.load(arguments.against)
    n_id, n_ood = len(scores["energy"]), len(other["energy"])
    protocol = f"AUROC, energy of {n_id} test images below that of {n_ood} of {against.name}; BN in eval mode"
    path, metric = arguments.out, "auroc"
    if job.diverged:
        job.record(path, metric, None, n_samples=n_id, n_reference=n_ood, protocol=protocol)
        return
    result = ranking.auroc(scores["energy"], other["energy"])
    extra = {**asdict(result), "chance": 0.5, "against": against.name}
    if "sse" in scores:
        extra["sse"] = ranking.auroc(scores["sse"], other["sse"]).value
    job.record(path, metric, result.value, n_samples=n_id, n_reference=n_ood, protocol=protocol, extra=extra)


def _auprc(scores, arguments: argparse.Namespace) -> None:
    dataset = store.load(arguments.labels_of)
    labels = dataset.labels(arguments.split)
    job = _measurement(arguments, {dataset.name: dataset.content})
    leaky = arguments.split == "test_leaky"
    metric = "auprc_leaky" if leaky else "auprc"
    split = "leaky EGBAD split (test normals seen in training)" if leaky else "clean EGBAD split"
    protocol = f"AUPRC (trapezoid), anomalies positive, energy as score, {split}; final weights; BN in eval mode"
    n_anomalies = int(labels.sum())
    sizes = {"n_samples": len(labels), "n_reference": n_anomalies}
    if job.diverged:
        job.record(arguments.out, metric, None, protocol=protocol, **sizes)
        return
    result = ranking.auprc(scores["energy"], labels)
    extra = asdict(result)
    if "sse" in scores:
        extra["sse"] = ranking.auprc(scores["sse"], labels).value
    job.record(arguments.out, metric, result.value, protocol=protocol, extra=extra, **sizes)


if __name__ == "__main__":
    sys.exit(run(main))
