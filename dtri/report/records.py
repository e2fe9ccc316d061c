"""Measurement records: one JSON file per measurement, written once; and products read so that damage shows.

A record never travels without its n, its protocol and the identity of what made it. Its seal is the sha256 of the
rest.
"""

import os
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtri.files import AGAIN, read_sealed, reason, write_sealed

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Record:
    """One measured number and where it comes from.

    `value` is None when the training diverged (`status` "diverged") or, with the reason in extra["diverged"], what was
    to be measured is not finite. `protocol` says in words and numbers how it was measured. `extractor` names the
    feature network and the first 12 digits of its sha256, "" where none is used.
    `spec`, `train_code`, `code` and `data` are hashes: of the training spec, of the code that trained, of the code that
    measured, and per dataset of its content. `device` and `seconds`, from the start of the job, are the measurement's;
    `train_device`, `train_seconds` and, on a GPU, `gpu_hours` the training's, all attempts together. `extra` holds
    secondary numbers of the same measurement.
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
        """ValueError naming the file when it is not a record, or was changed after it was written."""
        values = read_sealed(path, "a measurement record")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"expected a measurement record in {path}, found: {error}; {AGAIN}") from error


def read_arrays(path: Path, mapped: bool = False) -> "np.ndarray | np.lib.npyio.NpzFile":
    """A .npy array, memory-mapped on request, or a checked .npz file; ValueError naming the file when it is damaged."""
    import numpy as np

    try:
        found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            _check_members(Path(path), found.zip)
    except Exception as error:  # of any type: a header is parsed as Python is
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"expected complete arrays in {path}, found: {reason(error)}; {AGAIN}") from error
    return found


def _check_members(path: Path, file: zipfile.ZipFile) -> None:
    """BadZipFile where a member is damaged or, since a damaged list may end early, fewer are listed than were written.

    The last 22 bytes of a zip file hold their number, at byte 10; `np.savez` puts no comment behind them.
    """
    if damaged := file.testzip():
        raise zipfile.BadZipFile(f"{damaged} is damaged")
    with path.open("rb") as end:
        end.seek(-12, os.SEEK_END)
        n_written, n_listed = int.from_bytes(end.read(2), "little"), len(file.infolist())
    if n_listed != n_written:
        raise zipfile.BadZipFile(f"{n_listed} of {n_written} members")
