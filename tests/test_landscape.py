"""Energy landscape mapping, against a two-dimensional energy whose minima and saddles are known in closed form."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from dtri.landscape import barriers, grouping, mapping, tree
from dtri.landscape.attraction_diffusion import Walk, attract
from dtri.landscape.energy import ball, box, everywhere, normalised
from dtri.landscape.minima import Descent, descend, distinct
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
    descent_steps=2000,
    smallest_step_size=1e-4,
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
    return mapping.map_energy(energy, starts(), SETTINGS, memory(), box(-2, 2))


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
    assert np.mean(found.fell_into == nearest) > 0.8  # the quadrants are nearly the basins


def test_finds_the_barriers(found):
    """Above the saddle by thermal noise at most, and never below it but by 0.03, for a step right over the pass."""
    assert [members[0] for members in found.kept] == [0, 1, 2, 3]
    off = ~np.eye(4, dtype=bool)
    for matrix, passes in ((found.heights, tree.bottleneck(SADDLES)), (found.walked, SADDLES)):
        assert np.all(np.abs(matrix - passes - THERMAL / 2)[off] < THERMAL / 2 + 0.03)


def test_barriers_lie_above_both_minima_and_form_an_ultrametric(found):
    for matrix in (found.walked, found.straight, found.heights):
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


def test_the_sign_of_the_energy_matters(found):
    """Mapping f in place of U = -f finds the corners of the box, and none of the minima."""
    upside_down = mapping.map_energy(lambda x: -energy(x), starts(), SETTINGS, memory(), box(-2, 2))
    assert np.allclose(np.abs(upside_down.minima[:4]), 2)
    gaps = np.abs(upside_down.minima[:, None] - np.array(MINIMA)[None]).sum(2)
    assert gaps.min() > 0.5


def test_a_killed_mapping_ends_the_same(found):
    """After any unit of work: what was saved until then, and the same call."""
    states: list[dict[str, Tensor]] = []
    mapping.map_energy(energy, starts(), SETTINGS, memory(save=lambda known: states.append(dict(known))), box(-2, 2))
    assert len(states) > 20
    for state in (states[1], states[-2]):
        again = memory(state)
        resumed = mapping.map_energy(energy, starts(), SETTINGS, again, box(-2, 2))
        assert again.known.keys() == states[-1].keys()
        assert all(again.known[name] is tensor for name, tensor in state.items()), "what was saved is not done again"
        for name in ("minima", "energies", "fell_into", "walked", "straight", "heights"):
            assert np.array_equal(getattr(resumed, name), getattr(found, name)), name
        for name in ("basins", "kept", "sensitivity", "found"):
            assert getattr(resumed, name) == getattr(found, name), name


def test_another_seed_takes_other_paths(found):
    other = mapping.Memory(1, torch.device("cpu"))
    assert not np.array_equal(mapping.map_energy(energy, starts(), SETTINGS, other, box(-2, 2)).walked, found.walked)


def test_one_minimum_is_one_basin():
    """A collapse is a result, and no mapping at all a mistake."""
    single = mapping.map_energy(lambda x: x.square().sum(1), starts(), SETTINGS, memory())
    assert single.basins == [[0]]
    assert single.heights.shape == (1, 1)
    assert {s["basins"] for s in single.sensitivity} == {1}
    hasty = replace(SETTINGS, descent_steps=5)
    with pytest.raises(ValueError, match="expected descents that converge, found none among 40"):
        mapping.map_energy(energy, starts(), hasty, memory())


# Attraction-diffusion

WALK = Walk(noise=0.04, temperature=TEMPERATURE, reach=0.15, patience=100, steps=3000)


def chains(alpha: float, n: int = 40, walk: Walk = WALK, force=energy) -> Tensor:
    a, b = (torch.tensor([MINIMA[i]] * n, dtype=torch.float32) for i in (0, 3))
    return attract(force, a, b, torch.full((n,), alpha), walk, generator(), everywhere)


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


def test_the_lowest_barrier_falls_with_alpha():
    a, b = (torch.tensor([MINIMA[i]], dtype=torch.float32) for i in (3, 0))
    search = barriers.Search(trials=3, factor=0.8, raises=8, falls=100)
    lowest, border = barriers.lowest(energy, a, b, 300.0, WALK, search, generator())
    hasty = barriers.trials(energy, a, b, torch.tensor([300.0]), WALK, 3, generator())
    assert saddle(0, 3) - 0.03 < lowest.item() <= hasty.item()
    assert border.item() < 300.0
    raised, _ = barriers.lowest(energy, a, b, 1e-2, WALK, barriers.Search(3, 0.8, 16, 100), generator())
    assert raised.isfinite().item(), "a strength that connects nothing is raised"
    never, border = barriers.lowest(energy, a, b, 1e-2, WALK, barriers.Search(3, 0.8, 1, 100), generator())
    assert never.item() == float("inf")
    assert border.isnan().item()


def test_a_straight_line_passes_over_the_highest_point_on_it():
    a, b = (torch.tensor([MINIMA[i]], dtype=torch.float32) for i in (0, 3))
    t = torch.linspace(0, 1, 50)[:, None]
    assert barriers.along_line(energy, a, b).item() == pytest.approx(energy(a + t * (b - a)).max().item(), abs=1e-5)


# Minima


def test_descent_on_a_kink_converges():
    """|x - 1| + |y| has no vanishing gradient anywhere, as piecewise linear networks."""
    kink = lambda x: (x - torch.tensor([1.0, 0.0])).abs().sum(1)  # noqa: E731
    place, lowest, converged = descend(kink, starts(20), Descent(2000, 0.05, 1e-4, 1e-6, 20))
    assert converged.all()
    assert torch.allclose(place, torch.tensor([1.0, 0.0]).expand(20, 2), atol=2e-3)
    assert torch.equal(lowest, kink(place))


def test_descent_stays_in_its_region():
    down = lambda x: x.sum(1)  # noqa: E731
    descent = Descent(2000, 0.05, 1e-4, 1e-6, 20)
    assert torch.equal(descend(down, starts(5), descent, box(-1, 1))[0], -torch.ones(5, 2))
    place, _, converged = descend(down, starts(5), descent, ball(1.0))
    assert converged.all()
    assert torch.allclose(place, torch.full((5, 2), -(0.5**0.5)), atol=1e-3)
    assert not descend(down, starts(5), Descent(50, 0.05, 1e-4, 1e-6, 20))[2].any(), "it has no end"


def test_chains_do_not_depend_on_each_other():
    descent = Descent(300, 0.05, 1e-4, 1e-6, 20)
    together = descend(energy, starts(10), descent)[0]
    alone = torch.cat([descend(energy, one[None], descent)[0] for one in starts(10)])
    assert torch.allclose(together, alone, atol=1e-6)


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
    with pytest.raises(ValueError, match="expected an energy that differs between 1000 reference points"):
        normalised(lambda x: 0 * x[:, 0], reference)


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
        ({"connected": 1.0}, "expected alpha_factor and connected below 1"),
    ],
)
def test_impossible_settings(fields, message):
    with pytest.raises(ValueError, match=message):
        Settings(**fields)


def test_settings_from_text():
    assert Settings.parse('{"noise": 0.01, "thresholds": [1.0]}') == Settings(noise=0.01, thresholds=(1.0,))
    with pytest.raises(ValueError, match="expected landscape settings as JSON"):
        Settings.parse('{"nois": 0.01}')
