"""The whole mapping, paper B section 4.3: minima, basins, barriers between basins, and how the choices matter.

Every expensive call is a unit of work with a name, which seeds the noise of the unit. Results of units are remembered.
A mapping that was killed repeats all calls and finds the results that are done. So its result is a function of the
seed, the energy, the starts and the settings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtri.landscape import barriers, grouping, tree
from dtri.landscape.attraction_diffusion import Walk, stray
from dtri.landscape.energy import UNBOUNDED, Energy, Region, evaluate
from dtri.landscape.minima import Check, Descent, distinct, find
from dtri.landscape.settings import Settings
from dtri.seeding import derive

SCAN = 20  # largest number of halvings while alpha is chosen
BISECTIONS = 4
STRAY_STEPS = 1000
STRAYING = 20  # number of minima from which chains without magnetisation start


class Memory:
    """Results of units of work by name, tensors on the CPU.

    Args:
        seed: the seed from which the seeds of all units are derived.
        device: the device of the noise generators.
        known: results of an earlier process.
        save: called with all results after each new one.
    """

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
        """The result of `name`: remembered, or computed by `work` with a noise generator that `name` seeds."""
        if name not in self.known:
            generator = torch.Generator(self.device).manual_seed(derive("landscape", self.seed, name))
            self.known[name] = work(generator).cpu()
            if self._save is not None:
                self._save(self.known)
        return self.known[name]


@dataclass(frozen=True)
class Landscape:
    """The result of a mapping. Minima are numbered by increasing energy. A basin lists their numbers, the lowest first.

    Matrices are [G, G] over the kept basins, with the energies of their lowest minima on the diagonal.
    """

    minima: np.ndarray  # [N, *]
    energies: np.ndarray  # [N]
    minimum_of_start: np.ndarray  # [starts], -1 where no descent ended in a minimum
    basins: list[list[int]]  # basins of any size
    kept: list[list[int]]  # basins that a figure draws, by increasing energy
    path_barrier: np.ndarray  # lowest barriers by attraction-diffusion, inf where no trial succeeded
    line_barrier: np.ndarray  # highest energies on straight lines
    heights: np.ndarray  # lowest heights of all paths between basins, of both kinds: an ultrametric
    sensitivity: list[dict[str, float]]  # number of basins by alpha and threshold
    found: dict[str, float | int | str]  # counts, and the scales that were chosen or measured


def map_energy(
    energy: Energy, starts: Tensor, settings: Settings, memory: Memory, regions: Sequence[Region] = (UNBOUNDED,)
) -> Landscape:
    """Find minima, basins and barriers of an energy.

    Args:
        energy: U in units of its spread, with points [B, *] -> [B].
        starts: [S, *], the points where descents begin.
        settings: all other arguments, by name.
        memory: results of units of work, and the seed of their noise.
        regions: candidates, the smallest first; the first region that holds the minima is mapped.

    Raises:
        ValueError: no descent ended in a minimum, or too many minima lie on the edge of the last region.
    """
    # Descend from all starts, in the first region that holds the minima.
    near = settings.same_distance * _median_distance(starts)
    points = starts
    for region in regions:
        points, u, descents = _descend(energy, points, near, settings, memory, region)
        accepted = descents > 0
        if not accepted.any():
            raise ValueError(f"expected descents that end in minima, found none among {len(starts)}; allow more steps")
        order, same = distinct(points[accepted], u[accepted], near, settings.same_energy)
        minima, energies = points[accepted][order], u[accepted][order].double().numpy()
        on_edge = region.on_edge(minima).float().mean().item()
        if on_edge <= settings.max_on_edge:
            break
    else:
        raise ValueError(
            f"expected at most {settings.max_on_edge:.0%} of {len(minima)} minima on the edge of the region "
            f"{region.name}, found {on_edge:.0%}: raise region_margin or region_doublings"
        )
    minimum_of_start = np.full(len(starts), -1)  # no minimum
    minimum_of_start[accepted.numpy()] = same.numpy()

    # Choose the strength of magnetisation.
    reach = settings.reach * _median_distance(starts)
    walk = Walk(settings.noise, settings.temperature, reach, settings.patience, settings.walk_steps)
    place = minima.to(starts.device)
    pairs = _Pairs(energy, place, walk, settings, memory, region)
    alpha, connected = pairs.calibrate() if len(minima) > 1 else (0.0, 0.0)
    strayed = memory(
        "stray", lambda g: stray(energy, place[_spaced(len(place), STRAYING)], walk, STRAY_STEPS, g, region)
    )

    # Group minima into basins, and find the barriers between the basins that are drawn.
    basins = pairs.basins(alpha, settings.threshold)
    large = [members for members in basins if len(members) >= settings.min_members]
    kept = sorted(sorted(large, key=lambda members: (-len(members), members[0]))[: settings.max_basins])
    path_barrier, line_barrier = pairs.matrices([members[0] for members in kept], alpha)

    # Group again at other magnetisations and thresholds.
    sensitivity = [
        {
            "alpha": factor * alpha,
            "alpha_factor": factor,
            "connected": pairs.share(factor * alpha),
            "connected_flat": pairs.share(factor * alpha, flat=True),
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
        "not_converged": int((~accepted).sum()),
        "descended_again": int((descents > 1).sum()),
        "minima": len(minima),
        "region": region.name,
        "on_edge": on_edge,
        "basins": len(basins),
        "basins_too_small": len(basins) - len(large),
        "basins_not_drawn": len(large) - len(kept),
        "minima_not_drawn": len(minima) - sum(map(len, kept)),
        "threshold": settings.threshold,
        "temperature": settings.temperature,
        "alpha": alpha,
        "connected": connected,
        "connected_flat": pairs.share(alpha, flat=True),
        "reach": reach,
        "strayed_over_reach": strayed[0].median().item() / reach,
        "thermal_rise": strayed[1].median().item(),
    }
    return Landscape(
        minima=minima.numpy(),
        energies=energies,
        minimum_of_start=minimum_of_start,
        basins=basins,
        kept=kept,
        path_barrier=path_barrier,
        line_barrier=line_barrier,
        heights=tree.bottleneck(np.minimum(path_barrier, line_barrier)),
        sensitivity=sensitivity,
        found=found,
    )


def _descend(
    energy: Energy, starts: Tensor, near: float, settings: Settings, memory: Memory, region: Region
) -> tuple[Tensor, Tensor, Tensor]:
    """The ends [S, *] of descents from all starts, their energies [S] and numbers of descents [S], on the CPU."""
    descent = Descent(
        settings.descent_steps,
        settings.gradient_samples,
        settings.sampling_radius,
        settings.smallest_radius,
        settings.descent_tolerance,
    )
    check = Check(near, settings.check_rounds, settings.check_points, settings.same_energy, settings.descents)

    def packed(part: Tensor, generator: torch.Generator) -> Tensor:
        x, u, descents = find(energy, part.to(memory.device), descent, check, generator, region)
        return torch.cat([x.flatten(1), u[:, None], descents[:, None].to(x)], 1)

    done = torch.cat(
        [
            memory(f"descent {region.name} {i}", lambda g, part=part: packed(part, g))
            for i, part in enumerate(starts.split(settings.chunk))
        ]
    )
    return done[:, :-2].reshape(starts.shape), done[:, -2], done[:, -1].long()


def _median_distance(x: Tensor) -> float:
    return torch.pdist(x.flatten(1).float().cpu()).median().item()


def _spaced(n: int, count: int) -> Tensor:
    """At most `count` of n indices, evenly spaced."""
    return torch.linspace(0, n - 1, min(n, count)).round().long()


class _Pairs:
    """Barriers between numbered minima; each pair is tried once per alpha."""

    def __init__(self, energy: Energy, place: Tensor, walk: Walk, settings: Settings, memory: Memory, region: Region):
        self.energy, self.place, self.walk, self.settings = energy, place, walk, settings
        self.memory, self.region = memory, region
        self.energies = evaluate(energy, place).double().cpu().numpy()
        self.tried: dict[tuple[str, float, int, int], float] = {}
        draw = np.random.RandomState(derive("landscape pairs", memory.seed) % 2**32)
        rows, columns = np.triu_indices(len(place), 1)
        chosen = draw.choice(len(rows), min(len(rows), settings.calibration_pairs), replace=False)
        self.random = rows[chosen], columns[chosen]

    def barriers(self, kind: str, alpha: float, n: int, others: Sequence[int]) -> np.ndarray:
        """[others]: the lower of path and line barrier between minimum n and each other. Results are remembered."""
        missing = [m for m in others if (kind, alpha, n, m) not in self.tried]
        if missing:
            a, b = self.place[[n] * len(missing)], self.place[missing]
            strength = torch.full((len(missing),), alpha, dtype=a.dtype, device=a.device)
            met = self.memory(
                f"{kind} {alpha!r} {n} {missing}",
                lambda g: torch.minimum(
                    barriers.trials(self.energy, a, b, strength, self.walk, self.settings.trials, g, self.region),
                    barriers.along_line(self.energy, a, b),
                ),
            )
            self.tried |= {(kind, alpha, n, m): value for m, value in zip(missing, met.tolist(), strict=True)}
        return np.array([self.tried[kind, alpha, n, m] for m in others])

    def basins(self, alpha: float, threshold: float) -> list[list[int]]:
        """Group minima one by one, then try their representatives again and join those that connect."""
        groups = grouping.group(self.energies, lambda n, others: self.barriers("group", alpha, n, others), threshold)
        return grouping.consolidate(
            groups, self.energies, lambda n, others: self.barriers("consolidate", alpha, n, others), threshold
        )

    def share(self, alpha: float, flat: bool = False) -> float:
        """Fraction of random pairs that `alpha` connects; with `flat` on an energy of 0, by the pull alone."""
        if not len(self.random[0]):
            return 0.0
        a, b = (self.place[ends] for ends in self.random)
        strength = torch.full((len(a),), alpha, dtype=a.dtype, device=a.device)
        energy = (lambda x: 0 * x.flatten(1).sum(1)) if flat else self.energy
        met = self.memory(
            f"connected {alpha!r}{' flat' * flat}",
            lambda g: barriers.trials(energy, a, b, strength, self.walk, 1, g, self.region),
        )
        return met.isfinite().float().mean().item()

    def calibrate(self) -> tuple[float, float]:
        """(alpha, fraction): the weakest magnetisation met that connects enough random pairs, and their fraction.

        Alpha is halved from the strongest useful value until it connects fewer pairs, then bisected on a logarithmic
        scale. Where no alpha connects enough pairs, the alpha that connects most of them is taken.
        """
        wanted = self.settings.connected
        shares: dict[float, float] = {}
        top = 2 * self.walk.reach / self.walk.noise**2  # a step as long as the reach: longer ones jump over the target
        for k in range(SCAN):
            shares[top / 2**k] = self.share(top / 2**k)
            if shares[top / 2**k] < wanted <= max(shares.values()):
                break
        enough = [alpha for alpha, connected in shares.items() if connected >= wanted]
        high = min(enough) if enough else max(shares, key=shares.get)
        if enough and high / 2 in shares:
            low = high / 2
            for _ in range(BISECTIONS):
                middle = (low * high) ** 0.5
                shares[middle] = self.share(middle)
                low, high = (low, middle) if shares[middle] >= wanted else (middle, high)
        return high, shares[high]

    def matrices(self, chosen: list[int], alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """Barriers [G, G] between the chosen minima, by attraction-diffusion with falling alpha, and along lines."""
        path_barrier, line_barrier = np.diag(self.energies[chosen]), np.diag(self.energies[chosen])
        search = barriers.Search(
            self.settings.trials,
            self.settings.alpha_factor,
            self.settings.alpha_max_increases,
            self.settings.alpha_max_decreases,
        )
        for i in range(1, len(chosen)):
            a, b = self.place[[chosen[i]] * i], self.place[chosen[:i]]
            met = self.memory(
                f"barrier {chosen[i]} {chosen[:i]}",
                lambda g, a=a, b=b: barriers.lowest(self.energy, a, b, alpha, self.walk, search, g, self.region)[0],
            )
            path_barrier[i, :i] = path_barrier[:i, i] = met.double().numpy()
            line_barrier[i, :i] = line_barrier[:i, i] = barriers.along_line(self.energy, a, b).double().cpu().numpy()
        least = np.maximum.outer(*[self.energies[chosen]] * 2)  # batches of another size round energies differently
        return np.maximum(path_barrier, least), np.maximum(line_barrier, least)
