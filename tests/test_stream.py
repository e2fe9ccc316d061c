"""Streamed splits: the bytes of arrays that fit into memory, whatever interrupts the writing; never a half of them."""

import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtri.data import saving, stream
from workflow.commands.cli import run

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (3, 4, 4)
N = {"train": 23, "test": 5}
EVERY = 4  # images between two syncs
IMAGES = {split: np.random.RandomState(n).randint(0, 256, (n, *SHAPE)).astype(np.uint8) for split, n in N.items()}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SYNC_BYTES", EVERY * 48)


class Source:
    """Yields a split's images and may stop with an error before one of them; remembers where it was asked to start."""

    def __init__(self, split: str, fail_at: int | None = None, error: type[BaseException] = KeyboardInterrupt):
        self.split, self.fail_at, self.error, self.starts = split, fail_at, error, []

    def __call__(self, start: int) -> Generator[np.ndarray, None, None]:
        self.starts.append(start)
        for k in range(start, N[self.split]):
            if k == self.fail_at:
                raise self.error("stopped")
            yield IMAGES[self.split][k]


def streamed(identity: str = "raw", **sources: Source) -> saving.Arrays:
    sources = {split: sources.get(split, Source(split)) for split in N}
    splits = {split: stream.Stream(N[split], SHAPE, source, identity) for split, source in sources.items()}
    return saving.Arrays(splits, {split: np.arange(n) for split, n in N.items()}, {}, None, "small")


def held() -> saving.Arrays:
    return replace(streamed(), splits=IMAGES)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def check(folder: Path) -> None:
    """`folder` holds the whole dataset and nothing else."""
    dataset = saving.verify(folder)
    for split in N:
        np.testing.assert_array_equal(dataset.images(split), IMAGES[split])
    assert names(folder) == ["index.npz", "meta.json", "test.npy", "train.npy"]


def test_a_streamed_dataset_is_byte_for_byte_that_of_arrays(tmp_path: Path) -> None:
    assert saving.save(streamed(), tmp_path / "a", "small") == saving.save(held(), tmp_path / "b", "small")
    for name in names(tmp_path / "b"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    check(tmp_path / "a")


def test_streams_and_arrays_mix(tmp_path: Path) -> None:
    mixed = replace(held(), splits={"train": streamed().splits["train"], "test": IMAGES["test"]})
    saving.save(mixed, tmp_path, "small")
    check(tmp_path)


@pytest.mark.parametrize("stop", [0, 1, 4, 5, 11, 12, 13, 22])
def test_an_interrupted_stream_is_continued_from_a_sync(tmp_path: Path, stop: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        saving.save(streamed(train=Source("train", stop)), tmp_path, "small")
    assert [name for name in names(tmp_path) if not name.startswith(".")] == []
    again = Source("train")
    saving.save(streamed(train=again), tmp_path, "small")
    # The last sync may have been cut off, so that only the one before it is trusted.
    assert again.starts == [max(0, (stop // EVERY - 1) * EVERY)]
    check(tmp_path)


def test_a_split_that_is_complete_is_not_written_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        saving.save(streamed(test=Source("test", 3)), tmp_path, "small")
    again = Source("train")
    saving.save(streamed(train=again), tmp_path, "small")
    assert again.starts == []
    check(tmp_path)


def test_a_kill_while_the_images_are_examined_costs_no_stream(tmp_path: Path) -> None:
    """Of a large set that takes minutes."""
    seen = {}

    def killed(images: dict[str, np.ndarray]) -> dict[str, int]:
        seen.update({split: np.array(one) for split, one in images.items()})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        saving.save(streamed(), tmp_path, "small", killed)
    again = {split: Source(split) for split in N}
    meta = saving.save(streamed(**again), tmp_path, "small", lambda images: {"n_test_in_train": len(images["test"])})
    assert [source.starts for source in again.values()] == [[], []]
    assert meta["n_test_in_train"] == N["test"]
    for split in N:
        np.testing.assert_array_equal(seen[split], IMAGES[split])
    check(tmp_path)


def test_what_was_not_synced_is_not_trusted(tmp_path: Path) -> None:
    """After a loss of power a file may have its length and not its content."""
    with pytest.raises(KeyboardInterrupt):
        saving.save(streamed(train=Source("train", 11)), tmp_path, "small")
    (part,) = tmp_path.glob(".train.npy.*.part")
    content = part.read_bytes()
    assert len(content) == 128 + 8 * 48
    part.write_bytes(content[: 128 + 4 * 48] + bytes(4 * 48 + 3))
    saving.save(streamed(), tmp_path, "small")
    check(tmp_path)


def test_other_raw_files_or_options_start_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        saving.save(streamed("old", train=Source("train", 20)), tmp_path, "small")
    again = Source("train")
    saving.save(streamed("new", train=again), tmp_path, "small")
    assert again.starts == [0]
    check(tmp_path)


def test_an_older_dataset_stays_until_the_new_one_is_there(tmp_path: Path) -> None:
    saving.save(held(), tmp_path, "small")
    with pytest.raises(KeyboardInterrupt):
        saving.save(streamed(test=Source("test", 2)), tmp_path, "small")
    assert saving.verify(tmp_path).meta["sizes"] == N
    saving.save(streamed(), tmp_path, "small")
    check(tmp_path)


@pytest.mark.parametrize(
    "image, message",
    [
        (
            np.zeros((3, 4, 5), np.uint8),
            r"expected uint8 \(3, 4, 4\), found uint8 \(3, 4, 5\) \(image 0 of .*train\.npy",
        ),
        (np.zeros((3, 4, 4)), r"expected uint8 \(3, 4, 4\), found float64 \(3, 4, 4\)"),
        (None, r"expected 23 images for .*train\.npy, found 0"),
    ],
)
def test_what_is_no_dataset_is_refused(tmp_path: Path, image: np.ndarray | None, message: str) -> None:
    def read(start: int) -> Generator[np.ndarray, None, None]:
        yield from [] if image is None else [image] * N["train"]

    with pytest.raises(ValueError, match=message):
        saving.save(streamed(train=read), tmp_path, "small")
    saving.save(streamed(), tmp_path, "small")
    check(tmp_path)


def test_two_processes_do_not_write_the_same_images(tmp_path: Path, capsys) -> None:
    def read(start: int) -> Generator[np.ndarray, None, None]:
        assert run(lambda: saving.save(streamed(), tmp_path, "small") and 0) == 2
        yield from Source("train")(start)

    saving.save(streamed(train=read), tmp_path, "small")
    assert f"error: expected to write {tmp_path / 'train.npy'} alone, found another process" in capsys.readouterr().err
    check(tmp_path)


def test_space_is_checked_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _: saving.shutil._ntuple_diskusage(9, 8, 1000))
    source = Source("train")
    with pytest.raises(OSError, match=r"expected 1,232 bytes of free disk space for .*train\.npy, found 1,000"):
        saving.save(streamed(train=source), tmp_path, "small")
    assert source.starts == []


def test_progress_is_logged_where_there_is_no_terminal(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(stream, "LOG_S", 0)
    folder = tmp_path / "small"
    with pytest.raises(KeyboardInterrupt):
        saving.save(streamed(train=Source("train", 9)), folder, "small")
    saving.save(streamed(), folder, "small")
    out = capsys.readouterr().out
    assert "small train: continuing at 4/23 images\nsmall train: 5/23 images, " in out
    assert " images/s, 0 s left" in out


WORK = """
import resource, sys
from pathlib import Path
import tests.test_stream as t
from workflow.commands.cli import run
t.stream.SYNC_BYTES, t.stream.LOG_S = t.EVERY * 48, 1e9
limit, stop = int(sys.argv[2]), int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
def read(start):
    for k in range(start, t.N["train"]):
        if k == stop:
            print("waiting", flush=True)
            sys.stdin.read()
        yield t.IMAGES["train"][k]
sys.exit(run(lambda: t.saving.save(t.streamed(train=read), Path(sys.argv[1]), "small") and 0))
"""


def work(folder: Path, limit: int = 0, stop: int = -1) -> subprocess.Popen:
    """A process that writes; at image `stop` it waits to be killed."""
    command = [sys.executable, "-c", WORK, str(folder), str(limit), str(stop)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def test_a_full_disk_is_one_line_and_the_same_command_continues(tmp_path: Path) -> None:
    process = work(tmp_path, limit=128 + 10 * 48 + 20)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 2
    assert f"error: expected to write {tmp_path / 'train.npy'}, found: [Errno 27] File too large" in err
    assert "what is written will be continued" in err
    assert err.count("\n") == 1
    again = Source("train")
    saving.save(streamed(train=again), tmp_path, "small")
    assert again.starts == [8]
    check(tmp_path)


def test_a_killed_process_is_continued(tmp_path: Path) -> None:
    process = work(tmp_path, stop=14)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=600)
    assert not (tmp_path / "meta.json").exists()
    again = Source("train")
    saving.save(streamed(train=again), tmp_path, "small")
    assert again.starts == [8]
    check(tmp_path)
