"""Sample quality of one run: FID, IS, KID, precision and recall, features extracted once. One record each."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from dtri.data import store
from dtri.metrics import features, generation
from workflow.commands.cli import run
from workflow.commands.measuring import Measurement

METRICS = {"fid": "fid", "is": "inception_score", "kid": "kid", "prc": "precision"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", required=True, type=Path, help="uint8 [n, C, H, W], .npy")
    parser.add_argument("--train", required=True, type=Path, help="train.json of the run")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset")
    parser.add_argument("--spec", required=True, help='JSON {"n_samples", "reference", "sampler"}')
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
    reference = dataset.images(spec["reference"])
    job = Measurement(arguments.train, arguments.code, {}, "cpu", "torch", "torch-fidelity", "numpy")
    if job.diverged:
        for name in METRICS:
            sizes = {"n_samples": 0, "n_reference": len(reference)}
            path = arguments.out / f"{name}_{extractor.name}.json"
            job.record(path, name, None, protocol="not measured", extractor=extractor.label, **sizes)
        return 0
    samples = np.load(arguments.samples)
    result = generation.measure(samples, np.asarray(reference), extractor, arguments.cache)
    trained = json.loads(arguments.summary.read_text()) if arguments.summary else {}
    network = {"extractor_sha256": extractor.hash}
    if trained:
        network["extractor_test_accuracy"] = trained["test_accuracy"]
    sampler = {"sampler": spec["sampler"]} if spec["sampler"] else {}
    for name, attribute in METRICS.items():
        score = getattr(result, attribute)
        against = "" if name == "is" else f" ({spec['reference']} images of {dataset.name})"
        job.record(
            arguments.out / f"{name}_{extractor.name}.json",
            name,
            score.value,
            n_samples=score.n_samples,
            n_reference=score.n_reference,
            protocol=f"{score.protocol}{against}; BN in eval mode",
            extractor=extractor.label,
            extra={**score.extra, **network, **sampler},
        )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
