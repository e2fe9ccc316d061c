"""Noise of Markov chains by image: the noise of an image depends neither on its batch nor on the number of images."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class PerImage(TorchFunctionMode):
    """While active, row i of a draw [B, ...] from `generator` comes from a stream of random numbers with `seeds[i]`.

    ValueError for draws with another number of rows, or by functions whose rows cannot be told.
    """

    SIZED = (torch.randn, torch.rand)
    IN_PLACE = (Tensor.normal_, Tensor.uniform_)

    def __init__(self, seeds: Sequence[int], device: torch.device):
        super().__init__()
        self.generator = torch.Generator(device)  # given to the sampler; stands for all streams
        self.streams = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is not self.generator:
            return func(*args, **kwargs)
        options = {name: value for name, value in kwargs.items() if name not in ("generator", "size")}
        if func in self.SIZED:
            shape = func(*args, **{**kwargs, "generator": None, "device": "meta"}).shape
            return self._rows(shape, lambda stream: func(shape[1:], generator=stream, **options))
        if func in self.IN_PLACE:
            x, *rest = args
            row = torch.empty(x.shape[1:], dtype=x.dtype, device=x.device)  # x's own rows differ in memory layout
            return x.copy_(self._rows(x.shape, lambda stream: func(row, *rest, generator=stream, **options).clone()))
        raise ValueError(f"expected noise of chains by randn, rand, normal_ or uniform_, found {func.__name__}")

    def _rows(self, shape: torch.Size, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        if not shape or shape[0] != len(self.streams):
            raise ValueError(f"expected noise for each of {len(self.streams)} images, found shape {tuple(shape)}")
        return torch.stack([draw(stream) for stream in self.streams])
