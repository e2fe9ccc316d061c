"""Small things that several test files share: a model that fails on demand, random images, comparisons."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from dtri import images
from dtri.model import Model
from dtri.snapshots import Snapshots


@dataclass(frozen=True)
class Hparams:
    bad_step: int = 0  # the iteration, counted from 1, at which a number becomes infinite; 0: none does
    where: str = "loss"  # what becomes infinite: a "loss", the "weights" or a "buffer"
    width: float = 1.0  # for presets; does nothing


class Toy(Model):
    """One weight per pixel; its second loss, its weight or its buffer becomes infinite at `bad_step`."""

    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, 1, h
        self.weight = nn.Parameter(torch.randn(image_shape))
        self.register_buffer("average", torch.zeros(()))

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        return {"toy": Adam([self.weight], 1e-2)}

    def energy(self, x: Tensor) -> Tensor:
        return (x * self.weight).flatten(1).sum(1).square()

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        loss = self.energy(x + 0.1 * torch.randn_like(x)).mean()
        self.descend("toy", loss)
        bad = {self.h.where: math.inf} if t + 1 == self.h.bad_step else {}
        with torch.no_grad():
            self.weight.add_(bad.get("weights", 0.0))
            self.average.lerp_(loss, 0.1).add_(bad.get("buffer", 0.0))
        return {"first": loss.detach(), "second": loss.detach() + bad.get("loss", 0.0)}


class SnapshotDict(Snapshots):
    """Snapshots by iteration, in memory."""

    def __init__(self, iterations: Iterable[int] = ()):
        super().__init__(iterations)
        self.kept: dict[int, dict[str, Tensor]] = {}

    def save(self, t: int, weights: dict[str, Tensor]) -> None:
        self.kept[t] = {name: tensor.clone() for name, tensor in weights.items()}

    def exists(self, t: int) -> bool:
        return t in self.kept


def noise_images(n: int, image_shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Random uint8 images [n, C, H, W]."""
    return np.random.default_rng(seed).integers(0, 256, (n, *image_shape), dtype=np.uint8)


def image_batch(n: int, shape: tuple[int, int, int]) -> Tensor:
    """`noise_images` as models take them: float32 [n, C, H, W] in [-1, 1]."""
    return images.to_float(torch.from_numpy(noise_images(n, shape)))


def bright(n: int, shape: tuple[int, int, int] = (1, 28, 28)) -> np.ndarray:
    """uint8 images that the untrained generators, which draw about grey, do not make."""
    return np.random.default_rng(0).integers(200, 256, (n, *shape), dtype=np.uint8)


def still(model: Model, monkeypatch, keep: str = "") -> dict[str, Tensor]:
    """Let no player of the model move, except `keep`; the losses that they would go down fill the returned dict."""
    losses: dict[str, Tensor] = {}
    descend = model.descend

    def recorded(player: str, loss: Tensor, *args, **kwargs) -> None:
        losses[player] = loss.detach()
        if player == keep:
            descend(player, loss, *args, **kwargs)

    monkeypatch.setattr(model, "descend", recorded)
    return losses


def stopping_after(calls: int, reason: str = "signal") -> Callable[[], str | None]:
    """A `stop` for the engine that names `reason` when asked the given number of times."""
    count = 0

    def stop() -> str | None:
        nonlocal count
        count += 1
        return reason if count == calls else None

    return stop


def same(a: Any, b: Any) -> bool:
    """Whether nested containers of tensors and plain values are equal, tensors bitwise."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b
