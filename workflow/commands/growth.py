"""Samples of a system that grows, at the end of every level: .npz.

images  uint8 [levels, 2, n, C, H, W]: test images as the level shows them, and samples sides   int64 [levels], pixels
seen    int64 [levels], real images seen in training by then

All levels sample from the same latents. All weights are the evaluated ones at a level's end (averaged where the system
averages). A level whose samples are not finite is left out, with all later levels.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from dtri import evaluation, images, trained
from dtri.data import store
from dtri.files import write_atomic
from dtri.finite import NonFinite
from dtri.numerics import hold_device
from dtri.seeding import derive
from dtri.weights import snapshot_path
from workflow.commands.cli import run

SHOWN = 6


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="weights, model.safetensors of a run")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args(argv)

    stored = store.load(arguments.data).images("test")[:SHOWN]
    rows, sides, seen = [], [], []
    with hold_device(arguments.device, arguments.threads) as device:
        last, spec = trained.load(arguments.model, device, "standing")
        if not hasattr(last, "at_level"):
            raise ValueError(f"expected a system that grows, found {spec.entry} in {arguments.model}")
        ends = last.milestones(last.now.start + 1)
        seed = derive("sample", spec.dataset, spec.model, spec.seed)
        z = evaluation.latents(len(stored), last.z_dim, seed)
        x = images.to_float(torch.from_numpy(stored.copy()).to(device))
        paths = [*(snapshot_path(arguments.model.parent, t) for t in ends), arguments.model]
        for path, t in zip(paths, [*ends, spec.steps], strict=True):
            model, _ = trained.load(path, device, "standing")
            shown = interpolate(model.at_level(x), size=spec.image_shape[1:], mode="nearest")
            try:
                rows.append([evaluation.to_uint8(shown).cpu().numpy(), evaluation.decode(model, z)])
            except NonFinite as error:
                print(f"{arguments.out}: diverged at {model.sides[model.now.level]} pixels: {error}")
                break
            sides.append(model.sides[model.now.level])
            seen.append(model.span(t, spec.batch_size)[0])
    made = {"images": np.array(rows), "sides": np.array(sides), "seen": np.array(seen)}
    write_atomic(arguments.out, lambda file: np.savez(file, **made))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
