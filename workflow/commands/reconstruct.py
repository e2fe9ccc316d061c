"""Reconstruct the test images: RMSE and MSE records, and a few pairs to look at."""

import argparse
import sys
from pathlib import Path

import numpy as np

from dtri import evaluation, trained
from dtri.arrays import write_array
from dtri.data import store
from dtri.device import describe_device
from dtri.files import write_atomic
from dtri.finite import Count
from dtri.metrics.reconstruction import SquaredError, mean_image_mse, random_pairs_mse
from dtri.model import Model
from dtri.numerics import hold_device
from dtri.seeding import derive
from workflow.commands.cli import run
from workflow.commands.measuring import BATCH_NORM, Measurement, variant

SHOWN = 64
PROTOCOL = "{metric} on [-1, 1], mean over all test images, channels and pixels; z = posterior mean; {bn}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--train", required=True, type=Path, help="train.json of the run")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset")
    parser.add_argument("--code", required=True)
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rmse", required=True, type=Path)
    parser.add_argument("--mse", required=True, type=Path)
    parser.add_argument("--pairs", required=True, type=Path, help="uint8 [2, n, C, H, W]; n = 0: diverged")
    arguments = parser.parse_args(argv)

    dataset = store.load(arguments.data)
    test = dataset.images("test")
    with hold_device(arguments.device, arguments.threads) as device:
        job = Measurement(arguments.train, arguments.code, {}, describe_device(device), "torch", "numpy")
        model, _ = trained.load(arguments.model, device, "running")
        for map_name in ("infer", "generate"):
            evaluation.require(model, map_name)
        error, count, shown = _reconstructed(model, test)
        others = {
            rule: _reconstructed(other, test)[:2]
            for rule, other in trained.by_other_rules(arguments.model, device, "running")
        }
    if count.bad:
        job.diverge(f"{count.bad} of {count.rows} reconstructions are not finite")
        print(f"{arguments.pairs}: diverged in reconstruction: {job.why}")
    mean_image = mean_image_mse(test, dataset.images("train"))
    random_pairs = random_pairs_mse(test, derive("pairs", dataset.name))
    n = len(test)
    for metric, power, path in (("rmse", 0.5, arguments.rmse), ("mse", 1.0, arguments.mse)):
        protocol = PROTOCOL.format(metric=metric.upper(), bn=BATCH_NORM["running"][0])
        if count.bad:
            job.record(path, metric, None, n_samples=n, n_reference=n, protocol=protocol)
            continue
        levels = [
            ("mean image", mean_image, f"{metric.upper()} on [-1, 1] of answering with the mean training image"),
            ("random pairs", random_pairs, f"{metric.upper()} on [-1, 1] between unrelated test images"),
            ("range [0, 1]", error.mse / 4, f"{metric.upper()} on [0, 1], else as in the tables"),
        ]
        variants = {name: variant(mse**power, n, n, words) for name, mse, words in levels}
        for rule, (other, found) in others.items():
            why = f"{found.bad} of {found.rows} reconstructions are not finite" if found.bad else ""
            words = PROTOCOL.format(metric=metric.upper(), bn=BATCH_NORM[rule][0])
            mse = None if why else other.mse**power
            variants[BATCH_NORM[rule][1]] = variant(mse, n, n, words, diverged=why)
        value = error.mse**power
        extra = {"variants": variants}
        job.record(path, metric, value, n_samples=n, n_reference=n, protocol=protocol, extra=extra)
    pairs = np.stack([test[: len(shown)], shown])
    write_atomic(arguments.pairs, lambda file: write_array(file, pairs))
    return 0


def _reconstructed(model: Model, test: np.ndarray) -> tuple[SquaredError, Count, np.ndarray]:
    """Squared error over uint8 images [N, C, H, W], a count of what is not finite, and the first reconstructions.

    There are no reconstructions where any is not finite.
    """
    error, count, shown = SquaredError(), Count(), [test[:0]]
    for x, n in evaluation.batches(model, test):
        y = evaluation.reconstruct(model, x)
        x, y = x[:n], y[:n]
        count.add(y)
        if count.bad:
            continue
        error.add(x.cpu().numpy(), y.cpu().numpy())
        if sum(map(len, shown)) < SHOWN:
            shown.append(evaluation.to_uint8(y).cpu().numpy())
    return error, count, np.concatenate(shown if not count.bad else shown[:1])[:SHOWN]


if __name__ == "__main__":
    sys.exit(run(main))
