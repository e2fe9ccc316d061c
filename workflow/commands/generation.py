"""Sample quality of one run: FID, IS, KID, precision and recall, features extracted once. One record each."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtri import device
from dtri.data import store
from dtri.metrics import features, generation
from dtri.report.records import AGAIN, read_arrays, read_sealed
from workflow.commands.cli import run
from workflow.commands.measuring import Measurement, variant

METRICS = {"fid": "fid", "is": "inception_score", "kid": "kid", "prc": "precision"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", required=True, type=Path, help="uint8 [n, C, H, W], .npy")
    parser.add_argument(
        "--batch-samples", type=Path, help="those drawn with batch norm's batch statistics; may be empty"
    )
    parser.add_argument("--train", required=True, type=Path, help="train.json of the run")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset")
    parser.add_argument(
        "--spec", required=True, help='JSON {"comparisons": [{"n_samples", "reference", "n_reference"}], "sampler"}'
    )
    parser.add_argument("--code", required=True)
    parser.add_argument("--extractor", required=True, choices=("inception", "domain"))
    parser.add_argument("--weights", required=True, type=Path, help="of the feature network")
    parser.add_argument("--summary", type=Path, help="classifier.json of a domain extractor")
    parser.add_argument("--cache", required=True, type=Path, help="folder for features of the reference")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the feature network")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path, help="folder of the records")
    arguments = parser.parse_args(argv)

    with device.held(arguments.device, arguments.threads) as where:
        return _measure(arguments, where)


def _measure(arguments: argparse.Namespace, where: torch.device) -> int:
    spec = json.loads(arguments.spec)
    dataset = store.load(arguments.data)
    network = features.extractor(arguments.extractor, arguments.weights)
    extractor = replace(network, precision=arguments.precision, device=where)
    ways = spec["comparisons"]
    references = [np.asarray(dataset.images(way["reference"])[: way["n_reference"]]) for way in ways]
    job = Measurement(arguments.train, arguments.code, {}, device.describe(where), "torch", "torch-fidelity", "numpy")
    identity = {"extractor_sha256": extractor.hash, "comparisons": ways}
    if spec["sampler"]:
        identity["sampler"] = spec["sampler"]
    drawn = {False: read_arrays(arguments.samples), True: ()}
    if any(way["batch_statistics"] for way in ways):
        drawn[True] = read_arrays(arguments.batch_samples)
    asked = max(way["n_samples"] for way in ways if not way["batch_statistics"])
    if len(drawn[False]) < asked:  # what is not finite is no image
        job.diverge(f"{asked - len(drawn[False])} of {asked} samples are not finite")
    if job.diverged:
        for name in METRICS:
            sizes = {"n_samples": 0, "n_reference": len(references[0])}
            path = arguments.out / f"{name}_{extractor.name}.json"
            job.record(path, name, None, protocol="not measured", extractor=extractor.label, extra=identity, **sizes)
        return 0
    found = []  # (way, measurements)
    for batch_statistics, samples in drawn.items():
        chosen = [
            k
            for k, way in enumerate(ways)
            if way["batch_statistics"] == batch_statistics and way["n_samples"] <= len(samples)
        ]
        if chosen:
            comparisons = [(ways[k]["n_samples"], references[k]) for k in chosen]
            results = generation.measure_each(samples, comparisons, extractor, arguments.cache)
            found += zip([ways[k] for k in chosen], results, strict=True)
    trained = read_sealed(arguments.summary, "the summary of a classifier") if arguments.summary else {}
    if trained:
        if trained["sha256"] != extractor.hash:
            raise ValueError(
                f"expected weights with sha256 {trained['sha256'][:12]} in {arguments.weights}, found "
                f"{extractor.hash[:12]}; {AGAIN}"
            )
        identity["extractor_test_accuracy"] = trained["test_accuracy"]
    for name, attribute in METRICS.items():
        scores = [(way, getattr(result, attribute)) for way, result in found]
        way, score = scores[0]
        job.record(
            arguments.out / f"{name}_{extractor.name}.json",
            name,
            score.value,
            n_samples=score.n_samples,
            n_reference=score.n_reference,
            protocol=_protocol(name, way, score, dataset.name),
            extractor=extractor.label,
            extra={
                **score.extra,
                **identity,
                "warning": score.warning,
                "variants": _variants(name, scores, dataset.name),
            },
        )
    return 0


def _protocol(name: str, way: dict[str, Any], score: generation.Score, dataset: str) -> str:
    against = "" if name == "is" else f" ({way['reference']} images of {dataset})"
    mode = "with the statistics of batches of 100" if way["batch_statistics"] else "in eval mode"
    return f"{score.protocol}{against}; BN {mode}"


def _variants(
    name: str, scores: list[tuple[dict[str, Any], generation.Score]], dataset: str
) -> dict[str, dict[str, Any]]:
    """The same metric measured otherwise than for the tables, by a name of the difference."""
    found: dict[str, dict[str, Any]] = {}
    for way, score in scores[1:]:
        against = "" if name == "is" else f" against {score.n_reference} {way['reference']} images"
        label = f"{score.n_samples} samples{against}{', BN batch statistics' if way['batch_statistics'] else ''}"
        protocol = _protocol(name, way, score, dataset)
        found.setdefault(label, variant(score.value, score.n_samples, score.n_reference, protocol))
        if name == "is" and way["batch_statistics"]:
            found[f"{label}, one split"] = _one_split(score, "; BN with the statistics of batches of 100")
    if name == "is":
        found["one split"] = _one_split(scores[0][1], "; BN in eval mode")
    return found


def _one_split(score: generation.Score, ending: str) -> dict[str, Any]:
    """The Inception Score as the official code of paper B takes it."""
    return variant(score.extra["one_split"], score.n_samples, 0, f"one split of {score.n_samples} samples{ending}")


if __name__ == "__main__":
    sys.exit(run(main))
