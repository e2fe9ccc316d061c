"""One iteration of a model, run eagerly or replayed from a recording (dtri/recording.py) that was checked first."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from dtri import images, proof
from dtri.model import Model
from dtri.numerics import autocast
from dtri.recording import Recorder, set_rate
from dtri.seeding import derive


class Losses(NamedTuple):
    """Losses of one iteration: the names of the terms, and a float32 tensor [number of terms]."""

    names: list[str]
    values: Tensor


class Stepper:
    """Runs iterations of a model eagerly or, with a recorder, recorded once per phase and then replayed.

    The first iteration of a phase in a process is always eager. It creates what is created once: the state of
    optimisers, workspaces of libraries. A phase stays eager if it cannot be recorded, or if its replays differ from
    eager iterations (dtri/proof.py). `modes` says for each phase how it runs, and why.

    Args:
        model:     the model that trains.
        batches:   t -> uint8 images [B, C, H, W] on the model's device.
        seed:      seed of the noise, together with t.
        precision: "fp32", "tf32" or "bf16".
        recorder:  records iterations; None: all run eagerly.
        log:       called with the phase, "recorded" or "eager", and the reason.
        steps:     iterations of the whole run; replays are compared at iterations below it.
    """

    def __init__(
        self,
        model: Model,
        batches: Callable[[int], Tensor],
        seed: int,
        precision: str,
        recorder: Recorder | None = None,
        log: Callable[[str, str, str], None] = lambda phase, mode, why: None,
        steps: int = 1_000_000,
    ):
        self.model, self.batches, self.seed, self.precision = model, batches, seed, precision
        self.recorder, self.log, self.steps = recorder, log, steps
        self.modes: dict[str, str] = {}
        self.warm: set[Hashable] = set()
        self.replays: dict[Hashable, Callable[[Tensor], Losses] | None] = {}

    def __call__(self, t: int) -> Losses:
        """Run iteration t with noise drawn from (seed, t)."""
        stored, phase = self.batches(t), self.model.phase(t)
        if self.recorder is not None and phase in self.warm and phase not in self.replays:
            self.replays[phase] = self._proven(stored, t)
        replay = self.replays.get(phase)
        if replay is None and phase not in self.warm:
            self.warm.add(phase)
            if self.recorder is None or repr(phase) not in self.modes:
                self.modes[repr(phase)] = "eager"
        return self._iterate(replay or self._eager(t), stored, t)

    def _iterate(self, step: Callable[[Tensor], Losses], stored: Tensor, t: int) -> Losses:
        """Call `step` in the state of iteration t: its learning rates, schedules and noise."""
        for name, lr in self.model.learning_rates(t).items():
            set_rate(self.model.optimizers[name], lr)
        self.model.begin(t)
        torch.manual_seed(derive("step", self.seed, t))
        return step(stored)

    def _eager(self, t: int) -> Callable[[Tensor], Losses]:
        return lambda stored: self._step(stored, t)

    def _step(self, stored: Tensor, t: int) -> Losses:
        x = images.to_float(stored).contiguous(memory_format=self.model.memory_format)
        with autocast(x.device, self.precision):
            losses = self.model.step(x, t)
        return Losses(list(losses), torch.stack([value.float() for value in losses.values()]))

    def _proven(self, stored: Tensor, t: int) -> Callable[[Tensor], Losses] | None:
        """A recording of t's phase that equals eager iterations; None where there is none."""
        before = proof.tensors(self.model)
        replay, why = self._iterate(lambda stored: self._record(stored, t), stored, t)
        if moved := proof.replaced(self.model, before):
            replay, why = None, f"not recorded: {', '.join(moved)} is not updated in place"
        if replay is not None:
            # These images differ from the recorded ones, even where the phase has no other iteration than t.
            batch = 255 - stored
            verdict = proof.compare(
                self.model,
                lambda k: self._iterate(replay, batch, k).values,
                lambda k: self._iterate(self._eager(k), batch, k).values,
                proof.others(self.model.phase, t, self.steps),
                self.precision,
            )
            why, replay = verdict.text, replay if verdict.holds else None
        mode, phase = "eager" if replay is None else "recorded", repr(self.model.phase(t))
        self.modes[phase] = f"{mode}, {why}"
        self.log(phase, mode, why)
        return replay

    def _record(self, stored: Tensor, t: int) -> tuple[Callable[[Tensor], Losses] | None, str]:
        """Record the step of t's phase: (replay, ...), which maps a batch to losses, or (None, reason) on failure."""
        inputs, outputs = stored.clone(), []
        try:
            replay = self.recorder(lambda: outputs.append(self._step(inputs, t)))
        except RuntimeError as error:
            for optimizer in self.model.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            return None, f"not recorded: {str(error).splitlines()[0]}"
        (losses,) = outputs

        def run(stored: Tensor) -> Losses:
            inputs.copy_(stored)
            replay()
            return Losses(losses.names, losses.values.clone())

        return run, ""
