"""Slots on this machine's devices, held by file locks: the kernel frees them when the process dies, however it dies.

Processes that know nothing of each other, of several workflows and users too, share the devices by sharing a folder of
locks. It lies where all users of the machine see it. Not shared are: a container with folders of its own, and programs
that know nothing of these locks.
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
ROOMS = (Path("/var/lock"), Path("/tmp"))  # of all users, whatever TMPDIR says; the first that takes a folder


def shared_folder(name: str, rooms: Sequence[Path] = ROOMS) -> Path:
    """A folder in which every user of this machine may make files and remove only their own.

    Where there can be none, one of this user below TMPDIR, which is said on stderr.
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
    """Take free slots of devices that are not among `have`, until there are `count` in all; `held` frees them."""
    taken: set[int] = set()
    for slot in range(per_device):
        for index, device in enumerate(devices):
            if index in have | taken or len(have | taken) == count:
                continue
            if _lock(folder / f"{device}.{slot}", held):
                taken.add(index)
    return taken


def _lock(path: Path, held: ExitStack) -> bool:
    """Whether the lock was free; `held` frees it then.

    A file that another user made is opened for reading, which is all that a lock needs: Linux denies to create what is
    there already in a folder of all users.
    """
    options = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(path, options | os.O_CREAT | os.O_EXCL, 0o644)
        os.fchmod(handle, 0o644)  # whatever the umask
    except FileExistsError:
        handle = os.open(path, options)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    held.callback(os.close, handle)
    return True
