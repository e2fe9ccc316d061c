"""Measurement records: one JSON file per measurement, written once.

A record never travels without its n, its protocol and the identity of what made it.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dtri.messages import AGAIN
from dtri.sealed import read_sealed, write_sealed


@dataclass(frozen=True)
class Record:
    """One measured number and where it comes from.

    `value` is None, and `status` "diverged", where the training diverged or what was to be measured is not finite. In
    the second case extra["diverged"] says what. `protocol` says in words and numbers how it was measured. `extractor`
    names the feature network and the first 12 digits of its sha256, "" where none is used.

    `spec`, `train_code`, `code` and `data` are hashes: of the training spec, of the code that trained, of the code that
    measured, and per dataset of its content. `device` is the measurement's, and `seconds` counts from the start of its
    job. `train_device`, `train_seconds` and, on a GPU, `gpu_hours` are the training's, all attempts together. `extra`
    holds secondary numbers of the same measurement.
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
    train_seconds: float | None = None
    train_device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        write_sealed(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Record":
        """The record in `path`; ValueError, naming the file, where it is no record or was changed later."""
        values = read_sealed(path, "a measurement record")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"expected a measurement record in {path}, found: {error}; {AGAIN}") from error
