"""Local minima of an energy in a region: projected descent of many chains at once, and what counts as the same minimum.

Networks with (leaky) rectifiers have piecewise linear energies: at a minimum the gradient jumps and never vanishes, so
a descent has converged when it no longer goes down at ever smaller steps, not when the gradient is small.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dtri.landscape.energy import Confine, Energy, distance, everywhere, with_gradient

BETAS = (0.9, 0.999)  # of Adam


@dataclass(frozen=True)
class Descent:
    """Arguments of the descent. A chain's step size is halved when `patience` steps brought it down by less than
    `tolerance`; it has converged when that happens at a step size below `smallest`."""

    steps: int  # most steps of a chain
    step_size: float  # first one, of Adam, per coordinate
    smallest: float  # last one
    tolerance: float  # in units of the energy
    patience: int


def descend(
    energy: Energy, x: Tensor, descent: Descent, confine: Confine = everywhere
) -> tuple[Tensor, Tensor, Tensor]:
    """x: [B, *] -> the lowest points met [B, *], their energies [B], and whether each chain converged [B].

    Every chain has a step size and an Adam of its own: none depends on the others. No noise.
    """
    x = confine(x.detach().clone())
    lowest, place = torch.full((len(x),), torch.inf, device=x.device, dtype=x.dtype), x.clone()
    mark, waited = lowest.clone(), torch.zeros_like(lowest)
    step_size, converged = torch.full_like(lowest, descent.step_size), torch.zeros_like(lowest, dtype=torch.bool)
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    for t in range(1, descent.steps + 2):
        u, gradient = with_gradient(energy, x)
        lower = (u < lowest) & u.isfinite()
        lowest = torch.where(lower, u, lowest)
        place = torch.where(_wide(lower, x), x, place)
        fell = lowest < mark - descent.tolerance
        mark, waited = torch.where(fell, lowest, mark), torch.where(fell, 0, waited + 1)
        stuck = waited >= descent.patience
        converged |= stuck & (step_size < descent.smallest)
        step_size, waited = torch.where(stuck, step_size / 2, step_size), torch.where(stuck, 0, waited)
        if t > descent.steps or converged.all():
            break
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
        direction = first / (1 - BETAS[0] ** t) / ((second / (1 - BETAS[1] ** t)).sqrt() + 1e-12)
        x = confine(x - _wide(step_size, x) * direction)
    return place, lowest, converged


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """[B] shaped to multiply or choose between points [B, *]."""
    return values.view(-1, *[1] * (x.dim() - 1))


def distinct(x: Tensor, u: Tensor, near: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """Points x: [B, *] with energies u: [B] -> the distinct ones by increasing energy, as indices [N], and which of
    them [B] each point is the same as: within the distance `near`, energies within `tolerance`. The lowest stands for
    the others.
    """
    kept: list[int] = []
    same = torch.empty(len(x), dtype=torch.int64)
    for i in torch.argsort(u, stable=True).tolist():
        others = torch.tensor(kept, dtype=torch.int64, device=x.device)
        fits = (distance(x[others], x[i]) < near) & (u[i] - u[others] < tolerance)
        if fits.any():
            same[i] = int(fits.nonzero()[0])
        else:
            same[i] = len(kept)
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64), same
