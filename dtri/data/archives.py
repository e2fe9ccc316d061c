"""Archives (zip, tar, tar.gz) and folders of files in the drop folder; archives are read in memory, never extracted.

Links, unreasonably large files, and members whose paths lead out of the archive are refused.
"""

import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any

from dtri.data import checks, rawfiles
from dtri.messages import reading

MAX_FILE = 64 * 2**20  # bytes of one image file
MAX_TOTAL = 64 * 2**30  # bytes of all files of an archive together
_Member = tuple[str, Callable[[], bytes]]


def check_options(options: dict[str, Any], module: str) -> None:
    """ValueError for a bad `archive`, `sha256` or `limit` in the options of `module`, which reads an archive."""
    check_name(options.get("archive"), "archive", module)
    sha256 = options.get("sha256")
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch("[0-9a-fA-F]{64}", sha256)):
        raise ValueError(f"expected option 'sha256' of 64 hexadecimal digits, found {sha256!r} ({module})")
    for option in ("n_source", "limit"):
        if options.get(option) is not None:
            checks.check_count(options[option], f"option {option!r}", module)


def check_name(name: Any, option: str, where: str | Path) -> str:
    """`name`, a path below the drop folder; ValueError where it is missing or leads out of the folder.

    Messages call it `option` of `where`.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"expected option {option!r} to name something in the drop folder, found {name!r} ({where})")
    return _safe(name, where)


def check_holdout(options: dict[str, Any], default: int, module: str) -> None:
    """ValueError where `n_source` and `limit` leave no image to train on beside the `holdout` test images.

    Args:
        options: options of the dataset.
        default: number of test images without the option `holdout`.
        module:  name of the dataset module, for messages.
    """
    held_out = checks.check_count(options.get("holdout", default), "option 'holdout'", module)
    for option in ("n_source", "limit"):
        if (n := options.get(option)) is not None and n <= held_out:
            raise ValueError(
                f"expected more than {held_out} images, all of which would be held out, found {n} "
                f"(option {option!r} of {module})"
            )


def inside(raw: Path, name: Any, option: str) -> Path:
    """`raw / name`; ValueError for a name that is missing or leads out of the drop folder. `option` is for messages."""
    return Path(raw) / check_name(name, option, raw)


def check_archive(archive: Path, sha256: str | None) -> str:
    """The sha256 of an archive or of a folder's images. FileNotFoundError if absent; ValueError for another hash."""
    if archive.is_dir():
        if sha256:
            raise ValueError(f"expected a file with sha256 {sha256}, found a folder ({archive})")
        return rawfiles.sha256_of(archive)
    if not archive.is_file():
        identity = f" with sha256 {sha256}" if sha256 else ""
        raise FileNotFoundError(f"expected the archive {archive.name}{identity}, found none; put it at {archive}")
    rawfiles.check_no_page(archive, f"the archive {archive.name}", "where it came from")
    found = rawfiles.sha256_of(archive)
    if sha256 and found != sha256.lower():
        raise ValueError(f"expected sha256 {sha256}, found {found} ({archive}, {archive.stat().st_size} bytes)")
    return found


def place(archive: Path, name: str) -> str:
    """Where an image lies, for messages: its path in a folder, or the archive and the path inside."""
    return str(archive / name) if archive.is_dir() else f"{archive}, {name}"


def members(archive: Path) -> Iterator[_Member]:
    """Yield (path, read) of every plain file in storage order. `read` works only until the next file is asked for."""
    total = 0
    for name, size, read in _openers(archive):
        total += size
        if total > MAX_TOTAL or (size > MAX_FILE and rawfiles.is_image(name)):
            limit = f"{MAX_TOTAL} bytes in all" if total > MAX_TOTAL else f"{MAX_FILE} bytes in one file"
            raise ValueError(f"expected at most {limit}, found {size} in {name}, {total} so far ({archive})")
        yield name, read


def _openers(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    if archive.is_dir():
        return _from_folder(archive)
    if zipfile.is_zipfile(archive):
        return _from_zip(archive)
    if tarfile.is_tarfile(archive):
        return _from_tar(archive)
    raise ValueError(
        f"expected a zip, tar or tar.gz archive, found {archive.stat().st_size} bytes of something else or a truncated "
        f"file ({archive})"
    )


def _from_folder(folder: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    for name, path in rawfiles.walk(folder):
        yield name, path.stat().st_size, path.read_bytes


def _from_zip(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            name = _safe(member.filename, archive)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise ValueError(f"expected plain files, found the link {name} ({archive})")
            if member.flag_bits & 1:
                raise ValueError(f"expected no password, found the encrypted file {name} ({archive})")
            if not member.is_dir():
                yield name, member.file_size, lambda member=member: file.read(member)


def _from_tar(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with tarfile.open(archive, "r:*") as file:
        for member in file:
            file.members.clear()  # the headers alone of a million files would fill 2 GiB
            name = _safe(member.name, archive)
            if member.issym() or member.islnk():
                raise ValueError(f"expected plain files, found the link {name} -> {member.linkname} ({archive})")
            if not member.isfile() and not member.isdir():
                raise ValueError(f"expected plain files, found {name} of tar type {member.type!r} ({archive})")
            if member.isfile():
                yield name, member.size, lambda member=member: file.extractfile(member).read()
        # tarfile takes a damaged header or a cut file for the end of the archive; its real end is a block of zeros.
        file.fileobj.seek(file.offset)
        if file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError(f"expected a complete tar archive, found a damaged or missing end ({archive})")
        # A compressed stream checks its sum only at the end of its data; what follows is padding, tens of kB.
        if len(file.fileobj.read(MAX_FILE)) == MAX_FILE:
            raise ValueError(f"expected nothing after the end of the tar archive, found {MAX_FILE} bytes ({archive})")


def named(archive: Path) -> AbstractContextManager[None]:
    """Turn every error of the block into a ValueError that names the archive."""
    return reading(archive, "expected a complete archive, found")


def _safe(name: str, archive: Path | str) -> str:
    """The path without a leading "./"; ValueError where any operating system would find it absolute or climbing up."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise ValueError(f"expected paths below the archive's own folder, found {name!r} ({archive})")
    return str(path)
