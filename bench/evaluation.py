"""Speed of sample quality: this project's one pass against torch-fidelity's defaults, asked metric by metric.

    python -m bench.evaluation                                  10,000 digits at 28 px, domain classifier
    python -m bench.evaluation --extractor inception --images 300       the 2015 graph, random weights

Measures FID, Inception Score, KID, precision and recall with equal numbers of samples and reference images, and nothing
cached. The samples are the reference images with a blurred band: speed does not depend on the content. Random weights
of the Inception graph are as fast as the trained ones. A second time is printed with the reference's features cached,
as for every system but a dataset's first. For the classifier it also prints how far FID moves with bf16 features.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from dtri.data import digits
from dtri.device import choose_device, describe_device
from dtri.files import digest
from dtri.metrics import classifier, features, generation
from dtri.numerics import set_numerics
from workflow.commands.cli import run

METRICS = ("fid", "isc", "kid", "prc")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extractor", choices=("domain", "inception"), default="domain")
    parser.add_argument("--images", type=int, default=10_000, help="samples, and as many reference images; from 20 on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--csv", type=Path, help="also write the seconds of every round there")
    arguments = parser.parse_args(argv)
    if arguments.images < 20 or arguments.rounds < 1:
        raise ValueError(f"expected 20 images and a round at least, found {arguments.images} and {arguments.rounds}")
    set_numerics(arguments.threads, "fp32")
    device = choose_device("auto")
    print(f"{describe_device(device)}; {arguments.threads} threads; torch {torch.__version__}, ", end="")
    print(f"torch-fidelity {torch_fidelity.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        seconds = _measure(arguments, Path(folder), device)
    if arguments.csv:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["extractor", "images", "threads", "device", "way", "round", "seconds"])
            setup = [arguments.extractor, arguments.images, arguments.threads, describe_device(device)]
            writer.writerows(
                [*setup, way, k, round(s, 3)] for way, found in seconds.items() for k, s in enumerate(found)
            )
    return 0


def _measure(arguments: argparse.Namespace, folder: Path, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each round, by method; prints them."""
    samples, reference, weights = _domain(arguments.images, folder)
    if arguments.extractor == "inception":
        samples, reference = (np.repeat(images, 3, axis=1) for images in (samples, reference))
        weights = _random_inception(folder)
        extractor = features.Extractor(
            "inception", digest(weights, "sha256"), features.inception_network(weights), device=device
        )
    else:
        torch_fidelity.register_feature_extractor("dtri-domain", features.DomainExtractor)
        extractor = replace(features.extractor("domain", weights), device=device)
    theirs: dict[str, float] = {}
    ours: list[generation.Generation] = []
    cache = folder / "cache"

    def one_by_one() -> None:
        name = {"domain": "dtri-domain", "inception": "inception-v3-compat"}[arguments.extractor]
        options = {"feature_extractor": name, "feature_extractor_weights_path": str(weights)}
        sizes = {"kid_subset_size": min(1000, arguments.images // 2)}
        inputs = {"input1": Images(samples), "input2": Images(reference)}
        for metric in METRICS:
            asked = {metric: True, **options, **sizes, "cuda": device.type == "cuda", "verbose": False}
            theirs.update(torch_fidelity.calculate_metrics(**inputs, **asked))

    ways: dict[str, Callable[[], object]] = {
        "torch-fidelity, metric by metric": one_by_one,
        "one pass, nothing cached": lambda: ours.append(generation.measure(samples, reference, extractor)),
        "one pass, reference cached": lambda: generation.measure(samples, reference, extractor, cache),
    }
    ways["one pass, reference cached"]()  # fills the cache
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        for way, work in ways.items():
            start = time.perf_counter()
            work()
            seconds[way].append(time.perf_counter() - start)
    first = seconds["torch-fidelity, metric by metric"]
    print(f"{arguments.images} samples and reference images {'x'.join(map(str, samples.shape[1:]))}, {extractor.label}")
    for way, found in seconds.items():
        ratios = sorted(a / b for a, b in zip(first, found, strict=True))
        spread = f"{ratios[len(ratios) // 2]:.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"    {way:34}{sorted(found)[len(found) // 2]:8.1f} s   {spread}")
    if arguments.extractor == "inception":
        return seconds  # the metrics of random weights mean nothing
    exact = ours[0].fid.value
    half = generation.measure(samples, reference, replace(extractor, precision="bf16")).fid.value
    print(f"    FID {exact:.6g}, torch-fidelity {theirs['frechet_inception_distance']:.6g}, ", end="")
    print(f"features in bf16 {half:.6g} ({half / exact - 1:+.2%})", flush=True)
    return seconds


def _domain(n: int, folder: Path) -> tuple[np.ndarray, np.ndarray, Path]:
    """(samples, reference, weights of a classifier) of n digits, repeated with noise where there are too few."""
    arrays = digits.prepare(folder, (1, 28, 28), {}, 0)
    images, labels = np.asarray(arrays.splits["train"]), np.asarray(arrays.labels["train"])
    network = classifier.train_classifier(images, labels, 10, seed=0, steps=100)
    weights = folder / "classifier.safetensors"
    classifier.save(network, weights, {})
    rng = np.random.default_rng(0)
    reference = images[rng.integers(0, len(images), n)]
    reference = np.clip(reference.astype(np.int16) + rng.integers(-20, 21, reference.shape), 0, 255).astype(np.uint8)
    samples = reference[rng.permutation(n)].copy()
    samples[:, :, 10:14] //= 2
    return samples, reference, weights


def _random_inception(folder: Path) -> Path:
    """A file of random weights for the Inception graph, which torch-fidelity only builds from a file."""
    empty, path = folder / "empty.pth", folder / "random.pth"
    torch.save({}, empty)
    load, FeatureExtractorInceptionV3.load_state_dict = FeatureExtractorInceptionV3.load_state_dict, lambda *_: None
    try:
        torch.manual_seed(0)
        torch.save(features.inception_network(empty).state_dict(), path)
    finally:
        FeatureExtractorInceptionV3.load_state_dict = load
    return path


class Images(Dataset):
    """uint8 tensors one by one, as torch-fidelity expects them."""

    def __init__(self, images: np.ndarray):
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


if __name__ == "__main__":
    sys.exit(run(main))
