"""Slots on this machine's devices, held by file locks: the kernel frees them when the process dies, however it dies.

Processes that know nothing of each other, of several workflows too, share the devices by sharing a folder of locks.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

POLL_S = 0.5


@contextmanager
def hold(devices: Sequence[str], count: int, per_device: int, folder: Path) -> Iterator[list[int]]:
    """Hold one of `per_device` slots of each of `count` devices; their indices in `devices`, emptier devices first.

    Waits while too many are taken, one process at a time: so two that want several devices cannot each hold what the
    other lacks, and one that wants several is not overtaken for ever. ValueError when there are fewer than `count`.
    """
    if not 1 <= count <= len(devices) or per_device < 1:
        raise ValueError(
            f"expected 1..{len(devices)} devices for one run and at least one run per device, found {count} and "
            f"{per_device}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with FileLock(folder / "queue"):
            taken = _take(devices, set(), count, per_device, folder, held)
            while len(taken) < count:
                time.sleep(POLL_S)
                taken |= _take(devices, taken, count, per_device, folder, held)
        yield sorted(taken)


def _take(
    devices: Sequence[str], have: set[int], count: int, per_device: int, folder: Path, held: ExitStack
) -> set[int]:
    """Take free slots of devices that are not among `have`, until there are `count` in all; `held` frees them."""
    taken: set[int] = set()
    for slot in range(per_device):
        for index, device in enumerate(devices):
            if index in have | taken or len(have | taken) == count:
                continue
            lock = FileLock(folder / f"{device}.{slot}")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            held.callback(lock.release)
            taken.add(index)
    return taken
