"""Downloads of raw files: continued where they stopped, tried at several addresses, verified before they count.

The bytes arrive in `<name>.part` beside the file. After a kill, a lost connection or a full disk this part stays there,
and the next attempt asks for the rest (RFC 9110, Range). A server without ranges starts again. Only a complete and
verified file gets its name. A file without a known md5 is never continued, since nothing would tell two versions apart.

The library pooch does not serve here, for four reasons. It deletes its bytes when a connection breaks, so that 625 MB
(DTD, from a slow server) start again. It waits for a server that trickles. Two processes write the same file twice. And
where a web page comes in place of the file, it only says that a hash differs.
"""

import fcntl
import http.client
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from dtri.data import rawfiles, saving
from dtri.messages import reading

TIMEOUT_S = 60.0  # seconds without a byte
MIN_RATE = 1024  # bytes per second, over TIMEOUT_S
ATTEMPTS = 3  # attempts in a row that bring nothing new, per address
PAUSE_S = 2.0  # seconds before the second attempt, doubled for each further one
_CHUNK = 1 << 20
_HEAD = 1 << 10  # bytes from which a web page is recognised
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}  # HTTP status codes
_NETWORK = (OSError, http.client.HTTPException)


class _Failed(Exception):
    """An address did not deliver; `again` says whether another attempt there may."""

    def __init__(self, text: str, again: bool) -> None:
        super().__init__(text)
        self.again = again


@dataclass(frozen=True)
class _Part:
    """The beginning of a file, open to append and held by this process alone."""

    name: str  # of the whole file
    file: rawfiles.RawFile
    path: Path
    stream: FileIO

    @property
    def size(self) -> int:
        return os.fstat(self.stream.fileno()).st_size

    def discard(self) -> None:
        self.stream.truncate(0)

    def append(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        with self._writing():
            while rest:
                rest = rest[self.stream.write(rest) :]

    def sync(self) -> None:
        with self._writing():  # some network file systems report an exhausted quota only here
            os.fsync(self.stream.fileno())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """OSError naming the file when the disk is full or denies."""
        try:
            yield
        except OSError as error:
            free = shutil.disk_usage(self.path.parent).free
            raise OSError(
                f"expected to write {self.path}, found: {error} ({free:,} bytes free on that disk); "
                f"its {self.size:,} bytes are kept, the same command continues them"
            ) from error


def download(folder: Path, name: str, file: rawfiles.RawFile, urls: list[str]) -> list[str]:
    """Download one file into `folder` from the first address that has it. OSError when the disk is full or denies.

    Args:
        folder: the drop folder.
        name:   name of the file in it.
        file:   the size and md5 that are expected.
        urls:   addresses, tried in order.

    Returns:
        [] on success, else what failed at each address, and what is kept.
    """
    whole = Path(folder) / name
    whole.parent.mkdir(parents=True, exist_ok=True)
    errors = []
    with _held(whole.with_name(f"{whole.name}.part"), name, file) as part:
        if whole.is_file():  # another process brought it while this one waited for the part
            return []
        for url in urls:
            try:
                _complete(url, part)
            except _Failed as error:
                errors.append(f"{url}: {error}")
            else:
                part.sync()
                part.path.replace(whole)
                return []
        if not file.md5:
            part.discard()
        if part.size:
            errors.append(f"{part.size:,} bytes are kept in {part.path}, the same command continues them")
    return errors


def check_whole(path: Path, name: str) -> None:
    """Read an archive of type `name` to its end; ValueError when damaged. For files without a known md5."""
    with reading(path, "expected a complete archive, found"):
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        elif name.endswith((".tar", ".tar.gz", ".tgz")):
            with tarfile.open(path, "r|*") as archive:
                while archive.next():
                    archive.members.clear()  # some archives have a million members, which would stay in memory


@contextmanager
def _held(path: Path, name: str, file: rawfiles.RawFile) -> Iterator[_Part]:
    """Hold the part: another process that wants the same file waits. An empty part is removed afterwards."""
    while True:
        with FileIO(path, "a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process that downloads {path}", file=sys.stderr, flush=True)
                fcntl.flock(stream, fcntl.LOCK_EX)
            part = _Part(name, file, path, stream)
            if not _same(stream, path):  # the earlier holder finished or removed it
                continue
            try:
                yield part
            finally:
                if part.size == 0 and _same(stream, path):
                    path.unlink()
            return


def _same(stream: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _complete(url: str, part: _Part) -> None:
    """Fill the part from one address and verify it; a part that fails the check is discarded."""
    for rounds_left in (1, 0):
        pieced = _fill(url, part)
        try:
            _verify(part)
        except ValueError as error:
            part.discard()
            if not pieced or not rounds_left:
                raise _Failed(str(error), again=False) from error
            print(f"{url}: {error}; starting again", file=sys.stderr, flush=True)
        else:
            return


def _verify(part: _Part) -> None:
    """ValueError when the part is not the file. Without an md5, its size and the archive's own checks decide."""
    with part.path.open("rb") as stream:
        page = rawfiles.web_page(stream.read(rawfiles.PAGE_BYTES))
    if page:
        raise ValueError(f"expected {part.name}, found {page}")
    size, md5 = rawfiles.measure(part.path, part.file)
    if not part.file.fits(size, md5):
        raise ValueError(f"expected {rawfiles.identity(part.name, part.file)}, found {size} bytes with md5 {md5}")
    if not part.file.md5:
        check_whole(part.path, part.name)


def _fill(url: str, part: _Part) -> bool:
    """Try until the part is as long as the server says; True when several answers were put together."""
    best, fruitless, pieced = part.size, 0, False
    while True:
        try:
            return _attempt(url, part) or pieced
        except _Failed as error:
            pieced = True
            fruitless = 0 if part.size > best else fruitless + 1
            best = max(best, part.size)
            if not error.again or fruitless >= ATTEMPTS:
                raise
            print(f"{url}: {error}; trying again", file=sys.stderr, flush=True)
        time.sleep(PAUSE_S * 2 ** max(0, fruitless - 1))


def _attempt(url: str, part: _Part) -> bool:
    """Request the missing bytes; True when the server continued the part, False when it sent the whole file."""
    start = part.size if part.file.md5 else 0
    headers = {"User-Agent": "dtri"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        answer = _open(urllib.request.Request(url, headers=headers))
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start:
                return _nothing_left(error, part)
            raise _Failed(_refusal(error), again=error.code in _TEMPORARY) from error
    with answer:
        chunks = _chunks(answer)
        if answer.status == 206 and start:
            total = _continued(answer, start, part)
        else:
            start, total = 0, answer.length
            chunks = chain([_head(chunks)], chunks)
            part.discard()
        known = part.file.size if not part.file.of_content else None
        saving.check_space(part.path.parent, (total or known or start) - start, f"the rest of {part.name}")
        with _bar(part.name, total, start) as bar:
            for chunk in chunks:
                part.append(chunk)
                bar.update(len(chunk))
    if total is not None and part.size != total:
        raise _Failed(f"the connection ended after {part.size:,} of {total:,} bytes", again=True)
    return start > 0


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise _Failed(f"no connection: {_reason(error.reason)}", again=False) from error
    except _NETWORK as error:
        raise _Failed(f"no answer: {_reason(error)}", again=True) from error


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        page = rawfiles.web_page(error.read(rawfiles.PAGE_BYTES))
    except _NETWORK:
        page = None
    return f"HTTP {error.code} {error.reason}" + (f", {page}" if page else "")


def _nothing_left(error: urllib.error.HTTPError, part: _Part) -> bool:
    """True when the part is as long as the server's file already, as after a kill during its verification."""
    total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
    size = part.size
    if total and int(total[1]) != size:
        part.discard()
        raise _Failed(f"expected more than {size:,} bytes there, found {total[1]}", again=True) from error
    return True


def _continued(answer: http.client.HTTPResponse, start: int, part: _Part) -> int | None:
    """Size of the whole file, where the server says it; _Failed when the server sends other bytes than are missing."""
    sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if not sent or int(sent[1]) != start:
        part.discard()
        raise _Failed(f"expected the bytes from {start:,}, found {answer.headers.get('Content-Range')}", again=True)
    if sent[2] != "*":
        return int(sent[2])
    return None if answer.length is None else start + answer.length


def _head(chunks: Iterator[bytes]) -> bytes:
    """The beginning of a whole answer; _Failed when it is a web page, before it is written to the part."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= (rawfiles.PAGE_BYTES if rawfiles.web_page(head) else _HEAD):
            break
    page = rawfiles.web_page(head)
    if page:
        raise _Failed(f"expected the file, found {page}", again=False)
    return head


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives; _Failed when the connection breaks, stands still or trickles."""
    since, arrived = time.monotonic(), 0
    while True:
        try:
            chunk = answer.read1(_CHUNK)
        except TimeoutError as error:
            raise _Failed(f"nothing arrived for {TIMEOUT_S:g} s", again=True) from error
        except _NETWORK as error:
            raise _Failed(f"the connection broke: {_reason(error)}", again=True) from error
        if not chunk:
            return
        yield chunk
        arrived += len(chunk)
        waited = time.monotonic() - since
        if waited > TIMEOUT_S:
            if arrived < MIN_RATE * waited:
                raise _Failed(f"only {arrived} bytes arrived in {waited:.0f} s", again=True)
            since, arrived = time.monotonic(), 0


def _bar(name: str, total: int | None, start: int) -> tqdm:
    """A progress bar with the time left; in a log file, a line every half minute."""
    pause = 0.2 if sys.stderr.isatty() else 30
    return tqdm(
        total=total, initial=start, desc=name, unit="B", unit_scale=True, mininterval=pause, delay=pause, leave=False
    )


def _reason(error: object) -> str:
    return str(error) or type(error).__name__
