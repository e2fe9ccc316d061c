"""No finished job is lost to a clock.

After a job Snakemake compares times. Where an input is newer than the outputs, which Snakemake has just touched, it
calls the job failed. It then removes the outputs, and hours of training with them. Such an input has a time in the
future: its machine's clock was ahead, it came out of an archive, or the clock was set back later. Content decides here
what runs again (profiles/README.md), so the input is given the time of the outputs instead.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake.dag import DAG


def forgive() -> None:
    """Let Snakemake set back the time of an input from the future, instead of failing the job that read it."""
    DAG.check_output_mtime = _set_back


async def _set_back(dag: DAG, job: Any, outputs: Iterable[str]) -> None:
    times = [path.stat().st_mtime_ns for path in map(Path, outputs) if path.exists()]
    for path in map(Path, job.input):
        with suppress(OSError):  # the file of another user: content decides
            if times and path.stat().st_mtime_ns > min(times):
                os.utime(path, ns=(min(times), min(times)))
