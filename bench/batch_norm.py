"""What the rules of batch norm at evaluation change: spread of samples, distance from the data, reconstruction.

    python -m bench.batch_norm --data results/data/mnist --out batch_norm.csv joint_vae_ebm divergence_triangle vae

Trains narrow systems and appends a row per system, seed and rule of dtri/trained.py:

spread      root of the mean over pixels of the variance over samples, in [-1, 1] (for data: the mean image's RMSE)
std         standard deviation of all pixel values
frechet     squared Frechet distance in pixels between samples and test images
rmse        of reconstructions of test images; empty where the system cannot infer

Further rows: "data" compares test with training images. "latents" has the standing rule with other latents, and shows
the error of 2,000 latents. "encoder anew" has the running rule, with the encoder's averages computed anew from 2,000
training images. Runs on the CPU with one thread. Systems whose rows are in the file are not trained again.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dtri import evaluation, experiment, images, trained
from dtri.batches import Batches
from dtri.data import store
from dtri.ema import EMA
from dtri.metrics.frechet import Gaussian, distance
from dtri.model import Model, has
from dtri.networks import batch_norm
from dtri.numerics import set_numerics
from dtri.stepper import Stepper
from dtri.weights import save_weights
from workflow import specs
from workflow.commands.cli import run

COLUMNS = ("system", "seed", "steps", "rule", "spread", "std", "frechet", "rmse")
N = 2000  # number of samples, of test images and of training images
CPU = torch.device("cpu")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="+")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset of 28x28 images")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--out", required=True, type=Path, help=".csv")
    arguments = parser.parse_args(argv)

    set_numerics(1, "fp32")
    dataset = store.load(arguments.data)
    train, test = np.array(dataset.images("train")), np.array(dataset.images("test")[:N])
    known = set()
    if arguments.out.exists():
        with open(arguments.out, encoding="utf-8") as file:
            known = {(row["system"], int(row["seed"])) for row in csv.DictReader(file)}
    else:
        append(arguments.out, COLUMNS)
        append(arguments.out, ("data", 0, 0, "data", *shown(train[:N], test), ""))
    for seed in arguments.seeds:
        for system in arguments.systems:
            if (system, seed) in known:
                continue
            planned = specs.train_spec(specs.Run("paper", dataset.name, system, seed))
            hparams = {**planned.hparams, "width": arguments.width}
            spec = replace(planned, hparams=hparams, steps=arguments.steps, precision="fp32", threads=1)
            for rule, numbers in rows(spec, train, test):
                append(arguments.out, (system, seed, spec.steps, rule, *numbers))
    return 0


def append(path: Path, row: tuple) -> None:
    with open(path, "a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow(format(v, ".4g") if isinstance(v, float) else v for v in row)


def rows(spec: experiment.TrainSpec, train: np.ndarray, test: np.ndarray) -> Iterator[tuple[str, tuple]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_weights(path, weights(spec, train), spec)
        for rule in trained.RULES:
            yield rule, measured(trained.load(path, CPU, rule)[0], test)
        model, _ = trained.load(path, CPU, "standing")
        for seed in (1, 2):
            trained.take_standing_statistics(model, seed)
            yield "latents", measured(model, test)
        model, _ = trained.load(path, CPU, "running")
        if has(model, "infer") and (layers := batch_norm.layers(model.encoder)):
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None
                layer.train()
            evaluation.encode(model, train[: trained.BATCHES * evaluation.BATCH])
            model.eval()
            yield "encoder anew", measured(model, test)


def weights(spec: experiment.TrainSpec, train: np.ndarray) -> dict[str, torch.Tensor]:
    """The weights that a run of the spec ends with."""
    torch.manual_seed(spec.seed)
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams).to(memory_format=torch.channels_last).train()
    batches = Batches(train, spec.batch_size, spec.seed, CPU, model.span)
    average, step = EMA(model), Stepper(model, batches, spec.seed, spec.precision)
    for t in range(spec.steps):
        step(t)
        average.update(model, t)
    return average.snapshot(model)


def measured(model: Model, test: np.ndarray) -> tuple:
    """(spread, std, frechet, rmse) of a model; `test` is uint8 [N, C, H, W]."""
    rmse = ""
    if has(model, "infer"):
        rebuilt = evaluation.decode(model, evaluation.encode(model, test))
        rmse = float(np.sqrt(np.mean(((test.astype(np.float32) - rebuilt) / 127.5) ** 2)))
    return *shown(evaluation.sample(model, N, seed=9), test), rmse


def shown(drawn: np.ndarray, test: np.ndarray) -> tuple[float, float, float]:
    x, y = (images.to_float(torch.from_numpy(one)).flatten(1).double() for one in (drawn, test))
    spread, std = x.var(0).mean().sqrt().item(), x.std().item()
    return spread, std, distance(Gaussian.of(x), Gaussian.of(y))


if __name__ == "__main__":
    sys.exit(run(main))
