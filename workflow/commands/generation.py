"""Sample quality of one run: FID, IS, KID, precision and recall, with features extracted once.

Each metric has one record; recall stands in the record of precision.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtri.arrays import read_arrays
from dtri.data import store
from dtri.device import describe_device
from dtri.messages import AGAIN
from dtri.metrics import features, generation, imagenet_lite
from dtri.numerics import hold_device
from dtri.sealed import read_sealed
from workflow.commands.cli import run
from workflow.commands.measuring import BATCH_NORM, Measurement, variant

METRICS = {"fid": "fid", "is": "inception_score", "kid": "kid", "prc": "precision"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", required=True, type=Path, help="uint8 [n, C, H, W], .npy")
    parser.add_argument("--variants", type=Path, help="as many by other rules of batch norm, .npz; may be empty")
    parser.add_argument("--train", required=True, type=Path, help="train.json of the run")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset")
    parser.add_argument(
        "--spec", required=True, help='JSON {"comparisons": [{"n_samples", "reference", "n_reference"}], "sampler"}'
    )
    parser.add_argument("--code", required=True)
    parser.add_argument("--extractor", required=True, choices=("inception", "domain", "imagenet_lite"))
    parser.add_argument("--weights", type=Path, help="of the feature network; the package's for imagenet_lite")
    parser.add_argument("--summary", type=Path, help="classifier.json of a domain extractor")
    parser.add_argument("--cache", required=True, type=Path, help="folder for features of the reference")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the feature network")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path, help="folder of the records")
    arguments = parser.parse_args(argv)

    with hold_device(arguments.device, arguments.threads) as device:
        return _measure(arguments, device)


def _measure(arguments: argparse.Namespace, device: torch.device) -> int:
    spec = json.loads(arguments.spec)
    dataset = store.load(arguments.data)
    network = features.extractor(arguments.extractor, arguments.weights)
    extractor = replace(network, precision=arguments.precision, device=device)
    comparisons = spec["comparisons"]
    references = [np.asarray(dataset.images(one["reference"])[: one["n_reference"]]) for one in comparisons]
    packages = ["torch", "torch-fidelity", "numpy"]
    packages += imagenet_lite.PACKAGES if extractor.name == "imagenet_lite" else ()
    job = Measurement(arguments.train, arguments.code, {}, describe_device(device), *packages)
    identity = {"extractor_sha256": extractor.hash, "comparisons": comparisons}
    if spec["sampler"]:
        identity["sampler"] = spec["sampler"]
    drawn = {
        "standing": read_arrays(arguments.samples),
        **(read_arrays(arguments.variants) if arguments.variants else {}),
    }
    asked = max(one["n_samples"] for one in comparisons)
    if len(drawn["standing"]) < asked:  # what is not finite is no image
        job.diverge(f"{asked - len(drawn['standing'])} of {asked} samples are not finite")
    if job.diverged:
        for name in METRICS:
            sizes = {"n_samples": 0, "n_reference": len(references[0])}
            path = arguments.out / f"{name}_{extractor.name}.json"
            job.record(path, name, None, protocol="not measured", extractor=extractor.label, extra=identity, **sizes)
        return 0
    first = comparisons[0]["n_samples"]
    fewer = {  # rules of batch norm by which too few samples are finite -> in words
        rule: f"{first - len(samples)} of {first} samples are not finite"
        for rule, samples in drawn.items()
        if len(samples) < first
    }
    found = []  # (comparison, rule of batch norm, measurements): all comparisons by the tables' rule, one by all rules
    for rule, samples in drawn.items():
        asked_of = comparisons if rule == "standing" else comparisons[:1]
        measured = [one for one in asked_of if one["n_samples"] <= len(samples)]
        pairs = [(one["n_samples"], reference) for one, reference in zip(measured, references)]
        results = generation.measure_each(samples, pairs, extractor, arguments.cache) if pairs else []
        found += [(one, rule, result) for one, result in zip(measured, results)]
    trained = read_sealed(arguments.summary, "the summary of a classifier") if arguments.summary else {}
    if trained:
        if trained["sha256"] != extractor.hash:
            raise ValueError(
                f"expected weights with sha256 {trained['sha256'][:12]} in {arguments.weights}, found "
                f"{extractor.hash[:12]}; {AGAIN}"
            )
        identity["extractor_test_accuracy"] = trained["test_accuracy"]
    for name, attribute in METRICS.items():
        scores = [(one, rule, getattr(result, attribute)) for one, rule, result in found]
        comparison, rule, score = scores[0]
        job.record(
            arguments.out / f"{name}_{extractor.name}.json",
            name,
            score.value,
            n_samples=score.n_samples,
            n_reference=score.n_reference,
            protocol=_protocol(name, comparison, rule, score, dataset.name),
            extractor=extractor.label,
            extra={
                **score.extra,
                **identity,
                "warning": score.warning,
                "variants": {
                    **_variants(name, scores, dataset.name),
                    **{
                        BATCH_NORM[rule][1]: variant(None, 0, score.n_reference, BATCH_NORM[rule][0], diverged=why)
                        for rule, why in fewer.items()
                    },
                },
            },
        )
    return 0


def _protocol(name: str, comparison: dict[str, Any], rule: str, score: generation.Score, dataset: str) -> str:
    against = "" if name == "is" else f" ({comparison['reference']} images of {dataset})"
    return f"{score.protocol}{against}; {BATCH_NORM[rule][0]}"


def _variants(
    name: str, scores: list[tuple[dict[str, Any], str, generation.Score]], dataset: str
) -> dict[str, dict[str, Any]]:
    """The same metric by the other protocols; the key says how a protocol differs from the table's."""
    found: dict[str, dict[str, Any]] = {}
    for k, (comparison, rule, score) in enumerate(scores):
        against = "" if name == "is" else f" against {score.n_reference} {comparison['reference']} images"
        label = f"{score.n_samples} samples{against}" if rule == scores[0][1] else BATCH_NORM[rule][1]
        if k > 0:
            protocol = _protocol(name, comparison, rule, score, dataset)
            found.setdefault(label, variant(score.value, score.n_samples, score.n_reference, protocol, score.warning))
        if name == "is" and comparison == scores[0][0]:  # as the official code of paper B takes it
            protocol = f"one split of {score.n_samples} samples; {BATCH_NORM[rule][0]}"
            one_split = variant(score.extra["one_split"], score.n_samples, 0, protocol, score.warning)
            found["one split" if k == 0 else f"{label}, one split"] = one_split
    return found


if __name__ == "__main__":
    sys.exit(run(main))
