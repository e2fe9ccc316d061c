"""Splits too large for memory: written image by image, in bounded memory, continued after a kill.

The images go to a hidden partial .npy file beside the final one: first the header, then bytes that are only ever
appended. The file's name holds a hash of what determines the pixels, so that only a run with the same raw files and
options continues it. Its length says how far it came. The bytes equal those that `np.save` writes.
"""

import fcntl
import hashlib
import io
import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from io import FileIO
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dtri.data import saving

SYNC_BYTES = 64 * 2**20  # bytes between two syncs: a power cut may lose them, and every restart writes them again
LOG_S = 60  # seconds between two lines of progress where no terminal shows a bar


@dataclass(frozen=True)
class Stream:
    """`length` uint8 images [C, H, W], which `read(start)` yields in storage order from position `start` on.

    `identity` names everything that determines the pixels: hashes of raw files, options, split.
    """

    length: int
    image_shape: tuple[int, int, int]
    read: Callable[[int], Generator[np.ndarray, None, None]]
    identity: str

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.length, *self.image_shape)

    def __len__(self) -> int:
        return self.length

    def write(self, path: Path) -> Path:
        """Write all images to a hidden .npy file beside `path`, and return it, complete, for the caller to rename.

        OSError when the disk is full or another process writes the same images. The same command continues later.
        """
        key = hashlib.sha256(f"{self.shape} {self.identity}".encode()).hexdigest()[:16]
        complete = path.with_name(f".{path.name}.{key}")
        partial = complete.with_name(f"{complete.name}.part")
        for other in path.parent.glob(f".{path.name}.{'?' * len(key)}*"):
            if other not in (complete, partial):
                other.unlink()  # it belongs to other raw files or options
        if complete.is_file():
            return complete
        with FileIO(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(f"expected to write {path} alone, found another process at it") from None
            try:
                self._append(file, path)
            except OSError as error:
                if error.filename is not None:  # the error concerns a raw file, not the disk
                    raise
                raise OSError(f"expected to write {path}, found: {error}; what is written will be continued") from error
            os.replace(partial, complete)
        return complete

    def _append(self, file: FileIO, path: Path) -> None:
        header, size = _header(self.shape), prod(self.image_shape)
        every = max(1, SYNC_BYTES // size)
        written = (file.seek(0, os.SEEK_END) - len(header)) // size
        start = max(0, (written - 1) // every * every)  # the last point that is certainly synced
        file.truncate(len(header) + start * size if start else 0)
        saving.check_space(path.parent, len(header) + self.length * size - file.seek(0, os.SEEK_END), str(path))
        buffer = io.BytesIO()
        if not start:
            buffer.write(header)
        with closing(self.read(start)) as images, _Progress(path, self.length, start) as progress:
            done = start
            for done, image in enumerate(islice(images, self.length - start), start + 1):
                if image.dtype != np.uint8 or image.shape != self.image_shape:
                    found = f"{image.dtype} {image.shape}"
                    raise ValueError(f"expected uint8 {self.image_shape}, found {found} (image {done - 1} of {path})")
                buffer.write(image.tobytes())
                if done % every == 0 or done == self.length or buffer.tell() >= 2**20:
                    _write(file, buffer)
                if done % every == 0 or done == self.length:
                    os.fsync(file.fileno())
                progress.update(done)
        if done < self.length:
            raise ValueError(f"expected {self.length} images for {path}, found {done}")


class _Progress:
    """A bar with the time left on a terminal; elsewhere a line every LOG_S seconds."""

    def __init__(self, path: Path, length: int, start: int):
        self.label, self.start, self.length = f"{path.parent.name} {path.stem}", start, length
        self.bar = tqdm(
            total=length, initial=start, desc=self.label, unit="images", disable=None, dynamic_ncols=True, leave=False
        )
        self.began = self.logged = time.monotonic()

    def __enter__(self) -> "_Progress":
        if self.bar.disable and self.start:
            print(f"{self.label}: continuing at {self.start}/{self.length} images", flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, done: int) -> None:
        self.bar.update()
        now = time.monotonic()
        if self.bar.disable and (now - self.logged >= LOG_S or done == self.length):
            self.logged = now
            rate = (done - self.start) / max(now - self.began, 1e-9)
            left = (self.length - done) / rate
            print(f"{self.label}: {done}/{self.length} images, {rate:.0f} images/s, {left:.0f} s left", flush=True)


def _header(shape: tuple[int, ...]) -> bytes:
    """The header that `np.save` writes before uint8 values of this shape in C order."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _write(file: FileIO, buffer: io.BytesIO) -> None:
    """Empty the buffer into the file. A disk that fills up in the middle takes a part, then OSError is raised."""
    content = memoryview(buffer.getvalue())
    while content:
        content = content[file.write(content) :]
    buffer.seek(0)
    buffer.truncate()
