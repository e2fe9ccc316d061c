"""CEGAN: the entropy bound in closed form, both forms of the energy, simultaneous updates."""

import math

import pytest
import torch
from torch.distributions import Normal
from torch.nn.functional import softplus

from baselines.cegan import CEGAN, Hparams, uniform
from dtri.model import has
from dtri.objectives import gaussian
from tests.toys import image_batch, still

SHAPE = (1, 28, 28)
both = pytest.mark.parametrize("bounded", [True, False])


def build(**hparams) -> CEGAN:
    torch.manual_seed(1)
    return CEGAN(SHAPE, Hparams(**{"width": 0.05, "z_dim": 10, **hparams})).train()


def test_latents_are_uniform():
    z = torch.linspace(-3, 3, 7)
    assert torch.allclose(uniform(z), 2 * Normal(0.0, 1.0).cdf(z) - 1, atol=1e-6)
    u = uniform(torch.randn(100_000))
    assert torch.allclose(torch.histc(u, 10, -1, 1), torch.full((10,), 1e4), rtol=0.05)


# Entropy term


@pytest.mark.parametrize("slope, noise", [(0.5, 1.0), (1.0, 1.0), (3.0, 0.5)])
def test_entropy_term_is_the_information_about_the_latent(slope, noise):
    """x = a z + s e: with the best encoder 1/2 - E[-log q] is I(x; z) = log(1 + a^2 / s^2) / 2, else less.

    The entropy of x is that of its noise more, so it rises as E[-log q] falls.
    """
    z, e = torch.randn(2, 200_000, 1, dtype=torch.float64)
    x = slope * z + noise * e
    variance = noise**2 / (slope**2 + noise**2)
    mu, logvar = slope * x / (slope**2 + noise**2), torch.full_like(x, math.log(variance))
    best = gaussian.nll(z, mu, logvar).mean().item()
    assert 0.5 - best == pytest.approx(0.5 * math.log(1 + slope**2 / noise**2), abs=0.01)
    assert gaussian.nll(z, 0.5 * mu, logvar).mean().item() > best + 0.01
    assert gaussian.nll(z, mu, logvar + 0.5).mean().item() > best + 0.01


def test_entropy_term_of_an_encoder_that_knows_nothing(monkeypatch):
    """q = N(0, I / 3), the moments of u: E[-log q] = d / 2 (1 - log 3), above the entropy d log 2 of u by d 0.177."""
    model = build(z_dim=50)
    with torch.no_grad():
        for head in (model.encoder.mu, model.encoder.logvar):
            head.weight.zero_()
            head.bias.fill_(-math.log(3.0) if head is model.encoder.logvar else 0.0)
    losses = still(model, monkeypatch)
    model.step(image_batch(400, SHAPE), 0)
    nll = losses["encoder"].item() / 0.05
    assert nll == pytest.approx(25 * (1 - math.log(3.0)), abs=0.6)
    above = nll + 25 * math.log(2 * math.pi) - 50 * math.log(2.0)
    assert above / 50 == pytest.approx(0.1765, abs=0.012)


def test_entropy_weight_is_that_of_the_reference_code(monkeypatch):
    """cegan_iclr2017, cifar10/conv_cifar10_energy_gan.py lines 275-278 and 315, at the head h that says the same V."""
    model, u = build(), uniform(torch.randn(200, 10))
    mu, logvar = torch.randn(200, 10), torch.randn(200, 10)
    h = (logvar + math.log(2)) / 2
    reference = 0.1 * (0.5 * h.sum(1) + 0.5 * ((u - mu) / h.exp()).square().sum(1))
    ours = model.h.entropy_weight * gaussian.nll(u, mu, logvar)
    assert torch.allclose(reference, ours + 0.1 * 10 / 4 * math.log(2), atol=1e-4, rtol=1e-4)


def test_generator_seeks_entropy(monkeypatch):
    """With a large weight it makes its latents legible, against an encoder at rest."""
    model = build(entropy_weight=10.0, lr_generator=2e-3)
    with torch.no_grad():
        model.encoder.mu.weight.mul_(20)
    still(model, monkeypatch, keep="generator")
    first, *_, last = (model.step(image_batch(8, SHAPE), t)["latent_nll"].item() for t in range(40))
    assert last < first - 1


# Losses and updates


@both
def test_losses(bounded, monkeypatch):
    model, x = build(bounded=bounded), image_batch(8, SHAPE)
    losses = still(model, monkeypatch)
    torch.manual_seed(5)
    terms = model.step(x, 0)
    torch.manual_seed(5)
    z = torch.randn(len(x), model.z_dim)
    x_fake = model.generate(z)
    s_real, s_fake = model.critic(x), model.critic(x_fake)
    real, fake = (softplus(-s) if bounded else -s for s in (s_real, s_fake))
    nll = 0.05 * gaussian.nll(2 * Normal(0.0, 1.0).cdf(z) - 1, *model.encoder(x_fake)).mean()
    square = s_real.square().mean() + s_fake.square().mean()
    assert torch.allclose(losses["critic"], real.mean() - fake.mean() + 0.01 * square, atol=1e-5)
    assert torch.allclose(losses["generator"], fake.mean() + nll, rtol=1e-4)
    assert torch.allclose(losses["encoder"], nll, rtol=1e-4)
    assert torch.allclose(terms["energy_real"], real.mean(), atol=1e-6)


@both
def test_energy_falls_with_the_score(bounded):
    model = build(bounded=bounded)
    u = model.energy_of(torch.tensor([-2.0, 0.0, 2.0]))
    assert u[0] > u[1] > u[2]
    assert (u > 0).all() == bounded


def test_all_see_the_images_made_before_any_moves():
    model, seen = build(lr_generator=1e-2, lr_critic=1e-2), []
    model.critic.register_forward_hook(lambda critic, pair, s: seen.append((pair[0].detach(), s.detach())))
    model.encoder.register_forward_hook(lambda encoder, pair, q: seen.append((pair[0].detach(), q[0].detach())))
    model.step(image_batch(8, SHAPE), 0)
    (x_encoder, mu), (x_generator, s), _, (x_critic, s_again), (x_last, mu_again) = seen
    for x_fake in (x_generator, x_critic, x_last):
        assert torch.equal(x_fake, x_encoder)
    assert torch.allclose(s, s_again)  # by the same critic
    assert torch.allclose(mu, mu_again)  # by the same encoder


def test_weights_of_critic_and_generator_are_drawn_to_zero():
    """Adam adds 2 b w to the gradient: that of b ||w||^2."""
    model = build(weights_weight=0.5)
    assert {name: o.param_groups[0]["weight_decay"] for name, o in model.optimizers.items()} == {
        "generator": 1.0,
        "critic": 1.0,
        "encoder": 0,
    }


@pytest.mark.parametrize("clip_norm, calls", [(500.0, 3), (0.0, 0)])
def test_gradients_are_clipped_unless_the_norm_is_zero(clip_norm, calls, monkeypatch):
    """None are on CelebA: celebA/conv_celeba_energy_gan.py line 67."""
    clipped = []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda params, norm: clipped.append(norm))
    build(clip_norm=clip_norm).step(image_batch(8, SHAPE), 0)
    assert clipped == [clip_norm] * calls


@pytest.mark.parametrize("std", [0.02, 0.015])
def test_initial_weights(std: float):
    """In all layers: cifar10/conv_cifar10_energy_gan.py lines 58-59, celebA/conv_celeba_energy_gan.py lines 46-50."""
    model = build(width=0.25, init_std=std)
    for part in model.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.ConvTranspose2d) and part.weight.numel() > 1000:
            assert part.weight.std().item() == pytest.approx(std, rel=0.1)


def test_learning_rates_fall_linearly_to_zero():
    model = build(decay_from=100, decay_until=200)
    for t, left in [(0, 1.0), (100, 1.0), (150, 0.5), (199, 0.01), (200, 0.0), (300, 0.0)]:
        rates = model.learning_rates(t)
        assert rates == pytest.approx({"generator": 2e-4 * left, "critic": 2e-5 * left, "encoder": 2e-4 * left})


def test_the_encoder_is_no_map():
    """It never sees data."""
    model = build()
    assert has(model, "generate")
    assert has(model, "energy")
    assert not has(model, "infer")
