"""The status command: every run is in the state that its files say, whatever the clocks, and fast."""

import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from dtri.sealed import write_sealed
from tests import training
from workflow import jobcode, specs
from workflow.commands import status
from workflow.commands.status import State, runs_of, state_of, states

RUN = specs.Run("demo", "digits", "vae", 0)
NOW = 2_000_000_000.0  # by the file system's clock
STEPS = specs.train_spec(RUN).steps


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    status._speeds.cache_clear()
    status._estimated_alike.cache_clear()
    return tmp_path / "results"


def started(clock: float) -> dict:
    return {"event": "start", "t": 0, "steps": STEPS, "message": "from scratch", "time": clock}


def progress(t: int, left: float, clock: float) -> dict:
    return {"event": "progress", "t": t, "seconds": 1.0, "steps": STEPS, "seconds_left": left, "time": clock}


def write_events(run: specs.Run, *events: dict, age: float) -> None:
    write(Path(run.folder) / "events.jsonl", "".join(json.dumps(event) + "\n" for event in events), age)


def write_log(run: specs.Run, text: str, age: float) -> None:
    write(Path(run.folder) / "logs" / "train.log", text, age)


def write(path: Path, text: str, age: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (NOW - age, NOW - age))


def finish(run: specs.Run, **values) -> None:
    """A training summary, as this checkout writes it."""
    spec = specs.train_spec(run)
    made = {**asdict(run), "status": "done", "spec_hash": spec.hash, "code": jobcode.training_code(run), "data": {}}
    made |= {"spec": asdict(spec), "images_per_s": 3000.0, "device": "cpu"}
    Path(run.folder).mkdir(parents=True, exist_ok=True)
    write_sealed(Path(run.folder) / "train.json", {**made, **values})


def test_waiting() -> None:
    assert state_of(RUN, NOW) == State("waiting")


def test_running_with_the_time_left() -> None:
    write_events(RUN, started(500.0), progress(120, 90.0, 510.0), age=4.0)
    assert state_of(RUN, NOW) == State("running", 0.4, 86.0)


def test_a_job_that_imports_its_libraries_is_running() -> None:
    write_log(RUN, "", age=3.0)
    assert state_of(RUN, NOW) == State("running")


def test_iterations_of_minutes_are_no_silence() -> None:
    write_events(RUN, started(0.0), progress(1, 9e4, 300.0), progress(2, 8e4, 600.0), age=400.0)
    assert state_of(RUN, NOW).name == "running"


def test_a_line_that_is_being_written_is_passed_over() -> None:
    write_events(RUN, started(500.0), progress(120, 90.0, 510.0), age=4.0)
    with open(Path(RUN.folder) / "events.jsonl", "a") as file:
        file.write('{"event": "progr')
    assert state_of(RUN, time.time()).done == 0.4


def test_only_the_end_of_long_files_counts() -> None:
    write_events(RUN, started(0.0), *(progress(120, 90.0, 1.0 * i) for i in range(2000)), age=4.0)
    assert state_of(RUN, NOW).name == "running"


def test_interrupted() -> None:
    interrupted = {"event": "interrupted", "reason": "deadline", "t": 60, "seconds": 30.0, "time": 511.0}
    write_events(RUN, started(500.0), interrupted, age=4.0)
    write_log(RUN, f"{RUN.folder}: deadline at iteration 60, state saved\n", age=3.0)
    assert state_of(RUN, NOW) == State("stopped", 0.2, 120.0, "deadline, saved at iteration 60")
    write_log(RUN, "", age=1.0)  # the job of the next attempt
    assert state_of(RUN, NOW).name == "running"


def test_killed() -> None:
    write_events(RUN, started(500.0), progress(120, 90.0, 510.0), age=1000.0)
    assert state_of(RUN, NOW) == State("stopped", 0.0, 150.0, "silent since iteration 120, nothing saved")
    saved = {"event": "saved", "t": 100, "seconds": 50.0, "time": 509.0}
    write_events(RUN, started(500.0), saved, progress(120, 90.0, 510.0), age=1000.0)
    (Path(RUN.folder) / "state.pt").write_bytes(b"state")
    assert state_of(RUN, NOW) == State("stopped", 1 / 3, 100.0, "silent since iteration 120, state saved")


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("error: expected a GPU, found none\n", "error: expected a GPU, found none"),
        ("Traceback (most recent call last):\n  File x\nRuntimeError: no\n", "RuntimeError: no"),
        ("digits/vae/seed0: iteration 9/300\nerror: no space\nroot cause of torchrun\n", "error: no space"),
    ],
)
def test_failed(log: str, said: str) -> None:
    write_events(RUN, started(500.0), progress(120, 90.0, 510.0), age=9.0)
    write_log(RUN, log, age=8.0)
    assert state_of(RUN, NOW) == State("failed", 0.4, None, said)


def test_an_error_that_the_run_outlived_is_none() -> None:
    write_events(RUN, started(500.0), progress(120, 90.0, 510.0), age=4.0)
    write_log(RUN, "Traceback (most recent call last):\nIgnored\ndigits/vae/seed0: iteration 120/300, 9\n", age=4.0)
    assert state_of(RUN, NOW).name == "running"


def test_finished() -> None:
    finish(RUN)
    assert state_of(RUN, NOW) == State("done", 1.0, 0.0)
    finish(RUN, status="diverged", bad_step=77, term="loss")
    assert state_of(RUN, NOW) == State("diverged", 1.0, 0.0, "at iteration 77 (loss)")


def test_a_stale_run_waits() -> None:
    finish(RUN, code="0" * 16)
    assert state_of(RUN, NOW) == State("waiting", remark="to be trained again: training code changed")


def test_a_damaged_summary_is_a_failure() -> None:
    finish(RUN)
    path = Path(RUN.folder) / "train.json"
    path.write_text(path.read_text().replace('"done"', '"gone"'))
    found = state_of(RUN, NOW)
    assert (found.name, "seal" in found.remark) == ("failed", True)


def test_a_clock_behind_that_of_the_file_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour between the two clocks makes no run that is at work a stopped one."""
    write_events(RUN, started(500.0), progress(120, 90.0, 510.0), age=0.0)
    os.utime(Path(RUN.folder) / "events.jsonl")
    ahead = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: ahead)
    assert states([RUN])[RUN].name == "running"


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each run, the busy ones first; a count; the time left, of a run not begun by one that was done."""
    done, running, waiting, failed = (specs.Run("demo", "digits", "vae", seed) for seed in range(4))
    finish(done)
    write_events(running, started(500.0), progress(150, 4.0, 510.0), age=0.0)
    os.utime(Path(running.folder) / "events.jsonl")
    write_log(failed, "error: no space\n", age=0.0)
    assert status.main([one.folder for one in (done, running, waiting, failed)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["running", "failed", "waiting", "done"]
    assert lines[0].startswith("running    50%")
    assert lines[1].endswith(f"{failed.folder}: error: no space")
    assert lines[4] == "1 running, 1 failed, 1 waiting, 1 done"
    assert lines[5].startswith("training left: about 2")
    assert "an estimate for 2 of 3 runs" in lines[5]


def test_watch_ends_with_the_last_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status.time, "sleep", lambda seconds: finish(RUN))
    assert status.main([RUN.folder, "--watch"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "," not in line and line[0].isdigit()] == [
        "1 waiting",
        "1 done",
    ]


def test_targets() -> None:
    """A preset, one of its tables and figures, a system's folder and a run's file."""
    everything = runs_of("demo")
    assert RUN in everything
    assert runs_of("results/demo/overview.html") == runs_of("results/demo") == everything
    assert 0 < len(runs_of("results/demo/table1.csv")) < len(everything)
    assert {one.dataset for one in runs_of("results/demo/digits")} == {"digits"}
    assert {one.model for one in runs_of("results/demo/figures/samples.png")} == {
        "joint_vae_ebm",
        "divergence_triangle",
    }
    assert runs_of("results/demo/digits/vae/seed7/metrics/rmse.json") == [specs.Run("demo", "digits", "vae", 7)]
    assert {one.preset for one in runs_of("results/table1.csv")} == {"paper"}
    with pytest.raises(ValueError, match="expected a preset"):
        runs_of("demonstration")


def test_a_thousand_runs_in_a_second() -> None:
    """Of processor time; events are longer than what is read of them."""
    runs = [specs.Run("demo", "digits", "vae", seed) for seed in range(1000)]
    events = [started(0.0), *(progress(i % 299, 90.0, 10.0 * i) for i in range(300))]
    for one in runs[:800]:
        write_events(one, *events, age=4.0)
        write_log(one, f"digits/vae/seed{one.seed}: iteration 9/300\n" * 50, age=4.0)
    for one in runs[800:900]:
        finish(one)
    began = time.process_time()
    found = states(runs)
    "\n".join(status.report(found))
    assert time.process_time() - began < 1
    assert len(found) == 1000


def test_a_training_interrupted_and_continued(tmp_path: Path) -> None:
    """A real one: running, saved and stopped, at its end."""
    data = training.prepare_digits(tmp_path / "data")
    folder = Path(RUN.folder).resolve()
    spec = specs.train_spec(RUN)
    wanted = {name: getattr(spec, name) for name in ("model", "entry", "hparams", "steps", "batch_size", "threads")}
    process = training.start(data, folder, code=jobcode.training_code(RUN), **wanted)
    training.wait_for(lambda: training.events(folder, "start"), process)
    assert states([RUN])[RUN].name == "running"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=training.TIMEOUT_S)
    stopped = states([RUN])[RUN]
    assert stopped.name == "stopped"
    assert stopped.remark == f"signal, saved at iteration {round(stopped.done * spec.steps)}"
    training.complete(data, folder, code=jobcode.training_code(RUN), **wanted)
    ended = states([RUN])[RUN]  # by a command given by hand, which names no preset
    assert (ended.name, ended.remark.partition(" ''")[0]) == ("waiting", "to be trained again: unknown preset")
