"""A training run survives everything: the same command continues it to the same bytes."""

import json
import random
import signal
import time

import pytest

from tests import training


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training.prepare_digits(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    return training.complete(data, tmp_path_factory.mktemp("uninterrupted"))


def test_signals(data, uninterrupted, tmp_path):
    """SIGTERM, then SIGINT, then to the end."""
    reached = []
    for attempt, (number, code) in enumerate([(signal.SIGTERM, 143), (signal.SIGINT, 130)], start=1):
        process = training.start(data, tmp_path)
        training.wait_for(lambda n=attempt: len(training.events(tmp_path, "start")) == n, process)
        time.sleep(0.1)
        process.send_signal(number)
        text, _ = process.communicate(timeout=training.TIMEOUT_S)
        assert process.returncode == code, text
        assert "state saved" in text
        assert not (tmp_path / "model.safetensors").exists()
        interrupted = training.events(tmp_path, "interrupted")[-1]
        assert interrupted["attempt"] == attempt
        reached.append(interrupted["t"])
    assert 0 < reached[0] < reached[1] < 300
    assert training.complete(data, tmp_path) == uninterrupted
    assert training.events(tmp_path, "start")[-1]["t"] == reached[1]
    assert json.loads((tmp_path / "train.json").read_text())["attempts"] == 3


def test_kill_9(data, uninterrupted, tmp_path):
    """Killed before the first save and at two random moments after; nothing is left behind."""
    moments = [0, *sorted(random.sample(range(20, 260), 2))]
    for attempt, moment in enumerate(moments, start=1):
        process = training.start(data, tmp_path, often=True)

        def reached(n=attempt, moment=moment) -> bool:
            saved = [event["t"] for event in training.events(tmp_path, "saved")]
            return len(training.events(tmp_path, "start")) == n and max(saved, default=0) >= moment

        training.wait_for(reached, process)
        time.sleep(random.uniform(0, 0.05))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"finished before it could be killed at {moment}"
    assert training.complete(data, tmp_path) == uninterrupted, moments
    assert json.loads((tmp_path / "train.json").read_text())["attempts"] == 4
    known = {*training.OUTPUTS, "train.json", "state.pt", "state.previous.pt", "events.jsonl", ".lock"}
    assert {path.name for path in tmp_path.iterdir()} == known


def test_second_process_waits_and_takes_over(data, uninterrupted, tmp_path):
    """Two processes on one run: the second waits for the lock, which the kernel frees when the first is killed."""
    first = training.start(data, tmp_path, often=True)
    training.wait_for(lambda: training.events(tmp_path, "start"), first)
    first.send_signal(signal.SIGSTOP)  # so that it does not finish before the second has started
    second = training.start(data, tmp_path, often=True)
    assert "waiting for another process" in second.stdout.readline()
    time.sleep(0.2)
    assert second.poll() is None
    assert len(training.events(tmp_path, "start")) == 1
    first.kill()
    first.communicate()
    text, _ = second.communicate(timeout=training.TIMEOUT_S)
    assert second.returncode == 0, text
    assert len(training.events(tmp_path, "start")) == 2
    assert training.outputs(tmp_path) == uninterrupted
