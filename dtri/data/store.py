"""Prepared datasets, read from disk: uint8 [N, C, H, W] arrays, their indices into the source, and all hashes.

A folder holds `<split>.npy`, `index.npz` and `meta.json`. `meta.json` is written last (dtri/data/saving.py), so its
presence says that the folder is complete. Nothing here needs torch.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dtri.files import digest
from dtri.messages import reason
from dtri.sealed import read_sealed

SPLITS = ("train", "test", "test_leaky")  # test_leaky: the test set composed as EGBAD does, for anomaly detection
HASHED_BYTES = 4 << 30  # files up to this size are hashed whenever they are read, larger ones only by `verify`
_META_KEYS = ("name", "image_shape", "sizes", "sha256", "content", "n_classes", "source", "description")


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset, read without loading its images."""

    folder: Path
    meta: dict[str, Any]

    @property
    def name(self) -> str:
        return self.meta["name"]

    @property
    def content(self) -> str:
        """The data hash: sha256 over the sorted (file, sha256) pairs."""
        return self.meta["content"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.meta["image_shape"])

    def images(self, split: str) -> np.ndarray:
        """uint8 [N, C, H, W], memory-mapped and read-only; ValueError where the file is not the prepared one."""
        self._known(split)
        path = self.folder / f"{split}.npy"
        try:
            images = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as error:  # of any type: numpy parses a header as Python source
            raise ValueError(f"expected a complete array in {path}, found: {reason(error)}; {self._again}") from error
        expected = (self.meta["sizes"][split], *self.image_shape)
        if images.dtype != np.uint8 or images.shape != expected:
            found = f"{images.dtype} {images.shape}"
            raise ValueError(f"expected uint8 {expected} in {path}, found {found}; {self._again}")
        self._unchanged(path)
        return images

    def index(self, split: str) -> np.ndarray:
        """int64 [N]: the position of each image in the source order."""
        self._known(split)
        return self._arrays()[split]

    def labels(self, split: str) -> np.ndarray:
        """int64 [N]; ValueError where the split has none."""
        self._known(split)
        arrays = self._arrays()
        if f"{split}_labels" not in arrays:
            found = ", ".join(name for name in SPLITS if f"{name}_labels" in arrays) or "no split"
            raise ValueError(
                f"expected labels of {self.meta['name']} {split!r}, found those of {found} ({self.folder})"
            )
        return arrays[f"{split}_labels"]

    def _known(self, split: str) -> None:
        if split not in self.meta["sizes"]:
            known = ", ".join(self.meta["sizes"])
            raise ValueError(f"unknown split {split!r} of {self.meta['name']} (known: {known}; {self.folder})")

    def _arrays(self) -> dict[str, np.ndarray]:
        path = self.folder / "index.npz"
        self._unchanged(path)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        except Exception as error:
            raise ValueError(f"expected complete arrays in {path}, found: {reason(error)}; {self._again}") from error

    @property
    def _again(self) -> str:
        """Advice for a damaged file."""
        return f"delete {self.folder / 'meta.json'} and give the command again, which prepares it anew"

    def _unchanged(self, path: Path) -> None:
        status, expected = path.stat(), self.meta["sha256"].get(path.name)
        if status.st_size > HASHED_BYTES:
            return
        found = _hash_of(path, status.st_size, status.st_mtime_ns)
        if found != expected:
            raise ValueError(f"expected sha256 {expected}, found {found} ({path}); {self._again}")


@cache
def _hash_of(path: Path, size: int, mtime_ns: int) -> str:
    """sha256 of a file, computed once per process while its size and time stay the same."""
    return digest(path, "sha256")


def load(folder: Path) -> Dataset:
    """The dataset in `folder`; FileNotFoundError or ValueError when there is no complete one."""
    path = Path(folder) / "meta.json"
    if not path.is_file():
        raise FileNotFoundError(f"expected a prepared dataset in {folder}, found no meta.json there")
    meta = read_sealed(path, "the description of a dataset")
    missing = [key for key in _META_KEYS if key not in meta]
    if missing:
        raise ValueError(f"expected the keys {', '.join(_META_KEYS)} in {path}, found none of {', '.join(missing)}")
    if (content := content_hash(meta["sha256"])) != meta["content"]:
        raise ValueError(
            f"expected content {content}, found {meta['content']} in {path}; delete it and give the command again"
        )
    return Dataset(Path(folder), meta)


def content_hash(hashes: dict[str, str]) -> str:
    """sha256 over the sorted (file, sha256) pairs."""
    return hashlib.sha256(json.dumps(sorted(hashes.items()), separators=(",", ":")).encode()).hexdigest()
