"""Write the losses, samples and reconstructions of runs as event files of TensorBoard.

    dtri tensorboard demo --out board
    dtri tensorboard results/demo/digits/vae/seed0 --out board
    tensorboard --logdir board

Given again, it replaces the event files that it wrote. Needs the optional package tensorboard.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dtri.arrays import read_arrays
from dtri.report import grids
from workflow import configuration
from workflow.commands.cli import run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SUFFIX = ".dtri"  # of the names of our event files
SAMPLES, PAIRS = 64, 8  # images shown


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", metavar="PRESET|RUN", help="a preset, or the folder of a run or of several")
    parser.add_argument("--out", required=True, type=Path, help="folder")
    arguments = parser.parse_args(argv)

    is_preset = arguments.target in configuration.presets()
    top = Path("results", arguments.target) if is_preset else Path(arguments.target)
    curves = sorted(top.rglob("train.csv"))
    if not curves:
        raise FileNotFoundError(f"expected a preset, or a folder with train.csv in it, found none at {top}")
    writer_type = library()
    for curve in curves:
        folder = arguments.out / curve.parent.relative_to(top)
        for written in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
            written.unlink()
        with writer_type(folder, filename_suffix=SUFFIX) as writer:
            write(curve.parent, writer)
    print(f"{len(curves)} runs in {arguments.out}")
    return 0


def library() -> "type[SummaryWriter]":
    """The writer of event files; ValueError saying how to install it, where the optional package is not here."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("expected the package tensorboard, found none; pip install 'tensorboard>=2.18,<3'") from None
    return SummaryWriter


def write(folder: Path, writer: "SummaryWriter") -> None:
    """Every loss of train.csv by iteration; at the last, samples and test images above their reconstructions."""
    t = 0
    with (folder / "train.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            t = int(row.pop("step"))
            for term, value in row.items():
                writer.add_scalar(f"loss/{term}", float(value), t)
    samples, pairs = (folder / name for name in ("grid.npy", "reconstructions.npy"))
    if samples.exists() and len(images := grids.load(samples, SAMPLES)):
        writer.add_image("samples", grids.tile(images, 8), t, dataformats="HWC")
    if pairs.exists() and (both := read_arrays(pairs, mapped=True)[:, :PAIRS]).shape[1]:
        writer.add_image("reconstructions", grids.tile(np.concatenate(both), both.shape[1]), t, dataformats="HWC")


if __name__ == "__main__":
    sys.exit(run(main))
