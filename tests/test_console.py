"""What is shown while Snakemake works: one line for each job, errors as they are, whole jobs in a dry run."""

import logging

import pytest
from snakemake.logging import DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from workflow import console

JOB = {
    "rule_msg": "train vae on digits, seed 0",
    "rule_name": "train",
    "local": False,
    "is_checkpoint": False,
    "input": [],
    "output": ["model.safetensors"],
    "log": [],
    "jobid": 1,
    "benchmark": None,
    "reason": "Missing output files: model.safetensors",
    "wildcards": {"model": "vae"},
    "priority": 10,
    "threads": 1,
    "resources": {},
}


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DefaultFormatter, "format_job_info", DefaultFormatter.format_job_info)
    monkeypatch.setattr(DefaultFilter, "filter", DefaultFilter.filter)


def record(message: str | None, **values) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "levelno": logging.INFO, "levelname": "INFO", **values})


def test_a_dry_run_shows_whole_jobs() -> None:
    """`explain` reads them."""
    console.full_jobs()
    text = DefaultFormatter().format_job_info(JOB)
    assert "rule train:" in text
    assert "output: model.safetensors" in text
    assert "reason: Missing output files" in text


def test_a_line_for_each_job() -> None:
    console.one_line_a_job(4)
    formatter, shown = DefaultFormatter(), DefaultFilter(None, False, False, False, False)
    assert formatter.format_job_info(JOB).endswith("[0 of 4] train vae on digits, seed 0")
    assert not shown.filter(record(None, event=LogEvent.PROGRESS, done=1, total=4))
    assert formatter.format_job_info(JOB).endswith("[1 of 4, about 0 min left] train vae on digits, seed 0")
    assert not shown.filter(record("Finished jobid: 1 (Rule: train)", event=LogEvent.JOB_FINISHED))
    assert not shown.filter(record("Select jobs to execute..."))
    assert shown.filter(record(None, event=LogEvent.PROGRESS, done=4, total=4))
    assert shown.filter(record("job failed", event=LogEvent.JOB_ERROR))
    assert shown.filter(record("error: no space"))
