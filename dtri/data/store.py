"""Prepared datasets on disk: uint8 [N, C, H, W] arrays, their indices into the source, and hashes of all of it.

A folder holds `<split>.npy`, `index.npz` and `meta.json`. `meta.json` is written last, so a folder that has one is
complete. The same inputs give the same bytes. Describing and checking raw files is here too; nothing here needs torch.
"""

import gzip
import hashlib
import html
import json
import os
import re
import shutil
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from dtri.files import digest, remove_partial, write_atomic, write_json

SPLITS = ("train", "test", "test_leaky")  # test_leaky: the EGBAD composition of the anomaly detection sets
_PAGE = re.compile(rb"\s*(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|body|title|script|meta|\?xml)", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
PAGE_BYTES = 1 << 16  # how far into a file its web page's title is looked for
HASHED_BYTES = 4 << 30  # files up to this size are hashed whenever they are read, larger ones only by `verify`
_META_KEYS = ("name", "image_shape", "sizes", "sha256", "content", "n_classes", "source", "description")


@dataclass(frozen=True)
class RawFile:
    """One file of a drop folder as its publisher made it.

    With `of_content`, `md5` and `size` (bytes) are those of the decompressed content, because copies of the file differ
    in how they were compressed. `url_hint` says where a person gets it, `terms` under which conditions.
    """

    md5: str | None
    of_content: bool
    size: int | None
    url_hint: str
    terms: str

    def fits(self, size: int, md5: str) -> bool:
        """Whether a file of that size and md5 is this one; the size only counts where no md5 is known."""
        return md5 == self.md5 if self.md5 else self.size in (None, size)


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
        except (ValueError, EOFError) as error:
            raise ValueError(f"expected a complete array in {path}, found: {error}; {self._again}") from error
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
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"expected complete arrays in {path}, found: {error}; {self._again}") from error

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


def save(arrays: Arrays, folder: Path, name: str) -> dict[str, Any]:
    """Write `arrays` into `folder` and return its meta. ValueError when they do not describe a dataset."""
    _check(arrays, name)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*(f"{split}.npy" for split in SPLITS), "index.npz", "meta.json"):
        remove_partial(folder / file)
    held = {split: images for split, images in arrays.splits.items() if isinstance(images, np.ndarray)}
    check_space(folder, sum(images.nbytes for images in held.values()), f"the images of {name}")
    # Hours of work: hashed before anything of the folder changes, so that a kill costs next to nothing.
    streamed = {split: images for split, images in arrays.splits.items() if split not in held}
    written = {split: images.write(folder / f"{split}.npy") for split, images in streamed.items()}
    hashes = {f"{split}.npy": digest(path, "sha256") for split, path in written.items()}
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
    }
    write_json(folder / "meta.json", meta)
    return meta


def load(folder: Path) -> Dataset:
    """The dataset in `folder`; FileNotFoundError or ValueError when there is no complete one."""
    path = Path(folder) / "meta.json"
    if not path.is_file():
        raise FileNotFoundError(f"expected a prepared dataset in {folder}, found no meta.json there")
    try:
        meta = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected JSON in {path}, found: {error}; delete it and give the command again") from error
    missing = [key for key in _META_KEYS if not isinstance(meta, dict) or key not in meta]
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


def find_raw(folder: Path, name: str, file: RawFile) -> Path:
    """Path of a raw file; a `.gz` judged by its content may lie there decompressed. FileNotFoundError: what to do."""
    folder = Path(folder)
    candidates = [folder / name]
    if file.of_content and name.endswith(".gz"):
        candidates.append(folder / name.removesuffix(".gz"))
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"expected {identity(name, file)}, found no such file in {folder}; "
        f"get it from {file.url_hint} and put it at {folder / name}"
    )


def verify_raw(folder: Path, files: dict[str, RawFile]) -> dict[str, dict[str, Any]]:
    """{name: {"size", "md5"}} of the raw files, of their content where that is what counts.

    FileNotFoundError for a missing file; ValueError for one with another md5 (or, without a known md5, another size),
    and for a web page that was saved in its place.
    """
    found = {}
    for name, file in files.items():
        path = find_raw(folder, name, file)
        check_no_page(path, identity(name, file), file.url_hint)
        size, md5 = measure(path, file)
        if not file.fits(size, md5):
            raise ValueError(
                f"expected {identity(name, file)}, found {size} bytes with md5 {md5} ({path}); "
                f"get it again from {file.url_hint}"
            )
        found[name] = {"size": size, "md5": md5}
    return found


def measure(path: Path, file: RawFile) -> tuple[int, str]:
    """(size, md5) of a raw file, of its content where that is what counts; ValueError for a damaged gzip file."""
    size, md5 = 0, hashlib.md5(usedforsecurity=False)
    with open_content(path) if file.of_content else Path(path).open("rb") as stream:
        try:
            while chunk := stream.read(1 << 20):
                size += len(chunk)
                md5.update(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"expected a complete gzip file, found: {error} ({path})") from error
    return size, md5.hexdigest()


def identity(name: str, file: RawFile) -> str:
    """A raw file in words: name, size and md5."""
    size = f"{file.size} bytes" if file.size else "any size"
    return f"{name} ({size}, md5 {file.md5 or 'unknown'}{', both decompressed' if file.of_content else ''})"


def check_no_page(path: Path, expected: str, url_hint: str) -> None:
    """ValueError when the file is a web page: hosts send one, with a download's name, instead of an error."""
    with Path(path).open("rb") as file:
        page = web_page(file.read(PAGE_BYTES))
    if page:
        raise ValueError(
            f"expected {expected}, found {page} saved under that name ({path}): the host's quota was used up or it "
            f"wanted a login; delete it and get the file again from {url_hint}"
        )


def web_page(start: bytes) -> str | None:
    """What to call the web page that begins like this; None when it is none."""
    if not _PAGE.match(start):
        return None
    title = _TITLE.search(start)
    text = " ".join(html.unescape(title[1].decode("utf-8", "replace")).split()) if title else ""
    text = "".join(character for character in text if character.isprintable())[:80]
    return f"a web page titled {text!r}" if text else "a web page"


def open_content(path: Path) -> BinaryIO:
    """The decompressed content of a gzip file, or the file itself: told apart by its first bytes, not its name."""
    with Path(path).open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else Path(path).open("rb")


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
