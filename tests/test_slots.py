"""Slots on pretended devices, held by real processes that wait, end and are killed."""

import json
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from dtri import slots
from tests.test_files import as_user

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 60

# Prints what it holds, then holds it until it is told to end.
HOLDER = """
import json, sys
from pathlib import Path
from dtri import slots
slots.POLL_S = 0.02
count, per_device, folder = json.loads(sys.argv[1])
with slots.hold(["gpu-a", "gpu-b"], count, per_device, Path(folder)) as held:
    print(json.dumps(held), flush=True)
    sys.stdin.read()
"""


class Holder:
    """A process that wants `count` of two devices."""

    def __init__(self, folder: Path, count: int = 1, per_device: int = 1):
        wanted = json.dumps([count, per_device, str(folder)])
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, wanted], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def held(self) -> list[int]:
        """Waits until it holds something."""
        return json.loads(self.process.stdout.readline())

    def waits(self) -> bool:
        """Whether it does not hold anything within half a second."""
        return not ready([self], 0.5)

    def end(self, number: int | None = None) -> None:
        if number is not None:
            self.process.send_signal(number)
        self.process.communicate(timeout=TIMEOUT_S)


def ready(holders: list[Holder], seconds: float = TIMEOUT_S) -> list[Holder]:
    """Those that hold something, or have ended, as soon as there is one."""
    readable, _, _ = select.select([holder.process.stdout for holder in holders], [], [], seconds)
    return [holder for holder in holders if holder.process.stdout in readable]


@pytest.fixture
def start(tmp_path: Path):
    """Starts holders, and ends those that a test leaves."""
    started: list[Holder] = []

    def one(count: int = 1, per_device: int = 1) -> Holder:
        started.append(Holder(tmp_path, count, per_device))
        return started[-1]

    yield one
    for holder in started:
        holder.process.kill()
        holder.process.communicate()


def test_devices_fill_before_they_are_shared(start) -> None:
    holders = [start(per_device=2) for _ in range(4)]
    found = [holder.held() for holder in holders]
    assert sorted(found) == [[0], [0], [1], [1]]
    assert start(per_device=2).waits()


def test_each_of_two_processes_has_its_own_device_and_a_third_waits_for_the_freed_one(start) -> None:
    first, second = start(), start()
    assert sorted([first.held(), kept := second.held()]) == [[0], [1]]
    third = start()
    assert third.waits()
    second.end()
    assert third.held() == kept


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_death_frees_a_device(number: int, start) -> None:
    both = start(count=2)
    assert both.held() == [0, 1]
    waiting = start()
    assert waiting.waits()
    both.end(number)
    assert waiting.held() == [0]


def test_death_of_one_that_waits_holds_up_nobody(start) -> None:
    first = start()
    assert first.held() == [0]
    both = start(count=2)  # holds the other device, and the place at the head of the queue
    assert both.waits()
    single = start()
    assert single.waits()
    both.end(signal.SIGKILL)
    assert single.held() == [1]


def test_those_that_want_several_devices_take_turns(start) -> None:
    holders = [start(count=2) for _ in range(3)]
    while holders:
        (first,) = ready(holders)
        assert first.held() == [0, 1]
        holders.remove(first)
        assert not ready(holders, 0.2) if holders else True
        first.end()


@pytest.mark.parametrize("count, per_device", [(0, 1), (3, 1), (1, 0)])
def test_what_cannot_be_held_is_an_error(count: int, per_device: int, tmp_path: Path) -> None:
    message = f"expected 1..2 devices .* found {count} and {per_device}"
    with pytest.raises(ValueError, match=message), slots.hold(["a", "b"], count, per_device, tmp_path / "locks"):
        pass


# The folder of all users


def test_the_folder_is_of_all_users_whatever_tmpdir_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "mine"))
    folder = slots.shared_folder("gpu", [tmp_path / "absent", tmp_path])
    assert folder == tmp_path / "gpu" == slots.shared_folder("gpu", [tmp_path])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert all(room.is_dir() for room in slots.ROOMS)


def test_a_folder_for_reading_alone_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of another user, on a disk that a container shows so."""
    shown, room = tmp_path / "shown", tmp_path / "room"
    for folder in (shown / "gpu", room / "gpu"):
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    monkeypatch.setattr(slots.os, "getuid", lambda: -1)
    monkeypatch.setattr(slots.os, "access", lambda path, mode: path != shown / "gpu")
    assert slots.shared_folder("gpu", [shown, room]) == room / "gpu"


def test_where_there_is_no_such_folder_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "gpu").write_text("no folder")
    own = slots.shared_folder("gpu", [room])
    assert own.name == f"gpu-{os.getuid()}"
    assert f"expected a folder for locks in {room}, found none" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_two_users_share_the_devices() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as room:
        Path(room).chmod(0o1777)

        def folder() -> Path:
            return slots.shared_folder("gpu", [Path(room)])

        def hold_one() -> None:
            os.umask(0o077)
            with slots.hold(["a", "b"], 1, 1, folder()) as held:
                assert held == [0]

        def take_what_is_free() -> None:
            with ExitStack() as stack:
                assert slots._take(["a", "b"], set(), 2, 1, folder(), stack) == {1}

        assert as_user(64001, 64001, hold_one) == 0
        with slots.hold(["a", "b"], 1, 1, folder()) as held:
            assert held == [0]
            assert as_user(64002, 64002, take_what_is_free) == 0
        assert as_user(64002, 64002, hold_one) == 0


# Snakemake counts jobs, if it is told to; which device each one gets is settled by the slots alone.

JOB = """
import sys, time
from pathlib import Path
from dtri import slots
slots.POLL_S = 0.02
with slots.hold(["gpu-a", "gpu-b"], 1, 1, Path("locks")) as (device,):
    begin = time.monotonic()
    time.sleep(0.3)
    Path(sys.argv[1]).write_text(f"{device} {begin} {time.monotonic()}")
"""
SNAKEFILE = """
rule all:
    input: expand("{job}.txt", job=range(6))

rule job:
    output: "{job}.txt"
    resources: gpu=1
    shell: "PYTHONPATH={root} {python} job.py {output}"
"""


@pytest.mark.parametrize("options, at_once", [((), 2), (("--resources", "gpu=1"), 1), (("--resources", "gpu=9"), 2)])
def test_under_snakemake(options: tuple[str, ...], at_once: int, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    text = SNAKEFILE.replace("{root}", str(ROOT)).replace("{python}", sys.executable)
    (tmp_path / "Snakefile").write_text(text)
    command = [sys.executable, "-m", "snakemake", "--cores", "6", "--scheduler", "greedy", *options]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    jobs = [(path.read_text().split()) for path in tmp_path.glob("*.txt")]
    assert len(jobs) == 6
    spans = [(device, float(begin), float(end)) for device, begin, end in jobs]
    together = [[d for d, begin, end in spans if begin <= moment < end] for _, moment, _ in spans]
    assert all(len(set(devices)) == len(devices) for devices in together), "a device was given twice"
    assert max(len(devices) for devices in together) == at_once
