"""Langevin dynamics in image space: short chains that descend an energy, with noise.

    x <- clamp(x - step_size * clip(grad U(x)) + noise * N(0, I))

With step_size = s^2 / 2 and noise = s, unclipped and unclamped, chains sample exp(-U) as s goes to 0. On a unit
Gaussian their variance is 1 / (1 - s^2 / 4).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chain:
    """Arguments of a chain, all in units of the pixel values of x."""

    steps: int
    step_size: float  # factor of the gradient
    noise: float  # standard deviation of the noise of one step
    gradient_clip: float | None = None  # largest absolute value of each element of the gradient
    clamp: tuple[float, float] | None = None  # range in which x is held
    noise_first: bool = False  # noise is added before the gradient is computed, so the end of the chain has none


def langevin(
    energy: Callable[[Tensor], Tensor], x: Tensor, chain: Chain, generator: torch.Generator | None = None
) -> Tensor:
    """The ends of the chains that start at x: [B, ...].

    Args:
        energy:    U, x -> [B], low where samples should go.
        x:         [B, ...], the starts.
        chain:     arguments of the chains.
        generator: source of the noise; None: torch's default generator.

    Gradients by x are computed even under `torch.no_grad`. No gradient reaches a parameter or the caller.
    """
    x = x.detach()
    for _ in range(chain.steps):
        noise = chain.noise * torch.empty_like(x).normal_(generator=generator)
        if chain.noise_first:
            x = x + noise
        gradient = _gradient(energy, x)
        if chain.gradient_clip is not None:
            gradient = gradient.clamp(-chain.gradient_clip, chain.gradient_clip)
        x = x - chain.step_size * gradient
        if not chain.noise_first:
            x = x + noise
        if chain.clamp is not None:
            x = x.clamp(*chain.clamp)
    return x


def _gradient(energy: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """d U(x_i) / d x_i of each image x_i by itself."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(energy(x).sum(), x)[0]
