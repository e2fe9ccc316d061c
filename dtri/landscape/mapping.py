"""The whole mapping, paper B section 4.3: minima, basins, barriers between basins, and how the choices matter.

Every expensive call is one named unit of work whose noise comes from a seed of that name. Units that are done are
remembered, and a mapping that was killed goes through the same calls again and finds them: the result is a function of
the seed, the energy, the starts and the settings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtri.landscape import barriers, grouping, tree
from dtri.landscape.attraction_diffusion import Walk, stray
from dtri.landscape.energy import Confine, Energy, everywhere
from dtri.landscape.minima import Descent, descend, distinct
from dtri.landscape.settings import Settings
from dtri.seeding import derive

SCAN = 20  # halvings of alpha at most while it is chosen
BISECTIONS = 4
STRAY_STEPS = 1000
STRAYING = 20  # minima that chains without magnetisation start from


class Memory:
    """Results of units of work by name: tensors on the CPU. `save` gets all of them after each new one."""

    def __init__(
        self,
        seed: int,
        device: torch.device,
        known: dict[str, Tensor] | None = None,
        save: Callable[[dict[str, Tensor]], None] | None = None,
    ):
        self.seed, self.device = seed, device
        self.known: dict[str, Tensor] = dict(known or {})
        self._save = save

    def __call__(self, name: str, work: Callable[[torch.Generator], Tensor]) -> Tensor:
        if name not in self.known:
            generator = torch.Generator(self.device).manual_seed(derive("landscape", self.seed, name))
            self.known[name] = work(generator).cpu()
            if self._save is not None:
                self._save(self.known)
        return self.known[name]


@dataclass(frozen=True)
class Landscape:
    """What a mapping found. Minima are numbered by increasing energy; basins list them, the lowest first.

    `fell_into` gives the minimum of every start, -1 where its descent did not converge. Matrices are over the kept
    basins, [G, G], with the energies of their lowest minima on the diagonal.
    """

    minima: np.ndarray  # [N, *]
    energies: np.ndarray  # [N]
    fell_into: np.ndarray  # [starts]
    basins: list[list[int]]  # all of them
    kept: list[list[int]]  # large enough, at most as many as are drawn, by increasing energy
    walked: np.ndarray  # lowest barriers by attraction-diffusion, inf where no trial succeeded
    straight: np.ndarray  # highest energies on straight lines
    heights: np.ndarray  # the lower of both, over all paths between basins: an ultrametric
    sensitivity: list[dict[str, float]]  # number of basins by alpha and threshold
    found: dict[str, float | int]  # scales that were chosen or measured


def map_energy(
    energy: Energy, starts: Tensor, settings: Settings, memory: Memory, confine: Confine = everywhere
) -> Landscape:
    """starts: [S, *], `energy` in units of its spread. ValueError when no descent converges."""
    points, u, converged = _descend(energy, starts, settings, memory, confine)
    spread = _median_distance(starts)
    if not converged.any():
        raise ValueError(f"expected descents that converge, found none among {len(starts)}; allow more steps")
    order, same = distinct(points[converged], u[converged], settings.same_distance * spread, settings.same_energy)
    minima, energies = points[converged][order], u[converged][order].double().numpy()
    fell_into = np.full(len(starts), -1)
    fell_into[converged.numpy()] = same.numpy()

    reach = settings.reach * (_median_distance(minima) if len(minima) > 1 else spread)
    walk = Walk(settings.noise, settings.temperature, reach, settings.patience, settings.walk_steps)
    place = minima.to(starts.device)
    pairs = _Pairs(energy, place, walk, settings, memory, confine)
    alpha, share = pairs.calibrate() if len(minima) > 1 else (0.0, 0.0)
    strayed = memory(
        "stray", lambda g: stray(energy, place[_spaced(len(place), STRAYING)], walk, STRAY_STEPS, g, confine)
    )

    basins = pairs.basins(alpha, settings.threshold)
    large = [members for members in basins if len(members) >= settings.min_members]
    kept = sorted(sorted(large, key=lambda members: (-len(members), members[0]))[: settings.max_basins])
    walked, straight = pairs.matrices([members[0] for members in kept], alpha)
    sensitivity = [
        {
            "alpha": factor * alpha,
            "alpha_factor": factor,
            "threshold": threshold,
            "basins": len(groups),
            "large_basins": sum(len(members) >= settings.min_members for members in groups),
            "largest": max(map(len, groups)),
        }
        for factor in settings.alpha_factors
        for threshold in settings.thresholds
        for groups in (pairs.basins(factor * alpha, threshold),)
    ]
    found = {
        "starts": len(starts),
        "not_converged": int((~converged).sum()),
        "minima": len(minima),
        "basins": len(basins),
        "basins_too_small": len(basins) - len(large),
        "basins_not_drawn": len(large) - len(kept),
        "minima_not_drawn": len(minima) - sum(map(len, kept)),
        "threshold": settings.threshold,
        "temperature": settings.temperature,
        "alpha": alpha,
        "connected": share,
        "reach": reach,
        "strayed_over_reach": strayed[0].median().item() / reach,
        "thermal_rise": strayed[1].median().item(),
    }
    heights = tree.bottleneck(np.minimum(walked, straight))
    return Landscape(minima.numpy(), energies, fell_into, basins, kept, walked, straight, heights, sensitivity, found)


def _descend(
    energy: Energy, starts: Tensor, settings: Settings, memory: Memory, confine: Confine
) -> tuple[Tensor, Tensor, Tensor]:
    """Lowest points [S, *] of all starts, their energies [S], whether they converged [S]; on the CPU."""
    descent = Descent(
        settings.descent_steps,
        settings.step_size,
        settings.smallest_step_size,
        settings.descent_tolerance,
        settings.descent_patience,
    )

    def packed(part: Tensor) -> Tensor:
        x, u, converged = descend(energy, part, descent, confine)
        return torch.cat([x.flatten(1), u[:, None], converged[:, None].to(x)], 1)

    parts = starts.split(settings.chunk)
    done = torch.cat([memory(f"descent {i}", lambda _, part=part: packed(part)) for i, part in enumerate(parts)])
    return done[:, :-2].reshape(starts.shape), done[:, -2], done[:, -1] > 0


def _median_distance(x: Tensor) -> float:
    return torch.pdist(x.flatten(1).float().cpu()).median().item()


def _spaced(n: int, count: int) -> Tensor:
    """At most `count` of n indices, evenly spaced."""
    return torch.linspace(0, n - 1, min(n, count)).round().long()


class _Pairs:
    """Barriers between numbered minima, each pair tried once per alpha."""

    def __init__(self, energy: Energy, place: Tensor, walk: Walk, settings: Settings, memory: Memory, confine: Confine):
        self.energy, self.place, self.walk, self.settings = energy, place, walk, settings
        self.memory, self.confine = memory, confine
        self.energies = energy(place).detach().double().cpu().numpy()
        self.tried: dict[tuple[str, float, int, int], float] = {}

    def barriers(self, kind: str, alpha: float, n: int, others: Sequence[int]) -> np.ndarray:
        """Lowest barriers of trials between minimum n and others; those tried before are looked up."""
        missing = [m for m in others if (kind, alpha, n, m) not in self.tried]
        if missing:
            met = self.memory(
                f"{kind} {alpha!r} {n} {missing}",
                lambda g: barriers.trials(
                    self.energy,
                    self.place[[n] * len(missing)],
                    self.place[missing],
                    torch.full((len(missing),), alpha, dtype=self.place.dtype, device=self.place.device),
                    self.walk,
                    self.settings.trials,
                    g,
                    self.confine,
                ),
            )
            self.tried |= {(kind, alpha, n, m): value for m, value in zip(missing, met.tolist(), strict=True)}
        return np.array([self.tried[kind, alpha, n, m] for m in others])

    def basins(self, alpha: float, threshold: float) -> list[list[int]]:
        """Sequential grouping, then the trials between representatives again."""
        groups = grouping.group(self.energies, lambda n, others: self.barriers("group", alpha, n, others), threshold)
        return grouping.consolidate(
            groups, self.energies, lambda n, others: self.barriers("consolidate", alpha, n, others), threshold
        )

    def calibrate(self) -> tuple[float, float]:
        """(alpha, share): the weakest magnetisation met that connects the wanted share of random pairs, and the share.

        Halved from the strongest useful one until it connects fewer, then bisected on a logarithmic scale. Where none
        connects as many, the one that connects most.
        """
        n, wanted = len(self.place), self.settings.connected
        draw = np.random.RandomState(derive("landscape pairs", self.memory.seed) % 2**32)
        rows, columns = np.triu_indices(n, 1)
        chosen = draw.choice(len(rows), min(len(rows), self.settings.calibration_pairs), replace=False)
        a, b = self.place[rows[chosen]], self.place[columns[chosen]]

        def share(alpha: float) -> float:
            strength = torch.full((len(a),), alpha, dtype=a.dtype, device=a.device)
            met = self.memory(
                f"connected {alpha!r}",
                lambda g: barriers.trials(self.energy, a, b, strength, self.walk, 1, g, self.confine),
            )
            return met.isfinite().float().mean().item()

        shares: dict[float, float] = {}
        top = 2 * self.walk.reach / self.walk.noise**2  # a step as long as the reach: more would jump over the target
        for k in range(SCAN):
            shares[top / 2**k] = share(top / 2**k)
            if shares[top / 2**k] < wanted <= max(shares.values()):
                break
        enough = [alpha for alpha, connected in shares.items() if connected >= wanted]
        high = min(enough) if enough else max(shares, key=shares.get)
        if enough and high / 2 in shares:
            low = high / 2
            for _ in range(BISECTIONS):
                middle = (low * high) ** 0.5
                shares[middle] = share(middle)
                low, high = (low, middle) if shares[middle] >= wanted else (middle, high)
        return high, shares[high]

    def matrices(self, chosen: list[int], alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """Barriers between the chosen minima: by attraction-diffusion with falling alpha, and along straight lines."""
        walked, straight = np.diag(self.energies[chosen]), np.diag(self.energies[chosen])
        search = barriers.Search(
            self.settings.trials, self.settings.alpha_factor, self.settings.alpha_raises, self.settings.alpha_falls
        )
        for i in range(1, len(chosen)):
            a, b = self.place[[chosen[i]] * i], self.place[chosen[:i]]
            met = self.memory(
                f"barrier {chosen[i]} {chosen[:i]}",
                lambda g, a=a, b=b: barriers.lowest(self.energy, a, b, alpha, self.walk, search, g, self.confine)[0],
            )
            walked[i, :i] = walked[:i, i] = met.double().numpy()
            straight[i, :i] = straight[:i, i] = barriers.along_line(self.energy, a, b).double().cpu().numpy()
        least = np.maximum.outer(*[self.energies[chosen]] * 2)  # batches of another size round energies differently
        return np.maximum(walked, least), np.maximum(straight, least)
