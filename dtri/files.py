"""Files that are either whole or as they were before, their hashes, and what is said of one that cannot be read.

Modes are those that the user's umask asks for, so that a group can share results and a private umask keeps them.
"""

import contextlib
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

AGAIN = "delete it and give the command again, which makes it anew"


def replace(path: Path, write: Callable[[Path], Any], keep: Path | None = None) -> None:
    """Call write(temporary path beside `path`), sync the result, rename it over `path`; a failure leaves nothing.

    `keep` receives what `path` was before. OSError naming `path` when the disk is full or denies.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        temporary.open("xb").close()
        mode = temporary.stat().st_mode
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if temporary.stat().st_mode != mode:  # safetensors makes a file of its own, for its user alone
            temporary.chmod(mode)
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is not None:
            raise
        # A full disk, a quota or a limit: such errors name no file.
        free = shutil.disk_usage(path.parent).free
        raise OSError(f"expected to write {path}, found: {error} ({free:,} bytes free on that disk)") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(path: Path) -> None:
    """Remove what killed writers of `path` left; for a process that is its only writer now."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 8}.partial"):
        left.unlink(missing_ok=True)


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """As `replace`, in a folder that is made where there is none; `write` takes an open file."""

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            write(file)

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace(path, fill)


def write_bytes(path: Path, content: bytes) -> None:
    write_atomic(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Sorted, indented JSON."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_sealed(path: Path, values: dict[str, Any]) -> None:
    """Sorted, indented JSON of `values` and of their "seal", the sha256 of the rest, written atomically."""
    if "seal" in values:
        raise ValueError(f"expected no entry of the name 'seal', which is the checksum's ({path})")
    write_json(path, {**values, "seal": _seal(values)})


def read_sealed(path: Path, what: str) -> dict[str, Any]:
    """The values, without their seal; a file that has none is of an older version and passes.

    FileNotFoundError, or ValueError naming the file when it is damaged or was changed.
    """
    try:
        values = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"expected {what} in {path}, found no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected {what} in {path}, found: {error}; {AGAIN}") from error
    if not isinstance(values, dict):
        raise ValueError(f"expected {what} in {path}, found a {type(values).__name__}; {AGAIN}")
    expected = values.pop("seal", None)
    if expected is not None and expected != (found := _seal(values)):
        raise ValueError(f"expected {what} with the seal {expected[:12]} in {path}, found {found[:12]}; {AGAIN}")
    return values


def _seal(values: dict[str, Any]) -> str:
    """sha256 of the canonical JSON of what a reader of the file will find."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _sync_folder(folder: Path) -> None:
    """The rename outlives a power cut too, where the file system can promise that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def reading(where: Path | str, claim: str) -> Iterator[None]:
    """Whatever a reader raises becomes a ValueError: `claim`, which says what was expected, the error, and `where`.

    A damaged file makes libraries raise errors of any type. OSError and ValueError that name `where` pass.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (OSError, ValueError)) and str(where) in str(error):
            raise
        raise ValueError(f"{claim}: {reason(error)} ({where})") from error


def reason(error: Exception) -> str:
    """An error in words; with its type where the text alone says little."""
    cryptic = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError)
    text = re.sub(r" <\S+ object at 0x[0-9a-f]+>", "", str(error))
    if isinstance(error, cryptic) or type(error).__module__.endswith("pickle"):
        return repr(error)
    return text or type(error).__name__


def printable(text: str) -> str:
    """Text with names of files in it, of which Linux allows any bytes, as every output takes it."""
    return text.encode("utf-8", "backslashreplace").decode()
