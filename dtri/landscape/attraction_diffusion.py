"""Attraction-diffusion: Langevin chains from one minimum that a magnetisation pulls to another.

Papers: Hill, Nijkamp & Zhu (2018), "Building a telescope to look into high-dimensional image spaces", which paper B
section 4.3 follows. A chain with start a and target b diffuses on

    U(x) / T + alpha |x - b|

by x <- project(x - noise^2 / 2 * gradient + noise * N(0, I)), without a Metropolis correction. The distance is not
squared, so the pull has the same strength at any distance. A chain succeeds when it comes within `reach` of b. It
fails after `patience` steps that bring it no closer than before. The highest energy on a successful path estimates the
barrier between a and b from above, since thermal noise lifts the path. Points between two steps are missed, so steps
have to be short compared with the width of a pass.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dtri.landscape.energy import UNBOUNDED, Energy, Region, distance, evaluate, with_gradient


@dataclass(frozen=True)
class Walk:
    """Arguments of the chains; lengths are Euclidean, over all coordinates of a point."""

    noise: float  # standard deviation of one step's noise in each coordinate
    temperature: float  # T, in units of the energy
    reach: float  # delta: a chain nearer to its target has arrived
    patience: int  # M: steps without coming nearer that count as a failure
    steps: int  # largest number of steps; a chain that is still on its way then has failed


def attract(
    energy: Energy,
    start: Tensor,
    target: Tensor,
    alpha: Tensor,
    walk: Walk,
    generator: torch.Generator,
    region: Region = UNBOUNDED,
) -> Tensor:
    """Send a chain from every start to its target.

    Args:
        energy: U, with points [B, *] -> [B].
        start, target: [B, *], the ends of each chain.
        alpha: [B], the magnetisation of each chain.
        walk: arguments that all chains share.
        generator: source of all noise; the same batch gives the same paths.
        region: the set that chains do not leave.

    Returns:
        [B], the highest energy on each path, both ends included; inf where a chain failed.
    """
    result = torch.full_like(alpha, torch.inf)
    highest = evaluate(energy, target)
    x, chain = start.clone(), torch.arange(len(start), device=start.device)
    nearest, waited = torch.full_like(alpha, torch.inf), torch.zeros_like(chain)
    for step in range(walk.steps + 1):
        u, gradient = with_gradient(energy, x)
        highest = torch.maximum(highest, u)
        away = distance(x, target)
        arrived = away <= walk.reach
        result[chain[arrived]] = highest[arrived]
        waited = torch.where(away < nearest, 0, waited + 1)
        nearest = torch.minimum(nearest, away)
        on = ~arrived & (waited < walk.patience)
        if step == walk.steps or not on.any():
            break
        x, target, chain, alpha, highest = x[on], target[on], chain[on], alpha[on], highest[on]
        nearest, waited, gradient, away = nearest[on], waited[on], gradient[on], away[on]
        scale = (alpha / away).view(-1, *[1] * (x.dim() - 1))
        drift = gradient / walk.temperature + scale * (x - target)
        noise = torch.empty_like(x).normal_(generator=generator)
        x = region.project(x - walk.noise**2 / 2 * drift + walk.noise * noise)
    return result


def stray(
    energy: Energy, start: Tensor, walk: Walk, steps: int, generator: torch.Generator, region: Region = UNBOUNDED
) -> Tensor:
    """Let chains diffuse with alpha = 0 for `steps` steps from start: [B, *].

    The temperature is right if the distances are at most a few times `reach`. Other arguments are as in `attract`.

    Returns:
        [2, B]: the distance of each end from its start, and its energy minus the start's.
    """
    x = start.clone()
    for _ in range(steps):
        _, gradient = with_gradient(energy, x)
        noise = torch.empty_like(x).normal_(generator=generator)
        x = region.project(x - walk.noise**2 / (2 * walk.temperature) * gradient + walk.noise * noise)
    return torch.stack([distance(x, start), evaluate(energy, x) - evaluate(energy, start)])
