"""Prepared datasets on disk: uint8 [N, C, H, W] arrays, their indices into the source, and hashes of all of it.

A folder holds `<split>.npy`, `index.npz` and `meta.json`. `meta.json` is written last, so a folder that has one is
complete. The same inputs give the same bytes. Nothing here needs torch.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from dtri.files import digest, read_sealed, reason, remove_partial, write_atomic, write_sealed

SPLITS = ("train", "test", "test_leaky")  # test_leaky: the EGBAD composition of the anomaly detection sets
HASHED_BYTES = 4 << 30  # files up to this size are hashed whenever they are read, larger ones only by `verify`
_META_KEYS = ("name", "image_shape", "sizes", "sha256", "content", "n_classes", "source", "description")


class Streamed(Protocol):
    """uint8 [N, C, H, W] too large for memory: dtri.data.stream.Stream, which nothing that only reads should import."""

    dtype: np.dtype
    ndim: int

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def write(self, path: Path) -> Path:
        """All images as a hidden .npy file beside `path`, complete, for the caller to rename."""


@dataclass(frozen=True)
class Arrays:
    """What a dataset module hands to `save`.

    splits: uint8 [N, C, H, W]; indices: int64 [N], positions in the source order; labels: int64 [N], only for splits
    that have them. `source` says where the images come from and what was done to them (JSON values, no paths).
    """

    splits: dict[str, np.ndarray | Streamed]
    indices: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    n_classes: int | None
    description: str
    source: dict[str, Any] = field(default_factory=dict)
    names: Sequence[str] = ()  # of the images in the source order, for messages, where they have any


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
        """uint8 [N, C, H, W], memory-mapped and read-only; ValueError where the file is not the one prepared."""
        self._known(split)
        path = self.folder / f"{split}.npy"
        try:
            images = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as error:  # of any type: a header is parsed as Python is
            raise ValueError(f"expected a complete array in {path}, found: {reason(error)}; {self._again}") from error
        expected = (self.meta["sizes"][split], *self.image_shape)
        if images.dtype != np.uint8 or images.shape != expected:
            found = f"{images.dtype} {images.shape}"
            raise ValueError(f"expected uint8 {expected} in {path}, found {found}; {self._again}")
        self._unchanged(path)
        return images

    def index(self, split: str) -> np.ndarray:
        """int64 [N]: the position of every image in the source order."""
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
        """The way out of a damaged file."""
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
    """sha256 of a file, computed once per process while size and time stay."""
    return digest(path, "sha256")


def save(
    arrays: Arrays,
    folder: Path,
    name: str,
    examine: Callable[[dict[str, np.ndarray]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write `arrays` into `folder` and return its meta. ValueError when they do not describe a dataset.

    `examine` gets the images by split, those of streams memory-mapped, and returns what else the meta says of them.
    """
    _check(arrays, name)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*(f"{split}.npy" for split in SPLITS), "index.npz", "meta.json"):
        remove_partial(folder / file)
    held = {split: images for split, images in arrays.splits.items() if isinstance(images, np.ndarray)}
    check_space(folder, sum(images.nbytes for images in held.values()), f"the images of {name}")
    # Hours of work: hashed and examined before anything of the folder changes, so that a kill costs next to nothing.
    streamed = {split: images for split, images in arrays.splits.items() if split not in held}
    written = {split: images.write(folder / f"{split}.npy") for split, images in streamed.items()}
    hashes = {f"{split}.npy": digest(path, "sha256") for split, path in written.items()}
    mapped = {split: np.load(path, mmap_mode="r", allow_pickle=False) for split, path in written.items()}
    examined = examine(held | mapped) if examine else {}
    # An older meta.json must not vouch for arrays that are being replaced.
    (folder / "meta.json").unlink(missing_ok=True)
    for split in SPLITS:
        path = folder / f"{split}.npy"
        if split in written:
            os.replace(written[split], path)
        elif split in held:
            write_atomic(path, lambda file, images=held[split]: write_array(file, images))
        else:
            path.unlink(missing_ok=True)
    index = {split: arrays.indices[split] for split in SPLITS if split in arrays.splits}
    index |= {f"{split}_labels": arrays.labels[split] for split in SPLITS if split in arrays.labels}
    write_atomic(folder / "index.npz", lambda file: np.savez(file, **index))

    files = sorted(["index.npz", *(f"{split}.npy" for split in arrays.splits)])
    hashes |= {file: digest(folder / file, "sha256") for file in files if file not in hashes}
    splits = [split for split in SPLITS if split in arrays.splits]
    meta = {
        "name": name,
        "image_shape": list(arrays.splits[splits[0]].shape[1:]),
        "sizes": {split: len(arrays.splits[split]) for split in splits},
        "sha256": hashes,
        "content": _content(hashes),
        "n_classes": arrays.n_classes,
        "source": arrays.source,
        "description": arrays.description,
        **examined,
    }
    write_sealed(folder / "meta.json", meta)
    return meta


def load(folder: Path) -> Dataset:
    """The dataset in `folder`; FileNotFoundError or ValueError when there is no complete one."""
    path = Path(folder) / "meta.json"
    if not path.is_file():
        raise FileNotFoundError(f"expected a prepared dataset in {folder}, found no meta.json there")
    meta = read_sealed(path, "the description of a dataset")
    missing = [key for key in _META_KEYS if key not in meta]
    if missing:
        raise ValueError(f"expected the keys {', '.join(_META_KEYS)} in {path}, found none of {', '.join(missing)}")
    if (content := _content(meta["sha256"])) != meta["content"]:
        raise ValueError(
            f"expected content {content}, found {meta['content']} in {path}; delete it and give the command again"
        )
    return Dataset(Path(folder), meta)


def verify(folder: Path) -> Dataset:
    """Hash every file again; ValueError names the first that differs from meta.json."""
    dataset = load(folder)
    for file, expected in dataset.meta["sha256"].items():
        path = dataset.folder / file
        if not path.is_file():
            raise ValueError(f"expected {path} with sha256 {expected}, found no such file; prepare the dataset again")
        found = digest(path, "sha256")
        if found != expected:
            raise ValueError(f"expected sha256 {expected}, found {found} ({path}); prepare the dataset again")
    return dataset


def generator(seed: int) -> np.random.RandomState:
    """A stream that no NumPy release changes, from any non-negative seed."""
    return np.random.RandomState(np.random.MT19937(seed))


def check_shape(image_shape: tuple[int, int, int], channels: tuple[int, ...], where: str) -> tuple[int, int, int]:
    """(C, H, W) of positive integers with an allowed C; ValueError otherwise."""
    shape = tuple(image_shape)
    whole = len(shape) == 3 and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape)
    if not whole or shape[0] not in channels:
        allowed = " or ".join(map(str, channels))
        raise ValueError(f"expected image shape (C, H, W), positive, with C {allowed}, found {shape} ({where})")
    return shape


def check_options(options: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    """ValueError for an option that `where` does not know."""
    for key in options:
        if key not in known:
            raise ValueError(f"unknown option {key!r} for {where} (known: {', '.join(known) or 'none'})")


def check_count(value: Any, what: str, where: str) -> int:
    """A positive integer; ValueError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"expected {what} to be a positive whole number, found {value!r} ({where})")
    return value


def check_space(folder: Path, n_bytes: int, what: str) -> None:
    """OSError when the disk of an existing folder has less than `n_bytes` free."""
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise OSError(f"expected {n_bytes:,} bytes of free disk space for {what}, found {free:,} ({folder})")


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """The bytes of `np.save`, which itself does not notice when a disk is full at the last few kilobytes."""
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(memoryview(array.reshape(-1).view(np.uint8)))


def _check(arrays: Arrays, name: str) -> None:
    if not arrays.splits:
        raise ValueError(f"expected at least one split of {name}, found none")
    shapes = {}
    for split, images in arrays.splits.items():
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r} of {name} (known: {', '.join(SPLITS)})")
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"expected uint8 [N, C, H, W] for {name} {split!r}, found {images.dtype} {images.shape}")
        if 0 in images.shape:
            raise ValueError(f"expected images in split {split!r} of {name}, found an empty one {images.shape}")
        shapes[split] = images.shape[1:]
        for kind, values in (("indices", arrays.indices), ("labels", arrays.labels)):
            if kind == "labels" and split not in values:
                continue
            if split not in values or values[split].dtype != np.int64 or values[split].shape != (len(images),):
                found = f"{values[split].dtype} {values[split].shape}" if split in values else "none"
                raise ValueError(f"expected int64 ({len(images)},) {kind} for {name} {split!r}, found {found}")
    if len(set(shapes.values())) > 1:
        raise ValueError(f"expected one image shape in all splits of {name}, found {shapes}")
    orphans = (set(arrays.indices) | set(arrays.labels)) - set(arrays.splits)
    if orphans:
        raise ValueError(f"expected images for every index of {name}, found none for {', '.join(sorted(orphans))}")


def _content(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(hashes.items()), separators=(",", ":")).encode()).hexdigest()
