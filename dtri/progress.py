"""What a person sees of a training run. No hash of code counts this module: docs/determinism.md says why.

Events are appended to a file, one JSON object a line. A bar is drawn where a terminal is attached; elsewhere a line is
printed now and then.
"""

import json
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm


class Reporter:
    """Says how far a run is. It is told numbers and returns none.

    Args:
        events_path: file that events are appended to.
        label:       name of the run, before each line and bar.
        steps:       iterations of the whole run.
        silent:      whether to write and show nothing, as all processes but the main one.
    """

    def __init__(self, events_path: Path, label: str, steps: int, silent: bool):
        self.events_path, self.label, self.steps, self.silent = events_path, label, steps, silent

    def start(self, t: int, message: str, device: str) -> None:
        """The run begins, or continues, after iteration t."""
        hidden = self.silent or None  # None hides the bar only where stderr is no terminal
        self.bar = tqdm(total=self.steps, initial=t, desc=self.label, unit="it", disable=hidden, dynamic_ncols=True)
        if self.bar.disable:
            print(f"{self.label}: {message}; {self.steps} iterations on {device}", flush=True)

    def log(self, event: str, **values: Any) -> None:
        """Append one event. OSError naming the file where that fails."""
        if self.silent:
            return
        try:
            with open(self.events_path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, **values, "time": round(time.time(), 3)}) + "\n")
        except OSError as error:  # of a full disk it names no file
            raise OSError(f"expected to write {self.events_path}, found: {error}") from error

    def advance(self, iterations: int, losses: dict[str, float]) -> None:
        """`iterations` more are done; `losses` are shown where there are any."""
        self.bar.update(iterations)
        if losses:
            shown = {name: f"{value:.3g}" for name, value in losses.items() if name != "step"}
            self.bar.set_postfix(shown, refresh=False)

    def saved(self, t: int, images_per_s: float, seconds: float) -> None:
        """The state of iteration t is saved."""
        if self.bar.disable:
            left = seconds / t * (self.steps - t)
            print(
                f"{self.label}: iteration {t}/{self.steps}, {images_per_s:.0f} images/s, {left:.0f} s left", flush=True
            )

    def close(self) -> None:
        self.bar.close()


def earlier_attempts(events_path: Path, run_id: str) -> int:
    """Starts of this run in its event log, which also knows those that died before they saved a state."""
    if not events_path.exists():
        return 0
    lines = events_path.read_text("utf-8", errors="replace").splitlines()
    return sum('"event": "start"' in line and run_id in line for line in lines)
