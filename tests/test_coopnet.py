"""CoopNet: its energy and losses in closed form, their signs, and samples with and without revision."""

import numpy as np
import pytest
import torch

from baselines import coopnet
from baselines.coopnet import CoopNet, Hparams
from dtri import evaluation, experiment, images
from dtri.networks.descriptor import Descriptor
from tests.toys import bright, still

ENTRY = "baselines.coopnet:CoopNet"
SHAPE = (1, 28, 28)


def build(**hparams) -> CoopNet:
    torch.manual_seed(1)
    return CoopNet(SHAPE, Hparams(**{"width": 0.05, "z_dim": 10, "chains": 8, **hparams})).train()


def loud(model: CoopNet) -> CoopNet:
    """The model with a descriptor that can be heard beside the reference distribution, as after training."""
    with torch.no_grad():
        for p in model.descriptor.parameters():
            p.mul_(30)
    return model


def x_bright(n: int = 8) -> torch.Tensor:
    return images.to_float(torch.from_numpy(bright(n)))


def test_the_energy_is_that_of_the_tilted_gaussian():
    """-log of exp f(x) N(x; 0, s^2 I), up to its constant."""
    model, x = loud(build(reference_std=0.3)), x_bright()
    assert model.descriptor(x).abs().min() > 10
    density = torch.distributions.Normal(torch.zeros(SHAPE), 0.3)
    nll = [-density.log_prob(y).sum((1, 2, 3)) - model.descriptor(y) for y in (x, 0 * x)]
    assert torch.allclose(model.energy(x) - model.energy(0 * x), nll[0] - nll[1], rtol=1e-4)


def test_one_step_of_the_revision():
    """x - (d^2 / 2) (x / s^2 - grad f(x)) + d N(0, I), as the reference code spells it."""
    model, x = loud(build(reference_std=0.5)), x_bright().requires_grad_()
    (gradient,) = torch.autograd.grad(model.descriptor(x).sum(), x)
    noise = torch.empty_like(x).normal_(generator=torch.Generator().manual_seed(3))
    expected = x - 0.2**2 / 2 * (x / 0.5**2 - gradient) + 0.2 * noise
    revised = model.revise(x, 1, 0.2, torch.Generator().manual_seed(3))
    assert (0.2**2 / 2 * gradient).abs().max() > 1e-3
    assert torch.allclose(revised, expected, atol=1e-6)


@pytest.mark.parametrize("shape, features", [(SHAPE, 4 * 4), ((3, 32, 32), 8 * 8), ((3, 64, 64), 16 * 16)])
def test_descriptor_is_that_of_the_code(shape: tuple[int, int, int], features: int):
    net = Descriptor(shape)
    kernels = (16, 16, 16) if shape[1] == 28 else (25, 9, 9)
    channels = (shape[0], 64, 128, 256)
    convolutions = sum(k * a * b + b for k, a, b in zip(kernels, channels, channels[1:]))
    assert sum(p.numel() for p in net.parameters()) == convolutions + features * 256 * 100
    f = Descriptor(shape, 0.05)
    x = torch.randn(3, *shape)
    assert torch.allclose(f(x), f.layers(x).flatten(1).sum(1))


def test_losses(monkeypatch):
    model, x = build(), x_bright()
    seen = []
    monkeypatch.setattr(coopnet, "langevin", lambda energy, start, *_: seen.append(start) or start.detach() + 0.1)
    losses = still(model, monkeypatch)
    terms = model.step(x, 0)
    (x_fake,) = seen
    assert x_fake.shape == (8, *SHAPE)
    f_real, f_revised = model.descriptor(x).mean(), model.descriptor(x_fake + 0.1).mean()
    assert torch.allclose(losses["descriptor"], f_revised - f_real)
    assert torch.allclose(losses["generator"], torch.tensor(784 * 0.01 / (2 * 0.3**2)), rtol=1e-4)
    assert terms["f_real"] == f_real


def test_chains_are_as_many_as_told(monkeypatch):
    model, counts = build(chains=5), []
    model.descriptor.register_forward_hook(lambda net, given, f: counts.append(len(f)))
    still(model, monkeypatch)
    model.step(x_bright(8), 0)
    assert counts == [5] * 15 + [8, 5]


def test_the_descriptor_learns_to_score_data_high(monkeypatch):
    """Bright data against grey samples; with a wide reference distribution the energy orders them as f does."""
    model = build(reference_std=10.0)
    still(model, monkeypatch, keep="descriptor")
    for t in range(15):
        model.step(x_bright(), t)
    grey = model.generate(torch.randn(8, 10))
    assert model.descriptor(x_bright()).min() > model.descriptor(grey).max()
    assert model.energy(x_bright()).max() < model.energy(grey).min()


def test_the_generator_follows_the_revision(monkeypatch):
    """Towards bright images, where the revision is said to lead."""
    model, target = build(lr_generator=2e-3), x_bright()
    monkeypatch.setattr(coopnet, "langevin", lambda *_: target)
    still(model, monkeypatch, keep="generator")
    before, *_, after = (model.step(x_bright(), t)["distance"].item() for t in range(15))
    assert after < before / 2


def test_samples_are_revised_as_the_sampler_says():
    model = loud(build()).eval()
    plain = evaluation.decode(model, evaluation.latents(6, 10, 5))
    revised = evaluation.sample(model, 6, 5)
    experiment.set_sampler(model, ENTRY, {"steps": 0})
    assert np.array_equal(evaluation.sample(model, 6, 5), plain)
    experiment.set_sampler(model, ENTRY, {"steps": 40})
    longer = evaluation.sample(model, 6, 5)
    moved, moved_longer = (np.abs(samples.astype(int) - plain).mean() for samples in (revised, longer))
    assert 0 < moved < moved_longer
