"""Saving: the resumable state of a run, and the self-describing weights it ends with. Nothing here loads pickles."""

import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dtri.experiment import TrainSpec, build
from dtri.model import Model


def replace_file(path: Path, write) -> None:
    """Call write(temporary path) and move the synced result over `path`; a killed process leaves the old file.

    For files with one writer at a time (a run holds a lock).
    """
    temporary = path.with_name(f".{path.name}.partial")  # one name, so that a kill leaves at most one behind
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Tensors and plain values only."""
    replace_file(path, lambda temporary: torch.save(state, temporary))


def load_state(path: Path, run_id: str) -> tuple[dict[str, Any] | None, str]:
    """The state in `path` if it belongs to `run_id`, else None; and why, in words."""
    if not path.exists():
        return None, "no saved state"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["run_id"]
    except Exception as error:  # torch.load raises many types on a damaged file
        return None, f"{path} is unreadable ({type(error).__name__}), starting over"
    if found != run_id:
        return None, f"{path} belongs to another specification, code or data, starting over"
    return state, f"continuing {path} at iteration {state['t']}"


def save_weights(path: Path, weights: dict[str, Tensor], spec: TrainSpec) -> None:
    """safetensors file that carries its training spec. One header key: several would be written in random order."""
    path.parent.mkdir(exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    replace_file(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, {"spec": spec.text}))


def late_path(run: Path, t: int) -> Path:
    """Where the weights of iteration t before the end lie, in the folder of a run."""
    return run / "late" / f"{t}.safetensors"


def load_model(path: Path, device: torch.device | str = "cpu") -> tuple[Model, TrainSpec]:
    """The trained model in evaluation mode, frozen, and its spec; ValueError naming the file when it does not fit."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except OSError as error:
        found = "no such file" if not path.exists() else "a folder" if path.is_dir() else f"this: {error}"
        raise FileNotFoundError(f"expected trained weights in {path}, found {found}") from None
    except safetensors.SafetensorError as error:
        raise ValueError(f"expected a safetensors file in {path}, found something else ({error})") from error
    if "spec" not in metadata:
        raise ValueError(f"expected a training spec in the header of {path}, found keys {json.dumps(sorted(metadata))}")
    spec = TrainSpec.parse(metadata["spec"])
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
    model.to(device).eval().requires_grad_(False)
    return model, spec
