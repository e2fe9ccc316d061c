"""What a person sees of a training run. No hash of code counts this module: docs/determinism.md says why.

Events are appended to a file, one JSON object a line. A terminal shows a progress bar; elsewhere a line is printed
every ten seconds. The curve is written as it grows.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dtri.curve import to_csv
from dtri.files import write_text

EVERY_S = 10.0  # seconds of work between two reports


class Reporter:
    """Reports how far a run is. It takes numbers and returns none.

    Args:
        events_path: file that events are appended to; the curve so far is `train.csv` beside it.
        label:       name of the run, printed before each line and bar.
        steps:       iterations of the whole run.
        images_seen: t -> number of images that the first t iterations train on.
        silent:      whether to write and show nothing, as in all processes but the main one.
    """

    def __init__(self, events_path: Path, label: str, steps: int, images_seen: Callable[[int], int], silent: bool):
        self.events_path, self.label, self.steps, self.silent = events_path, label, steps, silent
        self.images_seen = images_seen

    def start(self, t: int, message: str, device: str) -> None:
        """The run begins, or continues, after iteration t."""
        hidden = self.silent or None  # tqdm: None hides the bar only where stderr is no terminal
        self.bar = tqdm(total=self.steps, initial=t, desc=self.label, unit="it", disable=hidden, dynamic_ncols=True)
        self.first, self.began = t, time.monotonic()
        self.reported, self.losses = self.began, {}
        if self.bar.disable and not self.silent:
            print(f"{self.label}: {message}; {self.steps} iterations on {device}", flush=True)

    def log(self, event: str, **values: Any) -> None:
        """Append one event. OSError names the file where that fails."""
        if self.silent:
            return
        try:
            with open(self.events_path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, **values, "time": round(time.time(), 3)}) + "\n")
        except OSError as error:  # the error of a full disk names no file
            raise OSError(f"expected to write {self.events_path}, found: {error}") from error

    def iteration(self, t: int, curve: list[dict[str, float]], **values: Any) -> None:
        """Iteration t is done. Every ten seconds an event and a line report it, and the curve so far is written."""
        now = time.monotonic()
        if self.silent or 0 <= now - self.reported < EVERY_S:
            return
        self.reported = now
        images_per_s, left = self._pace(t)
        losses = curve[-1] if curve else {}
        pace = {"steps": self.steps, "images_per_s": images_per_s, "seconds_left": left}
        self.log("progress", t=t, **values, **pace, losses=losses)
        write_text(self.events_path.with_name("train.csv"), to_csv(curve))
        self._say(t, " ".join(f"{name} {value:.3g}" for name, value in losses.items() if name != "step"))

    def advance(self, iterations: int, losses: dict[str, float]) -> None:
        """`iterations` more are done; the bar shows `losses` where there are any."""
        self.bar.update(iterations)
        if losses:
            shown = {name: f"{value:.3g}" for name, value in losses.items() if name != "step"}
            self.bar.set_postfix(shown, refresh=False)

    def saved(self, t: int) -> None:
        """The state of iteration t is saved."""
        self._say(t, "saved")

    def close(self) -> None:
        self.bar.close()

    def _say(self, t: int, remark: str) -> None:
        """Print a line with the iteration, unless a bar shows it."""
        if self.bar.disable and not self.silent:
            images_per_s, left = self._pace(t)
            pace = f"{images_per_s:.0f} images/s, {left:.0f} s left"
            print(f"{self.label}: iteration {t}/{self.steps}, {pace}; {remark}", flush=True)

    def _pace(self, t: int) -> tuple[float, float]:
        """(images/s, seconds left) at the speed since this attempt began; 0 images/s where the clock was set back."""
        seconds = max(0.0, time.monotonic() - self.began)
        images = self.images_seen(t) - self.images_seen(self.first)
        return round(images / seconds, 1) if seconds else 0.0, round(seconds / (t - self.first) * (self.steps - t), 1)


def earlier_attempts(events_path: Path, run_id: str) -> int:
    """Number of starts of this run in its event log, with those that died before they saved a state."""
    if not events_path.exists():
        return 0
    lines = events_path.read_text("utf-8", errors="replace").splitlines()
    return sum('"event": "start"' in line and run_id in line for line in lines)
