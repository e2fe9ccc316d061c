"""The only training loop.

Weights after iteration t are a function of (spec, seed, t): noise and data order are drawn from (seed, t), never from
what ran before. So an interrupted run continues exactly, and any iteration can be replayed.
"""

import json
import math
import time
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dtri import checkpoint, images
from dtri.device import autocast
from dtri.distributed import ALONE, Alone
from dtri.model import Model
from dtri.recording import Recorder, make_recordable, set_rate
from dtri.seeding import derive

CURVE_ROWS = 200  # rows of the training curve
CHECK_EVERY = 20  # iterations between looks at the losses on the host
RESIDENT_BYTES = 4 << 30  # image sets up to this size live on the device


class Interrupted(Exception):
    """Training stopped before its last iteration, its state saved. `reason` is "signal" or "deadline"."""

    def __init__(self, reason: str, t: int):
        super().__init__(f"{reason} at iteration {t}, state saved")
        self.reason = reason


@dataclass
class Outcome:
    """How a run ended: `status` "done" or "diverged"; `weights` are those of iteration `step`, all finite.

    `curve`: rows {"step": last iteration of the interval, term: mean over the interval, ...}. For a diverged run,
    `bad_step` and `term` say where the first non-finite number was seen ("weights" or the model's "memory" when no loss
    showed it).
    """

    status: str
    step: int
    weights: dict[str, Tensor]
    curve: list[dict[str, float]]
    seconds: float
    attempts: int
    bad_step: int | None = None
    term: str | None = None


@dataclass
class Progress:
    """What a run accumulates besides weights; plain values, saved with the state."""

    t: int = 0
    seconds: float = 0.0
    attempts: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, losses: dict[str, float], last: bool) -> None:
        """Account for one iteration's losses; `last` closes an interval of the curve."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if last:
            self.curve.append({"step": self.t, **{name: total / self.count for name, total in self.sums.items()}})
            self.sums, self.count = {}, 0


class Batches:
    """Batch t of an endless stream of epochs over uint8 images [N, C, H, W]; a function of (seed, t) alone.

    Each epoch is a permutation of all images; a batch may straddle two epochs, so none is dropped. `span` gives the
    images of batch t in the stream (see Model.span); without one, all batches have `batch_size` images. Images live on
    the device where they fit; otherwise a thread reads the next batch while the device is busy with this one. One
    process of several reads its `rows` of every batch alone.
    """

    def __init__(
        self,
        stored: np.ndarray,
        batch_size: int,
        seed: int,
        device: torch.device,
        span: Callable[[int, int], tuple[int, int]] | None = None,
        rows: Callable[[int], slice] = ALONE.rows,
    ):
        if len(stored) == 0:
            raise ValueError("expected training images, found an empty array")
        self.n, self.batch_size, self.seed, self.device = len(stored), batch_size, seed, device
        self.span, self.rows = span, rows
        resident = stored.nbytes <= RESIDENT_BYTES
        self.resident = torch.from_numpy(np.array(stored)).to(device) if resident else None
        self.stored = stored
        self._orders: dict[int, Tensor] = {}
        self._reader = None if resident else ThreadPoolExecutor(1, "batches")
        self._ahead: tuple[int, Future[Tensor]] | None = None

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(derive("order", self.seed, epoch))
            order = torch.randperm(self.n, generator=generator)
            if self.resident is not None:
                order = order.to(self.device)
            self._orders = dict([*self._orders.items()][-1:]) | {epoch: order}  # a batch may straddle two epochs
        return self._orders[epoch]

    def indices(self, t: int) -> Tensor:
        """int64 indices of this process's rows of batch t, on the device of the images."""
        start, stop = self.span(t, self.batch_size) if self.span else (t * self.batch_size, (t + 1) * self.batch_size)
        position, parts, wanted = start, [], stop - start
        while wanted:
            epoch, place = divmod(position, self.n)
            part = self._order(epoch)[place : place + wanted]
            parts.append(part)
            position += len(part)
            wanted -= len(part)
        return torch.cat(parts)[self.rows(stop - start)]

    def _read(self, t: int) -> Tensor:
        batch = torch.from_numpy(self.stored[self.indices(t).numpy()])
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def __call__(self, t: int) -> Tensor:
        """Batch t as stored: uint8 [B, C, H, W] on the device."""
        if self.resident is not None:
            return self.resident[self.indices(t)]
        if self._ahead is None or self._ahead[0] != t:
            self._ahead = t, self._reader.submit(self._read, t)
        batch = self._ahead[1].result()
        self._ahead = t + 1, self._reader.submit(self._read, t + 1)
        return batch.to(self.device, non_blocking=True)


class Losses(NamedTuple):
    """Terms of one iteration's losses: their names, and a float32 tensor of as many values."""

    names: list[str]
    values: Tensor


class Stepper:
    """Iterations of a model, eager or, where a recorder is given, recorded once for each phase and then replayed.

    The first iteration of a phase in a process is always eager: it creates what is created once (state of optimisers,
    workspaces of libraries). A phase that cannot be recorded stays eager, with the reason handed to `log`.
    """

    def __init__(
        self,
        model: Model,
        batches: Callable[[int], Tensor],
        seed: int,
        precision: str,
        recorder: Recorder | None = None,
        log: Callable[[str], None] = print,
        layout: torch.memory_format = torch.channels_last,
    ):
        self.model, self.batches, self.seed, self.precision = model, batches, seed, precision
        self.recorder, self.log, self.layout = recorder, log, layout
        self.warm: set[Hashable] = set()
        self.replays: dict[Hashable, Callable[[Tensor], Losses] | None] = {}

    def __call__(self, t: int) -> Losses:
        """Run iteration t, its noise drawn from (seed, t)."""
        for name, lr in self.model.learning_rates(t).items():
            set_rate(self.model.optimizers[name], lr)
        self.model.begin(t)
        stored, phase = self.batches(t), self.model.phase(t)
        if self.recorder is not None and phase in self.warm and phase not in self.replays:
            self.replays[phase] = self._record(stored, t)
        torch.manual_seed(derive("step", self.seed, t))
        replay = self.replays.get(phase)
        if replay is not None:
            return replay(stored)
        self.warm.add(phase)
        return self._step(stored, t)

    def _step(self, stored: Tensor, t: int) -> Losses:
        x = images.to_float(stored).contiguous(memory_format=self.layout)
        with autocast(x.device, self.precision):
            losses = self.model.step(x, t)
        return Losses(list(losses), torch.stack([value.float() for value in losses.values()]))

    def _record(self, stored: Tensor, t: int) -> Callable[[Tensor], Losses] | None:
        """Records the step of t's phase; a replay takes the batch and gives losses. None where that fails."""
        inputs, outputs = stored.clone(), []
        try:
            replay = self.recorder(lambda: outputs.append(self._step(inputs, t)))
        except RuntimeError as error:
            for optimizer in self.model.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            self.log(f"phase {self.model.phase(t)!r} runs eagerly, it cannot be recorded: {str(error).splitlines()[0]}")
            return None
        (losses,) = outputs

        def run(stored: Tensor) -> Losses:
            inputs.copy_(stored)
            replay()
            return Losses(losses.names, losses.values.clone())

        return run


def fit(
    build: Callable[[], Model],
    stored: np.ndarray,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    device: torch.device,
    precision: str = "fp32",
    state_path: Path,
    events_path: Path,
    run_id: str,
    save_every: int = 5_000,
    save_every_s: float = 300.0,
    stop: Callable[[], str | None] = lambda: None,
    keep: Collection[int] = (),
    kept: Callable[[int, dict[str, Tensor]], None] = lambda t, weights: None,
    has: Callable[[int], bool] = lambda t: True,
    progress_label: str = "",
    recorder: Recorder | None = None,
    team: Alone = ALONE,
) -> Outcome:
    """Train `build()` on uint8 images [N, C, H, W] for `steps` iterations, continuing from `state_path` if it fits.

    The state is saved every `save_every` iterations, every `save_every_s` seconds, and when `stop()` names a reason;
    then Interrupted is raised. A non-finite loss or weight ends the run as diverged, with the last weights seen finite.
    `kept(t, weights)` is called after each iteration t of `keep` and of the model's milestones; again, with the same
    weights, where a killed run repeats one; a run whose kept weights of t are gone, `has(t)` being False, starts over.
    `recorder` replaces eager iterations by recorded ones (dtri/recording.py).
    `team`: the processes that train together (dtri/distributed.py); the first one writes, all return the same.
    """
    torch.manual_seed(derive("init", seed))
    model = build().to(device).to(memory_format=torch.channels_last).train()
    team.join(model)
    batches = Batches(stored, batch_size, seed, device, model.span, team.rows)
    average = Average(model)
    keep = {*keep, *model.milestones(steps)}
    state, message = team.in_turn(lambda: checkpoint.load_state(state_path, run_id))
    if state is not None and (lost := [t for t in sorted(keep) if t <= state["t"] and not has(t)]):
        state, message = None, f"the kept weights of iteration {lost[0]} are gone, starting over"
    progress, good = _restore(model, average, state, team)
    team.check(model)
    if recorder is not None:
        for optimizer in model.optimizers.values():
            make_recordable(optimizer, device)
    progress.attempts = _earlier_attempts(events_path, run_id) + 1
    interval = max(1, math.ceil(steps / CURVE_ROWS))

    def log(event: str, **values: Any) -> None:
        if not team.leads:
            return
        line = {"event": event, "t": progress.t, "seconds": round(progress.seconds, 3), "attempt": progress.attempts}
        try:
            with open(events_path, "a", encoding="utf-8") as file:
                file.write(json.dumps({**line, **values, "time": round(time.time(), 3)}) + "\n")
        except OSError as error:  # of a full disk it names no file
            raise OSError(f"expected to write {events_path}, found: {error}") from error

    def save() -> None:
        memory = team.together(_memory(model))
        if team.leads:
            state = {
                "run_id": run_id,
                **vars(progress),
                "good": None if good[1] == progress.t else good,
                "model": model.state_dict(),
                "memory": memory,
                "average": average.weights,
                "optimizers": {name: optimizer.state_dict() for name, optimizer in model.optimizers.items()},
            }
            checkpoint.save_state(state_path, state)
        team.wait()

    log("start", message=message, run_id=run_id, device=str(device), steps=steps)
    stepper = Stepper(model, batches, seed, precision, recorder, lambda reason: log("eager", reason=reason))
    quiet = not team.leads or None  # None: where no terminal is attached
    bar = tqdm(total=steps, initial=progress.t, desc=progress_label, unit="it", disable=quiet, dynamic_ncols=True)
    if bar.disable:
        print(f"{progress_label}: {message}; {steps} iterations on {device}", flush=True)
    pending: list[Losses] = []
    clock = last_save = time.monotonic()
    while progress.t < steps:
        pending.append(stepper(progress.t))
        average.update(model, progress.t)
        progress.t += 1
        if progress.t in keep and team.leads:
            kept(progress.t, average.snapshot(model))
        reason = team.agreed(stop())
        # Weights are checked at fixed iterations only, so that a stop in between cannot change how a run ends.
        checked = progress.t % CHECK_EVERY == 0 or progress.t == steps
        if not checked and reason is None:
            continue
        now = time.monotonic()
        progress.seconds, clock = progress.seconds + max(0.0, now - clock), now
        bad = _absorb(progress, pending, interval, steps, team)
        if checked and not bad and (term := _non_finite(model, team)):
            bad = progress.t, term
        bar.update(len(pending))
        pending = []
        if bad:
            bad_step, term = bad
            log("diverged", step=bad_step, term=term)
            bar.close()
            weights, step = good
            return Outcome(
                "diverged", step, weights, progress.curve, progress.seconds, progress.attempts, bad_step, term
            )
        if checked:
            team.check(model)
            good = average.snapshot(model), progress.t
        if progress.curve and progress.curve[-1]["step"] + CHECK_EVERY > progress.t:
            bar.set_postfix({k: f"{v:.3g}" for k, v in progress.curve[-1].items() if k != "step"}, refresh=False)
        due = progress.t % save_every < CHECK_EVERY and progress.t >= save_every
        # Also where the clock was set back.
        late = team.agreed(None if 0 <= now - last_save <= save_every_s else "due")
        if reason or due or late or progress.t == steps:
            save()
            last_save = time.monotonic()
            rate = model.span(progress.t, batch_size)[0] / max(progress.seconds, 1e-9)
            log("saved", images_per_s=round(rate, 1), **(progress.curve[-1] if progress.curve else {}))
            if bar.disable:
                left = progress.seconds / progress.t * (steps - progress.t)
                print(
                    f"{progress_label}: iteration {progress.t}/{steps}, {rate:.0f} images/s, {left:.0f} s left",
                    flush=True,
                )
        if reason and progress.t < steps:
            log("interrupted", reason=reason)
            bar.close()
            raise Interrupted(reason, progress.t)
    bar.close()
    log("done")
    return Outcome("done", progress.t, good[0], progress.curve, progress.seconds, progress.attempts)


class Average:
    """Exponential moving average of a model's weights and of batch norm's; with `ema_decay` 0 simply the model's own.

    At iteration t the decay is at most (t + 1) / (t + 10), so that the initial weights are soon forgotten. Other
    buffers are the latest: averages of spectral norm's singular vectors would no longer be unit vectors.
    """

    def __init__(self, model: Model):
        self.weights = _copied(model.state_dict()) if model.ema_decay else {}
        parameters = {name for name, _ in model.named_parameters()}
        means = {name for name in self.weights if name.endswith(("running_mean", "running_var"))}
        self.averaged = sorted(self.weights.keys() & (parameters | means))
        self.copied = sorted(self.weights.keys() - set(self.averaged))

    def update(self, model: Model, t: int) -> None:
        """Account for the weights after iteration t."""
        if not self.weights:
            return
        rate = 1 - min(model.ema_decay, (t + 1) / (t + 10))
        state = model.state_dict()
        torch._foreach_lerp_([self.weights[n] for n in self.averaged], [state[n] for n in self.averaged], rate)
        for name in self.copied:
            self.weights[name].copy_(state[name])

    def snapshot(self, model: Model) -> dict[str, Tensor]:
        return _copied(self.weights or model.state_dict())


def _memory(model: Model) -> dict[str, Tensor]:
    """Buffers that are no weights (persistent=False): needed to continue a run, not to use what it ends with."""
    weights = model.state_dict().keys()
    return {name: tensor for name, tensor in model.named_buffers() if name not in weights}


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    copies = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    torch._foreach_copy_(list(copies.values()), [tensor.detach() for tensor in state.values()])
    return copies


def _restore(
    model: Model, average: Average, state: dict[str, Any] | None, team: Alone
) -> tuple[Progress, tuple[dict[str, Tensor], int]]:
    """Puts the saved state, if there is one, into the model and average; (progress, last finite weights)."""
    if state is None:
        return Progress(), (average.snapshot(model), 0)
    model.load_state_dict(state["model"])
    memory = team.own(state["memory"])
    for name, tensor in _memory(model).items():
        tensor.copy_(memory[name])
    for name, tensor in average.weights.items():
        tensor.copy_(state["average"][name])
    for name, optimizer in model.optimizers.items():
        # Options are the code's and the device's, not the state's: a run may go on where others are needed.
        options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizers"][name])
        for group, own in zip(optimizer.param_groups, options, strict=True):
            group.update(own)
    progress = Progress(**{name: state[name] for name in vars(Progress())})
    return progress, state["good"] or (average.snapshot(model), progress.t)


def _earlier_attempts(path: Path, run_id: str) -> int:
    """Starts of this run in its event log, which also knows those that died before they saved a state."""
    lines = path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []
    return sum('"event": "start"' in line and run_id in line for line in lines)


def _absorb(
    progress: Progress, pending: list[Losses], interval: int, steps: int, team: Alone
) -> tuple[int, str] | None:
    """Move pending losses to the curve with one transfer; (iteration, term) of the first non-finite one, if any."""
    values = iter(team.mean(torch.cat([losses.values for losses in pending])).tolist())
    end = progress.t
    for offset, losses in enumerate(pending):
        progress.t = end - len(pending) + offset + 1
        row = {name: next(values) for name in losses.names}
        for name, value in row.items():
            if not math.isfinite(value):
                return progress.t, name
        progress.add(row, progress.t % interval == 0 or progress.t == steps)
    return None


def _non_finite(model: Model, team: Alone) -> str | None:
    """Which are not finite: "weights", buffers such as batch norm's averages included, "memory" or None."""
    tensors = {"weights": model.state_dict(), "memory": _memory(model)}
    norms = {}
    for name, named in tensors.items():
        floats = [tensor for tensor in named.values() if tensor.is_floating_point()]
        norms[name] = torch.stack(torch._foreach_norm(floats, math.inf)).max() if floats else torch.zeros(())
    found = [name for name, norm in norms.items() if not norm.isfinite()]
    # Each process has its own memory, and all have to end.
    return (found[0] if found else "memory") if team.agreed("due" if found else None) else None
