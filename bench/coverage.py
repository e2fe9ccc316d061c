"""Do samples of the prior reach the images that reconstructions reach, while a growing triangle is small?

    python -m bench.coverage --data results/data/celeba10k '{}' '{"z_dim": 20, "rec_weight": 0.1}'

Trains the first two levels, 4x4 and 8x8 pixels, once for each set of hyperparameters. In between it prints two squared
Frechet distances in pixels to training images: of samples of the prior, and of samples through the posterior. It also
prints the RMSE of the latter, and variances of all posteriors together: smallest, median and largest over directions,
where the prior has 1. This is an exploration on training images; settings in docs/deviations.md come from it. It runs
on the CPU with one thread.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dtri import evaluation, experiment, images
from dtri.batches import Batches
from dtri.data import store
from dtri.ema import EMA
from dtri.metrics.frechet import Gaussian, distance
from dtri.models.divergence_triangle_progressive import ProgressiveTriangle
from dtri.networks.progressive import down
from dtri.numerics import set_numerics
from dtri.stepper import Stepper
from workflow.commands.cli import run

ENTRY = "dtri.models.divergence_triangle_progressive:ProgressiveTriangle"
SIDE, BATCH, COMPARED = 8, 50, 4000
BASE = {
    "width": 0.25,
    "channel_base": 1024,
    "z_dim": 100,
    "mirror": False,
    "batch_sizes": [BATCH] * 9,
    "fade_kimg": 2.0,
    "stable_kimg": 20.0,
    "lr_energy": 1e-3,
    "lr_generator": 3e-3,
    "lr_encoder": 3e-3,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hparams", nargs="+", help="JSON, beside those at the head of the file")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset of 64x64 images")
    parser.add_argument("--at", nargs="+", type=int, default=[120, 400, 900], help="iterations; the last one ends")
    arguments = parser.parse_args(argv)

    set_numerics(1, "fp32")
    full = images.to_float(torch.from_numpy(np.array(store.load(arguments.data).images("train"))))
    if full.shape[2] % SIDE:
        raise ValueError(f"expected images of a side that {SIDE} divides, found {list(full.shape)} in {arguments.data}")
    small = down(full, full.shape[2] // SIDE)
    for text in arguments.hparams:
        overrides = json.loads(text)
        hparams = {**BASE, **overrides}
        torch.manual_seed(0)
        model = build(hparams, small).train()
        batches = Batches(evaluation.to_uint8(small).numpy(), BATCH, 0, torch.device("cpu"), model.span)
        average, step = EMA(model), Stepper(model, batches, 0, "fp32")
        print(json.dumps(overrides))
        for t in range(arguments.at[-1]):
            step(t)
            average.update(model, t)
            if t + 1 in arguments.at:
                evaluated = build(hparams, small).eval()
                evaluated.load_state_dict(average.snapshot(model))
                print(f"  iteration {t + 1}: {coverage(evaluated, small)}", flush=True)
    return 0


def build(hparams: dict, x: Tensor) -> ProgressiveTriangle:
    model = experiment.build(ENTRY, tuple(x.shape[1:]), hparams)
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def coverage(model: ProgressiveTriangle, x: Tensor) -> str:
    """The printed numbers, as text; x: [N, C, 8, 8], training images."""
    level = model.now.level
    x = down(x, SIDE // model.sides[level])
    torch.manual_seed(1)
    sampled = model.draw(torch.randn(COMPARED, model.z_dim))
    mu, logvar = model.encoder(x[:COMPARED], level)
    z = mu + (logvar / 2).exp() * torch.randn_like(mu)
    rebuilt = model.draw(z)
    reference = Gaussian.of(x.flatten(1))
    prior, posterior = (distance(Gaussian.of(made.flatten(1)), reference) for made in (sampled, rebuilt))
    rmse = (rebuilt - x[:COMPARED]).square().mean().sqrt()
    variances = torch.linalg.eigvalsh(Gaussian.of(z).covariance)
    return (
        f"side {model.sides[level]}, Frechet prior {prior:.2f}, posterior {posterior:.2f}, RMSE {rmse:.3f}, "
        f"variances {variances[0]:.2f}, {variances.median():.2f}, {variances[-1]:.1f}"
    )


if __name__ == "__main__":
    sys.exit(run(main))
