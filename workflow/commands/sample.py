"""Sample from a trained model.

    dtri sample --model results/demo/digits/vae/seed0/model.safetensors --n 64 --out grid.png

A .png gets a grid of the samples, a .npy the images as uint8 [n, C, H, W]. A sample that is not finite is no image. A
.npy then has only the finite samples, fewer than asked for (with --grid none); a .png is refused. Systems that sample
by Markov chains take their arguments from --sampler, '{"steps": 30}' say; other arguments are the model file's.

Samples have standing statistics of batch norm. --variants gets an array by each other rule of dtri/trained.py, from the
same latents; none where the generator has no batch norm.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import from_numpy

from dtri import evaluation, experiment, trained
from dtri.arrays import write_array
from dtri.files import write_atomic
from dtri.finite import NonFinite
from dtri.numerics import hold_device
from dtri.seeding import derive
from workflow.commands.cli import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="weights, model.safetensors of a run")
    parser.add_argument("--n", type=int, default=64, help="number of samples")
    parser.add_argument("--out", required=True, type=Path, help="samples: .png or .npy")
    parser.add_argument("--seed", type=int, help="seed of the latents; default: the run's")
    parser.add_argument("--variants", type=Path, help="as many by other statistics of batch norm, .npz")
    parser.add_argument("--grid", action="store_true", help="for a figure: no samples at all where some are not finite")
    parser.add_argument("--sampler", default="{}", help="arguments of Markov chains, JSON")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    if arguments.n < 1:
        raise ValueError(f"expected a positive number of samples for --n, found {arguments.n}")
    if arguments.out.suffix not in (".png", ".npy"):
        raise ValueError(f"expected a .png or .npy file for --out, found {arguments.out}")
    sampler = _mapping(arguments.sampler)

    with hold_device(arguments.device, arguments.threads) as device:
        model, spec = trained.load(arguments.model, device, "standing")
        experiment.set_sampler(model, spec.entry, sampler)
        seed = derive("sample", spec.dataset, spec.model, spec.seed if arguments.seed is None else arguments.seed)
        if arguments.out.suffix == ".png":
            _save_png(evaluation.sample(model, arguments.n, seed), arguments.out)
            print(arguments.out)
        else:
            samples = _finite(arguments.out, partial(evaluation.sample, model, arguments.n, seed))
            if arguments.grid and len(samples) < arguments.n:
                samples = samples[:0]
            write_atomic(arguments.out, lambda file: write_array(file, samples))
        if arguments.variants:
            variants = {}
            for rule, other in trained.by_other_rules(arguments.model, device, "standing"):
                experiment.set_sampler(other, spec.entry, sampler)
                variants[rule] = _finite(arguments.variants, partial(evaluation.sample, other, arguments.n, seed))
            write_atomic(arguments.variants, lambda file: np.savez(file, **variants))
    return 0


def _finite(path: Path, draw: Callable[[], np.ndarray]) -> np.ndarray:
    """The samples that are finite; prints that others are not."""
    try:
        return draw()
    except NonFinite as error:
        print(f"{path}: diverged in sampling: {error}")
        return error.rest


def _mapping(text: str) -> dict[str, Any]:
    """The value of --sampler."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON mapping for --sampler, found {text!r}")
    return value


def _save_png(samples: np.ndarray, path: Path) -> None:
    from torchvision.utils import save_image  # slow to import, and only pictures need it

    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(from_numpy(samples).float() / 255, path, nrow=math.ceil(math.sqrt(len(samples))), padding=2)


if __name__ == "__main__":
    sys.exit(run(main))
