"""Saving: the resumable state of a run, and the self-describing weights it ends with. Nothing here loads pickles."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dtri import files
from dtri.experiment import TrainSpec, build, canonical
from dtri.model import Model


def replace_file(path: Path, write: Callable[[Path], Any], keep: Path | None = None) -> None:
    """files.replace for torch and safetensors, whose own errors of a full disk are no OSError.

    For files with one writer at a time (a run holds a lock): what a killed one left is removed.
    """

    def written(temporary: Path) -> None:
        try:
            write(temporary)
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error
        except RuntimeError as error:
            if "inline_container" not in str(error):  # torch's word for a short write
                raise
            raise OSError("not all of it could be written") from error

    files.remove_partial(path)
    files.replace(path, written, keep)


def previous_path(path: Path) -> Path:
    """Where the state before the one in `path` lies."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Tensors and plain values only. The state that was there becomes the previous one."""
    replace_file(path, lambda temporary: torch.save(state, temporary), keep=previous_path(path))


def load_state(path: Path, run_id: str) -> tuple[dict[str, Any] | None, str]:
    """The newest readable state of `run_id`, in `path` or the one before it, else None; and why, in words.

    A damaged file is renamed, so that the next save does not keep it in place of a good one.
    """
    found = []
    for candidate in (path, previous_path(path)):
        if not candidate.exists():
            continue
        try:
            state = _read_state(candidate)
        except OSError:
            raise
        except Exception as error:  # torch.load raises many types on a damaged file
            found.append(f"{candidate} is unreadable ({type(error).__name__})")
            os.replace(candidate, candidate.with_suffix(".damaged"))
            continue
        if state["run_id"] == run_id:
            return state, "; ".join([*found, f"continuing {candidate} at iteration {state['t']}"])
        found.append(f"{candidate} belongs to another specification, code or data")
    return None, f"{'; '.join(found)}, starting over" if found else "no saved state"


def _read_state(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:  # torch.load itself compares no checksums
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(damaged)
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {"run_id": state["run_id"], "t": state["t"], **state}


def save_weights(path: Path, weights: dict[str, Tensor], spec: TrainSpec) -> None:
    """safetensors file that carries its training spec and a hash of its tensors.

    One header key: several would be written in random order.
    """
    path.parent.mkdir(exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    header = {"run": canonical({"spec": asdict(spec), "sha256": tensors_hash(tensors)})}
    replace_file(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, header))


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values; tensors on the CPU."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def late_path(run: Path, t: int) -> Path:
    """Where the weights of iteration t before the end lie, in the folder of a run."""
    return run / "late" / f"{t}.safetensors"


def load_weights(path: Path) -> tuple[dict[str, Tensor], TrainSpec]:
    """Tensors by name and the spec they were trained by; ValueError naming the file when it is damaged."""
    again = "; delete it and give the command that made it again"
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except OSError as error:
        found = "no such file" if not path.exists() else "a folder" if path.is_dir() else f"this: {error}"
        raise FileNotFoundError(f"expected trained weights in {path}, found {found}") from None
    except safetensors.SafetensorError as error:
        raise ValueError(f"expected a safetensors file in {path}, found something else ({error}){again}") from error
    try:
        header = json.loads(metadata["run"])
        expected, spec = header["sha256"], canonical(header["spec"])
    except (KeyError, TypeError, json.JSONDecodeError):
        found = json.dumps(sorted(metadata))
        raise ValueError(f"expected a training spec in the header of {path}, found keys {found}{again}") from None
    if (found := tensors_hash(weights)) != expected:
        raise ValueError(f"expected weights with sha256 {expected[:12]} in {path}, found {found[:12]}{again}")
    return weights, TrainSpec.parse(spec)


def load_model(path: Path, device: torch.device | str = "cpu") -> tuple[Model, TrainSpec]:
    """The trained model in evaluation mode, frozen, and its spec; ValueError naming the file when it does not fit."""
    weights, spec = load_weights(path)
    model = build(spec.entry, spec.image_shape, spec.hparams)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != found:
        name = next(n for n in sorted(wanted | found) if wanted.get(n) != found.get(n))
        raise ValueError(
            f"{path} does not fit {spec.entry}: expected {name} of shape {wanted.get(name, 'absent')}, "
            f"found {found.get(name, 'absent')}"
        )
    model.load_state_dict(weights)
    model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return model, spec
