"""Attraction-diffusion: Langevin chains from one minimum that a magnetisation pulls to another.

Papers: Hill, Nijkamp & Zhu (2018), "Building a telescope to look into high-dimensional image spaces", which paper B
section 4.3 follows. A chain with start a and target b diffuses on

    U(x) / T + alpha |x - b|        (the distance itself, not its square: a pull of the same strength everywhere)

by x <- project(x - noise^2 / 2 * gradient + noise * N(0, I)), without a Metropolis correction. It succeeds when it
comes within `reach` of b, and fails after `patience` steps without coming closer than before. The highest energy
at the points of a successful path estimates the barrier between a and b from above: thermal noise lifts it, and only
what lies between two points, a step apart, is missed. So steps have to be short beside the width of a pass.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dtri.landscape.energy import EVERYWHERE, Energy, Region, distance, evaluate, with_gradient


@dataclass(frozen=True)
class Walk:
    """Arguments of the chains; lengths are Euclidean, over all coordinates of a point."""

    noise: float  # standard deviation of one step's noise in each coordinate
    temperature: float  # T, in units of the energy
    reach: float  # delta: a chain nearer to its target has arrived
    patience: int  # M: steps without coming nearer that count as a failure
    steps: int  # most steps of a chain; one that is still on its way then has failed


def attract(
    energy: Energy,
    start: Tensor,
    target: Tensor,
    alpha: Tensor,
    walk: Walk,
    generator: torch.Generator,
    region: Region = EVERYWHERE,
) -> Tensor:
    """start, target: [B, *]; alpha: [B] -> [B], the highest energy between both ends; inf where a chain failed.

    All noise comes from `generator`: the same batch gives the same paths.
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
    energy: Energy, start: Tensor, walk: Walk, steps: int, generator: torch.Generator, region: Region = EVERYWHERE
) -> Tensor:
    """Chains with alpha = 0: their distances [B] from the starts [B, *] after `steps`, and rises in energy [B]: [2, B].

    A temperature is right when the distances are a few times `reach` at most.
    """
    x = start.clone()
    for _ in range(steps):
        _, gradient = with_gradient(energy, x)
        noise = torch.empty_like(x).normal_(generator=generator)
        x = region.project(x - walk.noise**2 / (2 * walk.temperature) * gradient + walk.noise * noise)
    return torch.stack([distance(x, start), evaluate(energy, x) - evaluate(energy, start)])
