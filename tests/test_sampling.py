"""Langevin dynamics against closed forms, and what the replay buffer remembers."""

import math

import pytest
import torch
from torch import Tensor

from dtri import evaluation, images
from dtri.sampling.langevin import Chain, langevin
from dtri.sampling.per_image import PerImage
from dtri.sampling.replay import ReplayBuffer
from tests.test_contract import host_untouched
from tests.toys import noise_images

MEAN, STD = 1.5, 0.7
N = 40_000
SHAPE = (2, 4, 4)


def gaussian_energy(x: Tensor) -> Tensor:
    return ((x - MEAN) / STD).square().sum(1) / 2


@pytest.mark.parametrize("noise_first", [False, True])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_stationary_moments_of_a_gaussian(scale: float, noise_first: bool):
    """Exact for the discretised chain: x - m shrinks by 1 - s^2 / (2 STD^2) at a step and gains variance s^2."""
    chain = Chain(400, step_size=scale**2 / 2, noise=scale, noise_first=noise_first)
    ends = langevin(gaussian_energy, torch.zeros(N, 1), chain)
    shrink = 1 - scale**2 / (2 * STD**2)
    variance = scale**2 / (1 - shrink**2)
    assert variance == pytest.approx(STD**2 / (1 - (scale / STD) ** 2 / 4))
    if noise_first:  # seen after the gradient has acted on the last noise
        variance *= shrink**2
    assert ends.mean().item() == pytest.approx(MEAN, abs=5 * math.sqrt(variance / N))
    assert ends.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / N))


def test_chains_go_down_the_energy():
    x = torch.randn(10, 3) * 5
    ends = langevin(gaussian_energy, x, Chain(20, step_size=0.1, noise=0.0))
    assert (gaussian_energy(ends) < gaussian_energy(x)).all()
    assert torch.equal(langevin(gaussian_energy, x, Chain(0, 0.1, 1.0)), x)


def test_each_image_has_its_own_gradient():
    """The end of a chain does not depend on what else is in the batch, but for the noise."""
    x = torch.randn(6, 3)
    chain = Chain(5, step_size=0.05, noise=0.0)
    assert torch.allclose(langevin(gaussian_energy, x, chain)[:2], langevin(gaussian_energy, x[:2], chain))


def test_gradients_are_clipped_by_element_and_images_clamped():
    steep = Chain(1, step_size=2.0, noise=0.0, gradient_clip=0.01)
    x = torch.tensor([[-100.0, MEAN, MEAN + STD**2 * 0.005]])
    moved = langevin(gaussian_energy, x, steep) - x
    assert torch.allclose(moved, torch.tensor([[0.02, 0.0, -0.01]]), atol=1e-5)
    noisy = Chain(3, step_size=0.1, noise=5.0, clamp=(-1.0, 0.5))
    for chain in (noisy, Chain(3, 0.1, 5.0, clamp=(-1.0, 0.5), noise_first=True)):
        ends = langevin(gaussian_energy, torch.zeros(100, 3), chain)
        assert (ends.min().item(), ends.max().item()) == (-1.0, 0.5)


def test_noise_comes_from_the_generator_alone():
    chain, x = Chain(4, 0.1, 0.5), torch.zeros(5, 3)
    first, second, other = (
        langevin(gaussian_energy, x, chain, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    before = torch.get_rng_state()
    langevin(gaussian_energy, x, chain, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)
    langevin(gaussian_energy, x, chain)
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("enabled", [True, False])
def test_no_gradient_leaves_the_chain(enabled: bool, monkeypatch):
    net = torch.nn.Linear(3, 1)
    x = torch.randn(4, 3, requires_grad=True)
    with torch.set_grad_enabled(enabled), host_untouched(monkeypatch):
        ends = langevin(lambda x: net(x).flatten(), x, Chain(3, 0.1, 0.1))
        assert torch.is_grad_enabled() == enabled
    assert not ends.requires_grad
    assert x.grad is None
    assert [p.grad for p in net.parameters()] == [None, None]


def drawn(n: int, *, seed: int = 0, layout: torch.memory_format = torch.contiguous_format) -> list[Tensor]:
    """Noise of each kind for n images, from one stream per image."""
    with PerImage(range(seed, seed + n), torch.device("cpu")) as noise:
        x = torch.zeros(n, *SHAPE).contiguous(memory_format=layout)
        g = noise.generator
        return [
            torch.rand(n, *SHAPE, generator=g),
            torch.randn((n, *SHAPE), generator=g),
            torch.empty_like(x).normal_(generator=g),
            x.uniform_(-1, 1, generator=g),
        ]


def test_noise_of_an_image_is_its_own():
    """The same alone, among few and among many, in each memory layout; the next draw is another."""
    many, few = drawn(70), drawn(5)
    assert all(torch.equal(a[:5], b) for a, b in zip(many, few, strict=True))
    assert all(torch.equal(a[3:4], b) for a, b in zip(many, drawn(1, seed=3), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(many, drawn(70, layout=torch.channels_last), strict=True))
    assert len({tuple(row) for row in many[1].flatten(1).tolist()}) == 70
    assert not torch.equal(many[1], many[2])
    assert many[3].min() < 0 < many[3].max()


def test_noise_by_image_leaves_other_noise_alone_and_refuses_what_has_no_rows():
    with PerImage(range(3), torch.device("cpu")) as noise:
        assert torch.randn(7).shape == (7,)
        with pytest.raises(ValueError, match=r"each of 3 images, found shape \(4,\)"):
            torch.rand(4, generator=noise.generator)
        with pytest.raises(ValueError, match="randn, rand, normal_ or uniform_, found randint"):
            torch.randint(5, (3,), generator=noise.generator)


# Replay buffer


def filled(size: int, reinit: float, grey: int = 200) -> ReplayBuffer:
    """A buffer of images of one grey level."""
    buffer = ReplayBuffer(SHAPE, size, reinit)
    buffer.store(images.to_float(torch.full((size, *SHAPE), grey, dtype=torch.uint8)))
    return buffer


@pytest.mark.parametrize("reinit", [0.0, 0.05, 0.5, 1.0])
def test_share_of_fresh_starts(reinit: float):
    n = 20_000
    starts = filled(50, reinit).draw(n)
    old = (evaluation.to_uint8(starts) == 200).flatten(1).all(1).double().mean().item()
    assert old == pytest.approx(1 - reinit, abs=5 * math.sqrt(reinit * (1 - reinit) / n) + 1e-12)


def test_fresh_starts_are_uniform_on_all_levels():
    levels = evaluation.to_uint8(filled(5, 1.0).draw(4000)).flatten()
    counts = torch.bincount(levels.long(), minlength=256).double()
    expected = levels.numel() / 256
    assert ((counts - expected).abs() < 6 * math.sqrt(expected)).all()


def test_an_empty_buffer_gives_noise():
    """Not the zeros that it is made of; and from the first image on, nothing that was never stored."""
    buffer = ReplayBuffer(SHAPE, 10, 0.0)
    assert evaluation.to_uint8(buffer.draw(50)).flatten(1).float().std(1).min() > 20
    buffer.store(torch.full((3, *SHAPE), 1.0))
    assert (buffer.draw(200) == 1.0).all()


def test_the_oldest_make_room():
    """Stored levels 0..6 in a buffer of four, in batches of three that straddle its end."""
    buffer = ReplayBuffer(SHAPE, 4, 0.0)
    level = lambda k: images.to_float(torch.full((1, *SHAPE), k, dtype=torch.uint8))  # noqa: E731
    for first in (0, 3):
        buffer.store(torch.cat([level(k) for k in range(first, first + 3)]))
    assert set(evaluation.to_uint8(buffer.draw(300)).flatten().tolist()) == {2, 3, 4, 5}
    buffer.store(level(6))
    assert set(evaluation.to_uint8(buffer.draw(300)).flatten().tolist()) == {3, 4, 5, 6}


def test_images_survive_the_buffer():
    """Also out of range: white stays white."""
    stored = torch.from_numpy(noise_images(6, SHAPE))
    buffer = ReplayBuffer(SHAPE, 6, 0.0)
    buffer.store(images.to_float(stored))
    drawn = evaluation.to_uint8(buffer.draw(100)).flatten(1).tolist()
    assert {tuple(row) for row in drawn} == {tuple(row) for row in stored.flatten(1).tolist()}
    buffer.store(torch.full((6, *SHAPE), 1.3))
    assert (buffer.draw(10) == 1.0).all()


def test_the_buffer_asks_nothing_of_the_host(monkeypatch):
    buffer = ReplayBuffer(SHAPE, 4, 0.5)
    with host_untouched(monkeypatch):
        for _ in range(3):
            buffer.store(buffer.draw(3))


def test_the_buffer_remembers_an_overflow(monkeypatch):
    """Without a question to the host: it would cost an iteration of the GPU."""
    for bad in (math.nan, math.inf):
        buffer = ReplayBuffer(SHAPE, 4, 0.5)
        with host_untouched(monkeypatch):
            buffer.store(torch.full((2, *SHAPE), 1.3))
        assert buffer.overflow == 0
        with host_untouched(monkeypatch):
            buffer.store(torch.tensor([0.5, bad])[:, None, None, None].expand(2, *SHAPE))
            buffer.store(torch.zeros(2, *SHAPE))
        assert buffer.overflow.isnan()


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: ReplayBuffer(SHAPE, 0, 0.5), "positive size"),
        (lambda: ReplayBuffer(SHAPE, 4, 1.5), "probability"),
        (lambda: ReplayBuffer(SHAPE, 4, 0.5).store(torch.zeros(5, *SHAPE)), "at most 4 images .* found 5"),
    ],
)
def test_impossible_buffers(make, said: str):
    with pytest.raises(ValueError, match=said):
        make()
