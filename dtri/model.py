"""The contract of every system: up to three maps, and a step that trains them.

A subclass defines the maps that it has. Other code asks whether a map exists (`has`):

    generate(z)   [B, d]       -> [B, C, H, W] in [-1, 1]
    infer(x)      [B, C, H, W] -> [B, d]   posterior mean
    energy(x)     [B, C, H, W] -> [B]      low where data are likely

A system whose paper scores images in several ways also has

    anomaly_scores(x)  [B, C, H, W] -> {name: [B]}  larger = stranger; measured beside the energy

Shared code derives samples, reconstructions and anomaly scores from these maps. Some systems take the ends of Markov
chains as samples instead of g(z). They have one more map, and `sampler`, its arguments, which training never reads:

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

    `image_shape` is (C, H, W); `z_dim` is the latent size d. A run ends with the exponential moving average of its
    weights and of batch norm's averages, with decay `ema_decay`. With 0 it ends with the last weights.

    `memory_format` is the layout of weights and images, in training and evaluation. Each layout rounds sums in another
    order.

    A buffer with `persistent=False` is memory of training, such as a replay buffer. It is saved for a run to continue,
    but it is no part of the weights. `sampler` is an instance of the model file's `Sampler` with that file's defaults,
    until a job replaces it.
    """

    image_shape: tuple[int, int, int]
    z_dim: int
    ema_decay: float = 0.0
    memory_format: torch.memory_format = torch.channels_last

    @property
    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """Optimisers by player: the parameters of one optimiser move together.

        Subclasses make this a `cached_property`. A model that is loaded for evaluation then never builds optimisers,
        the first of which costs seconds of imports.
        """

    @abstractmethod
    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        """Train on one batch x: [B, C, H, W] in [-1, 1] of real images at iteration t -> scalar tensors to log.

        The step owns alternation, inner loops and clipping. It draws noise from torch's default generator only, which
        the engine seeds by (seed, t). It never calls `.item()` and never branches on a tensor's value.
        """

    def phase(self, t: int) -> Hashable:
        """Name of the code path that `step` takes at t; all steps of one phase run the same kernels."""
        return 0

    def begin(self, t: int) -> None:
        """Apply schedules within a phase; called before the step of iteration t, outside of what may be captured.

        Values that change between iterations of one phase are written into buffers here, in place; learning rates are
        not among them. A Python number would keep its recorded value at every replay. Must be a pure function of t, so
        that a run may continue at any iteration.
        """

    def span(self, t: int, batch_size: int) -> tuple[int, int]:
        """(start, stop): iteration t trains on images [start, stop) of the endless stream of epochs.

        Each iteration starts where the one before stopped, so `start` is the number of images seen before t.
        `batch_size` is the one in the specification.
        """
        return t * batch_size, (t + 1) * batch_size

    def milestones(self, steps: int) -> list[int]:
        """Iterations below `steps` whose weights are kept, besides the weights at the end of the run."""
        return []

    def learning_rates(self, t: int) -> dict[str, float]:
        """Learning rate of each scheduled optimiser at iteration t; the other optimisers keep theirs."""
        return {}

    @contextmanager
    def only(self, player: str) -> Iterator[None]:
        """Freeze the parameters of every other optimiser, so that no unused gradient is computed."""
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
        """One optimiser step of `player` down the scalar `loss`; its joint gradient norm is clipped to `clip_norm`."""
        optimizer = self.optimizers[player]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip_norm is not None:
            params = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(params, clip_norm)
        optimizer.step()
        torch.clear_autocast_cache()  # it holds weights as they were before this step


def has(model: Model, map_name: str) -> bool:
    """Whether the model defines the map `generate`, `infer`, `energy` or `sample`."""
    return callable(getattr(model, map_name, None))
