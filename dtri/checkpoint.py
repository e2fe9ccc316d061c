"""The resumable state of a run or of a landscape, and its previous state. Nothing here loads pickles."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from dtri.weights import replace_file


def previous_path(path: Path) -> Path:
    """Path of the previous state of `path`."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Save tensors and plain values. The state that was in `path` becomes the previous one."""
    replace_file(path, lambda temporary: torch.save(state, temporary), keep=previous_path(path))


def load_state(path: Path, run_id: str) -> tuple[dict[str, Any] | None, str]:
    """(state, message): the newest readable state of `run_id`, else None; the message says why.

    The state lies in `path` or is the previous one. A damaged file is renamed: the next save would otherwise put it in
    the place of the good previous state.
    """
    found = []
    for candidate in (path, previous_path(path)):
        if not candidate.exists():
            continue
        try:
            state = _read_state(candidate)
        except OSError:
            raise
        except Exception as error:  # torch.load raises errors of many types on a damaged file
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
