"""The lowest known barrier of a pair of minima: attraction-diffusion with ever weaker magnetisation, and a bound.

Alpha is lowered after every success until no trial succeeds; the lowest barrier met counts (Hill, Nijkamp & Zhu, 2018).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dtri.landscape.attraction_diffusion import Walk, attract
from dtri.landscape.energy import UNBOUNDED, Energy, Region, evaluate


@dataclass(frozen=True)
class Search:
    """How alpha is varied for each pair."""

    trials: int  # K, chains in each direction at every alpha
    factor: float  # alpha is multiplied by it after a success; 0.97 in the paper's source
    max_increases: int  # maximum number of doublings of alpha until a pair connects
    max_decreases: int  # maximum number of times alpha is lowered


def trials(
    energy: Energy,
    a: Tensor,
    b: Tensor,
    alpha: Tensor,
    walk: Walk,
    k: int,
    generator: torch.Generator,
    region: Region = UNBOUNDED,
) -> Tensor:
    """Try each pair with k chains in each direction.

    Args:
        energy: U, with points [B, *] -> [B].
        a, b: [P, *], the pairs of minima.
        alpha: [P], the magnetisation for each pair.
        walk, generator, region: as in `attract`.
        k: chains in each direction.

    Returns:
        [P], the lowest barrier that a chain met; inf where none arrived.
    """
    start, target = torch.cat([a] * k + [b] * k), torch.cat([b] * k + [a] * k)
    return attract(energy, start, target, alpha.repeat(2 * k), walk, generator, region).view(2 * k, -1).amin(0)


def lowest(
    energy: Energy,
    a: Tensor,
    b: Tensor,
    alpha: float,
    walk: Walk,
    search: Search,
    generator: torch.Generator,
    region: Region = UNBOUNDED,
) -> tuple[Tensor, Tensor]:
    """Search the lowest barrier of each pair. Alpha is doubled until it connects, then lowered until no trial arrives.

    Args:
        energy: U, with points [B, *] -> [B].
        a, b: [P, *], the pairs of minima.
        alpha: the magnetisation of the first trials.
        walk, generator, region: as in `attract`.
        search: how alpha changes, and how often.

    Returns:
        The lowest barrier [P] of all trials, inf where none arrived; the alpha [P] of the last success, else NaN.
    """
    barrier = torch.full((len(a),), torch.inf, device=a.device, dtype=a.dtype)
    strength, border = torch.full_like(barrier, alpha), torch.full_like(barrier, torch.nan)
    on, raised, fallen = torch.ones_like(barrier, dtype=torch.bool), 0, torch.zeros_like(barrier, dtype=torch.int64)
    while on.any():
        met = trials(energy, a[on], b[on], strength[on], walk, search.trials, generator, region)
        place = on.nonzero().flatten()
        success = place[met.isfinite()]
        barrier[place] = torch.minimum(barrier[place], met)
        border[success] = strength[success]
        strength[success] *= search.factor
        fallen[success] += 1
        failed = place[~met.isfinite()]
        raisable = failed[fallen[failed] == 0] if raised < search.max_increases else failed[:0]
        on[failed] = False
        on[raisable] = True
        strength[raisable] *= 2
        raised += 1
        on &= fallen <= search.max_decreases
    return barrier, border


def along_line(energy: Energy, a: Tensor, b: Tensor, points: int = 50) -> Tensor:
    """a, b: [P, *] -> the highest energy [P] at `points` places on the straight line, both ends included.

    It bounds the barrier from above, except for peaks between the points. No chain is needed.
    """
    return torch.stack([evaluate(energy, torch.lerp(a, b, s)) for s in torch.linspace(0, 1, points).tolist()]).amax(0)
