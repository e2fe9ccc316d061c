"""Preparing on a disk that fills up, or killed while it writes: one clear line, and the same command continues."""

import json
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from dtri.arrays import write_array
from dtri.data import saving
from dtri.files import write_atomic
from workflow.commands import prepare
from workflow.commands.cli import run

ROOT = Path(__file__).resolve().parents[1]
N = 1_000
IMAGES, INDEX = (3, 16, 16), (1, 1, 1)  # image shapes with which most bytes are in test.npy, in index.npz

# A prepare command that is not warned; its first argument is a limit on file sizes, which stands for a full disk.
COMMAND = """
import os, resource, signal, sys
import numpy as np
from dtri.data import saving
from workflow.commands import prepare
from workflow.commands.cli import run
saving.check_space = lambda *_: None
limit, *arguments = sys.argv[1:]
if limit == "kill":
    saving.write_array = lambda file, images: (file.write(bytes(9)), file.flush(), os.kill(os.getpid(), signal.SIGKILL))
elif int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
sys.exit(run(lambda: prepare.main(arguments)))
"""


def arguments(out: Path, shape: tuple[int, int, int] = IMAGES) -> list[str]:
    fixed = ["--module", "dtri.data.uniform", "--name", "uniform", "--raw", str(out.parent / "raw"), "--out", str(out)]
    return [*fixed, "--image-shape", ",".join(map(str, shape)), "--options", json.dumps({"n": N})]


def command(limit: str, given: list[str]) -> list[str]:
    return [sys.executable, "-c", COMMAND, limit, *given]


def process(limit: str, given: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command(limit, given), cwd=ROOT, capture_output=True, text=True, timeout=300)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


COMPLETE = {"test.npy", "index.npz", "meta.json"}


def test_too_little_space_is_found_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(tmp_path / "uniform")
    assert prepare.main(given) == 0
    before = saving.verify(tmp_path / "uniform").content
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=767_999))
        assert run(lambda: prepare.main(given)) == 2
    assert capsys.readouterr().err == (
        "error: expected 768,000 bytes of free disk space for the images of uniform, "
        f"found 767,999 ({tmp_path / 'uniform'})\n"
    )
    assert saving.verify(tmp_path / "uniform").content == before


@pytest.mark.parametrize("shape, file", [(IMAGES, "test.npy"), (INDEX, "index.npz")])
def test_a_disk_that_fills_up(tmp_path: Path, shape: tuple[int, int, int], file: str) -> None:
    given = arguments(tmp_path / "uniform", shape)
    failed = process("4000", given)
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"error: expected to write {tmp_path / 'uniform' / file}, found: ")
    assert failed.stderr.endswith(" bytes free on that disk)\n")
    assert failed.stderr.count("\n") == 1
    assert files(tmp_path / "uniform") == COMPLETE - {file, "index.npz", "meta.json"}
    assert process("0", given).returncode == 0
    saving.verify(tmp_path / "uniform")
    assert files(tmp_path / "uniform") == COMPLETE


@pytest.mark.parametrize("missing", [1, 4_000, 100_000])
def test_a_disk_that_lacks_only_a_little(tmp_path: Path, missing: int) -> None:
    """NumPy's own `save` ends without an error when the last buffer does not fit."""
    given = arguments(tmp_path / "uniform")
    whole = 128 + N * 3 * 16 * 16
    failed = process(str(whole - missing), given)
    assert failed.stderr.startswith(f"error: expected to write {tmp_path / 'uniform' / 'test.npy'}, found: ")
    assert files(tmp_path / "uniform") == set()


def test_arrays_have_the_bytes_of_numpy(tmp_path: Path) -> None:
    for k, array in enumerate((np.arange(6.0).reshape(2, 3), np.zeros((0, 3), np.uint8), np.ones((4, 2), "f4").T[::2])):
        ours, theirs = tmp_path / f"ours{k}", tmp_path / f"theirs{k}.npy"
        write_atomic(ours, lambda file, array=array: write_array(file, array))
        np.save(theirs, np.ascontiguousarray(array))
        assert ours.read_bytes() == theirs.read_bytes()


def test_killed_while_it_writes(tmp_path: Path) -> None:
    given = arguments(tmp_path / "uniform")
    assert process("kill", given).returncode == -9
    assert [path.stat().st_size for path in (tmp_path / "uniform").glob(".test.npy.*")] == [9]
    assert prepare.main(given) == 0
    assert files(tmp_path / "uniform") == COMPLETE


def test_a_small_disk(tmp_path: Path) -> None:
    """A real one, of half a megabyte: too small, seen beforehand or not; then enlarged."""
    disk = tmp_path / "disk"
    disk.mkdir()
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", disk]).returncode:
        pytest.skip("no file system can be mounted here")
    given = arguments(disk / "uniform")
    warned, unwarned = [sys.executable, "-m", "workflow.commands.prepare", *given], command("0", given)
    script = f"""
        mount -t tmpfs -o size=512k none {shlex.quote(str(disk))}
        {shlex.join(warned)}; echo $?
        {shlex.join(unwarned)}; echo $?
        ls -A {shlex.quote(str(disk / "uniform"))}
        mount -o remount,size=4m {shlex.quote(str(disk))}
        {shlex.join(warned)}; echo $?
        ls -A {shlex.quote(str(disk / "uniform"))}
    """
    done = subprocess.run([*unshare, "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    seen, unseen = done.stderr.splitlines()
    assert seen.startswith("error: expected 768,000 bytes of free disk space for the images of uniform, found ")
    assert unseen.startswith(f"error: expected to write {disk / 'uniform' / 'test.npy'}, found: ")
    assert unseen.endswith("(0 bytes free on that disk)")
    assert done.stdout.split() == ["2", "2", "0", *sorted(COMPLETE)]
