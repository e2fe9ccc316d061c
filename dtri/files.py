"""Files that are either complete or as they were before, and their hashes.

File modes follow the user's umask: a group can share results, and a private umask keeps them private.
"""

import contextlib
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def replace(path: Path, write: Callable[[Path], Any], keep: Path | None = None) -> None:
    """Call `write` with a temporary path, sync the file, and rename it over `path`. A failure leaves no file behind.

    Args:
        path:  the file to replace; the temporary path lies beside it.
        write: writes the new content to the path that it gets.
        keep:  path that the old file moves to; None to drop it.

    Raises:
        OSError: names `path` when the disk is full or denies writing.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        temporary.open("xb").close()
        mode = temporary.stat().st_mode
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if temporary.stat().st_mode != mode:  # safetensors creates its file anew, for this user alone
            temporary.chmod(mode)
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is not None:
            raise
        # The errors of a full disk, a quota or a limit name no file.
        free = shutil.disk_usage(path.parent).free
        raise OSError(f"expected to write {path}, found: {error} ({free:,} bytes free on that disk)") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(path: Path) -> None:
    """Remove temporary files of killed writers of `path`. Only for a process that is its single writer now."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 8}.partial"):
        left.unlink(missing_ok=True)


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Like `replace`, but `write` takes an open file, and a missing folder is made."""

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            write(file)

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace(path, fill)


def write_bytes(path: Path, content: bytes) -> None:
    write_atomic(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make the rename survive a power cut, where the file system can promise that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
