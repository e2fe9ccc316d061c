"""Signals at Snakemake itself."""

import threading

import pytest
from snakemake.scheduling.job_scheduler import JobScheduler

from workflow import session


def test_sigterm_does_not_wait_for_a_lock_that_its_own_thread_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake hashes outputs under the scheduler's lock; its own handler would wait for this lock for ever."""
    monkeypatch.setattr(JobScheduler, "exit_gracefully", JobScheduler.exit_gracefully)
    session.stop_on_any_sigterm()
    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._lock, scheduler._open_jobs, scheduler._user_kill = threading.Lock(), threading.Semaphore(0), None
    with scheduler._lock:
        scheduler.exit_gracefully()
        assert not scheduler._open_jobs.acquire(timeout=0.05)
    assert scheduler._open_jobs.acquire(timeout=10)
    assert scheduler._user_kill == "graceful"
