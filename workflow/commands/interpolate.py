"""Images along straight lines in the latent space of a trained model: .npy, uint8 [rows, columns, C, H, W].

Lines of --out run between posterior means of test images, which stand at both ends of a row. It has fewer rows where
there are few test images. Lines of --prior run between samples of the prior. A system that cannot infer has such lines
in both files. An array has no rows where an image is not finite.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from dtri import evaluation, trained
from dtri.arrays import write_array
from dtri.data import store
from dtri.files import write_atomic
from dtri.finite import NonFinite
from dtri.model import has
from dtri.numerics import hold_device
from dtri.seeding import derive
from workflow.commands.cli import run

ROWS, COLUMNS = 8, 10


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="weights, model.safetensors of a run")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset, for the ends of the lines")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path, help="between inferred latents")
    parser.add_argument("--prior", required=True, type=Path, help="between samples of the prior")
    arguments = parser.parse_args(argv)

    test = store.load(arguments.data).images("test")
    if len(test) < 2:
        raise ValueError(f"expected two test images or more for a line, found {len(test)} ({arguments.data})")
    rows = min(ROWS, len(test) // 2)
    with hold_device(arguments.device, arguments.threads) as device:
        for path, between in ((arguments.out, test[: 2 * rows]), (arguments.prior, None)):
            model, spec = trained.load(arguments.model, device, "standing")
            if between is not None and has(model, "infer"):
                model, spec = trained.load(arguments.model, device, "running")
            seed = derive("sample", spec.dataset, spec.model, spec.seed)
            try:
                frames = evaluation.interpolate(model, between, seed, ROWS if between is None else rows, COLUMNS)
            except NonFinite as error:
                print(f"{path}: diverged: {error}")
                frames = np.empty((0, COLUMNS, *model.image_shape), np.uint8)
            write_atomic(path, partial(write_array, array=frames))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
