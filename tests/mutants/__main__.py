"""Plant faults, one at a time, in a copy of this checkout, and see whether the tests that are about them fail.

    python -m tests.mutants                     the list of tests/mutants/faults.py
    python -m tests.mutants --random 40 --seed 1 --under dtri/metrics    drawn faults of operators and constants

Prints a line for each fault with its CPU seconds, then the caught and all by room. Exit code 1: fewer than 95 % of the
list are caught. Exit code 2: a fault's source is not found once in its file, or a named test fails with nothing
planted. Drawn faults look for holes; many change no number, so they do not count.
"""

import argparse
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.mutants.faults import FAULTS, Fault
from tests.mutants.operators import drawn

ROOT = Path(__file__).resolve().parents[2]
WANTED = 0.95
LIMIT_S = 300  # a fault that never ends is caught
PRELOADED = ("pytest", "torch", "torch_fidelity", "sklearn.metrics", "sklearn.datasets", "pandas")
FIRST_PARTY = ("baselines", "bench", "dtri", "tests", "workflow")
CAUGHT, SURVIVED, BROKEN = "caught", "SURVIVED", "broken"  # broken: no test was run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=0, metavar="N", help="plant N drawn faults in place of the list")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn faults")
    parser.add_argument("--under", nargs="+", default=[""], help="only in files whose path starts so")
    parser.add_argument("--workers", type=int, default=2, help="tests that run at once, one thread each")
    arguments = parser.parse_args()
    under = tuple(arguments.under)
    faults = [fault for fault in FAULTS if fault.file.startswith(under)]
    if arguments.random:
        faults = drawn(ROOT, arguments.random, arguments.seed, under)
    if missing := [fault for fault in faults if fault.times(ROOT) != 1]:
        for fault in missing:
            print(f"{fault.file}: expected once, found {fault.times(ROOT)} times: {fault.source}")
        return 2

    started, found = time.monotonic(), {}
    for fault, outcome, seconds in _outcomes(faults, arguments.workers):
        if fault is None:
            if outcome != SURVIVED:
                print("expected the named tests to pass with nothing planted; see the output above")
                return 2
            continue
        found[fault] = outcome
        print(f"{outcome:8} {seconds:5.1f} s  {fault}", flush=True)
    _report(found)
    print(f"{time.monotonic() - started:.0f} s")
    counted = [outcome for fault, outcome in found.items() if not fault.survives]
    return int(not arguments.random and counted.count(CAUGHT) < WANTED * len(counted))


def _report(found: dict[Fault, str]) -> None:
    """Caught and all by room, without those that are known to survive; these with their reasons."""
    rooms, caught = Counter(), Counter()
    for fault, outcome in found.items():
        if not fault.survives:
            rooms[fault.room] += 1
            caught[fault.room] += outcome == CAUGHT
    print()
    for room in (*rooms, None):
        n, of = (caught[room], rooms[room]) if room else (caught.total(), rooms.total())
        print(f"{room or 'all':12} {n:4} of {of:4} caught")
    for fault, outcome in found.items():
        if fault.survives:
            print(f"known to survive ({outcome}): {fault}: {fault.survives}")
        elif outcome != CAUGHT:
            print(f"{outcome}: {fault}")


def _outcomes(faults: Sequence[Fault], workers: int) -> Iterator[tuple[Fault | None, str, float]]:
    """(fault, outcome, CPU seconds) as they end; first None: all named tests with nothing planted."""
    _preload()
    named = tuple(dict.fromkeys(test for fault in faults for test in fault.tests))
    with tempfile.TemporaryDirectory(prefix="dtri-mutants-") as temporary:
        copies = [_copied(Path(temporary) / str(k)) for k in range(max(1, workers))]
        log = Path(temporary) / "nothing.log"
        _, status, _ = os.wait4(_forked(copies[0], named, log, limit_s=0), 0)
        outcome = _ended(status)
        if outcome != SURVIVED:
            print(log.read_text("utf-8", errors="replace"))
        yield None, outcome, 0.0
        waiting, running = list(reversed(faults)), {}
        while waiting or running:
            while waiting and copies:
                fault, copy = waiting.pop(), copies.pop()
                whole = (copy / fault.file).read_text("utf-8")
                (copy / fault.file).write_text(fault.planted_in(copy), "utf-8")
                pid = _forked(copy, fault.tests, copy / "test.log", LIMIT_S)
                running[pid] = fault, copy, whole
            pid, status, used = os.wait3(0)
            fault, copy, whole = running.pop(pid)
            (copy / fault.file).write_text(whole, "utf-8")
            copies.append(copy)
            yield fault, _ended(status), used.ru_utime + used.ru_stime


def _preload() -> None:
    """What tests import from elsewhere, once for all processes that are forked from this one."""
    os.environ |= {"OMP_NUM_THREADS": "1", "DTRI_DEVICE": "cpu"}
    sys.dont_write_bytecode = True  # faults of one size in one second would share a compiled file
    for name in PRELOADED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.Adam([weight]).step()  # the first optimiser imports for seconds


def _copied(folder: Path) -> Path:
    """The files of this checkout, changes and new files included."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (source := ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
    return folder


def _forked(folder: Path, tests: Sequence[str], log: Path, limit_s: int) -> int:
    """Starts pytest on the checkout in `folder`; the id of its process, which ends with pytest's code."""
    if pid := os.fork():
        return pid
    code = 70
    try:
        signal.alarm(limit_s)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.chdir(folder)
        for name in [name for name in sys.modules if name.split(".")[0] in FIRST_PARTY]:
            del sys.modules[name]
        sys.path[:] = [str(folder), *(path for path in sys.path if path not in ("", str(ROOT)))]
        import pytest

        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-o", "timeout=0", *tests]))
        sys.stdout.flush()
    finally:
        os._exit(code)


def _ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        return CAUGHT if os.WTERMSIG(status) == signal.SIGALRM else BROKEN
    return {0: SURVIVED, 1: CAUGHT}.get(os.WEXITSTATUS(status), BROKEN)


if __name__ == "__main__":
    sys.exit(main())
