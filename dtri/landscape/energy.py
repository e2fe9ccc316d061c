"""The energies that are mapped, functions of batches of points in units of their standard deviation; and regions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dtri import finite

Energy = Callable[[Tensor], Tensor]  # points [B, *] -> energies [B], low where points are likely

BATCH = 500  # points that go through a network at once


@dataclass(frozen=True)
class Region:
    """The convex set that is mapped."""

    name: str  # for messages and records
    project: Callable[[Tensor], Tensor]  # points [B, *] -> the nearest points of the region
    tangent: Callable[[Tensor, Tensor], Tensor]  # points, directions [B, *] -> directions without what leads outside
    on_edge: Callable[[Tensor], Tensor]  # points [B, *] -> [B], whether only the limit of the region may stop a descent


def normalised(energy: Energy, reference: Tensor) -> tuple[Energy, float, float]:
    """(U - mean) / std, with the mean and the std, both over the energies of the points `reference`: [N, *].

    Raises:
        ValueError: the energy is flat.
        NonFinite: an energy of a reference point is not finite.
    """
    values = evaluate(energy, reference).double()
    finite.check("energies", values)
    mean, std = values.mean().item(), values.std().item()
    if not std > 0:
        raise ValueError(f"expected an energy that differs between {len(values)} reference points, found std {std}")
    return lambda x: (energy(x) - mean) / std, mean, std


def evaluate(energy: Energy, x: Tensor) -> Tensor:
    """U(x): [B] for any number of points x: [B, *], without gradients."""
    with torch.no_grad():
        return torch.cat([energy(part) for part in x.split(BATCH)])


def with_gradient(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """U(x): [B], and the gradient [B, *] of each point's own energy. Parameters get no gradient."""
    energies, gradients = [], []
    for part in x.detach().split(BATCH):
        part.requires_grad_()
        with torch.enable_grad():
            u = energy(part)
            gradients.append(torch.autograd.grad(u.sum(), part)[0])
        energies.append(u.detach())
    return torch.cat(energies), torch.cat(gradients)


UNBOUNDED = Region(
    name="unbounded",
    project=lambda x: x,
    tangent=lambda _, direction: direction,
    on_edge=lambda x: torch.zeros(len(x), dtype=torch.bool, device=x.device),
)


def box(low: float, high: float) -> Region:
    """The points whose coordinates all lie between two values, as in images. Minima on its faces count as minima."""
    return Region(
        name=f"[{low:g}, {high:g}]^n",
        project=lambda x: x.clamp(low, high),
        tangent=lambda x, direction: torch.where(
            ((x >= high) & (direction > 0)) | ((x <= low) & (direction < 0)), 0.0, direction
        ),
        on_edge=UNBOUNDED.on_edge,
    )


def ball(radius: float) -> Region:
    """The points [B, d] within `radius` of the origin, as for latents."""

    def on_edge(x: Tensor) -> Tensor:
        return x.norm(dim=1) > radius * (1 - 1e-4)

    def tangent(x: Tensor, direction: Tensor) -> Tensor:
        normal = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
        outward = (direction * normal).sum(1, keepdim=True).clamp(min=0)
        return torch.where(on_edge(x)[:, None], direction - outward * normal, direction)

    return Region(
        name=f"|z| <= {radius:.3g}",
        project=lambda x: x * (radius / x.norm(dim=1, keepdim=True)).clamp(max=1.0),
        tangent=tangent,
        on_edge=on_edge,
    )


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances [B] between the points of x: [B, *] and of y: [B, *]."""
    return (x - y).flatten(1).norm(dim=1)
