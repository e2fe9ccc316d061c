"""Prepared datasets, written to disk and verified. The same inputs give the same bytes. Nothing here needs torch."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dtri.arrays import write_array
from dtri.data.store import SPLITS, Dataset, content_hash, load
from dtri.files import digest, remove_partial, write_atomic
from dtri.sealed import write_sealed


class Streamed(Protocol):
    """uint8 [N, C, H, W] too large for memory: dtri.data.stream.Stream, which code that only reads need not import."""

    dtype: np.dtype
    ndim: int

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def write(self, path: Path) -> Path:
        """Write all images to a hidden .npy file beside `path`, and return it, complete, for the caller to rename."""


@dataclass(frozen=True)
class Arrays:
    """The result of a dataset module's `prepare`, which `save` writes.

    By split: `splits` uint8 [N, C, H, W]; `indices` int64 [N], positions in the source order; `labels` int64 [N], where
    the split has any. `source` says where the images come from and how they were processed (JSON values, no paths).
    """

    splits: dict[str, np.ndarray | Streamed]
    indices: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    n_classes: int | None
    description: str
    source: dict[str, Any] = field(default_factory=dict)
    names: Sequence[str] = ()  # names of the images in the source order, for messages; empty where they have none


def save(
    arrays: Arrays,
    folder: Path,
    name: str,
    examine: Callable[[dict[str, np.ndarray]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write `arrays` into `folder` and return the dataset's meta data.

    Args:
        arrays:  what a dataset module prepared.
        folder:  the dataset's folder.
        name:    name of the dataset.
        examine: {split: images} -> further meta data; it gets streamed images memory-mapped.

    Raises:
        ValueError: `arrays` do not describe a dataset.
    """
    _check(arrays, name)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*(f"{split}.npy" for split in SPLITS), "index.npz", "meta.json"):
        remove_partial(folder / file)
    held = {split: images for split, images in arrays.splits.items() if isinstance(images, np.ndarray)}
    check_space(folder, sum(images.nbytes for images in held.values()), f"the images of {name}")
    # Streams take hours: they are hashed and examined before the folder changes, so that a kill costs next to nothing.
    streamed = {split: images for split, images in arrays.splits.items() if split not in held}
    written = {split: images.write(folder / f"{split}.npy") for split, images in streamed.items()}
    hashes = {f"{split}.npy": digest(path, "sha256") for split, path in written.items()}
    mapped = {split: np.load(path, mmap_mode="r", allow_pickle=False) for split, path in written.items()}
    examined = examine(held | mapped) if examine else {}
    # An old meta.json must not vouch for arrays that are being replaced.
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
        "content": content_hash(hashes),
        "n_classes": arrays.n_classes,
        "source": arrays.source,
        "description": arrays.description,
        **examined,
    }
    write_sealed(folder / "meta.json", meta)
    return meta


def verify(folder: Path) -> Dataset:
    """Hash every file again; ValueError names the first file that differs from meta.json."""
    dataset = load(folder)
    for file, expected in dataset.meta["sha256"].items():
        path = dataset.folder / file
        if not path.is_file():
            raise ValueError(f"expected {path} with sha256 {expected}, found no such file; prepare the dataset again")
        found = digest(path, "sha256")
        if found != expected:
            raise ValueError(f"expected sha256 {expected}, found {found} ({path}); prepare the dataset again")
    return dataset


def check_space(folder: Path, n_bytes: int, what: str) -> None:
    """OSError when the disk of an existing folder has less than `n_bytes` free for `what`."""
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise OSError(f"expected {n_bytes:,} bytes of free disk space for {what}, found {free:,} ({folder})")


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
