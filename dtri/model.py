"""The contract of every system: up to three maps, and one step that moves them.

A subclass defines the maps it has; a capability is the presence of a map:

    generate(z)   [B, d]       -> [B, C, H, W] in [-1, 1]
    infer(x)      [B, C, H, W] -> [B, d]   posterior mean
    energy(x)     [B, C, H, W] -> [B]      low where data are likely

and, where its paper scores images in several ways,

    anomaly_scores(x)  [B, C, H, W] -> {name: [B]}  larger = stranger; measured beside the energy

Samples, reconstructions and anomaly scores derive from these maps by shared code. A system whose samples are the ends
of Markov chains, not g(z), has one map more, and `sampler`: its arguments, which no training run reads:

    sample(z, generator)   [B, d] -> [B, C, H, W], about in [-1, 1]; all noise is drawn from `generator`
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Model(nn.Module, ABC):
    """A trainable system. `Model(image_shape, hparams)` builds the networks.

    `image_shape` is (C, H, W); `z_dim` is the latent size d. The weights a run ends with are the exponential moving
    average of those of all iterations with decay `ema_decay`, batch norm's averages included; 0: the last ones.

    `memory_format` is the layout of weights and images, in training and evaluation; it rounds sums in its own order.

    A buffer with `persistent=False` is memory of training (a replay buffer): saved for a run to continue, and absent
    from the weights. `sampler` is an instance of the model file's `Sampler`, with that file's defaults until a job
    puts another in its place.
    """

    image_shape: tuple[int, int, int]
    z_dim: int
    ema_decay: float = 0.0
    memory_format: torch.memory_format = torch.channels_last

    @property
    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """The players by name: the parameters of one optimiser move together.

        A `cached_property` of subclasses: a model that is loaded for evaluation never builds them (torch's first
        optimiser costs seconds of imports).
        """

    @abstractmethod
    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        """One batch of real images x: [B, C, H, W] in [-1, 1] at iteration t -> scalar tensors to log.

        Owns alternation, inner loops and clipping. Draws noise from torch's default generator only (the engine seeds
        it by (seed, t)), never calls `.item()` and never branches on a tensor's value.
        """

    def phase(self, t: int) -> Hashable:
        """Names the code path that `step` takes at t; steps of one phase run the same kernels."""
        return 0

    def begin(self, t: int) -> None:
        """Called before the step of iteration t, outside of what the engine may capture: schedules within a phase.

        Whatever changes from one iteration of a phase to the next, and is no learning rate, is put into buffers here,
        in place: a number of Python would be the same at every replay. A pure function of t, so that a run may continue
        at any iteration.
        """

    def span(self, t: int, batch_size: int) -> tuple[int, int]:
        """(start, stop): iteration t trains on images [start, stop) of the endless stream of epochs.

        Each iteration starts where the one before stopped, so `start` is the number of images seen before t.
        `batch_size` is the specification's.
        """
        return t * batch_size, (t + 1) * batch_size

    def milestones(self, steps: int) -> list[int]:
        """Iterations before the end of a run of `steps` whose weights are kept besides those that it ends with."""
        return []

    def learning_rates(self, t: int) -> dict[str, float]:
        """Learning rate of each scheduled optimiser at iteration t; the others keep theirs."""
        return {}

    @contextmanager
    def only(self, player: str) -> Iterator[None]:
        """Freeze the parameters of every other optimiser, so that no gradient is computed to be thrown away."""
        frozen = [
            p
            for name, optimizer in self.optimizers.items()
            if name != player
            for group in optimizer.param_groups
            for p in group["params"]
        ]
        for p in frozen:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in frozen:
                p.requires_grad_(True)

    def descend(self, player: str, loss: Tensor, clip_norm: float | None = None) -> None:
        """One optimiser step of `player` down `loss`, its joint gradient norm clipped to `clip_norm`."""
        optimizer = self.optimizers[player]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip_norm is not None:
            params = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(params, clip_norm)
        optimizer.step()
        torch.clear_autocast_cache()  # of weights as they were before this step


def has(model: Model, map_name: str) -> bool:
    """Whether the model defines the map `generate`, `infer`, `energy` or `sample`."""
    return callable(getattr(model, map_name, None))
