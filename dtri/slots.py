"""Slots on this machine's devices, held by file locks: the kernel frees them however a process dies.

Processes of several workflows and users know nothing of each other. They share the devices by a folder of locks, which
lies where all users of the machine see it. A container with private folders does not take part, and neither does a
program that ignores these locks.
"""

import fcntl
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

POLL_S = 0.5
ROOMS = (Path("/var/lock"), Path("/tmp"))  # open to all users, whatever TMPDIR says; the first that works is taken


def shared_folder(name: str, rooms: Sequence[Path] = ROOMS) -> Path:
    """A folder in which every user of this machine may make files and remove only their own.

    Where no such folder can be made, it is a folder of this user below TMPDIR, and a note on stderr says so.
    """
    for room in rooms:
        folder = room / name
        try:
            folder.mkdir(exist_ok=True)
            if (status := folder.lstat()).st_uid == os.getuid():
                folder.chmod(0o1777)
                return folder
        except OSError:
            continue
        of_all = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o1777
        if of_all and os.access(folder, os.W_OK):  # a container may show the machine's folder, for reading alone
            return folder
    own = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    print(
        f"note: expected a folder for locks in {' or '.join(map(str, rooms))}, found none; only workflows of this user "
        f"with the same TMPDIR share GPUs by locks ({own})",
        file=sys.stderr,
        flush=True,
    )
    return own


@contextmanager
def hold(devices: Sequence[str], count: int, per_device: int, folder: Path) -> Iterator[list[int]]:
    """Hold one of `per_device` slots on each of `count` devices: their indices, emptier devices first.

    While too many slots are taken, processes wait in a queue. So two processes can never each hold a
    device that the other needs. A process that wants several devices is not overtaken for ever.

    Args:
        devices:    names of all devices.
        count:      number of devices to hold.
        per_device: slots of each device.
        folder:     folder of the locks.

    Yields:
        The indices in `devices` of the devices that are held.

    Raises:
        ValueError: there are fewer than `count` devices.
    """
    if not 1 <= count <= len(devices) or per_device < 1:
        raise ValueError(
            f"expected 1..{len(devices)} devices for one run and at least one run per device, found {count} and "
            f"{per_device}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with ExitStack() as queue:
            while not _lock(folder / "queue", queue):
                time.sleep(POLL_S)
            taken = _take(devices, set(), count, per_device, folder, held)
            while len(taken) < count:
                time.sleep(POLL_S)
                taken |= _take(devices, taken, count, per_device, folder, held)
        yield sorted(taken)


def _take(
    devices: Sequence[str], have: set[int], count: int, per_device: int, folder: Path, held: ExitStack
) -> set[int]:
    """Take free slots of devices outside `have`, until there are `count` in all; `held` frees them."""
    taken: set[int] = set()
    for slot in range(per_device):
        for index, device in enumerate(devices):
            if index in have | taken or len(have | taken) == count:
                continue
            if _lock(folder / f"{device}.{slot}", held):
                taken.add(index)
    return taken


def _lock(path: Path, held: ExitStack) -> bool:
    """Whether the lock was free. If so, it is held until `held` ends.

    A file that another user made is opened for reading, which suffices for a lock. Linux refuses O_CREAT for it in a
    folder that is open to all users.
    """
    options = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(path, options | os.O_CREAT | os.O_EXCL, 0o644)
        os.fchmod(handle, 0o644)  # whatever the umask says
    except FileExistsError:
        handle = os.open(path, options)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    held.callback(os.close, handle)
    return True
