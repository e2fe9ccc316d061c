"""Downloads that go wrong, from a server on this machine: one clear line, and the same command continues."""

import contextlib
import fcntl
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dtri.data import download, rawfiles
from dtri.files import digest
from workflow.commands import fetch
from workflow.commands.cli import run

ROOT = Path(__file__).resolve().parents[1]
CONTENT = np.random.RandomState(0).bytes(50_000)
PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Quota\nexceeded</title></head>" + b"<p>" * 500
Request = namedtuple("Request", "path range")

Behaviour = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(Request(self.path, self.headers["Range"]))
        self.close_connection = True
        behaviour = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        with contextlib.suppress(ConnectionError):  # the client has had enough
            behaviour(self)

    def log_message(self, *_: object) -> None:
        pass

    def begin(self) -> bytes:
        """Status and headers as a server with ranges sends them; the body that has to follow."""
        server, content = self.server, self.server.content
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(asked[1]) if asked and server.ranges else 0
        if start >= len(content):
            self.head(416, 0, **{"Content-Range": f"bytes */{len(content)}"})
            return b""
        extra = {}
        if start:
            extra["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.head(206 if start else 200, len(content) - start, **extra)
        return content[start:]

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def good(handler: Handler) -> None:
    handler.wfile.write(handler.begin())


def cut(n: int) -> Behaviour:
    """`n` bytes, then the connection is dropped."""
    return lambda handler: handler.wfile.write(handler.begin()[:n])


def stall(n: int) -> Behaviour:
    """`n` bytes, then nothing for as long as the test lasts."""

    def behaviour(handler: Handler) -> None:
        handler.wfile.write(handler.begin()[:n])
        handler.wfile.flush()
        handler.server.over.wait()

    return behaviour


def trickle(handler: Handler) -> None:
    """A byte now and then, after a good start: never silent for long, never done."""
    body = handler.begin()
    handler.wfile.write(body[:20_000])
    for byte in body[20_000:]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        if handler.server.over.wait(0.02):
            return


def refuse(status: int, body: bytes = b"") -> Behaviour:
    def behaviour(handler: Handler) -> None:
        handler.head(status, len(body))
        handler.wfile.write(body)

    return behaviour


def page(handler: Handler) -> None:
    handler.head(200, len(PAGE))
    handler.wfile.write(PAGE)


def other(handler: Handler) -> None:
    """A file of the right size and other content."""
    body = bytes(len(handler.server.content))
    handler.head(200, len(body))
    handler.wfile.write(body)


def unmeasured(n: int | None = None) -> Behaviour:
    """No Content-Length: only the end of the connection says that `n` bytes were all."""

    def behaviour(handler: Handler) -> None:
        handler.head(200, None)
        handler.wfile.write(handler.server.content[:n])

    return behaviour


def moved(handler: Handler) -> None:
    handler.head(302, 0, Location=f"{handler.server.base}/elsewhere")


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.content, server.script, server.requests = CONTENT, [good], []
    server.ranges, server.over = True, threading.Event()
    server.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE_S", 0)
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
FILE = rawfiles.RawFile(MD5, False, len(CONTENT), "https://example.org/data", "free")


class Room:
    """A drop folder, a dataset with one file and the fetch command between them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.raw, self.out, self.capsys = folder / "raw", folder / "fetch.json", capsys
        self.module = types.ModuleType("toyset")
        self.module.FILES, self.module.urls, self.module.prepare = {"raw.zip": FILE}, lambda name: [], None
        monkeypatch.setitem(sys.modules, "toyset", self.module)

    @property
    def arguments(self) -> list[str]:
        return ["--module", "toyset", "--raw", str(self.raw), "--out", str(self.out)]

    def fetch(self, *addresses: str, options: tuple[str, ...] = ()) -> str:
        """ "" or the one error line of the command."""
        self.module.urls = lambda name: list(addresses)
        self.out.unlink(missing_ok=True)
        self.capsys.readouterr()
        code = run(lambda: fetch.main([*self.arguments, *options]))
        errors = [line for line in self.capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert (code, len(errors)) in ((0, 0), (2, 1))
        assert self.out.exists() == (code == 0)
        return "".join(errors)

    def files(self) -> dict[str, int]:
        """{name: bytes} in the drop folder."""
        return {path.name: path.stat().st_size for path in self.raw.iterdir()} if self.raw.exists() else {}


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Room:
    return Room(tmp_path, monkeypatch, capsys)


DONE = {"raw.zip": len(CONTENT)}


def ranges(server: http.server.ThreadingHTTPServer) -> list[str | None]:
    return [request.range for request in server.requests]


def test_a_whole_file(room: Room, server) -> None:
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert server.requests == [("/raw.zip", None)]
    assert room.files() == DONE
    assert (room.raw / "raw.zip").read_bytes() == CONTENT
    found = json.loads(room.out.read_text())["raw.zip"]
    assert (found["size"], found["md5"], found["file"]) == (len(CONTENT), MD5, "raw.zip")
    assert found["sha256"] == digest(room.raw / "raw.zip", "sha256")


@pytest.mark.parametrize(
    "script, asked",
    [
        ([cut(20_000), good], [None, "bytes=20000-"]),
        (
            [cut(20_000), cut(5_000), cut(5_000), cut(5_000), good],
            [None] + [f"bytes={n}000-" for n in (20, 25, 30, 35)],
        ),
        ([hang_up, good], [None, None]),
        ([refuse(503), refuse(429), good], [None, None, None]),
    ],
    ids=["dropped", "dropped often", "no answer", "busy"],
)
def test_a_passing_trouble_is_bridged(room: Room, server, script: list[Behaviour], asked: list[str | None]) -> None:
    server.script = script
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert ranges(server) == asked
    assert room.files() == DONE


def test_a_server_without_ranges_starts_again(room: Room, server) -> None:
    server.ranges, server.script = False, [cut(20_000), good]
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert ranges(server) == [None, "bytes=20000-"]
    assert (room.raw / "raw.zip").read_bytes() == CONTENT


def test_a_server_that_always_drops_is_given_up_and_continued_later(room: Room, server) -> None:
    server.script = [cut(20_000), cut(0)]
    error = room.fetch(f"{server.base}/raw.zip")
    assert f"{server.base}/raw.zip: the connection ended after 20,000 of 50,000 bytes" in error
    assert f"20,000 bytes are kept in {room.raw / 'raw.zip.part'}, the same command continues them" in error
    assert f"put it at {room.raw / 'raw.zip'}" in error
    assert len(server.requests) == 1 + download.ATTEMPTS
    assert room.files() == {"raw.zip.part": 20_000}
    server.script, server.requests = [good], []
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert ranges(server) == ["bytes=20000-"]
    assert room.files() == DONE


def test_a_server_without_ranges_that_always_drops_is_given_up(room: Room, server) -> None:
    server.ranges, server.script = False, [cut(20_000)]
    assert "ended after 20,000 of 50,000 bytes" in room.fetch(f"{server.base}/raw.zip")
    assert len(server.requests) == 1 + download.ATTEMPTS


@pytest.mark.parametrize("slow, reason", [(stall(20_000), "nothing arrived for 0.3 s"), (trickle, "bytes arrived in")])
def test_a_slow_server_is_left(room: Room, server, monkeypatch, slow: Behaviour, reason: str) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(download, "ATTEMPTS", 0)
    server.script = [slow]
    assert reason in room.fetch(f"{server.base}/raw.zip")
    kept = room.files()["raw.zip.part"]
    assert kept
    server.script, server.requests = [good], []
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert ranges(server) == [f"bytes={kept}-"]
    assert room.files() == DONE


@pytest.mark.parametrize(
    "trouble, reason",
    [
        (refuse(403), "HTTP 403 Forbidden"),
        (refuse(403, PAGE), "HTTP 403 Forbidden, a web page titled 'Google Drive - Quota exceeded'"),
        (refuse(404), "HTTP 404 Not Found"),
        (page, "expected the file, found a web page titled 'Google Drive - Quota exceeded'"),
        (other, f"expected raw.zip (50000 bytes, md5 {MD5}), found 50000 bytes with md5"),
        (unmeasured(20_000), f"expected raw.zip (50000 bytes, md5 {MD5}), found 20000 bytes with md5"),
    ],
    ids=["403", "403 with a page", "404", "a page", "wrong hash", "truncated, of unknown length"],
)
def test_what_is_not_the_file_leaves_nothing_and_the_next_address_is_asked(
    room: Room, server, trouble: Behaviour, reason: str
) -> None:
    server.script = [trouble]
    error = room.fetch(f"{server.base}/raw.zip")
    assert f"{server.base}/raw.zip: {reason}" in error
    assert f"get it from https://example.org/data and put it at {room.raw / 'raw.zip'}" in error
    assert room.files() == {}
    assert len(server.requests) == 1  # asking again would not help
    server.script, server.requests = [trouble, good], []
    assert room.fetch(f"{server.base}/a/raw.zip", f"{server.base}/b/raw.zip") == ""
    assert [request.path for request in server.requests] == ["/a/raw.zip", "/b/raw.zip"]
    assert room.files() == DONE


def test_a_page_does_not_harm_what_is_there_already(room: Room, server) -> None:
    server.script = [cut(20_000), page]
    assert "a web page titled" in room.fetch(f"{server.base}/raw.zip")
    assert room.files() == {"raw.zip.part": 20_000}


def test_another_address_continues_the_part(room: Room, server) -> None:
    server.script = [cut(20_000), refuse(404), good]
    assert room.fetch(f"{server.base}/a/raw.zip", f"{server.base}/b/raw.zip") == ""
    assert server.requests[-1] == ("/b/raw.zip", "bytes=20000-")


def test_a_part_is_continued_where_the_address_leads(room: Room, server) -> None:
    server.script = [moved, cut(20_000), moved, good]
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert server.requests[1::2] == [("/elsewhere", None), ("/elsewhere", "bytes=20000-")]


def test_a_part_of_another_file_is_found_out(room: Room, server) -> None:
    room.raw.mkdir()
    (room.raw / "raw.zip.part").write_bytes(bytes(20_000))
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert ranges(server) == ["bytes=20000-", None]
    assert (room.raw / "raw.zip").read_bytes() == CONTENT


def test_wrong_twice_ends(room: Room, server) -> None:
    server.content = CONTENT[::-1]
    server.script = [cut(20_000), good, cut(20_000), good]
    assert "found 50000 bytes with md5" in room.fetch(f"{server.base}/raw.zip")
    assert ranges(server) == [None, "bytes=20000-"] * 2
    assert room.files() == {}


@pytest.mark.parametrize("n_bytes, asked", [(50_000, ["bytes=50000-"]), (60_000, ["bytes=60000-", None])])
def test_a_part_that_needs_no_more(room: Room, server, n_bytes: int, asked: list[str | None]) -> None:
    """Killed while it was verified, or longer than the server's file."""
    room.raw.mkdir()
    (room.raw / "raw.zip.part").write_bytes((CONTENT * 2)[:n_bytes])
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert ranges(server) == asked
    assert (room.raw / "raw.zip").read_bytes() == CONTENT


def archive(n: int) -> bytes:
    """A zip of one member, stored as it is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("data.mdb"), CONTENT[:n])
    return buffer.getvalue()


@pytest.fixture
def unhashed(room: Room, server) -> Room:
    """The file is a zip whose md5 nobody published."""
    room.module.FILES = {"raw.zip": rawfiles.RawFile(None, False, None, "https://example.org/data", "free")}
    server.content = archive(40_000)
    return room


def test_without_a_md5_nothing_is_continued(unhashed: Room, server) -> None:
    """Nothing would tell two versions of the file apart."""
    server.script = [cut(20_000), cut(0)]
    assert "are kept" not in unhashed.fetch(f"{server.base}/raw.zip")
    assert unhashed.files() == {}
    server.script, server.requests = [cut(20_000), good], []
    assert unhashed.fetch(f"{server.base}/raw.zip") == ""
    assert ranges(server) == [None, None]
    assert unhashed.files() == {"raw.zip": len(server.content)}


def test_without_a_md5_the_size_is_not_trusted(unhashed: Room, server) -> None:
    whole = archive(40_000)
    server.content = whole[:5_000] + b"!" + whole[5_001:]
    for script, reason in {
        good: "expected a complete archive, found: data.mdb is damaged",
        unmeasured(len(whole) - 1_000): "expected a complete archive, found: File is not a zip file",
    }.items():
        server.script = [script]
        assert reason in unhashed.fetch(f"{server.base}/raw.zip")
        assert unhashed.files() == {}
    unhashed.raw.joinpath("raw.zip").write_bytes(server.content)  # dropped there by hand
    assert "expected a complete archive" in unhashed.fetch()
    assert unhashed.files() == {"raw.zip": len(whole)}


def test_a_truncated_tar_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    for name in ("a.tar", "a.tar.gz"):
        path = Path(shutil.make_archive(str(tmp_path / "made"), {"a.tar": "tar"}.get(name, "gztar"), tmp_path, "a"))
        download.check_whole(path, name)
        path.write_bytes(path.read_bytes()[:30_000])
        with pytest.raises(ValueError, match="expected a complete archive, found: "):
            download.check_whole(path, name)


def test_nobody_listens(room: Room, server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}/raw.zip"
        assert f"{dead}: no connection: [Errno " in room.fetch(dead)
        assert room.files() == {}
        assert room.fetch(dead, f"{server.base}/raw.zip") == ""


def test_offline_opens_no_socket(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "create_connection", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    error = room.fetch("http://127.0.0.1:1/raw.zip", options=("--offline",))
    assert f"put it at {room.raw / 'raw.zip'} (--offline: not downloaded)" in error
    assert room.files() == {}
    room.raw.mkdir()
    (room.raw / "raw.zip").write_bytes(CONTENT)
    assert room.fetch("http://127.0.0.1:1/raw.zip", options=("--offline",)) == ""


def test_all_missing_files_are_named_and_the_others_downloaded(room: Room, server) -> None:
    room.module.FILES = {"a.zip": FILE, "b.zip": FILE, "c.zip": FILE}
    error = room.fetch(options=("--offline",))
    assert error.endswith("(--offline: not downloaded); also missing there: b.zip, c.zip")
    server.script = [good, refuse(404)]
    assert room.fetch(f"{server.base}/any").endswith("HTTP 404 Not Found); also missing there: c.zip")
    assert room.files() == {"a.zip": len(CONTENT)}
    server.script, server.requests = [good], []
    assert room.fetch(f"{server.base}/any") == ""
    assert len(server.requests) == 2
    room.module.FILES["d.zip"] = FILE
    assert "(no address to download it from)" in room.fetch()


def test_a_page_in_the_drop_folder_is_called_one(room: Room) -> None:
    room.raw.mkdir()
    (room.raw / "raw.zip").write_bytes(PAGE)
    error = room.fetch(options=("--offline",))
    assert (
        f"expected raw.zip (50000 bytes, md5 {MD5}), found a web page titled 'Google Drive - Quota exceeded'" in error
    )
    assert "delete it and get the file again from https://example.org/data" in error
    assert room.files() == {"raw.zip": len(PAGE)}
    arguments = ["--module", "dtri.data.image_folder", "--archive", "raw.zip"]
    assert "found a web page titled" in room.fetch(options=tuple(arguments))


@pytest.mark.parametrize(
    "start, title",
    [
        (b"\n <HTML lang='en'><Title>a &amp;  b</TITLE>", "a web page titled 'a & b'"),
        (b"\xef\xbb\xbf<!doctype html>", "a web page"),
        (b"<html><title>\x1b[31mred\x07</title>", "a web page titled '[31mred'"),
        (b"PK\x03\x04<html>", None),
        (b"\x1f\x8b\x08", None),
        (b"", None),
    ],
)
def test_web_pages(start: bytes, title: str | None) -> None:
    assert rawfiles.web_page(start) == title


def test_too_little_disk_space_is_found_before(room: Room, server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script = [cut(20_000), cut(0)]
    room.fetch(f"{server.base}/raw.zip")
    server.script, server.requests = [good], []
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=29_999))
        error = room.fetch(f"{server.base}/a/raw.zip", f"{server.base}/b/raw.zip")
    assert error == (
        f"error: expected 30,000 bytes of free disk space for the rest of raw.zip, found 29,999 ({room.raw})"
    )
    assert len(server.requests) == 1  # no other address has more room for it
    assert room.files() == {"raw.zip.part": 20_000}
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert ranges(server)[1:] == ["bytes=20000-"]


COMMAND = f"""
import resource, sys, types
from dtri.data import rawfiles
from workflow.commands import fetch
from workflow.commands.cli import run
limit, address, *arguments = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
toyset = sys.modules["toyset"] = types.ModuleType("toyset")
toyset.FILES = {{"raw.zip": rawfiles.RawFile("{MD5}", False, {len(CONTENT)}, "https://example.org/data", "free")}}
toyset.urls, toyset.prepare = lambda name: [address], None
sys.exit(run(lambda: fetch.main(arguments)))
"""


def process(room: Room, address: str, limit: int = 0) -> subprocess.Popen:
    command = [sys.executable, "-c", COMMAND, str(limit), address, *room.arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_a_disk_that_fills_up(room: Room, server) -> None:
    """The limit on file sizes stands for it: the same failure of the same call."""
    failed = process(room, f"{server.base}/raw.zip", limit=20_000)
    error = failed.communicate(timeout=300)[1]
    part = room.raw / "raw.zip.part"
    assert failed.returncode == 2
    assert error.count("\n") == 1
    assert error.startswith(f"error: expected to write {part}, found: [Errno 27] File too large (")
    assert error.endswith("its 20,000 bytes are kept, the same command continues them\n")
    assert room.files() == {"raw.zip.part": 20_000}
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert ranges(server) == [None, "bytes=20000-"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_the_middle(room: Room, server, number: signal.Signals) -> None:
    server.script = [stall(20_000), good]
    started = process(room, f"{server.base}/raw.zip")
    deadline = time.monotonic() + 300
    while room.files() != {"raw.zip.part": 20_000}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(started.pid, number)
    started.communicate(timeout=300)
    assert room.files() == {"raw.zip.part": 20_000}
    assert room.fetch(f"{server.base}/raw.zip") == ""
    assert ranges(server) == [None, "bytes=20000-"]
    assert room.files() == DONE


@pytest.mark.parametrize("brought", [True, False])
def test_two_at_once_do_not_write_into_one_part(room: Room, server, brought: bool) -> None:
    """The second waits for the first and takes its file, or its place."""
    room.raw.mkdir()
    part = room.raw / "raw.zip.part"
    failures: list[list[str]] = []
    with part.open("wb") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        first.write(CONTENT[:20_000])
        first.flush()
        second = threading.Thread(
            target=lambda: failures.append(download.download(room.raw, "raw.zip", FILE, [f"{server.base}/raw.zip"]))
        )
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert server.requests == []
        if brought:
            first.write(CONTENT[20_000:])
            first.flush()
            part.rename(room.raw / "raw.zip")
    second.join(300)
    assert failures == [[]]
    assert ranges(server) == ([] if brought else ["bytes=20000-"])
    assert room.files() == DONE
