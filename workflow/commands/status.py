"""Say how far every training run is that targets need, and how long the whole still takes.

    dtri status                                  all presets that have results here
    dtri status demo
    dtri status results/lite/table4.csv --watch

It reads only files: train.json of a run, and the ends of its events.jsonl and of the job's log. So it works from
another terminal or another machine of a cluster, while runs compute. It exits with 1 where a run failed.
"""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dtri.sealed import read_sealed
from workflow import checks, configuration, costs, params, plan, specs, status, targets
from workflow.commands.cli import run

STATES = ("running", "failed", "stopped", "waiting", "diverged", "done")  # as they are listed
SILENT_S = 60.0  # seconds without an event or a log line; a run at work reports every ten seconds
TAIL_BYTES = 32_000  # of events: five minutes of them, within which a state is saved
WATCH_S = 5.0


@dataclass(frozen=True)
class State:
    """How far a run is: `name` of STATES, `done` the fraction of its iterations, `left` seconds of training to go.

    `left` is None where nothing on disk tells the run's pace; `remark` says what else is known.
    """

    name: str
    done: float = 0.0
    left: float | None = None
    remark: str = ""


# Which runs


def runs_of(word: str) -> list[specs.Run]:
    """The training runs behind a preset, a rule or a path below results/; ValueError where it is none of them."""
    presets = configuration.presets()
    if word in presets or word == "all":
        preset = presets.get(word, presets["paper"])
        return list(dict.fromkeys((*plan.runs(preset), *plan.begun(preset))))
    checks.check_target(word)
    match Path(word).parts:
        case ("results", name, data, system) if name in presets and targets.is_folder(system):
            return [specs.Run(name, data, one, seed) for one in plan.variants(system) for seed in presets[name].seeds]
        case ("results", name, data, system, seed, *_) if name in presets and seed.removeprefix("seed").isdecimal():
            return [specs.Run(name, data, system, int(seed.removeprefix("seed")))]
        case ("results", *inner):
            preset = presets[inner[0] if inner and inner[0] in presets else "paper"]
            return list(dict.fromkeys(_asked(preset, Path(word))))
    raise ValueError(f"expected a preset ({', '.join(presets)}) or a path below results/, found {word!r}")


def _asked(preset: configuration.Preset, path: Path) -> Iterator[specs.Run]:
    """The runs of a preset behind a table, a figure or a folder; all runs for another file."""
    if path.stem in plan.TABLES:
        return (one.run for one in plan.targets(preset, path.stem) if one.run is not None)
    if path.stem in plan.FIGURES:
        drawn = (one for one in plan.figure_products(preset, path.stem) if one.model)
        return (specs.Run(preset.name, one.measured_on, one.model, one.seed) for one in drawn)
    below = "" if path.suffix or len(path.parts) < 2 else f"{path.as_posix()}/"
    return (one for one in (*plan.runs(preset), *plan.begun(preset)) if one.folder.startswith(below))


# How far they are


def now_of(folder: Path) -> float:
    """The time in s by the clock that dates files in `folder`: a file server's on a cluster, not this machine's.

    Where nothing can be written it is this machine's time.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"now")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def state_of(one: specs.Run, now: float) -> State:
    """How far a run is at the time `now` (`now_of`), by the files in its folder."""
    folder = Path(one.folder)
    summary = folder / "train.json"
    if summary.exists():
        return _finished(summary)
    lines, reported = _tail(folder / "events.jsonl")
    log, logged = _tail(folder / "logs" / "train.log")
    events = list(_newest(lines))
    last = events[0] if events else {}
    steps = next((event["steps"] for event in events if "steps" in event), specs.train_spec(one).steps)
    t, pace = last.get("t", 0), _pace(events, steps)

    interrupted = last.get("event") == "interrupted"
    age = now - max(reported, logged)
    if interrupted and (any(line.endswith("state saved") for line in log) or age > SILENT_S or logged < reported):
        return State("stopped", t / steps, _left(pace, steps - t), f"{last['reason']}, saved at iteration {t}")
    if logged > reported - SILENT_S and (error := _error(log, Path(one.folder).relative_to(f"results/{one.preset}"))):
        return State("failed", t / steps, None, error)
    if age <= max(SILENT_S, 3 * _longest_gap(events)):
        left = _left(pace, steps - t)
        return State("running", t / steps, None if left is None else max(0.0, left - max(0.0, age)), "")
    if not (lines or log):
        return State("waiting")
    if not (folder / "state.pt").exists():
        return State("stopped", 0.0, _left(pace, steps), f"silent since iteration {t}, nothing saved")
    saved = next((event["t"] for event in _parsed(lines) if event["event"] == "saved"), 0)
    return State("stopped", saved / steps, _left(pace, steps - saved), f"silent since iteration {t}, state saved")


def _finished(path: Path) -> State:
    """The state of a run whose training has ended; a run that has to be trained again is waiting."""
    try:
        made, stale = read_sealed(path, "a training summary"), status.unaccepted(path)
    except ValueError as error:
        return State("failed", remark=str(error))
    if stale:
        return State("waiting", remark=f"to be trained again: {', '.join(one.what for one in stale)} changed")
    if made["status"] == "diverged":
        return State("diverged", 1.0, 0.0, f"at iteration {made['bad_step']} ({made['term']})")
    return State("done", 1.0, 0.0)


def _tail(path: Path) -> tuple[list[str], float]:
    """The last whole lines of a file, and its modification time in s; ([], -inf) where there is no such file."""
    try:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            file.seek(max(0, stat.st_size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return [], -math.inf
    return lines[1:] if stat.st_size > TAIL_BYTES else lines, stat.st_mtime


def _parsed(lines: list[str]) -> Iterator[dict[str, Any]]:
    """Events, the newest first; a line that is still being written is left out."""
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield event


def _newest(lines: list[str], most: int = 4) -> Iterator[dict[str, Any]]:
    """The last events of the last attempt, the newest first, at most `most`."""
    for event in islice(_parsed(lines), most):
        yield event
        if event["event"] == "start":
            return


def _longest_gap(events: list[dict[str, Any]]) -> float:
    """Seconds between two events, by the clock of the machine that wrote both."""
    times = [event["time"] for event in events]
    return max((later - earlier for later, earlier in pairwise(times)), default=0.0)


def _pace(events: list[dict[str, Any]], steps: int) -> float | None:
    """Seconds per iteration, as last reported; None before the first report."""
    for event in events:
        if "seconds_left" in event and event["t"] < steps:
            return event["seconds_left"] / (steps - event["t"])
        if event.get("seconds") and event["t"]:
            return event["seconds"] / event["t"]
    return None


def _left(pace: float | None, iterations: int) -> float | None:
    return None if pace is None else pace * iterations


def _error(log: list[str], label: Path) -> str:
    """The error that a log ends with; "" where there is none, or where the run reported progress after it."""
    said = next((i for i, line in enumerate(reversed(log)) if line.startswith(f"{label.as_posix()}: ")), len(log))
    end = [line for line in log[len(log) - said :] if line.strip()]
    if not any(line.startswith(("error: ", "Traceback (most recent call last)")) for line in end):
        return ""
    return next((line for line in reversed(end) if line.startswith("error: ")), end[-1].strip())


# What is shown


def report(states: dict[specs.Run, State], most: int | None = None) -> Iterator[str]:
    """One line for each run, at most `most`; a count for each state; the time left for all."""
    listed = sorted(states.items(), key=lambda item: STATES.index(item[1].name))
    for one, state in listed[:most]:
        share = f"{state.done:.0%}" if 0 < state.done < 1 or state.name == "running" else ""
        left = f"{duration(state.left)} left" if state.left else ""
        yield f"{state.name:8}  {share:>4}  {left:16}  {one.folder}{f': {state.remark}' if state.remark else ''}"
    if most is not None and len(listed) > most:
        yield f"... and {len(listed) - most} more"
    counts = Counter(state.name for state in states.values())
    yield ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name]) or "no training runs"
    yield from _whole(states)


def _whole(states: dict[specs.Run, State]) -> Iterator[str]:
    """The training left of all runs together, with as many at a time as are running now."""
    unfinished = {one: state for one, state in states.items() if state.name not in ("done", "diverged")}
    if not unfinished:
        return
    known = [state.left for state in unfinished.values() if state.left is not None]
    estimated = [_estimated(one) for one, state in unfinished.items() if state.left is None]
    at_a_time = max(1, sum(state.name == "running" for state in states.values()))
    seconds = max(sum([*known, *estimated]) / at_a_time, *known, *estimated)
    told = f"; an estimate for {len(estimated)} of {len(unfinished)} runs" if estimated else ""
    yield f"training left: about {duration(seconds)}, {at_a_time} at a time{told}"


def _estimated(one: specs.Run) -> float:
    """Seconds of a run that has not begun, by the speeds of others or by the cost model."""
    return _estimated_alike(one.preset, one.dataset, one.model)


@cache
def _estimated_alike(preset: str, dataset: str, model: str) -> float:
    spec = specs.train_spec(specs.Run(preset, dataset, model, 0))
    cost = costs.estimate(spec, bool(params.gpus(SimpleNamespace(preset=preset))), _speeds())
    return 3600 * cost.hours[0][1] / spec.processes  # of the first card, where hours are guessed for several


@cache
def _speeds() -> list[costs.Speed]:
    return costs.speeds()


def duration(seconds: float) -> str:
    """A duration in its two largest units, as "2 h 10 min"; "40 s" below two minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def states(runs: Iterable[specs.Run]) -> dict[specs.Run, State]:
    now = now_of(Path("results"))
    return {one: state_of(one, now) for one in runs}


def _watch(runs: list[specs.Run]) -> dict[specs.Run, State]:
    """Show the states anew every few seconds until no run is left, or Ctrl-C; on a terminal in place."""
    clear = "\x1b[2J\x1b[H" if sys.stdout.isatty() else ""
    found = states(runs)
    try:
        while True:
            most = shutil.get_terminal_size().lines - 5 if clear else None
            print(clear, end="")
            print(*report(found, most), sep="\n", flush=True)
            if all(state.name in ("done", "diverged") for state in found.values()):
                return found
            time.sleep(WATCH_S)
            found = states(runs)
    except KeyboardInterrupt:
        return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="a preset, or a path below results/")
    parser.add_argument("--watch", action="store_true", help=f"show it anew every {WATCH_S:.0f} s")
    arguments = parser.parse_args(argv)

    words = arguments.targets or [name for name in configuration.presets() if Path("results", name).is_dir()]
    if not words:
        raise ValueError(f"expected a TARGET, a preset for example ({', '.join(configuration.presets())}), found none")
    runs = list(dict.fromkeys(one for word in words for one in runs_of(word)))
    found = _watch(runs) if arguments.watch else states(runs)
    if not arguments.watch:
        print(*report(found), sep="\n")
    return int(any(state.name == "failed" for state in found.values()))


if __name__ == "__main__":
    sys.exit(run(main))
