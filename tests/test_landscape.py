"""Energy landscape mapping, against energies whose minima and saddles are known in closed form."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from dtri.landscape import barriers, grouping, mapping, tree
from dtri.landscape.attraction_diffusion import Walk, attract, stray
from dtri.landscape.energy import UNBOUNDED, ball, box, distance, normalised
from dtri.landscape.minima import Check, Descent, descend, distinct, find, search, steepest
from dtri.landscape.settings import Settings

# U(x, y) = A(x) + B(y), two tilted double wells: four minima, and a saddle between neighbours where one coordinate is
# at the hill of its well and the other at the bottom.
A = np.poly1d([1.0, 0.0, -2.0, 0.15, 1.0])
B = np.poly1d([2.5, 0.0, -5.0, 0.10, 2.5])
TEMPERATURE = 0.05
THERMAL = 6 * TEMPERATURE  # how far above the saddle the best of a few noisy paths may pass
SETTINGS = Settings(
    space="image",
    from_samples=40,
    from_images=0,
    from_reconstructions=0,
    gradient_samples=4,
    smallest_radius=1e-4,
    descent_tolerance=1e-6,
    same_distance=0.02,
    noise=0.04,
    temperature=TEMPERATURE,
    reach=0.1,
    threshold=0.5,
    min_members=1,
    alpha_factors=(0.5, 1.0),
    thresholds=(0.25, 0.5, 5.0),
    trials=2,
    patience=60,
    alpha_factor=0.7,
    chunk=25,
)
QUICK = replace(SETTINGS, trials=1, patience=20, alpha_factor=0.5, alpha_factors=(0.5, 1.0), thresholds=(0.5,))


def energy(x: Tensor) -> Tensor:
    u, v = x.unbind(1)
    return _horner(A, u) + _horner(B, v)


def _horner(well: np.poly1d, t: Tensor) -> Tensor:
    value = torch.zeros_like(t)
    for coefficient in well.coeffs.tolist():
        value = value * t + coefficient
    return value


def critical(well: np.poly1d) -> tuple[float, float, float]:
    """Left bottom, hill, right bottom."""
    left, hill, right = sorted(well.deriv().roots.real)
    return left, hill, right


(AL, AH, AR), (BL, BH, BR) = critical(A), critical(B)
MINIMA = sorted(product((AL, AR), (BL, BR)), key=lambda p: A(p[0]) + B(p[1]))
ENERGIES = np.array([A(x) + B(y) for x, y in MINIMA])


def saddle(i: int, j: int) -> float:
    """Lowest pass between two minima: over A's hill, over B's, or over both, one after the other."""
    (x, y), (s, t) = MINIMA[i], MINIMA[j]
    if y == t:
        return float(A(AH) + B(y))
    if x == s:
        return float(A(x) + B(BH))
    ways = ((A(AH) + B(y), A(s) + B(BH)), (A(x) + B(BH), A(AH) + B(t)))
    return float(min(max(way) for way in ways))


SADDLES = np.array([[ENERGIES[i] if i == j else saddle(i, j) for j in range(4)] for i in range(4)])


def starts(n: int = 40) -> Tensor:
    return 4 * torch.rand(n, 2, generator=torch.Generator().manual_seed(1)) - 2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def found() -> mapping.Landscape:
    return mapping.map_energy(energy, starts(), SETTINGS, memory(), [box(-2, 2)])


def memory(known=None, save=None) -> mapping.Memory:
    return mapping.Memory(0, torch.device("cpu"), known, save)


# The whole mapping


def test_finds_the_minima(found):
    """All four, within 1e-3 of their places and 1e-5 of their energies."""
    assert len(found.minima) == 4
    assert np.allclose(found.minima, MINIMA, atol=1e-3)
    assert np.allclose(found.energies, ENERGIES, atol=1e-5)
    assert found.found["not_converged"] == 0
    nearest = [np.argmin([np.hypot(*(x - m)) for m in np.array(MINIMA)]) for x in starts().numpy()]
    assert np.mean(found.minimum_of_start == nearest) > 0.8  # the quadrants are nearly the basins


def test_finds_the_barriers(found):
    """Above the saddle by thermal noise at most, and never below it but by 0.03, for a step right over the pass."""
    assert [members[0] for members in found.kept] == [0, 1, 2, 3]
    off = ~np.eye(4, dtype=bool)
    for matrix, passes in ((found.heights, tree.bottleneck(SADDLES)), (found.path_barrier, SADDLES)):
        assert np.all(np.abs(matrix - passes - THERMAL / 2)[off] < THERMAL / 2 + 0.03)


def test_barriers_lie_above_both_minima_and_form_an_ultrametric(found):
    for matrix in (found.path_barrier, found.line_barrier, found.heights):
        assert np.array_equal(matrix, matrix.T)
        assert np.all(matrix >= np.maximum.outer(found.energies, found.energies))
    assert tree.is_ultrametric(found.heights)


def test_basins_by_threshold(found):
    """The higher the threshold and the magnetisation, the fewer basins."""
    counts = {(s["alpha_factor"], s["threshold"]): s["basins"] for s in found.sensitivity}
    assert counts[1.0, 0.5] == len(found.basins) == 4
    assert counts[1.0, 5.0] < 4
    for factor in (0.5, 1.0):
        by_threshold = [counts[factor, threshold] for threshold in (0.25, 0.5, 5.0)]
        assert by_threshold == sorted(by_threshold, reverse=True)
    assert all(counts[0.5, t] >= counts[1.0, t] for t in (0.25, 0.5, 5.0))


def test_heights_are_the_lower_of_path_and_line(found):
    """Between neighbours the line passes the saddle itself, between opposite minima it crosses both hills."""
    assert (found.line_barrier < found.path_barrier).any()
    assert (found.path_barrier < found.line_barrier - 0.5).any()
    lower = np.minimum(found.path_barrier, found.line_barrier)
    assert np.array_equal(found.heights, tree.bottleneck(lower))


def test_the_pull_alone_is_recorded_beside_every_magnetisation(found):
    """The strength that connects a third of the pairs here connects all on a flat energy: the energy holds them."""
    assert found.found["connected_flat"] > 0.9 > 0.5 > found.found["connected"] > 0
    for row in found.sensitivity:
        assert row["alpha"] == row["alpha_factor"] * found.found["alpha"]
        if row["alpha_factor"] == 1.0:
            assert (row["connected"], row["connected_flat"]) == tuple(
                found.found[k] for k in ("connected", "connected_flat")
            )
    nothing = mapping._Pairs(lambda x: 0 * x[:, 0], torch.tensor(MINIMA).float(), WALK, SETTINGS, memory(), box(-2, 2))
    assert [nothing.share(alpha) for alpha in (1e-3, 300.0)] == [0.0, 1.0]
    assert [nothing.share(alpha, flat=True) for alpha in (1e-3, 300.0)] == [0.0, 1.0]


def test_the_sensitivity_groups_at_its_own_magnetisation():
    known = memory()
    rows = mapping.map_energy(energy, starts(12), QUICK, known, [box(-2, 2)]).sensitivity
    for row in rows:
        alpha = row["alpha"]
        assert any(name.startswith(f"group {alpha!r} ") for name in known.known), alpha
        assert row["connected"] == known.known[f"connected {alpha!r}"].isfinite().float().mean().item()


def test_the_largest_basins_are_drawn(monkeypatch: pytest.MonkeyPatch):
    """Of equal ones the lowest, in the order of their lowest minima."""
    monkeypatch.setattr(mapping._Pairs, "basins", lambda *_: [[0], [1, 2], [3]])
    for most, kept in ((1, [[1, 2]]), (2, [[0], [1, 2]])):
        settings = replace(QUICK, max_basins=most)
        assert mapping.map_energy(energy, starts(12), settings, memory(), [box(-2, 2)]).kept == kept


def test_every_unit_has_noise_of_its_own():
    draw = lambda g: torch.randn(3, generator=g)  # noqa: E731
    first, second = memory()("a", draw), memory()("b", draw)
    assert not torch.equal(first, second)
    assert torch.equal(memory()("a", draw), first)


def pairs(count: int = 4) -> mapping._Pairs:
    return mapping._Pairs(energy, torch.tensor(MINIMA[:count]).float(), WALK, SETTINGS, memory(), box(-2, 2))


def test_pairs_take_the_lower_barrier(monkeypatch: pytest.MonkeyPatch):
    """Of paths and lines, each pair by itself; a pair is tried once per strength, and again at another."""
    asked: list[tuple[float, int]] = []

    def paths(_energy, a, b, alpha, walk, k, *_) -> Tensor:
        assert torch.equal(a, torch.tensor([MINIMA[3]] * len(a)).float())
        assert k == SETTINGS.trials
        asked.append((alpha[0].item(), len(b)))
        return torch.tensor([5.0, np.inf, 1.0])[: len(b)]

    monkeypatch.setattr(barriers, "trials", paths)
    monkeypatch.setattr(barriers, "along_line", lambda _energy, a, b: torch.tensor([3.0, 4.0, 6.0])[: len(b)])
    found = pairs()
    assert found.barriers("group", 2.0, 3, [0, 1, 2]).tolist() == [3.0, 4.0, 1.0]
    assert found.barriers("group", 2.0, 3, [2, 0]).tolist() == [1.0, 3.0]
    assert found.barriers("group", 1.0, 3, [0]).tolist() == [3.0]
    assert asked == [(2.0, 3), (1.0, 1)]


@pytest.mark.parametrize("border", [0.37, 5.1, 60.0])
def test_the_weakest_magnetisation_that_connects_enough(border: float, monkeypatch: pytest.MonkeyPatch):
    """From the strongest useful one, whose steps are as long as the reach, down to a sixteenth of an octave."""
    found, asked = pairs(), []

    def share(alpha: float, flat: bool = False) -> float:
        asked.append(alpha)
        return float(np.clip(0.5 * alpha / border * SETTINGS.connected / 0.5, 0, 1))

    monkeypatch.setattr(found, "share", share)
    alpha, connected = found.calibrate()
    assert asked[0] == 2 * WALK.reach / WALK.noise**2
    assert border <= alpha < border * 2 ** (1 / 16) * (1 + 1e-9)
    assert connected == share(alpha)
    assert len(asked) <= 1 + mapping.SCAN + mapping.BISECTIONS


def test_where_none_connects_enough_the_best_one_is_taken(monkeypatch: pytest.MonkeyPatch):
    found = pairs()
    top = 2 * WALK.reach / WALK.noise**2
    monkeypatch.setattr(found, "share", lambda alpha: 0.2 if alpha == top / 4 else 0.1)
    assert found.calibrate() == (top / 4, 0.2)


def test_the_share_is_that_of_the_pairs_drawn(monkeypatch: pytest.MonkeyPatch):
    """Each of the six pairs of four minima once; a third of them arrives."""
    found = pairs()
    assert sorted(zip(*(ends.tolist() for ends in found.random))) == [(i, j) for i in range(4) for j in range(i + 1, 4)]
    met = torch.tensor([1.0, np.inf, np.inf, 2.0, np.inf, np.inf])
    monkeypatch.setattr(barriers, "trials", lambda *_: met)
    assert found.share(7.0) == pytest.approx(1 / 3)


def test_small_basins_are_dropped_and_the_largest_drawn(monkeypatch: pytest.MonkeyPatch):
    """Two members are enough, two basins are drawn; the sensitivity counts all."""
    groups = [[0, 5], [1], [2, 3, 4], [6, 7]]
    monkeypatch.setattr(mapping._Pairs, "basins", lambda *_: groups)
    monkeypatch.setattr(mapping._Pairs, "calibrate", lambda _: (1.0, 0.5))
    monkeypatch.setattr(mapping._Pairs, "share", lambda *_, **__: 0.5)
    monkeypatch.setattr(mapping, "stray", lambda *_: torch.ones(2, 3))
    monkeypatch.setattr(barriers, "lowest", lambda _e, a, *_: (torch.full((len(a),), 9.0), None))
    monkeypatch.setattr(mapping, "find", lambda _e, part, *_: (part, part[:, 0], torch.tensor([1] * 7 + [2, 0])))
    line = torch.arange(9.0)[:, None].repeat(1, 2)
    settings = replace(SETTINGS, min_members=2, max_basins=2, thresholds=(0.5,), alpha_factors=(1.0,), chunk=9)
    mapped = mapping.map_energy(lambda x: x[:, 0], line, settings, memory(), [box(-9, 9)])
    assert mapped.kept == [[0, 5], [2, 3, 4]]
    assert mapped.minimum_of_start.tolist() == [*range(8), -1]
    counted = {name: mapped.found[name] for name in ("not_converged", "descended_again", "minima", "basins")}
    assert counted == {"not_converged": 1, "descended_again": 1, "minima": 8, "basins": 4}
    assert (mapped.found["basins_too_small"], mapped.found["basins_not_drawn"]) == (1, 1)
    assert mapped.found["minima_not_drawn"] == 3
    (row,) = mapped.sensitivity
    assert (row["basins"], row["large_basins"], row["largest"]) == (4, 3, 3)
    assert mapped.line_barrier.tolist() == [[0.0, 2.0], [2.0, 2.0]]
    assert mapped.path_barrier.tolist() == [[0.0, 9.0], [9.0, 2.0]]
    assert mapped.heights.tolist() == [[0.0, 2.0], [2.0, 2.0]]


def test_the_sign_of_the_energy_matters(found):
    """Mapping f in place of U = -f finds the corners of the box, and none of the minima."""
    upside_down = mapping.map_energy(lambda x: -energy(x), starts(), SETTINGS, memory(), [box(-2, 2)])
    assert np.allclose(np.abs(upside_down.minima[:4]), 2)
    gaps = np.abs(upside_down.minima[:, None] - np.array(MINIMA)[None]).sum(2)
    assert gaps.min() > 0.5


def test_a_killed_mapping_ends_the_same():
    """After any unit of work: what was saved until then, and the same call."""
    states: list[dict[str, Tensor]] = []
    saved = memory(save=lambda known: states.append(dict(known)))
    found = mapping.map_energy(energy, starts(12), QUICK, saved, [box(-2, 2)])
    assert len(states) > 20
    for state in (states[1], states[-2]):
        again = memory(state)
        resumed = mapping.map_energy(energy, starts(12), QUICK, again, [box(-2, 2)])
        assert again.known.keys() == states[-1].keys()
        assert all(again.known[name] is tensor for name, tensor in state.items()), "what was saved is not done again"
        for name in ("minima", "energies", "minimum_of_start", "path_barrier", "line_barrier", "heights"):
            assert np.array_equal(getattr(resumed, name), getattr(found, name)), name
        for name in ("basins", "kept", "sensitivity", "found"):
            assert getattr(resumed, name) == getattr(found, name), name


def test_another_seed_takes_other_paths(found):
    other = mapping.Memory(1, torch.device("cpu"))
    assert not np.array_equal(
        mapping.map_energy(energy, starts(), SETTINGS, other, [box(-2, 2)]).path_barrier, found.path_barrier
    )


def test_one_minimum_is_one_basin():
    """A collapse is a result, and no mapping at all a mistake."""
    single = mapping.map_energy(lambda x: x.square().sum(1), starts(), SETTINGS, memory())
    assert single.basins == [[0]]
    assert single.heights.shape == (1, 1)
    assert {s["basins"] for s in single.sensitivity} == {1}
    hasty = replace(SETTINGS, descent_steps=1)
    with pytest.raises(ValueError, match="expected descents that end in minima, found none among 40"):
        mapping.map_energy(energy, starts(), hasty, memory())


# A mixture of wells in any dimension: -SOFTNESS log sum exp(-well / SOFTNESS) over paraboloids of equal curvature. Its
# minima are the centres. Two wells meet at a plane, whose lowest point lies on the line between the centres, and there
# the mixture lies SOFTNESS log 2 below them; where a third well covers that point, the way over the third is lower
# still. So the lowest passes are the bottlenecks of these heights.

SOFTNESS = 0.1
CURVATURE = 2.0
CENTRES = np.array([[0.0, 0.0], [1.6, 0.0], [0.0, 3.0], [1.5, 3.2], [4.0, 1.2]])
DEPTHS = np.array([0.0, 0.2, 0.1, 0.35, 0.25])


def wells(d: int) -> tuple[Callable[[Tensor], Tensor], np.ndarray]:
    """The energy in d dimensions, and its minima [5, d]: the plane of the centres turned at random."""
    turned = CENTRES @ np.linalg.qr(np.random.RandomState(d).randn(d, 2))[0].T
    centres, depths = torch.tensor(turned).float(), torch.tensor(DEPTHS).float()

    def mixture(x: Tensor) -> Tensor:
        return -SOFTNESS * (-(depths + CURVATURE / 2 * (x[:, None] - centres).square().sum(2)) / SOFTNESS).logsumexp(1)

    return mixture, turned


def passes() -> np.ndarray:
    """Lowest energies [5, 5] of the mixture at which wells meet two by two."""
    squared = np.square(CENTRES[:, None] - CENTRES).sum(2) + np.eye(5)
    share = 0.5 + (DEPTHS - DEPTHS[:, None]) / (CURVATURE * squared)
    meeting = DEPTHS[:, None] + CURVATURE / 2 * share**2 * squared
    return np.where(np.eye(5, dtype=bool), DEPTHS, meeting - SOFTNESS * np.log(2))


@pytest.mark.parametrize("d", [2, 10, 16])
def test_wells_of_known_depths_and_passes(d: int):
    """Minima, barriers, basins by threshold and the tree, all within thermal noise of the closed form."""
    force, centres = wells(d)
    order = np.argsort(DEPTHS)
    points = torch.tensor(centres[np.arange(15) % 5]).float()
    points = points + 0.8 * torch.randn(points.shape, generator=generator(2)) / d**0.5
    settings = replace(
        SETTINGS,
        gradient_samples=2 * d,
        smallest_radius=1e-3,
        descent_tolerance=1e-5,
        same_distance=0.03,
        noise=0.015,
        temperature=0.003,
        reach=0.15,
        threshold=0.3,
        trials=1,
        alpha_factors=(1.0,),
        thresholds=(0.3, 1.2),
        connected=0.5,
    )
    mapped = mapping.map_energy(force, points, settings, memory(), [ball(9.0)])
    assert mapped.found["descended_again"] == mapped.found["not_converged"] == mapped.found["on_edge"] == 0
    assert np.allclose(mapped.energies, DEPTHS[order], atol=1e-3)
    assert np.allclose(mapped.minima, centres[order], atol=0.02)
    assert mapped.kept == [[0], [1], [2], [3], [4]]

    exact = tree.bottleneck(passes()[np.ix_(order, order)])
    for matrix in (mapped.heights, tree.bottleneck(mapped.path_barrier)):
        above = (matrix - exact)[~np.eye(5, dtype=bool)]
        assert -0.05 < above.min() <= above.max() < 0.15
    joins, known = tree.merges(mapped.heights), tree.merges(exact)
    assert [(j.left, j.right) for j in joins] == [(j.left, j.right) for j in known]
    assert tree.leaf_order(5, joins) == tree.leaf_order(5, known)
    counts = {row["threshold"]: row["basins"] for row in mapped.sensitivity}
    assert counts == {0.3: 5, 1.2: 3}, "the near wells join two by two"


# Attraction-diffusion

WALK = Walk(noise=0.04, temperature=TEMPERATURE, reach=0.15, patience=100, steps=3000)


def chains(alpha: float, n: int = 40, walk: Walk = WALK, force=energy) -> Tensor:
    a, b = (torch.tensor([MINIMA[i]] * n, dtype=torch.float32) for i in (0, 3))
    return attract(force, a, b, torch.full((n,), alpha), walk, generator(), UNBOUNDED)


def test_no_magnetisation_never_arrives_and_a_strong_one_always_does():
    shares = [chains(alpha).isfinite().float().mean().item() for alpha in (0.0, 1e-3, 30.0, 300.0)]
    assert shares[:2] == [0.0, 0.0]
    assert shares[3] == 1.0
    assert shares == sorted(shares)


def test_the_pull_is_the_same_at_any_distance():
    """On a flat energy, without noise to speak of, a chain walks at noise^2 / 2 * alpha a step; it would not if the
    distance were squared."""
    walk = Walk(noise=1e-4, temperature=1.0, reach=0.05, patience=50, steps=2000)
    flat, near, far = (lambda x: 0 * x.sum(1)), torch.tensor([[1.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    alpha = torch.tensor([0.01 * 2 / walk.noise**2])
    for start, steps in ((near, 95), (far, 395)):
        for limit, arrives in ((steps - 5, False), (steps + 5, True)):
            limited = Walk(walk.noise, 1.0, walk.reach, walk.patience, limit)
            path = attract(flat, start, torch.zeros(1, 2), alpha, limited, generator())
            assert path.isfinite().item() == arrives, (start, limit)


@pytest.mark.parametrize("patience, steps", [(7, 100), (100, 7)])
def test_a_chain_that_comes_no_nearer_ends_after_its_patience_or_its_steps(patience: int, steps: int):
    seen: list[Tensor] = []

    def flat(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return 0 * x.sum(1)

    walk = Walk(noise=1e-9, temperature=1.0, reach=0.01, patience=patience, steps=steps)
    attract(flat, torch.ones(1, 2), torch.zeros(1, 2), torch.zeros(1), walk, generator())
    assert len(seen) == 2 + 7, "the target, the start and seven steps"


def test_a_chain_follows_its_equation():
    """Every step with its noise, on U = -|x|^2 / 2; arrival at the first point within reach, and the highest energy."""
    walk = Walk(noise=0.1, temperature=0.3, reach=0.25, patience=1000, steps=1000)
    start, target, alpha = torch.tensor([[-1.0, 0.5]]), torch.tensor([[1.2, 0.4]]), 40.0
    draw, x, heights = generator(3), start, [-target.square().sum().item() / 2]
    while True:
        heights.append(-x.square().sum().item() / 2)
        if (x - target).norm() <= 0.25:
            break
        drift = -x / 0.3 + alpha * (x - target) / (x - target).norm()
        x = x - 0.1**2 / 2 * drift + 0.1 * torch.randn(1, 2, generator=draw)
    hill = lambda x: -x.square().sum(1) / 2  # noqa: E731
    assert len(heights) > 10
    assert max(heights) > max(heights[:2]) + 0.1  # between the ends, so that it depends on the path
    found = attract(hill, start, target, torch.tensor([alpha]), walk, generator(3)).item()
    assert found == pytest.approx(max(heights), rel=1e-5)
    steps = len(heights) - 2  # between the start and the point that arrived
    for limit, arrives in ((steps, True), (steps - 1, False)):
        limited = attract(hill, start, target, torch.tensor([alpha]), replace(walk, steps=limit), generator(3))
        assert limited.isfinite().item() == arrives


def test_a_stray_chain_follows_its_equation():
    walk = Walk(noise=0.1, temperature=0.3, reach=0.25, patience=1000, steps=1000)
    start = torch.tensor([[-1.0, 0.5], [0.3, 0.0]])
    draw, x = generator(3), start
    for _ in range(20):
        x = x - 0.1**2 / 2 * x / 0.3 + 0.1 * torch.randn(2, 2, generator=draw)
    away, rise = stray(lambda x: x.square().sum(1) / 2, start, walk, 20, generator(3))
    assert torch.allclose(away, (x - start).square().sum(1).sqrt(), atol=1e-5)
    assert torch.allclose(rise, (x.square() - start.square()).sum(1) / 2, atol=1e-5)


def test_a_barrier_counts_both_ends_and_only_of_successes():
    a, b = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    walk = Walk(noise=1e-4, temperature=1.0, reach=0.05, patience=50, steps=500)
    slope = lambda x: 3 * x[:, 0]  # noqa: E731
    alpha = torch.tensor([0.01 * 2 / walk.noise**2])
    for start, target in ((a, b), (b, a)):
        assert attract(slope, start, target, alpha, walk, generator()).item() == pytest.approx(3.0, abs=1e-3)
    assert attract(slope, a, b, torch.tensor([0.0]), walk, generator()).item() == float("inf")


def test_chains_sample_the_temperature():
    """Without a target's pull a chain in a quadratic well has variance T / curvature in each coordinate."""
    walk = Walk(noise=0.05, temperature=0.2, reach=1e-9, patience=10**9, steps=400)
    ends: list[Tensor] = []

    def watched(x: Tensor) -> Tensor:
        ends.append(x.detach())
        return x.square().sum(1) / 2

    start = torch.zeros(1500, 2) + 0.01
    attract(watched, start, torch.zeros(1500, 2), torch.zeros(1500), walk, generator())
    assert ends[-1].var().item() == pytest.approx(0.2, rel=0.1)


def test_both_directions_are_tried():
    """From the higher minimum down to the lower one a chain needs less: trials take the better of both."""
    a, b = (torch.tensor([MINIMA[i]], dtype=torch.float32) for i in (1, 0))
    seen: list[Tensor] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return energy(x)

    barriers.trials(watched, a, b, torch.tensor([300.0]), WALK, 2, generator())
    first = seen[1]  # behind the energies of the targets
    assert torch.equal(first, torch.cat([a, a, b, b]))


def test_the_lowest_of_all_chains_of_a_pair_counts(monkeypatch: pytest.MonkeyPatch):
    met = [[5.0, np.inf], [4.0, np.inf], [np.inf, np.inf], [6.0, 7.0]]  # chains by pairs
    monkeypatch.setattr(barriers, "attract", lambda *_: torch.tensor(met).flatten())
    pairs = torch.zeros(2, 3)
    assert barriers.trials(energy, pairs, pairs, torch.ones(2), WALK, 2, generator()).tolist() == [4.0, 7.0]


def test_the_lowest_barrier_falls_with_alpha():
    a, b = (torch.tensor([MINIMA[i]], dtype=torch.float32) for i in (3, 0))
    search = barriers.Search(trials=3, factor=0.8, max_increases=8, max_decreases=100)
    lowest, border = barriers.lowest(energy, a, b, 300.0, WALK, search, generator())
    hasty = barriers.trials(energy, a, b, torch.tensor([300.0]), WALK, 3, generator())
    assert saddle(0, 3) - 0.03 < lowest.item() <= hasty.item()
    assert border.item() < 300.0
    raised, _ = barriers.lowest(energy, a, b, 1e-2, WALK, barriers.Search(3, 0.8, 16, 100), generator())
    assert raised.isfinite().item(), "a strength that connects nothing is raised"
    never, border = barriers.lowest(energy, a, b, 1e-2, WALK, barriers.Search(3, 0.8, 1, 100), generator())
    assert never.item() == float("inf")
    assert border.isnan().item()


def test_magnetisation_falls_after_success_and_rises_before_the_first_one_alone(monkeypatch: pytest.MonkeyPatch):
    """The lowest barrier counts, not the last one; every strength is tried once, in the order that is written."""
    inf = np.inf
    script = {0: [5, 3, 4, inf], 1: [inf, inf, 7, inf], 2: [inf] * 9, 3: [9, 8, 6, 1, 1]}
    tried: dict[int, list[float]] = {pair: [] for pair in script}

    def scripted(_energy, a, _b, alpha, *_) -> Tensor:
        for pair, strength in zip(a[:, 0].int().tolist(), alpha.tolist(), strict=True):
            tried[pair].append(strength)
        return torch.tensor([float(script[p][len(tried[p]) - 1]) for p in a[:, 0].int().tolist()])

    monkeypatch.setattr(barriers, "trials", scripted)
    pairs = torch.arange(4.0)[:, None].expand(4, 2)
    search = barriers.Search(trials=1, factor=0.5, max_increases=3, max_decreases=2)
    lowest, border = barriers.lowest(energy, pairs, pairs, 8.0, WALK, search, generator())
    assert tried == {0: [8, 4, 2], 1: [8, 16, 32, 16], 2: [8, 16, 32, 64], 3: [8, 4, 2]}
    assert lowest.tolist() == [3, 7, inf, 6]
    assert border.nan_to_num(-1).tolist() == [2, 32, -1, 2]
    for calls in tried.values():
        calls.clear()
    more = barriers.Search(trials=1, factor=0.5, max_increases=6, max_decreases=3)
    assert barriers.lowest(energy, pairs, pairs, 8.0, WALK, more, generator())[0].tolist() == [3, 7, inf, 1]
    assert tried[0] == [8, 4, 2, 1], "a pair that has connected is not pulled harder again"


def test_a_straight_line_passes_over_the_highest_point_on_it():
    a, b = (torch.tensor([MINIMA[i]], dtype=torch.float32) for i in (0, 3))
    t = torch.linspace(0, 1, 50)[:, None]
    assert barriers.along_line(energy, a, b).item() == pytest.approx(energy(a + t * (b - a)).max().item(), abs=1e-5)


# Minima

DESCENT = Descent(steps=200, samples=8, radius=0.1, smallest=1e-4, tolerance=1e-6)
CHECK = Check(radius=0.05, rounds=10, points=16, tolerance=1e-3, attempts=3)


def test_descent_on_a_kink_converges():
    """|x - 1| + |y| has no vanishing gradient anywhere, as piecewise linear networks."""
    kink = lambda x: (x - torch.tensor([1.0, 0.0])).abs().sum(1)  # noqa: E731
    place, lowest, converged = descend(kink, starts(20), DESCENT, generator())
    assert converged.all()
    assert torch.allclose(place, torch.tensor([1.0, 0.0]).expand(20, 2), atol=2e-3)
    assert torch.equal(lowest, kink(place))


def test_descent_does_not_stall_on_a_ridge():
    """Steepest descent with a line search stalls on y = 0 of 3 |y| + x, and momentum alone crawls there."""
    ridge = lambda x: 3 * x[:, 1].abs() + x[:, 0]  # noqa: E731
    _, lowest, converged = descend(ridge, starts(10), DESCENT, generator(), ball(5.0))
    assert converged.all()
    assert torch.allclose(lowest, torch.tensor(-5.0), atol=1e-3)
    alone = replace(DESCENT, samples=0)
    assert descend(ridge, starts(10), alone, generator(), ball(5.0))[1].max() > -4, "its own gradient is not enough"


def test_descent_stays_in_its_region():
    down = lambda x: x.sum(1)  # noqa: E731
    assert torch.equal(descend(down, starts(5), DESCENT, generator(), box(-1, 1))[0], -torch.ones(5, 2))
    place, _, converged = descend(down, starts(5), DESCENT, generator(), ball(1.0))
    assert converged.all()
    assert torch.allclose(place, torch.full((5, 2), -(0.5**0.5)), atol=1e-3)
    assert not descend(down, starts(5), replace(DESCENT, steps=50), generator())[2].any(), "it has no end"


@pytest.mark.parametrize("slope", [(1.0, 1.0), (3.0, 1.0), tuple(np.random.RandomState(0).randn(16))])
def test_a_linear_energy_has_one_minimum_in_a_ball(slope: tuple[float, ...]):
    """-r |slope|, at -r slope / |slope|, from all starts: none ends elsewhere on the sphere."""
    way, radius = torch.tensor(slope, dtype=torch.float32), 4.0
    points = 2 * torch.randn(24, len(slope), generator=generator(1))
    place, u, descents = find(lambda x: x @ way, points, DESCENT, CHECK, generator(), ball(radius))
    assert (descents == 1).all()
    assert torch.allclose(u, -radius * way.norm(), atol=1e-3)
    assert torch.allclose(place, (-radius * way / way.norm()).expand_as(place), atol=0.02)
    assert len(distinct(place, u, 0.1, 0.02)[0]) == 1


def test_clusters_of_seven_atoms():
    """Lennard-Jones has four minima then (Tsai & Jordan, 1993); starts that lose an atom end in none of them."""
    i, j = torch.triu_indices(7, 7, 1)

    def lennard_jones(x: Tensor) -> Tensor:
        attraction = (x[:, i] - x[:, j]).square().sum(2).clamp(min=1e-2) ** -3
        return 4 * (attraction**2 - attraction).sum(1)

    atoms = 2.2 * torch.rand(24, 7, 3, generator=generator(), dtype=torch.float64) - 1.1
    steep = Descent(steps=600, samples=0, radius=0.1, smallest=1e-3, tolerance=1e-5)
    place, u, _ = find(lennard_jones, atoms, steep, replace(CHECK, rounds=5), generator(1), UNBOUNDED)
    whole = u[(place[:, i] - place[:, j]).norm(dim=2).amax(1) < 3]
    known = torch.tensor([-16.505384, -15.935043, -15.593211, -15.533060], dtype=torch.float64)
    gaps = (whole[:, None] - known).abs()
    assert len(whole) > 12
    assert gaps.amin(1).max() < 1e-3
    assert (gaps[:, 0] < 1e-3).any(), "the lowest one is among them"


def test_the_shortest_vector_of_a_hull():
    gradients = torch.tensor([[[1.0, 1.0], [1.0, -1.0], [3.0, 0.0]], [[1.0, 2.0], [-1.0, -2.0], [5.0, 5.0]]])
    assert torch.allclose(steepest(gradients, torch.zeros(2, 2)), torch.tensor([[-1.0, 0.0], [0.0, 0.0]]), atol=1e-5)
    edge = torch.tensor([[0.0, 2.0]])
    outward = torch.tensor([[[1.0, -4.0], [1.0, -6.0]]])
    assert torch.allclose(steepest(outward, edge, ball(2.0)), torch.tensor([[-1.0, 0.0]]), atol=1e-5)
    assert torch.allclose(steepest(-outward, edge, ball(2.0)), torch.tensor([[1.0, -4.0]]), atol=1e-3)


def test_a_false_minimum_is_descended_again():
    """A plateau with a hole that no gradient shows: the random search finds it, and the chain ends in it."""
    hole = lambda x: torch.where(x[:, 0] > 0.02, 0.0, (x[:, 0] + 0.3).abs() - 1) + x[:, 1] ** 2  # noqa: E731
    start = torch.tensor([[0.04, 0.0], [-0.1, 0.1]])
    blind = replace(DESCENT, radius=1e-3)
    _, u, converged = descend(hole, start, blind, generator())
    assert converged.all()
    assert u[0].item() == pytest.approx(0.0, abs=1e-4)
    _, u, descents = find(hole, start, blind, CHECK, generator(), UNBOUNDED)
    assert descents.tolist() == [2, 1]
    assert torch.allclose(u, torch.tensor(-1.0), atol=1e-3)
    once = find(hole, start, blind, replace(CHECK, attempts=1), generator(), UNBOUNDED)
    assert once[2].tolist() == [0, 1], "what fails its check is not reported"
    short = find(energy, torch.tensor(MINIMA).float(), replace(DESCENT, steps=1), CHECK, generator(), UNBOUNDED)
    assert short[2].tolist() == [0] * 4, "nor what has not converged"


def test_the_search_finds_no_lower_point_at_a_minimum_and_one_elsewhere():
    minima = torch.tensor(MINIMA, dtype=torch.float32)
    assert torch.allclose(search(energy, minima, CHECK, generator())[1], energy(minima), atol=1e-5)
    place, u = search(energy, minima + 0.1, CHECK, generator())
    assert (u < energy(minima + 0.1) - 0.02).all()
    assert torch.equal(u, energy(place))


def test_the_region_grows_until_it_holds_the_minima():
    """The wells lie at distances of about 4 from the origin."""
    far = lambda x: energy(x / 3)  # noqa: E731
    with pytest.raises(
        ValueError, match=r"at most 5% of \d+ minima on the edge of .* \|z\| <= 3, found 100%: raise region_"
    ):
        mapping.map_energy(far, starts(12), QUICK, memory(), [ball(2.0), ball(3.0)])
    grown = mapping.map_energy(far, 3 * starts(), QUICK, memory(), [ball(3.0), ball(6.0), ball(12.0)])
    assert (grown.found["region"], grown.found["on_edge"]) == ("|z| <= 6", 0.0)
    assert np.allclose(grown.minima, 3 * np.array(MINIMA), atol=5e-3)


def test_the_same_minimum_needs_place_and_energy():
    x = torch.tensor([[0.0, 0.0], [0.05, 0.0], [0.05, 0.0], [1.0, 0.0]])
    u = torch.tensor([1.0, 1.001, 2.0, 0.0])
    order, same = distinct(x, u, near=0.1, tolerance=0.01)
    assert order.tolist() == [3, 0, 2]
    assert same.tolist() == [1, 1, 2, 0]


def test_units():
    reference = torch.randn(1000, 2, generator=generator())
    scaled, mean, std = normalised(lambda x: 5 + 3 * x[:, 0], reference)
    assert scaled(reference).std().item() == pytest.approx(1.0, abs=1e-5)
    assert scaled(reference).mean().item() == pytest.approx(0.0, abs=1e-5)
    assert (mean, std) == pytest.approx((5 + 3 * reference[:, 0].mean().item(), 3 * reference[:, 0].std().item()))
    assert distance(torch.tensor([[[3.0], [4.0]]]), torch.zeros(1, 2, 1)).tolist() == [5.0]
    with pytest.raises(ValueError, match="expected an energy that differs between 1000 reference points"):
        normalised(lambda x: 0 * x[:, 0], reference)


def test_the_regions_are_what_they_say():
    sphere, edge = ball(2.0), torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 4.0]])
    assert torch.allclose(sphere.project(edge), torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 2.0]]))
    assert sphere.on_edge(edge).tolist() == [True, False, True]
    assert sphere.on_edge(torch.tensor([[2 * (1 - 2e-4), 0.0]])).tolist() == [False]
    out = torch.tensor([[1.0, 3.0]] * 3)
    assert torch.allclose(sphere.tangent(edge, out), torch.tensor([[0.0, 3.0], [1.0, 3.0], [1.0, 0.0]]))
    assert torch.equal(sphere.tangent(edge, -out), -out), "inward directions stay"
    cube, x = box(-1.0, 1.0), torch.tensor([[1.0, -1.0, 0.5]])
    assert cube.project(3 * x).tolist() == [[1.0, -1.0, 1.0]]
    assert cube.tangent(x, torch.tensor([[2.0, 3.0, 4.0]])).tolist() == [[0.0, 3.0, 4.0]]
    assert cube.tangent(x, torch.tensor([[-2.0, -3.0, -4.0]])).tolist() == [[-2.0, 0.0, -4.0]]
    assert not cube.on_edge(x).any()


# Groups and trees


def table(matrix: np.ndarray) -> grouping.Barriers:
    return lambda n, others: matrix[n, list(others)]


def test_grouping_takes_the_lowest_barrier_to_a_representative():
    inf = np.inf
    energies = np.array([0.0, 1.0, 2.0, 3.0])
    matrix = np.array([[0, 9, 2.6, 3.4], [9, 1, 2.5, inf], [2.6, 2.5, 2, 3.1], [3.4, inf, 3.1, 3]])
    assert grouping.group(energies, table(matrix), 0.5) == [[0, 3], [1, 2]]
    assert grouping.group(energies, table(matrix), 0.45) == [[0], [1], [2, 3]]
    with pytest.raises(ValueError, match="expected minima by increasing energy"):
        grouping.group(energies[::-1].copy(), table(matrix), 0.5)


def test_consolidation_joins_representatives():
    energies = np.array([0.0, 1.0, 2.0, 3.0])
    matrix = np.full((4, 4), np.inf)
    matrix[2, 1] = 2.2
    matrix[1, 0] = 1.4
    groups = [[0], [1, 3], [2]]
    assert grouping.consolidate(groups, energies, table(matrix), 0.1) == groups
    assert grouping.consolidate(groups, energies, table(matrix), 0.3) == [[0], [1, 2, 3]]
    assert grouping.consolidate(groups, energies, table(matrix), 0.5) == [[0, 1, 3], [2]]


def random_barriers(n: int, seed: int) -> np.ndarray:
    draw = np.random.RandomState(seed)
    energies = draw.rand(n)
    matrix = np.maximum.outer(energies, energies) + draw.rand(n, n) * 3
    matrix = np.minimum(matrix, matrix.T)
    np.fill_diagonal(matrix, energies)
    return matrix


@pytest.mark.parametrize("seed", range(5))
def test_bottleneck_and_tree_agree(seed):
    """The height at which union-find joins two leaves is their bottleneck."""
    matrix = random_barriers(9, seed)
    lowest = tree.bottleneck(matrix)
    assert tree.is_ultrametric(lowest)
    assert not tree.is_ultrametric(matrix)
    assert np.all(lowest <= matrix)
    members = {leaf: {leaf} for leaf in range(9)}
    joins = tree.merges(lowest)
    assert len(joins) == 8
    assert all(a.height <= b.height for a, b in pairwise(joins))
    for k, join in enumerate(joins):
        for i, j in product(members[join.left], members[join.right]):
            assert lowest[i, j] == join.height
        members[9 + k] = members[join.left] | members[join.right]
    order = tree.leaf_order(9, joins)
    assert sorted(order) == list(range(9))
    for leaves in members.values():
        places = sorted(order.index(leaf) for leaf in leaves)
        assert places == list(range(places[0], places[0] + len(leaves))), "a line would cross another"
        assert order[places[0]] == min(leaves)


def test_basins_without_a_path_stay_apart():
    matrix = np.array([[0, 2, np.inf], [2, 1, np.inf], [np.inf, np.inf, 0.5]])
    assert tree.merges(tree.bottleneck(matrix)) == [tree.Merge(2.0, 0, 1)]
    assert tree.leaf_order(3, tree.merges(matrix)) == [0, 1, 2]


# Settings


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"noise": 0.0}, "expected a positive number for noise, found 0.0"),
        ({"thresholds": (0.5, -1.0)}, "expected a positive number for thresholds"),
        ({"from_samples": -1}, "expected two starts or more, none of a kind below 0"),
        ({"alpha_factors": (0.5, 2.0)}, "expected 1.0 among alpha_factors"),
        ({"connected": 1.0}, "expected connected below 1, found 1.0"),
        ({"region_quantile": 1.0}, "expected region_quantile below 1, found 1.0"),
    ],
)
def test_impossible_settings(fields, message):
    with pytest.raises(ValueError, match=message):
        Settings(**fields)


def test_settings_from_text():
    assert Settings.parse('{"noise": 0.01, "thresholds": [1.0]}') == Settings(noise=0.01, thresholds=(1.0,))
    with pytest.raises(ValueError, match="expected landscape settings as JSON"):
        Settings.parse('{"nois": 0.01}')
