"""No finished job is lost to a clock.

After a job Snakemake compares times: where an input is newer than the outputs, which it has just touched, it calls the
job failed and removes them, hours of training with them. That is an input with a time in the future: written on a
machine whose clock is ahead, unpacked from an archive, or made before the clock was set back. What runs again is
decided by content here (profiles/README.md), so the input is given the time of the outputs instead.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake.dag import DAG


def forgive() -> None:
    """Let Snakemake set back inputs from the future instead of failing the job that read them."""
    DAG.check_output_mtime = _set_back


async def _set_back(dag: DAG, job: Any, outputs: Iterable[str]) -> None:
    times = [path.stat().st_mtime_ns for path in map(Path, outputs) if path.exists()]
    for path in map(Path, job.input):
        with suppress(OSError):  # of another user: content decides
            if times and path.stat().st_mtime_ns > min(times):
                os.utime(path, ns=(min(times), min(times)))
