"""Fetching: raw files are believed by content, a missing one is explained, a failed download leaves nothing."""

import functools
import gzip
import hashlib
import http.server
import threading
from pathlib import Path
from types import ModuleType

import pytest

from dtri.data import mnist, rawfiles
from dtri.sealed import read_sealed
from workflow.commands import fetch
from workflow.commands.cli import run

REAL = Path(__file__).parents[1].parent / "shared" / "data"
CONTENT = b"twelve bytes"
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """MNIST's module reduced to one file, whose content is CONTENT."""
    file = rawfiles.RawFile(MD5, True, len(CONTENT), "https://example.org/data", "free")
    monkeypatch.setattr(mnist, "FILES", {"raw.gz": file})
    return mnist


def command(tmp_path: Path, *more: str, module: str = "dtri.data.mnist") -> int:
    fixed = ["--module", module, "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out" / "fetch.json")]
    return run(lambda: fetch.main([*fixed, *more]))


def record(tmp_path: Path) -> dict:
    return read_sealed(tmp_path / "out" / "fetch.json", "a record")


def drop(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def described(path: Path) -> dict:
    """The record's entry of a file that holds CONTENT, packed or not."""
    return {"file": path.name, "size": 12, "md5": MD5, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("level", [0, 9])
def test_the_content_counts_and_not_its_compression(tmp_path: Path, dataset: ModuleType, level: int) -> None:
    path = drop(tmp_path, "raw.gz", gzip.compress(CONTENT, level))
    assert command(tmp_path, "--offline") == 0
    assert record(tmp_path) == {"raw.gz": described(path)}


@pytest.mark.parametrize("name", ["raw", "raw.gz"])
def test_a_decompressed_file_will_do(tmp_path: Path, dataset: ModuleType, name: str) -> None:
    path = drop(tmp_path, name, CONTENT)
    assert command(tmp_path, "--offline") == 0
    assert record(tmp_path) == {"raw.gz": described(path)}


def test_without_a_known_md5_the_size_is_checked(tmp_path: Path, dataset: ModuleType, monkeypatch, capsys) -> None:
    monkeypatch.setattr(mnist, "FILES", {"raw.bin": rawfiles.RawFile(None, False, 12, "a friend", "free")})
    drop(tmp_path, "raw.bin", CONTENT)
    assert command(tmp_path, "--offline") == 0
    drop(tmp_path, "raw.bin", CONTENT + b"!")
    assert command(tmp_path, "--offline") == 2
    assert "expected raw.bin (12 bytes, md5 unknown), found 13 bytes" in capsys.readouterr().err


def test_wrong_and_damaged_files_are_named(tmp_path: Path, dataset: ModuleType, capsys) -> None:
    for content, message in {
        gzip.compress(b"other"): f"expected raw.gz (12 bytes, md5 {MD5}, both decompressed), found 5 bytes with md5",
        gzip.compress(CONTENT)[:-3]: "expected a complete gzip file, found: Compressed file ended",
        b"<html>": f"md5 {MD5}, both decompressed), found a web page saved under that name",
    }.items():
        path = drop(tmp_path, "raw.gz", content)
        assert command(tmp_path, "--offline") == 2
        error = capsys.readouterr().err
        assert message in error
        assert str(path) in error
        assert error.count("\n") == 1
        assert path.read_bytes() == content  # what the user put there stays
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_explained(tmp_path: Path, dataset: ModuleType, capsys) -> None:
    assert command(tmp_path, "--offline") == 2
    error = capsys.readouterr().err
    assert (
        f"expected raw.gz (12 bytes, md5 {MD5}, both decompressed), found no such file in {tmp_path / 'raw'}" in error
    )
    assert f"get it from https://example.org/data and put it at {tmp_path / 'raw' / 'raw.gz'}" in error
    assert "--offline" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def mirror(tmp_path: Path, dataset: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """A web server on this machine; the first address never works, the second serves the returned folder."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(mnist, "urls", lambda name: [f"{base}/missing/{name}", f"{base}/{name}"])
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_missing_file_is_downloaded_once(tmp_path: Path, mirror: Path) -> None:
    (mirror / "raw.gz").write_bytes(gzip.compress(CONTENT))
    assert command(tmp_path) == 0
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["raw.gz"]
    (mirror / "raw.gz").unlink()
    assert command(tmp_path) == 0
    assert record(tmp_path) == {"raw.gz": described(tmp_path / "raw" / "raw.gz")}


@pytest.mark.parametrize(
    "served", [None, b"<html>quota exceeded</html>", gzip.compress(CONTENT)[:-6]], ids=["none", "page", "cut"]
)
def test_a_failed_download_leaves_nothing(tmp_path: Path, mirror: Path, capsys, served: bytes | None) -> None:
    if served is not None:
        (mirror / "raw.gz").write_bytes(served)
    assert command(tmp_path) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert f"put it at {tmp_path / 'raw' / 'raw.gz'} (download failed: http://127.0.0.1" in error[0]
    assert list((tmp_path / "raw").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_the_addresses_are_those_of_torchvision() -> None:
    from dtri.data import cifar10

    assert mnist.urls("t10k-labels-idx1-ubyte.gz")[0].endswith("/mnist/t10k-labels-idx1-ubyte.gz")
    assert cifar10.urls(cifar10.ARCHIVE) == ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"]
    from torchvision.datasets import CIFAR10

    assert cifar10.FILES[CIFAR10.filename].md5 == CIFAR10.tgz_md5


def test_a_dataset_without_files_needs_no_folder(tmp_path: Path) -> None:
    assert command(tmp_path, "--offline", module="dtri.data.digits") == 0
    assert record(tmp_path) == {}
    assert not (tmp_path / "raw").exists()


def test_a_users_archive_is_checked(tmp_path: Path, capsys) -> None:
    module = "dtri.data.image_folder"
    assert command(tmp_path, "--archive", "mine.zip", module=module) == 2
    assert "expected the archive mine.zip, found none; put it at" in capsys.readouterr().err
    path = drop(tmp_path, "mine.zip", CONTENT)
    assert command(tmp_path, "--archive", "mine.zip", module=module) == 0
    assert record(tmp_path) == {"mine.zip": described(path)}
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert command(tmp_path, "--archive", "mine.zip", "--sha256", sha256, module=module) == 0
    (tmp_path / "out" / "fetch.json").unlink()
    assert command(tmp_path, "--archive", "mine.zip", "--sha256", "0" * 64, module=module) == 2
    assert f"expected sha256 {'0' * 64}, found {sha256}" in capsys.readouterr().err
    assert command(tmp_path, "--archive", "../mine.zip", module=module) == 2
    assert "expected paths below the archive's own folder" in capsys.readouterr().err
    assert not (tmp_path / "out" / "fetch.json").exists()


def test_a_users_folder_is_recorded_by_content(tmp_path: Path) -> None:
    drop(tmp_path, "mine/a/0.png", b"one")
    drop(tmp_path, "mine/a/1.png", b"two")
    arguments = ("--archive", "mine")
    assert command(tmp_path, *arguments, module="dtri.data.image_folder") == 0
    first = record(tmp_path)
    assert first["mine"]["size"] == 6
    drop(tmp_path, "mine/a/1.png", b"six")
    assert command(tmp_path, *arguments, module="dtri.data.image_folder") == 0
    assert record(tmp_path)["mine"]["sha256"] != first["mine"]["sha256"]


def test_the_real_mnist_files_are_the_originals(tmp_path: Path) -> None:
    if not (REAL / "mnist").is_dir():
        pytest.skip(f"no MNIST files at {REAL / 'mnist'}")
    out = tmp_path / "fetch.json"
    arguments = ["--module", "dtri.data.mnist", "--raw", str(REAL / "mnist"), "--out", str(out), "--offline"]
    assert fetch.main(arguments) == 0
    found = read_sealed(out, "a record")
    assert {name: (entry["size"], entry["md5"]) for name, entry in found.items()} == {
        name: (file.size, file.md5) for name, file in mnist.FILES.items()
    }
