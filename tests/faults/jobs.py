"""Jobs of the workflow as processes forked from one that has imported PyTorch, which else takes most of their time."""

import importlib
import os
import resource
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT


def start(command: str, arguments: Sequence[str], log: Path, limit: int = 0) -> int:
    """The pid of a fork that runs `workflow.commands.<command>`, its output appended to `log`.

    `limit` is the largest size in bytes of a file it may write (0: none); it stands for a full disk.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))  # not a test's capture
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        from workflow.commands.cli import run

        module = importlib.import_module(f"workflow.commands.{command}")
        code = run(lambda: module.main(list(arguments)))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> bool:
    """Whether a child has ended; it can still be waited for."""
    return os.waitid(os.P_PID, pid, ENDED) is not None


def complete(pid: int) -> tuple[int, float]:
    """Wait for a child; (exit code, negative for a signal; CPU seconds)."""
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
