"""Show images of a dataset beside their reconstructions by trained weights.

    dtri reconstruct --model results/demo/digits/vae/seed0/model.safetensors --data results/data/digits --out pairs.png

A .png shows each image above its reconstruction, a .npy has both as uint8 [2, n, C, H, W]. Nothing is measured.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from torch import from_numpy

from dtri import evaluation, trained
from dtri.arrays import write_array
from dtri.data import store
from dtri.files import write_atomic
from dtri.numerics import hold_device
from workflow.commands.cli import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="weights, model.safetensors of a run")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset")
    parser.add_argument("--split", default="test", help="of the dataset")
    parser.add_argument("--n", type=int, default=64, help="number of images, from the front")
    parser.add_argument("--out", required=True, type=Path, help="images and reconstructions: .png or .npy")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    if arguments.n < 1:
        raise ValueError(f"expected a positive number of images for --n, found {arguments.n}")
    if arguments.out.suffix not in (".png", ".npy"):
        raise ValueError(f"expected a .png or .npy file for --out, found {arguments.out}")

    dataset = store.load(arguments.data)
    images = np.ascontiguousarray(dataset.images(arguments.split)[: arguments.n])
    with hold_device(arguments.device, arguments.threads) as device:
        model, spec = trained.load(arguments.model, device, "running")
        if dataset.image_shape != spec.image_shape:
            raise ValueError(f"expected images {spec.image_shape}, found {dataset.image_shape} in {arguments.data}")
        for map_name in ("infer", "generate"):
            evaluation.require(model, map_name)
        pairs = np.stack([images, evaluation.decode(model, evaluation.encode(model, images))])
    if arguments.out.suffix == ".npy":
        write_atomic(arguments.out, lambda file: write_array(file, pairs))
    else:
        _save_png(pairs, arguments.out)
        print(arguments.out)
    return 0


def _save_png(pairs: np.ndarray, path: Path) -> None:
    """Rows of images, each above the row of their reconstructions."""
    from torchvision.utils import save_image  # slow to import, and only pictures need it

    columns = math.ceil(math.sqrt(pairs.shape[1]))
    blank = np.full((columns, *pairs.shape[2:]), 255, np.uint8)
    rows = [part for k in range(0, pairs.shape[1], columns) for part in pairs[:, k : k + columns]]
    sheet = np.concatenate([np.concatenate([row, blank[len(row) :]]) for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(from_numpy(sheet).float() / 255, path, nrow=columns, padding=2)


if __name__ == "__main__":
    sys.exit(run(main))
