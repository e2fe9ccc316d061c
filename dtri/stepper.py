"""One iteration of a model, run eagerly or replayed from a recording (dtri/recording.py)."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from dtri import images
from dtri.device import autocast
from dtri.model import Model
from dtri.recording import Recorder, set_rate
from dtri.seeding import derive


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
