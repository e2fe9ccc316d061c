"""Local minima of an energy in a region: descent by gradient sampling, and a random search that checks its ends.

Networks with (leaky) rectifiers have piecewise smooth energies. At a minimum their gradient jumps and never vanishes,
and steepest descent stalls at kinks that are no minima. Gradient sampling draws gradients within a radius of a point
(Burke, Lewis & Overton, 2005, "A robust gradient sampling algorithm for nonsmooth, nonconvex optimization"). The
shortest vector of their convex hull is the steepest direction that descends for all of them. It vanishes only at Clarke
stationary points. On a smooth energy with falling radius this is projected gradient descent with a line search.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dtri import finite
from dtri.landscape.energy import UNBOUNDED, Energy, Region, distance, evaluate, with_gradient

ARMIJO = 1e-4  # a step has to bring this fraction of the decrease that the gradient promises
LENGTHS = tuple(2.0**k for k in range(-3, 6))  # lengths of the steps tried, in radii
SHRINK = 0.25  # the radius is multiplied by it when no step decreases the energy by the tolerance
HULL_STEPS = 200  # iterations of the quadratic programme


@dataclass(frozen=True)
class Descent:
    """Arguments of the descent; lengths are Euclidean, over all coordinates of a point."""

    steps: int  # largest number of steps of a chain
    samples: int  # gradients drawn around a point, beside its own; at kinks there must be more than its coordinates
    radius: float  # first radius within which they are drawn
    smallest: float  # a chain has converged when no step brings the tolerance at a radius below this
    tolerance: float  # smallest decrease that counts, in units of the energy


@dataclass(frozen=True)
class Check:
    """Arguments of the random search around a minimum."""

    radius: float  # largest distance of a round's points from the lowest point so far
    rounds: int
    points: int  # per round, at log-uniform distances between a thousandth of the radius and the radius
    tolerance: float  # a point is no minimum if the energy falls by more than this
    attempts: int  # largest number of descents of a chain


def find(
    energy: Energy,
    starts: Tensor,
    descent: Descent,
    check: Check,
    generator: torch.Generator,
    region: Region = UNBOUNDED,
) -> tuple[Tensor, Tensor, Tensor]:
    """Descend from every start until a random search finds nothing lower.

    A chain ends when a descent converged and the search around its end found nothing lower by the tolerance. Otherwise
    the chain descends again, from the lowest point of the search.

    Args:
        energy: U, with points [B, *] -> [B].
        starts: [B, *], the first points of the descents.
        descent, check: arguments of the descents and of the search.
        generator: source of all noise.
        region: the set that descents do not leave.

    Returns:
        The ends [B, *], their energies [B], and the number of descents [B] of each chain; 0 if no descent ended it.
    """
    x, u = starts.clone(), torch.empty_like(starts.flatten(1)[:, 0])
    descents = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for attempt in range(1, check.attempts + 1):
        open_ = (descents == 0).nonzero().flatten()
        if not len(open_):
            break
        end, height, converged = descend(energy, x[open_], descent, generator, region)
        place, lowest = search(energy, end, check, generator, region)
        passed = converged & (lowest >= height - check.tolerance)
        x[open_], u[open_] = torch.where(_wide(passed, x), end, place), torch.where(passed, height, lowest)
        descents[open_[passed]] = attempt
    return x, u, descents


def search(
    energy: Energy, x: Tensor, check: Check, generator: torch.Generator, region: Region = UNBOUNDED
) -> tuple[Tensor, Tensor]:
    """Search at random around every point of x: [B, *], each round around the lowest point so far.

    Other arguments are as in `find`.

    Returns:
        The lowest points [B, *], and their energies [B].
    """
    place, lowest = x.clone(), evaluate(energy, x)
    for _ in range(check.rounds):
        radius = check.radius * 1e-3 ** _uniform(generator, place, len(x), check.points)
        tried = region.project(_around(place, radius, generator).flatten(0, 1))
        u, best = evaluate(energy, tried).view(len(x), -1).min(1)
        lower = u < lowest
        place[lower] = tried.view(len(x), check.points, *x.shape[1:])[lower, best[lower]]
        lowest = torch.minimum(u, lowest)
    return place, lowest


def descend(
    energy: Energy, x: Tensor, descent: Descent, generator: torch.Generator, region: Region = UNBOUNDED
) -> tuple[Tensor, Tensor, Tensor]:
    """Descend from every point of x: [B, *] by gradient sampling. No step goes up.

    The radius of a chain falls when its best step brings less than the tolerance; below `smallest` it has converged.
    Other arguments are as in `find`.

    Returns:
        The lowest points [B, *], their energies [B], and whether each chain converged [B].

    Raises:
        NonFinite: the energy of a first point is not finite.
    """
    x = region.project(x.detach().clone())
    u = evaluate(energy, x)
    finite.check("energies", u)
    radius = torch.full_like(u, descent.radius)
    lengths = torch.tensor(LENGTHS, dtype=x.dtype, device=x.device)
    for _ in range(descent.steps):
        on = (radius >= descent.smallest).nonzero().flatten()
        if not len(on):
            break
        at, near = x[on], radius[on]

        # The steepest direction that all gradients within the radius agree on.
        away = near[:, None] * _uniform(generator, at, len(at), descent.samples) ** (1 / at[0].numel())  # in the ball
        drawn = _around(at, away, generator)
        points = region.project(torch.cat([at[:, None], drawn], 1).flatten(0, 1))
        gradients = with_gradient(energy, points)[1].view(len(at), 1 + descent.samples, *at.shape[1:])
        direction = steepest(gradients, at, region)

        # The lowest of several steps along this direction.
        slope = direction.flatten(1).norm(dim=1)
        size = near[:, None] * lengths / slope[:, None].clamp(min=1e-12)
        tried = region.project((at[:, None] + _wide(size, at) * direction[:, None]).flatten(0, 1))
        energies = evaluate(energy, tried).view(len(at), -1)
        lowest, best = energies.where(energies.isfinite(), torch.inf).min(1)
        fall = u[on] - lowest
        enough = fall > ARMIJO * slope * near * lengths[best]
        moved = on[enough]
        x[moved] = tried.view(len(at), len(LENGTHS), *at.shape[1:])[enough, best[enough]]
        u[moved] = lowest[enough]
        radius[on[~enough | (fall < descent.tolerance)]] *= SHRINK
    return x, u, radius < descent.smallest


def steepest(gradients: Tensor, x: Tensor, region: Region = UNBOUNDED) -> Tensor:
    """The shortest vector [B, *] in the convex hull of -gradients: [B, M, *], taken near x: [B, *].

    Parts of a vector that lead out of the region do not count, and are removed from the result. Accelerated projected
    gradient descent finds the weights of the hull (Beck & Teboulle, 2009).
    """
    flat = gradients.flatten(2)
    bound = (flat @ flat.mT).flatten(1).norm(dim=1)[:, None].clamp(min=1e-30)  # of the curvature: Frobenius norm
    weights = torch.full_like(flat[..., 0], 1 / flat.shape[1])
    ahead, momentum = weights, 1.0

    def direction(weights: Tensor) -> Tensor:
        return region.tangent(x, -(weights[:, None] @ flat).view_as(x))

    for _ in range(HULL_STEPS if flat.shape[1] > 1 else 0):
        slopes = -(flat @ direction(ahead).flatten(1)[:, :, None])[..., 0]
        following = _on_simplex(ahead - slopes / bound)
        grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = following + (momentum - 1) / grown * (following - weights)
        weights, momentum = following, grown
    return direction(weights)


def _on_simplex(weights: Tensor) -> Tensor:
    """[B, M] -> the nearest weights that are not negative and sum to 1 (Duchi et al., 2008)."""
    falling = weights.sort(1, descending=True)[0]
    excess = (falling.cumsum(1) - 1) / torch.arange(1, weights.shape[1] + 1, device=weights.device)
    last = (falling > excess).sum(1, keepdim=True) - 1
    return (weights - excess.gather(1, last)).clamp(min=0)


def _around(x: Tensor, radius: Tensor, generator: torch.Generator) -> Tensor:
    """Points [B, M, *] at distances [B, M] from x: [B, *], in random directions."""
    away = torch.empty(*radius.shape, *x.shape[1:], dtype=x.dtype, device=x.device).normal_(generator=generator)
    return x[:, None] + _wide(radius, x) * away / _wide(away.flatten(2).norm(dim=2), x)


def _uniform(generator: torch.Generator, like: Tensor, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=like.dtype, device=like.device)


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """values [B] or [B, M], reshaped so that they broadcast with x: [B, *] or [B, M, *]."""
    return values.view(*values.shape, *[1] * (x.dim() - 1))


def distinct(x: Tensor, u: Tensor, near: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """Find which of the points x: [B, *] with energies u: [B] are the same minimum.

    A point duplicates a lower minimum that is nearer than `near` and whose energy differs by less than `tolerance`.

    Returns:
        Indices [N] of the distinct minima, the lowest energy first, and the number [B] of each point's minimum.
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
