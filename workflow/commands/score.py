"""Anomaly scores of splits of a dataset under a trained model, larger = stranger: .npz of float64 arrays.

With --snapshots the file also has scores by the run's final snapshots, under names such as "energy@24500". Without it
the split "test" also has "batch_statistics" where the energy passes batch norm: the energy by the statistics of each
batch of 100 images. Hold-outs do without, since normal and strange images would share a batch. Values that are not
finite are stored as they are; what ranks them records the run as diverged.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import torch

from dtri import anomaly, trained
from dtri.data import store
from dtri.experiment import TrainSpec
from dtri.files import write_bytes
from dtri.model import Model
from dtri.numerics import hold_device
from dtri.weights import snapshot_path
from workflow.commands.cli import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset to score")
    parser.add_argument("--split", required=True, nargs="+")
    parser.add_argument("--snapshots", action="store_true", help="score by the final snapshots as well")
    parser.add_argument("--limit", type=int, help="score the first images alone, this many")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path, nargs="+", help="one .npz per split")
    arguments = parser.parse_args(argv)

    dataset = store.load(arguments.data)
    with hold_device(arguments.device, arguments.threads) as device:
        model, spec = trained.load(arguments.model, device, "running")
        if dataset.image_shape != spec.image_shape:
            raise ValueError(f"expected images {spec.image_shape}, found {dataset.image_shape} in {arguments.data}")
        by_batch = None
        if trained.passed_layers(model, "energy") and not arguments.snapshots:
            by_batch, _ = trained.load(arguments.model, device, "batch")
        iterations = spec.final_snapshots if arguments.snapshots else []
        snapshots = [(t, _snapshot(arguments.model.parent, t, spec, device)) for t in iterations]
        for split, path in zip(arguments.split, arguments.out, strict=True):
            images = dataset.images(split)[: arguments.limit]
            scores = anomaly.scores(model, images)
            for t, snapshot in snapshots:
                scores |= {f"{name}@{t}": score for name, score in anomaly.scores(snapshot, images).items()}
            if by_batch is not None and split == "test":
                scores["batch_statistics"] = anomaly.scores(by_batch, images)["energy"]
            for name, values in scores.items():
                if bad := int((~np.isfinite(values)).sum()):
                    print(f"{path}: diverged in scoring: {bad} of {len(values)} values of {name} are not finite")
            content = io.BytesIO()
            np.savez(content, **scores)
            write_bytes(path, content.getvalue())
    return 0


def _snapshot(run: Path, t: int, spec: TrainSpec, device: torch.device) -> Model:
    """The model of iteration t.

    Raises:
        FileNotFoundError: its weights are gone.
        ValueError: the file belongs to another training than the final weights.
    """
    path = snapshot_path(run, t)
    if not path.exists():
        raise FileNotFoundError(
            f"expected trained weights in {path}, found no such file; delete {run / 'train.json'} and give the command "
            "again, which trains anew"
        )
    model, found = trained.load(path, device, "running")
    if found != spec:
        raise ValueError(
            f"expected weights of the same training as {run / 'model.safetensors'}, found others in {path}"
        )
    return model


if __name__ == "__main__":
    sys.exit(run(main))
