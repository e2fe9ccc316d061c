"""Train the domain extractor of a dataset: a small classifier on its training labels."""

import argparse
import math
import sys
import time
from pathlib import Path

import torch

from dtri.data import store
from dtri.device import describe_device
from dtri.files import digest
from dtri.metrics import classifier
from dtri.sealed import write_sealed
from dtri.seeding import derive
from workflow.commands.cli import run
from workflow.commands.provenance import provenance, versions

BATCH = 128
EPOCHS = 20  # of small sets; large ones reach their accuracy in MAX_STEPS
MAX_STEPS = 1500


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset with labels")
    parser.add_argument("--code", default="", help="fingerprint of this command's code")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path, help="weights, .safetensors")
    parser.add_argument("--summary", required=True, type=Path, help="accuracy and identity, .json")
    arguments = parser.parse_args(argv)

    started = time.monotonic()
    torch.set_num_threads(arguments.threads)
    dataset = store.load(arguments.data)
    train, labels = dataset.images("train"), dataset.labels("train")
    steps = min(MAX_STEPS, math.ceil(EPOCHS * len(train) / BATCH))
    seed = derive("domain", dataset.name)
    trained = classifier.train_classifier(train.copy(), labels, dataset.meta["n_classes"], seed, steps, BATCH)
    test_accuracy = classifier.accuracy(trained, dataset.images("test").copy(), dataset.labels("test"))
    classifier.save(trained, arguments.out, {"dataset": dataset.name, "data": dataset.content})
    summary = {
        "dataset": dataset.name,
        "data": dataset.content,
        "code": arguments.code,
        "test_accuracy": test_accuracy,
        "steps": steps,
        "n_train": len(train),
        "n_test": dataset.meta["sizes"]["test"],
        "sha256": digest(arguments.out, "sha256"),
        "versions": versions("torch", "numpy"),
        "provenance": provenance(),
        "device": describe_device(torch.device("cpu")),
        "seconds": round(time.monotonic() - started, 3),
    }
    write_sealed(arguments.summary, summary)
    print(f"{arguments.out}: test accuracy {test_accuracy:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
