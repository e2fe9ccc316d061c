"""MEG: the penalty's reduction, the sign of the mutual information, which player moves when, both anomaly scores."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from baselines.meg import MEG, Hparams
from dtri import anomaly
from dtri.objectives import gradient_penalty
from tests.toys import image_batch, noise_images, still

SHAPE = (1, 28, 28)


def build(**hparams) -> MEG:
    torch.manual_seed(1)
    return MEG(SHAPE, Hparams(**{"width": 0.05, "z_dim": 10, **hparams})).train()


# Penalty


def test_penalty_of_a_linear_energy():
    """Squared norm over channels, mean over pixels: ||w||^2 / (H W); not per image, not a mean over channels."""
    w = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty.zero_centred(lambda x: (x * w).flatten(1).sum(1), torch.randn(7, 3, 4, 5))
    assert penalty.item() == pytest.approx(w.square().sum().item() / 20, rel=1e-5)
    (derivative,) = torch.autograd.grad(penalty, w)
    assert torch.allclose(derivative, 2 * w / 20, atol=1e-6)


def test_penalty_equals_the_norm_over_channels():
    """As the reference code spells it, for an energy whose gradient differs from image to image."""
    model = build()
    x = image_batch(8, SHAPE).requires_grad_()
    (gradient,) = torch.autograd.grad(model.energy(x).sum(), x)
    expected = (gradient.norm(2, dim=1) ** 2).mean()
    assert expected > 0
    assert torch.allclose(gradient_penalty.zero_centred(model.energy_net, x), expected)


# Mutual information


def test_unpairing_is_one_half_of_a_cross_entropy(monkeypatch):
    """Mean over own and shuffled pairs together, as the reference code's; z alone is shuffled."""
    monkeypatch.setattr(torch, "randperm", lambda n, device: torch.arange(n, device=device).roll(1))
    model, x, z = build(), image_batch(8, SHAPE), torch.randn(8, 10)
    own, shuffled = model.statistics(x, z, z.roll(1, 0))
    labels = torch.cat([torch.ones(8), torch.zeros(8)])
    assert torch.allclose(model.unpairing(x, z), bce(torch.cat([own, shuffled]), labels))
    assert torch.allclose(own, model.statistics(x, z.roll(1, 0), z)[1])  # both latents are judged alike


def test_unpairing_bounds_the_divergence():
    """x = z = +-1: pairs and shuffled copies have a Jensen-Shannon divergence of log 2 - J at the best logits."""
    z = torch.cat([torch.ones(10_000, 1), -torch.ones(10_000, 1)])

    def judged(matched: float, mismatched: float, x: Tensor) -> float:
        def statistics(x: Tensor, z: Tensor, other: Tensor) -> list[Tensor]:
            return [torch.where(x == latent, matched, mismatched).flatten() for latent in (z, other)]

        return MEG.unpairing(SimpleNamespace(statistics=statistics), x, z).item()

    # Of the pairs all match, of the copies a half: densities 1/2 and 1/4 where they match, 0 and 1/4 elsewhere.
    divergence = 0.5 * math.log(4 / 3) + 0.5 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2.0))
    best = judged(math.log(2.0), -50.0, z)
    assert best == pytest.approx(math.log(2.0) - divergence, abs=0.01)
    assert judged(0.0, 0.0, z) == pytest.approx(math.log(2.0))  # an H that says nothing
    assert judged(1.5, -50.0, z) > best + 0.01
    assert judged(-math.log(2.0), 50.0, z) > math.log(2.0)  # the wrong way round
    # A generator that ignores z: the best logits for its pairs cannot beat chance.
    assert judged(0.1, -0.1, torch.ones_like(z)) == pytest.approx(math.log(2.0), abs=0.01)


def test_generator_raises_the_information(monkeypatch):
    """Generator and H together bring J below chance, the energy at rest."""
    model = build(n_energy=1, lr=2e-3)
    still(model, monkeypatch, keep="generator")

    def unpairing() -> float:
        z = torch.randn(200, model.z_dim)
        with torch.no_grad():
            return sum(model.unpairing(model.generate(z), z).item() for _ in range(5)) / 5

    assert unpairing() == pytest.approx(math.log(2.0), abs=0.02)
    for t in range(60):
        model.step(image_batch(32, SHAPE), t)
    assert unpairing() < math.log(2.0) - 0.03


# Losses and updates


def test_losses(monkeypatch):
    model, x = build(n_energy=1), image_batch(8, SHAPE)
    losses = still(model, monkeypatch)
    torch.manual_seed(5)
    terms = model.step(x, 0)
    torch.manual_seed(5)
    x_fake = model.generate(torch.randn(len(x), model.z_dim))
    penalty = gradient_penalty.zero_centred(model.energy_net, x)
    expected = model.energy(x).mean() - model.energy(x_fake).mean() + 10.0 * penalty
    assert torch.allclose(losses["energy"], expected, atol=1e-6)
    assert torch.allclose(terms["penalty"], penalty)
    z = torch.randn(len(x), model.z_dim)
    x_fake = model.generate(z)
    assert torch.allclose(losses["generator"], model.energy(x_fake).mean() + model.unpairing(x_fake, z), atol=1e-6)


def test_penalty_weight(monkeypatch):
    found = []
    for weight in (0.0, 1e4):
        model = build(penalty_weight=weight)
        losses = still(model, monkeypatch)
        torch.manual_seed(5)
        terms = model.step(image_batch(8, SHAPE), 0)
        found.append(losses["energy"])
    assert torch.allclose(found[1] - found[0], 1e4 * terms["penalty"], rtol=1e-4)


def test_generator_and_statistics_follow_every_fifth_energy():
    model = build()
    moves = {"energy_net": [], "generator": [], "statistics": []}
    for t in range(11):
        before = {name: [p.detach().clone() for p in getattr(model, name).parameters()] for name in moves}
        model.step(image_batch(4, SHAPE), t)
        for name, found in moves.items():
            if any(not torch.equal(p, q) for p, q in zip(getattr(model, name).parameters(), before[name])):
                found.append(t)
    assert moves == {"energy_net": list(range(11)), "generator": [4, 9], "statistics": [4, 9]}


# Anomaly scores


def test_gradient_norm_beside_the_energy():
    """The reference code's second score: over all channels and pixels, and without a graph around."""
    model = build().eval()
    stored = noise_images(8, SHAPE)
    found = anomaly.scores(model, stored)
    assert list(found) == ["energy", "gradient_norm"]
    x = image_batch(8, SHAPE).requires_grad_()
    (gradient,) = torch.autograd.grad(model.energy(x).sum(), x)
    assert torch.allclose(torch.from_numpy(found["gradient_norm"]).float(), gradient.flatten(1).norm(dim=1))
