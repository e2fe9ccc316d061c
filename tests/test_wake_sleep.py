"""Wake-sleep: each phase moves one network, on what the other makes."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from baselines.wake_sleep import Hparams, WakeSleep
from dtri.objectives import gaussian
from tests.toys import bright, noise_images, still

SHAPE = (1, 28, 28)


def build(**hparams) -> WakeSleep:
    torch.manual_seed(1)
    return WakeSleep(SHAPE, Hparams(**{"width": 0.05, "z_dim": 4, **hparams})).train()


def images(stored) -> Tensor:
    return torch.from_numpy(stored).float() / 127.5 - 1


@pytest.mark.parametrize("phase, resting", [("generator", "encoder"), ("encoder", "generator")])
def test_a_phase_moves_one_network(phase, resting, monkeypatch):
    model = build()
    still(model, monkeypatch, keep=phase)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.step(images(noise_images(8, SHAPE)), 0)
    for name, p in model.named_parameters():
        if name.startswith(resting):
            assert torch.equal(p, before[name]), f"{name} moves with the {phase}"
            assert p.grad is None, f"{name} gets a gradient while the {phase} moves"
        else:
            assert not torch.equal(p, before[name]), f"{name} rests"


def test_losses(monkeypatch):
    """Wake: squared error from an inferred latent. Sleep: -log q of a dream's own latent, from the density itself."""
    model, x = build(), images(noise_images(8, SHAPE))
    losses = still(model, monkeypatch)
    torch.manual_seed(5)
    terms = model.step(x, 0)
    torch.manual_seed(5)
    z_x = gaussian.sample(*model.encoder(x))
    rec = (x - model.generate(z_x)).square().sum((1, 2, 3)).mean()
    z = torch.randn(len(x), model.z_dim)
    mu, logvar = model.encoder(model.generate(z))
    density = Independent(Normal(mu, (logvar / 2).exp()), 1)
    constant = density.log_prob(mu) + 0.5 * logvar.sum(1)  # of the Gaussian
    assert torch.allclose(losses["generator"], rec, rtol=1e-5)
    assert torch.allclose(losses["encoder"], (constant - density.log_prob(z)).mean(), rtol=1e-4)
    assert terms["rec"] == losses["generator"]
    assert terms["latent_nll"] == losses["encoder"]


def test_wake_fits_the_data(monkeypatch):
    model, x = build(lr=1e-3), images(bright(16))
    losses = still(model, monkeypatch, keep="generator")
    model.step(x, 0)
    before = losses["generator"].item()
    for t in range(40):
        model.step(x, t)
    assert losses["generator"].item() < 0.5 * before


def test_sleep_learns_the_latents_of_dreams(monkeypatch):
    model = build(lr=3e-3)
    with torch.no_grad():
        for p in model.generator.parameters():
            p.mul_(3)  # dreams that differ
    losses = still(model, monkeypatch, keep="encoder")
    x = images(noise_images(32, SHAPE))
    model.step(x, 0)
    before = losses["encoder"].item()
    for t in range(60):
        model.step(x, t)
    assert losses["encoder"].item() < before - 0.3
    z = torch.randn(64, model.z_dim)
    with torch.no_grad():
        inferred = model.infer(model.generate(z))
    correlation = torch.corrcoef(torch.stack([z.flatten(), inferred.flatten()]))[0, 1]
    assert correlation > 0.3
