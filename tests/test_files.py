"""Writing: whole or not at all, synced before it counts, with the mode that the umask asks for."""

import contextlib
import os
import stat
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from dtri import checkpoint, files
from dtri.arrays import write_array
from dtri.data import saving
from dtri.data.stream import Stream
from dtri.metrics import classifier
from dtri.sealed import write_json, write_sealed
from dtri.weights import save_weights
from tests.bad_inputs import SPEC, weights
from workflow.commands import prepare

ROOT = Path(__file__).resolve().parents[1]
FILE = "file"
SHAPE = (1, 4, 4)


def streamed(path: Path) -> None:
    images = np.zeros((3, *SHAPE), np.uint8)
    os.replace(Stream(3, SHAPE, lambda start: (image for image in images[start:]), "raw").write(path), path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: files.write_bytes(path, b"new"),
    "text": lambda path: files.write_text(path, "new"),
    "json": lambda path: write_json(path, {}),
    "array": lambda path: files.write_atomic(path, lambda file: write_array(file, np.arange(3))),
    "sealed": lambda path: write_sealed(path, {}),
    "state": lambda path: checkpoint.save_state(path, {"run_id": "a"}),
    "weights": lambda path: save_weights(path, weights(SPEC), SPEC),
    "classifier": lambda path: classifier.save(classifier.Classifier((1, 28, 28), 2), path, {}),
    "stream": streamed,
}


@pytest.fixture
def masked() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077], ids=oct)
def test_modes_are_those_of_the_umask(
    umask: int, write: Callable[[Path], object], tmp_path: Path, masked: Callable[[int], int]
) -> None:
    masked(umask)
    write(tmp_path / FILE)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("umask", [0o002, 0o077], ids=oct)
def test_locks_and_datasets_have_the_modes_of_the_umask(
    umask: int, tmp_path: Path, masked: Callable[[int], int]
) -> None:
    masked(umask)
    images = np.zeros((3, *SHAPE), np.uint8)
    arrays = saving.Arrays({"test": images}, {"test": np.arange(3)}, {}, None, "")
    saving.save(arrays, tmp_path / "data", "data")
    with FileLock(tmp_path / "data" / ".lock"):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    assert modes == dict.fromkeys(("test.npy", "index.npz", "meta.json", ".lock"), 0o666 & ~umask)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "stream"])
def test_content_then_name_then_folder_are_synced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves the old file or the new one: its bytes are on the disk before the name points to them."""
    events = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        events.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def renamed(old: Path, new: Path) -> None:
        events.append(("rename", str(old), str(new)))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    path = tmp_path / FILE
    WRITERS[name](path)
    rename = next(k for k, event in enumerate(events) if event[0] == "rename" and event[2] == str(path))
    assert ("sync", events[rename][1]) in events[:rename]
    assert ("sync", str(tmp_path)) in events[rename + 1 :]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match=rf"expected to write {tmp_path / FILE}, found: disk full \([\d,]+ bytes free"):
        files.replace(tmp_path / FILE, write)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_an_error_that_names_another_file_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        files.replace(tmp_path / FILE, lambda temporary: (tmp_path / "elsewhere").read_bytes())
    assert list(tmp_path.iterdir()) == []


def test_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    """A second writer, an orphan of a killed workflow say, finishes while the first is at it."""

    def first(temporary: Path) -> None:
        files.write_text(tmp_path / FILE, "of the second")
        temporary.write_text("of the first")

    files.replace(tmp_path / FILE, first)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of the first"]


def test_a_folder_that_cannot_be_synced_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems refuse it."""
    fsync = os.fsync

    def refused(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refused)
    files.write_text(tmp_path / FILE, "new")
    assert (tmp_path / FILE).read_text() == "new"


def test_nothing_sets_a_mode_by_itself() -> None:
    """Every mode is the umask's, but in a folder of locks, which all users of a machine share."""
    sources = [path for room in ("dtri", "workflow") for path in (ROOT / room).rglob("*.py")]
    found = [
        path.name for path in sources if any(word in path.read_text() for word in ("chmod(0", "mkstemp", "0o6", "0o7"))
    ]
    assert sorted(found) == ["slots.py", "stream.py"]  # the latter calls os.open, whose default makes programs of files


# A group's users


def work(folder: Path, stop: int) -> None:
    """What a run does with its files: lock, saved state, curve, events, a dataset that stops at an image."""

    def read(start: int) -> Iterator[np.ndarray]:
        for k in range(start, 6):
            if k == stop:
                raise ValueError("stopped")
            yield np.full(SHAPE, k, np.uint8)

    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):
        state, _ = checkpoint.load_state(folder / "state.pt", "run")
        t = state["t"] + 1 if state else 0
        checkpoint.save_state(folder / "state.pt", {"run_id": "run", "t": t})
        files.write_text(folder / "train.csv", f"{t}")
        with open(folder / "events.jsonl", "a") as file:
            file.write(f"{t}\n")
        arrays = saving.Arrays({"test": Stream(6, SHAPE, read, "raw")}, {"test": np.arange(6)}, {}, None, "")
        with contextlib.suppress(ValueError):
            saving.save(arrays, folder / "data", "data")


def as_user(user: int, group: int, task: Callable[[], None]) -> int:
    """Exit code of a process of that user, whose new files are the group's to write."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
        os.umask(0o002)
        task()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_second_user_of_the_group_continues() -> None:
    """What the first leaves, locks, saved state, events and half a dataset, the second takes up."""
    group = 64003
    with tempfile.TemporaryDirectory() as room:
        Path(room).chmod(0o755)
        shared = Path(room) / "shared"
        shared.mkdir()
        os.chown(shared, 64001, group)
        shared.chmod(0o2775)
        run = shared / "run"
        assert as_user(64001, group, lambda: work(run, 4)) == 0
        assert as_user(64002, group, lambda: work(run, 9)) == 0
        state, _ = checkpoint.load_state(run / "state.pt", "run")
        assert state["t"] == 1
        assert (run / "train.csv").read_text() == "1"
        assert (run / "events.jsonl").read_text() == "0\n1\n"
        assert saving.verify(run / "data").images("test")[:, 0, 0, 0].tolist() == list(range(6))


def test_processes_of_any_user_prepare_one_folder_in_turn(tmp_path: Path) -> None:
    """The lock lies beside the folder, where every user and every machine that shares it looks."""
    given = ["--module", "dtri.data.uniform", "--options", '{"n": 5}', "--image-shape", "1,4,4"]
    given += ["--name", "u", "--raw", str(tmp_path), "--out", str(tmp_path / "data" / "u")]
    (tmp_path / "data").mkdir()
    second = threading.Thread(target=prepare.main, args=(given,))
    with FileLock(tmp_path / "data" / ".u.lock"):
        second.start()
        second.join(0.5)
        assert second.is_alive()
        assert not (tmp_path / "data" / "u").exists()
    second.join(60)
    assert saving.verify(tmp_path / "data" / "u").meta["sizes"] == {"test": 5}
