"""Energies as the mapping sees them: functions of batches of points, in units of their own spread, and gradients."""

from collections.abc import Callable

import torch
from torch import Tensor

from dtri import finite

Energy = Callable[[Tensor], Tensor]  # points [B, *] -> energies [B], low where points are likely
Confine = Callable[[Tensor], Tensor]  # points [B, *] -> the nearest points of the region that is mapped


def normalised(energy: Energy, reference: Tensor, batch_size: int = 500) -> tuple[Energy, float, float]:
    """(U - mean) / std, with both over the points `reference`: [N, *]; and these two.

    ValueError for a flat energy, NonFinite for one that is not finite.
    """
    with torch.no_grad():
        values = torch.cat([energy(part) for part in reference.split(batch_size)]).double()
    finite.check("energies", values)
    mean, std = values.mean().item(), values.std().item()
    if not std > 0:
        raise ValueError(f"expected an energy that differs between {len(values)} reference points, found std {std}")
    return lambda x: (energy(x) - mean) / std, mean, std


def with_gradient(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """U(x): [B] and its gradient with respect to every point by itself: [B, *]. Neither reaches a parameter."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        u = energy(x)
        gradient = torch.autograd.grad(u.sum(), x)[0]
    return u.detach(), gradient


def everywhere(x: Tensor) -> Tensor:
    return x


def box(low: float, high: float) -> Confine:
    """Every coordinate between two values: images in [-1, 1]."""
    return lambda x: x.clamp(low, high)


def ball(radius: float) -> Confine:
    """Points [B, d] no farther from the origin: latents."""
    return lambda x: x * (radius / x.norm(dim=1, keepdim=True)).clamp(max=1.0)


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distance between the points of x: [B, *] and of y: [B]."""
    return (x - y).flatten(1).norm(dim=1)
