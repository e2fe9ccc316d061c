"""The only training loop.

Weights after iteration t are a function of (spec, seed, t). Noise and data order are drawn from (seed, t), never from
what ran before. So an interrupted run continues exactly, and any iteration can be replayed.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtri import checkpoint
from dtri.batches import Batches
from dtri.distributed import SINGLE_PROCESS, SingleProcess
from dtri.ema import EMA
from dtri.model import Model
from dtri.progress import Reporter, earlier_attempts
from dtri.recording import Recorder, make_recordable
from dtri.seeding import derive
from dtri.snapshots import Snapshots
from dtri.stepper import Losses, Stepper

CURVE_ROWS = 200  # rows of the training curve
CHECK_EVERY = 20  # iterations between looks at the losses on the host


class Interrupted(Exception):
    """Training stopped before its last iteration, and its state is saved. `reason` is "signal" or "deadline"."""

    def __init__(self, reason: str, t: int):
        super().__init__(f"{reason} at iteration {t}, state saved")
        self.reason = reason


@dataclass
class Outcome:
    """How a run ended: `status` is "done" or "diverged"; `weights` are those after iteration `step`, all finite.

    `curve` has rows {"step": last iteration of the interval, term: mean over the interval, ...}. `model` is the trained
    model with its last weights, finite or not. `images_seen` counts the images up to iteration `step`. `modes` says for
    each phase whether it was recorded or eager in the last process, and why.

    A diverged run has `bad_step` and `term`, where the first non-finite number was seen. `term` is the loss's name, or
    "weights" or "memory" (of the model) when no loss showed it.
    """

    status: str
    step: int
    weights: dict[str, Tensor]
    curve: list[dict[str, float]]
    modes: dict[str, str]
    seconds: float
    attempts: int
    model: Model
    images_seen: int
    bad_step: int | None = None
    term: str | None = None


@dataclass
class Progress:
    """What a run accumulates besides weights, as plain values that are saved with the state."""

    t: int = 0
    seconds: float = 0.0
    attempts: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0
    modes: dict[str, str] = field(default_factory=dict)  # how each phase ran last, and why

    def add(self, losses: dict[str, float], last: bool) -> None:
        """Account for the losses of one iteration; `last` closes an interval of the curve."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if last:
            self.curve.append({"step": self.t, **{name: total / self.count for name, total in self.sums.items()}})
            self.sums, self.count = {}, 0


def fit(
    build: Callable[[], Model],                         # makes the untrained model
    stored: np.ndarray,                                 # training images, uint8 [N, C, H, W]
    *,
    steps: int,                                         # iterations
    batch_size: int,                                    # images per iteration, of all processes together
    seed: int,                                          # of initial weights, noise and data order
    device: torch.device,                               # this process's device
    precision: str = "fp32",                            # "fp32", "tf32" or "bf16"
    state_path: Path,                                   # file of the resumable state
    events_path: Path,                                  # file that events are appended to, one JSON object a line
    run_id: str,                                        # the state of another run_id is ignored
    save_every: int = 5_000,                            # iterations between saved states
    save_every_s: float = 300.0,                        # seconds between saved states
    stop: Callable[[], str | None] = lambda: None,      # why to stop now ("signal", "deadline"), None: go on
    snapshots: Snapshots | None = None,                 # iterations whose weights are kept, besides milestones
    label: str = "",                                    # name of the run, for people
    recorder: Recorder | None = None,                   # records iterations (dtri/recording.py); None: all run eagerly
    group: SingleProcess = SINGLE_PROCESS,              # the processes that train together (dtri/distributed.py)
) -> Outcome:  # fmt: skip
    """Train `build()` for `steps` iterations, from the state in `state_path` if it belongs to this run.

    A non-finite loss or weight ends the run as diverged, with the last weights that were seen finite. A run whose
    snapshots are lost starts over. Only the main one of several processes writes; all return the same outcome.

    Raises:
        Interrupted: `stop` gave a reason before the last iteration; the state is saved.
        OSError: a file cannot be written.
    """
    # Build the model and what it trains on.
    torch.manual_seed(derive("init", seed))
    model = build().to(device)
    model.to(memory_format=model.memory_format).train()
    group.wrap(model)
    batches = Batches(stored, batch_size, seed, device, model.span, group.rows)
    ema = EMA(model)
    snapshots = snapshots or Snapshots()
    snapshots.iterations.update(model.milestones(steps))

    # Continue from the saved state, if there is one.
    state, message = group.main_process_first(lambda: checkpoint.load_state(state_path, run_id))
    if state is not None and (lost := snapshots.lost(state["t"])):
        state, message = None, f"the kept weights of iteration {lost[0]} are gone, starting over"
    progress, last_finite = _restore(model, ema, state, group)
    group.check_same_weights(model)
    progress.attempts = earlier_attempts(events_path, run_id) + 1
    if recorder is not None:
        for optimizer in model.optimizers.values():
            make_recordable(optimizer, device)

    # The functions by which the loop reports and saves.
    reporter = Reporter(
        events_path, label, steps, lambda t: model.span(t, batch_size)[0], silent=not group.is_main_process
    )

    def log(event: str, **values: Any) -> None:
        now = {"t": progress.t, "seconds": round(progress.seconds, 3), "attempt": progress.attempts}
        reporter.log(event, **now, **values)

    def save() -> None:
        buffers = group.gather(nonpersistent_buffers(model))
        if group.is_main_process:
            checkpoint.save_state(state_path, {"run_id": run_id, **_state(model, ema, progress, last_finite, buffers)})
        group.barrier()

    def ended(status: str, **values: Any) -> Outcome:
        reporter.close()
        weights, step = last_finite
        curve, seconds, attempts = progress.curve, progress.seconds, progress.attempts
        seen = model.span(step, batch_size)[0]
        return Outcome(status, step, weights, curve, progress.modes, seconds, attempts, model, seen, **values)

    # Train.
    log("start", message=message, run_id=run_id, device=str(device), steps=steps)
    reporter.start(progress.t, message, str(device))
    stepper = Stepper(
        model, batches, seed, precision, recorder, lambda phase, mode, why: log(mode, phase=phase, why=why), steps=steps
    )
    stepper.modes = progress.modes
    interval = max(1, math.ceil(steps / CURVE_ROWS))
    pending: list[Losses] = []
    clock = last_save = time.monotonic()
    while progress.t < steps:
        pending.append(stepper(progress.t))
        ema.update(model, progress.t)
        progress.t += 1
        if snapshots.due(progress.t) and group.is_main_process:
            snapshots.save(progress.t, ema.snapshot(model))
        reporter.iteration(progress.t, progress.curve, seconds=round(progress.seconds, 3), attempt=progress.attempts)
        reason = group.all_agree(stop())
        # Weights are checked at fixed iterations only, so that a stop in between cannot change how a run ends.
        checked = progress.t % CHECK_EVERY == 0 or progress.t == steps
        if not checked and reason is None:
            continue

        # Account for losses; end where a number is not finite.
        now = time.monotonic()
        progress.seconds, clock = progress.seconds + max(0.0, now - clock), now
        bad = _absorb(progress, pending, interval, steps, group)
        if checked and not bad and (term := _non_finite(model, group)):
            bad = progress.t, term
        fresh = bool(progress.curve) and progress.curve[-1]["step"] + CHECK_EVERY > progress.t
        reporter.advance(len(pending), progress.curve[-1] if fresh else {})
        pending = []
        if bad:
            bad_step, term = bad
            log("diverged", step=bad_step, term=term)
            return ended("diverged", bad_step=bad_step, term=term)
        if checked:
            group.check_same_weights(model)
            last_finite = ema.snapshot(model), progress.t

        # Save the state; stop where that is asked for.
        due = progress.t % save_every < CHECK_EVERY and progress.t >= save_every
        # Also where the clock was set back.
        overdue = group.all_agree(None if 0 <= now - last_save <= save_every_s else "due")
        if reason or due or overdue or progress.t == steps:
            save()
            last_save = time.monotonic()
            rate = model.span(progress.t, batch_size)[0] / max(progress.seconds, 1e-9)
            log("saved", images_per_s=round(rate, 1), **(progress.curve[-1] if progress.curve else {}))
            reporter.saved(progress.t)
        if reason and progress.t < steps:
            log("interrupted", reason=reason)
            reporter.close()
            raise Interrupted(reason, progress.t)
    outcome = ended("done")
    log("done")
    return outcome


def nonpersistent_buffers(model: Model) -> dict[str, Tensor]:
    """Buffers with persistent=False: they are needed to continue a run, but they are no weights."""
    weights = model.state_dict().keys()
    return {name: tensor for name, tensor in model.named_buffers() if name not in weights}


def _state(
    model: Model,
    ema: EMA,
    progress: Progress,
    last_finite: tuple[dict[str, Tensor], int],
    buffers: dict[str, Tensor],
) -> dict[str, Any]:
    """The state that `_restore` needs. `buffers` holds the buffers of all processes."""
    return {
        **vars(progress),
        "last_finite": None if last_finite[1] == progress.t else last_finite,
        "model": model.state_dict(),
        "buffers": buffers,
        "ema": ema.weights,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in model.optimizers.items()},
    }


def _restore(
    model: Model, ema: EMA, state: dict[str, Any] | None, group: SingleProcess
) -> tuple[Progress, tuple[dict[str, Tensor], int]]:
    """Put the saved state, if there is one, into the model and its average: (progress, last finite weights)."""
    if state is None:
        return Progress(), (ema.snapshot(model), 0)
    model.load_state_dict(state["model"])
    buffers = group.local_part(state["buffers"])
    for name, tensor in nonpersistent_buffers(model).items():
        tensor.copy_(buffers[name])
    for name, tensor in ema.weights.items():
        tensor.copy_(state["ema"][name])
    for name, optimizer in model.optimizers.items():
        # The optimiser's options come from the code and the device: a run may go on where others are needed.
        options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizers"][name])
        for parameters, own in zip(optimizer.param_groups, options, strict=True):
            parameters.update(own)
    progress = Progress(**{name: state[name] for name in vars(Progress())})
    return progress, state["last_finite"] or (ema.snapshot(model), progress.t)


def _absorb(
    progress: Progress, pending: list[Losses], interval: int, steps: int, group: SingleProcess
) -> tuple[int, str] | None:
    """Move pending losses to the curve with one transfer; (iteration, term) of the first non-finite one, or None."""
    values = iter(group.mean(torch.cat([losses.values for losses in pending])).tolist())
    end = progress.t
    for offset, losses in enumerate(pending):
        progress.t = end - len(pending) + offset + 1
        row = {name: next(values) for name in losses.names}
        for name, value in row.items():
            if not math.isfinite(value):
                return progress.t, name
        progress.add(row, progress.t % interval == 0 or progress.t == steps)
    return None


def _non_finite(model: Model, group: SingleProcess) -> str | None:
    """Where a value is not finite: "weights" (with buffers such as batch norm's averages), "memory" or None."""
    tensors = {"weights": model.state_dict(), "memory": nonpersistent_buffers(model)}
    norms = {}
    for name, named in tensors.items():
        floats = [tensor for tensor in named.values() if tensor.is_floating_point()]
        norms[name] = torch.stack(torch._foreach_norm(floats, math.inf)).max() if floats else torch.zeros(())
    found = [name for name, norm in norms.items() if not norm.isfinite()]
    # The buffers of processes differ, but all processes have to end.
    return (found[0] if found else "memory") if group.all_agree("due" if found else None) else None
