"""What a person sees while Snakemake works: a line for each job, how many are done, and about how long is left.

A dry run shows jobs in full, with files and reasons: `explain` reads that. Errors and failed logs stay as they are.
"""

import logging
import time
from typing import Any

from snakemake.logging import DefaultFilter, DefaultFormatter, get_event
from snakemake_interface_logger_plugins.common import LogEvent

CHATTER = ("Select jobs to execute", "Execute ", "Removing temporary output")  # beginnings of lines not shown

_job_in_full = DefaultFormatter.format_job_info
_shown = DefaultFilter.filter


class Progress:
    """Counts the jobs of one start; the time left follows from the pace since then, as if jobs were alike."""

    def __init__(self, total: int):
        self.done, self.total, self.began = 0, total, time.monotonic()

    def __str__(self) -> str:
        if not self.done:
            return f"[0 of {self.total}]"
        left = (time.monotonic() - self.began) / self.done * (self.total - self.done)
        return f"[{self.done} of {self.total}, about {left / 60:.0f} min left]"


def full_jobs() -> None:
    """Show jobs in full, whether their rule has a message or not."""
    DefaultFormatter.format_job_info = lambda formatter, record: _job_in_full(formatter, {**record, "rule_msg": None})


def one_line_a_job(total: int) -> None:
    """Show each of `total` jobs as one line when it starts, by its rule's message."""
    progress = Progress(total)

    def line(formatter: DefaultFormatter, record: dict[str, Any]) -> str:
        return f"{time.strftime('%H:%M:%S')} {progress} {record['rule_msg'] or record['rule_name']}"

    def shown(chosen: DefaultFilter, record: logging.LogRecord) -> bool:
        event = get_event(record)
        if event == LogEvent.PROGRESS:
            progress.done, progress.total = record.done, record.total
            return record.done == record.total and _shown(chosen, record)
        chatter = event == LogEvent.JOB_FINISHED or str(record.msg).startswith(CHATTER)
        return not chatter and _shown(chosen, record)

    DefaultFormatter.format_job_info, DefaultFilter.filter = line, shown
