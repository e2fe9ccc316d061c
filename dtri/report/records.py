"""Measurement records: one JSON file per measurement, written once.

A record never travels without its n, its protocol and the identity of what made it.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """One measured number and where it comes from.

    `value` is None when the training diverged (`status` "diverged"). `protocol` says in words and numbers how it was
    measured. `extractor` names the feature network and the first 12 digits of its sha256, "" where none is used.
    `spec`, `train_code`, `code` and `data` are hashes: of the training spec, of the code that trained, of the code that
    measured, and per dataset of its content. `extra` holds secondary numbers of the same measurement.
    """

    preset: str
    dataset: str
    model: str
    seed: int
    metric: str
    value: float | None
    status: str
    n_samples: int
    n_reference: int
    protocol: str
    extractor: str
    spec: str
    train_code: str
    code: str
    data: dict[str, str]
    device: str
    seconds: float
    gpu_hours: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        write_text(Path(path), json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Record":
        """ValueError naming the file when it is not a record."""
        try:
            return cls(**json.loads(Path(path).read_text()))
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"expected a measurement record in {path}: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write atomically: a temporary file in the same folder, synced, then renamed over `path`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
