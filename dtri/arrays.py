"""Arrays on disk, written and read so that damage and a full disk are noticed."""

import os
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dtri.messages import AGAIN, reason


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write the bytes of `np.save`, which does not notice when the disk is full at the last few kilobytes."""
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(memoryview(array.reshape(-1).view(np.uint8)))


def read_arrays(path: Path, mapped: bool = False) -> np.ndarray | np.lib.npyio.NpzFile:
    """A .npy array, memory-mapped if `mapped`, or a checked .npz file. ValueError names a damaged file."""
    try:
        found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            _check_members(Path(path), found.zip)
    except Exception as error:  # of any type: numpy parses a header as Python source
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"expected complete arrays in {path}, found: {reason(error)}; {AGAIN}") from error
    return found


def _check_members(path: Path, file: zipfile.ZipFile) -> None:
    """BadZipFile where a member is damaged, or fewer members are listed than were written (a list may end early).

    The last 22 bytes of a zip file hold the number of members, at byte 10. `np.savez` writes no comment behind them.
    """
    if damaged := file.testzip():
        raise zipfile.BadZipFile(f"{damaged} is damaged")
    with path.open("rb") as end:
        end.seek(-12, os.SEEK_END)
        n_written, n_listed = int.from_bytes(end.read(2), "little"), len(file.infolist())
    if n_listed != n_written:
        raise zipfile.BadZipFile(f"{n_listed} of {n_written} members")
