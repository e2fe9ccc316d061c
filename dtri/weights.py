"""Writes weights: safetensors files that carry their training spec. dtri/trained.py reads them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dtri import files
from dtri.experiment import TrainSpec, canonical_json


def replace_file(path: Path, write: Callable[[Path], Any], keep: Path | None = None) -> None:
    """Like files.replace, for torch and safetensors, whose errors on a full disk are no OSError.

    Only for files with one writer at a time (a run holds a lock): temporary files of killed writers are removed.
    """

    def written(temporary: Path) -> None:
        try:
            write(temporary)
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error
        except RuntimeError as error:
            if "inline_container" not in str(error):  # torch's message for a short write
                raise
            raise OSError("not all of it could be written") from error

    files.remove_partial(path)
    files.replace(path, written, keep)


def save_weights(path: Path, weights: dict[str, Tensor], spec: TrainSpec) -> None:
    """Write a safetensors file of `weights` with their training spec and a hash of the tensors.

    Both share one key of the header, because safetensors would write several keys in random order.
    """
    path.parent.mkdir(exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    header = {"run": canonical_json({"spec": asdict(spec), "sha256": tensors_hash(tensors)})}
    replace_file(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, header))


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over the names, types, shapes and values of tensors on the CPU."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def snapshot_path(run: Path, t: int) -> Path:
    """Path of the weights after iteration t, before the last one, of the run in the folder `run`."""
    return run / "snapshots" / f"{t}.safetensors"
