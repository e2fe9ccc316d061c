"""Sample quality of one run: FID, IS, KID, precision and recall, features extracted once. One record each."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtri.data import store
from dtri.metrics import features, generation
from workflow.commands.cli import run
from workflow.commands.measuring import Measurement, variant

METRICS = {"fid": "fid", "is": "inception_score", "kid": "kid", "prc": "precision"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", required=True, type=Path, help="uint8 [n, C, H, W], .npy")
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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path, help="folder of the records")
    arguments = parser.parse_args(argv)

    torch.set_num_threads(arguments.threads)
    spec = json.loads(arguments.spec)
    dataset = store.load(arguments.data)
    extractor = features.extractor(arguments.extractor, arguments.weights)
    ways = [(way["n_samples"], way["reference"]) for way in spec["comparisons"]]
    references = [np.asarray(dataset.images(way["reference"])[: way["n_reference"]]) for way in spec["comparisons"]]
    job = Measurement(arguments.train, arguments.code, {}, "cpu", "torch", "torch-fidelity", "numpy")
    if job.diverged:
        for name in METRICS:
            sizes = {"n_samples": 0, "n_reference": len(references[0])}
            path = arguments.out / f"{name}_{extractor.name}.json"
            job.record(path, name, None, protocol="not measured", extractor=extractor.label, **sizes)
        return 0
    samples = np.load(arguments.samples)
    comparisons = [(n, reference) for (n, _), reference in zip(ways, references, strict=True)]
    found = generation.measure_each(samples, comparisons, extractor, arguments.cache)
    trained = json.loads(arguments.summary.read_text()) if arguments.summary else {}
    network = {"extractor_sha256": extractor.hash}
    if trained:
        network["extractor_test_accuracy"] = trained["test_accuracy"]
    sampler = {"sampler": spec["sampler"]} if spec["sampler"] else {}
    for name, attribute in METRICS.items():
        scores = [getattr(result, attribute) for result in found]
        protocols = [
            _protocol(name, score, split, dataset.name) for score, (_, split) in zip(scores, ways, strict=True)
        ]
        score = scores[0]
        job.record(
            arguments.out / f"{name}_{extractor.name}.json",
            name,
            score.value,
            n_samples=score.n_samples,
            n_reference=score.n_reference,
            protocol=protocols[0],
            extractor=extractor.label,
            extra={**score.extra, **network, **sampler, "variants": _variants(name, scores, protocols, ways)},
        )
    return 0


def _protocol(name: str, score: generation.Score, split: str, dataset: str) -> str:
    against = "" if name == "is" else f" ({split} images of {dataset})"
    return f"{score.protocol}{against}; BN in eval mode"


def _variants(
    name: str, scores: list[generation.Score], protocols: list[str], ways: list[tuple[int, str]]
) -> dict[str, dict[str, Any]]:
    """The same metric of the same samples measured otherwise, by a name of the difference."""
    found: dict[str, dict[str, Any]] = {}
    for score, protocol, (n, split) in list(zip(scores, protocols, ways, strict=True))[1:]:
        label = f"{n} samples" if name == "is" else f"{n} samples against {score.n_reference} {split} images"
        found.setdefault(label, variant(score.value, score.n_samples, score.n_reference, protocol))
    if name == "is":
        protocol = f"{scores[0].n_samples} samples, one split; BN in eval mode"
        found["one split"] = variant(scores[0].extra["one_split"], scores[0].n_samples, 0, protocol)
    return found


if __name__ == "__main__":
    sys.exit(run(main))
