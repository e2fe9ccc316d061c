"""Raw files as their publishers made them: found in a drop folder, verified, told from web pages of the same name.

Nothing here needs torch, and no training depends on it.
"""

import contextlib
import gzip
import hashlib
import html
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from dtri.files import digest
from dtri.messages import reading
from dtri.sealed import read_sealed, write_sealed

_PAGE = re.compile(rb"\s*(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|body|title|script|meta|\?xml)", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
_LEFTOVERS = {  # folders with pictures that systems add
    *("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "@Recycle", "System Volume Information"),
    *("#snapshot", "~snapshot", "@Recently-Snapshot"),
}
PAGE_BYTES = 1 << 16  # bytes at the start of a file in which a web page's title is searched


@dataclass(frozen=True)
class RawFile:
    """One file of a drop folder as its publisher made it.

    With `of_content`, `md5` and `size` (bytes) describe the decompressed content, because copies of the file are
    compressed differently. `url_hint` says where a person gets the file, `terms` under which conditions.
    """

    md5: str | None
    of_content: bool
    size: int | None
    url_hint: str
    terms: str

    def fits(self, size: int, md5: str) -> bool:
        """Whether a file of that size and md5 is this one; only the size counts where no md5 is known."""
        return md5 == self.md5 if self.md5 else self.size in (None, size)


def find_raw(folder: Path, name: str, file: RawFile) -> Path:
    """Path of a raw file. A `.gz` that is judged by its content may lie there decompressed.

    FileNotFoundError, with what to do, where the file is missing.
    """
    folder = Path(folder)
    candidates = [folder / name]
    if file.of_content and name.endswith(".gz"):
        candidates.append(folder / name.removesuffix(".gz"))
    for path in candidates:
        if path.is_file():
            return path
    odd = next((f"{kind} of that name" for path in candidates if (kind := no_file(path))), "no such file")
    raise FileNotFoundError(
        f"expected {identity(name, file)}, found {odd} in {folder}; "
        f"get it from {file.url_hint} and put it at {folder / name}"
    )


def no_file(path: Path) -> str:
    """Words for what lies at a path instead of a file; "" where nothing lies there."""
    if path.is_symlink() and not path.exists():
        return "a broken link"
    return "a folder" if path.is_dir() else "no plain file" if path.exists() else ""


def verify_raw(folder: Path, files: dict[str, RawFile]) -> dict[str, dict[str, Any]]:
    """{name: {"size", "md5"}} of the raw files, measured on their content where the content counts.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file has another md5 (or another size, where no md5 is known), or is a saved web page.
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
    """(size, md5) of a raw file, or of its content where that counts; ValueError for a damaged gzip file."""
    size, md5 = 0, hashlib.md5(usedforsecurity=False)
    with (
        reading(path, "expected a complete gzip file, found"),
        open_content(path) if file.of_content else Path(path).open("rb") as stream,
    ):
        while chunk := stream.read(1 << 20):
            size += len(chunk)
            md5.update(chunk)
    return size, md5.hexdigest()


def identity(name: str, file: RawFile) -> str:
    """Words for a raw file: name, size and md5."""
    size = f"{file.size} bytes" if file.size else "any size"
    return f"{name} ({size}, md5 {file.md5 or 'unknown'}{', both decompressed' if file.of_content else ''})"


def check_no_page(path: Path, expected: str, url_hint: str) -> None:
    """ValueError when the file is a web page, which hosts send instead of an error, under the download's name.

    The message says what was `expected`, and where to get it (`url_hint`).
    """
    with Path(path).open("rb") as file:
        page = web_page(file.read(PAGE_BYTES))
    if page:
        raise ValueError(
            f"expected {expected}, found {page} saved under that name ({path}): the host's quota was used up or it "
            f"wanted a login; delete it and get the file again from {url_hint}"
        )


def web_page(start: bytes) -> str | None:
    """Words for the web page that begins with `start`; None when it is no web page."""
    if not _PAGE.match(start):
        return None
    title = _TITLE.search(start)
    text = " ".join(html.unescape(title[1].decode("utf-8", "replace")).split()) if title else ""
    text = "".join(character for character in text if character.isprintable())[:80]
    return f"a web page titled {text!r}" if text else "a web page"


def open_content(path: Path) -> BinaryIO:
    """The decompressed content of a gzip file, or the file itself; its first bytes decide, not its name."""
    with Path(path).open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else Path(path).open("rb")


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (path inside, path) of every file below a folder, in a fixed order. Links are followed.

    Raises:
        ValueError: a link leads to a folder that contains it, or something other than a file has an image's name.
        OSError: a folder cannot be read.
    """
    return _walk(folder, "", (os.path.realpath(folder),))


def _walk(folder: Path, inside: str, parents: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for name in sorted(os.listdir(folder)):
        path, below = folder / name, f"{inside}{name}"
        if path.is_dir():
            real = os.path.realpath(path)
            if real in parents:
                raise ValueError(f"expected folders and files, found a link to a folder that it lies in ({path})")
            if is_leftover(below):
                hidden = (Path(parent, file) for parent, _, files in os.walk(path) for file in files)
                yield from ((f"{below}/{file.relative_to(path).as_posix()}", file) for file in hidden if file.is_file())
            else:
                yield from _walk(path, f"{below}/", (*parents, real))
        elif path.is_file():
            yield below, path
        elif is_image(below):
            raise ValueError(f"expected a file, found {no_file(path) or 'none'} ({path})")


def is_image(name: str) -> bool:
    """Whether the suffix is an image's; False for hidden files and for files that systems and programs add."""
    return PurePosixPath(name).suffix.lower() in _SUFFIXES and not is_leftover(name)


def is_leftover(name: str) -> bool:
    return any(part.startswith(".") or part in _LEFTOVERS for part in PurePosixPath(name).parts)


# Whether raw files are still the files that were fetched


def sha256_of(path: Path) -> str:
    """sha256 of a file, or of the paths and hashes of a folder's images."""
    if not path.is_dir():
        return digest(path, "sha256")
    total = hashlib.sha256()
    for name, file in walk(path):
        if is_image(name):
            total.update(os.fsencode(name) + b"\0" + bytes.fromhex(digest(file, "sha256")))
    return total.hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all images of a folder."""
    return path.stat().st_size if not path.is_dir() else sum(file.stat().st_size for file in _read(path))


def replaced(record: Path, folder: Path) -> str:
    """A hash of the files that replaced the raw files of a fetch record, "unreadable", or "".

    While the raw files are the recorded ones, or gone, the result is the record's own value "replaced". So the result
    changes when the files change, and does not change when the record is then made anew. Files are only hashed when
    their size or times differ from those last seen.
    """
    try:
        listed = read_sealed(record, "a record of raw files")
        fetched = {name: file["sha256"] for name, file in listed.items() if isinstance(file, dict)}
        paths = {name: folder / listed[name]["file"] for name in fetched}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""  # there is no record, and it will be made
    try:
        there = {name: path for name, path in paths.items() if path.exists()}
        found = fetched | {name: _remembered(record, name, path) for name, path in there.items()}
    except (OSError, ValueError):
        return "unreadable"  # the fetch command will say why
    if found == fetched:
        return listed.get("replaced", "")
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def remember(record: Path, name: str, path: Path, sha256: str) -> None:
    """Keep the hash `sha256` of the file `name` beside a fetch record, with the sizes and times of `path`."""
    known = _memory(record) | {name: {"seen": _seen(path), "sha256": sha256}}
    with contextlib.suppress(OSError):  # the memory only saves time
        write_sealed(_memory_path(record), {"files": known})


def _remembered(record: Path, name: str, path: Path) -> str:
    known = _memory(record).get(name, {})
    if known.get("seen") == _seen(path):
        return known["sha256"]
    sha256 = sha256_of(path)
    remember(record, name, path, sha256)
    return sha256


def _memory_path(record: Path) -> Path:
    return record.with_name(f".{record.name}.seen")


def _memory(record: Path) -> dict[str, dict[str, str]]:
    """What was remembered; empty where the memory is damaged, has another form or cannot be read."""
    try:
        files = read_sealed(_memory_path(record), "hashes of raw files")["files"].items()
        return {name: {"seen": str(of["seen"]), "sha256": str(of["sha256"])} for name, of in files}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _seen(path: Path) -> str:
    """Hash of names, sizes and times; every change of a file changes its ctime."""
    total = hashlib.sha256()
    for file in _read(path):
        status = file.stat()
        total.update(os.fsencode(file.relative_to(path.parent)))
        total.update(f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode())
    return total.hexdigest()


def _read(path: Path) -> list[Path]:
    """The file itself, or the images of the folder."""
    return [file for name, file in walk(path) if is_image(name)] if path.is_dir() else [path]
