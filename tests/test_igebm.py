"""IGEBM: its chains against the reference code's units, loss and its sign, the clipped optimiser, its networks."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines import igebm
from baselines.igebm import IGEBM, Hparams
from dtri import evaluation, experiment, images
from dtri.experiment import TrainSpec
from dtri.networks.residual_energy import CappedNorm, PlainEnergy, ResidualEnergy
from dtri.sampling.langevin import langevin
from dtri.trained import load_model
from dtri.weights import save_weights
from tests.toys import bright, noise_images, still

ENTRY = "baselines.igebm:IGEBM"
SHAPE = (1, 28, 28)


def build(shape: tuple[int, int, int] = SHAPE, **hparams) -> IGEBM:
    torch.manual_seed(1)
    small = {"width": 0.05, "langevin_steps": 5, "buffer_size": 40}
    return IGEBM(shape, Hparams(**{**small, **hparams})).train()


def x_bright(n: int = 8) -> Tensor:
    return images.to_float(torch.from_numpy(bright(n)))


# Chains


def test_chains_are_those_of_the_code_in_other_units():
    """In [0, 1]: noise 0.005, gradient clipped to 0.01, step 10, clamp; here in [-1, 1]."""
    model, steps = build().eval(), 7
    start = torch.rand(4, *SHAPE).requires_grad_()
    (gradient,) = torch.autograd.grad(model.energy_net(start).sum(), start)
    with torch.no_grad():
        model.energy_net.head.weight.mul_(0.01 / gradient.abs().median())  # so that about half is clipped
    start = start.detach()
    draw, pixels, clipped = torch.Generator().manual_seed(2), start, []
    for _ in range(steps):
        pixels = (pixels + 0.005 * torch.empty_like(pixels).normal_(generator=draw)).requires_grad_()
        (gradient,) = torch.autograd.grad(model.energy_net(pixels).sum(), pixels)
        clipped.append((gradient.abs() > 0.01).float().mean().item())
        pixels = (pixels - 10 * gradient.clamp(-0.01, 0.01)).clamp(0, 1).detach()
    assert 0.1 < np.mean(clipped) < 0.9
    chain = igebm.chain_of(steps, 10.0, 0.005, 0.01)
    ends = langevin(model.energy, 2 * start - 1, chain, torch.Generator().manual_seed(2))
    assert torch.allclose(ends, 2 * pixels - 1, atol=1e-5)


def test_samples_start_from_noise_and_go_down():
    model = build().eval()
    experiment.set_sampler(model, ENTRY, {"steps": 0})
    noise = evaluation.sample(model, 40, 3)
    assert np.bincount(noise.ravel(), minlength=256)[1:-1].std() < 30  # uniform, about 123 of each level
    experiment.set_sampler(model, ENTRY, {"steps": 30})
    samples = evaluation.sample(model, 40, 3)
    with torch.no_grad():
        u_noise, u_samples = (model.energy(images.to_float(torch.from_numpy(part))) for part in (noise, samples))
    assert (u_samples < u_noise).all()
    assert np.array_equal(samples, evaluation.sample(model, 40, 3))
    assert not np.array_equal(samples, evaluation.sample(model, 40, 4))


def test_dequantised_images_keep_their_level():
    stored = torch.from_numpy(noise_images(50, SHAPE))
    x = images.to_float(stored)
    noisy = igebm.dequantised(x)
    assert torch.equal(evaluation.to_uint8(noisy), stored)
    assert (noisy - x).abs().max() == pytest.approx(1 / 255, rel=1e-3)
    assert (noisy - x).mean().item() == pytest.approx(0, abs=5 / 255 / math.sqrt(3 * stored.numel()))


# Loss


def test_loss(monkeypatch):
    monkeypatch.setattr(igebm, "dequantised", lambda x: x)
    monkeypatch.setattr(igebm, "langevin", lambda energy, x, chain: x)
    model, x = build(energy_l2=0.7), x_bright()
    fake = torch.full_like(x, -0.5)
    monkeypatch.setattr(model.replay, "draw", lambda n: fake[:n])
    with torch.no_grad():
        model.energy_net.head.bias.fill_(2.0)
    losses = still(model, monkeypatch)
    terms = model.step(x, 0)
    with torch.no_grad(), torch.nn.utils.parametrize.cached():
        model.eval()
        u, v = model.energy(x), model.energy(fake)
    expected = u.mean() - v.mean() + 0.7 * (u.square().mean() + v.square().mean())
    assert losses["energy"].item() == pytest.approx(expected.item(), rel=1e-3)
    assert terms["energy_real"].item() == pytest.approx(u.mean().item(), rel=1e-3)
    assert terms["energy_fake"].item() == pytest.approx(v.mean().item(), rel=1e-3)


def test_energy_becomes_low_on_data():
    """Bright data; chains start from noise. Signs of the loss and of the dynamics both matter."""
    model = build(lr=3e-3)
    for t in range(60):
        torch.manual_seed(t)
        model.step(x_bright(16), t)
    model.eval()
    noise = images.to_float(torch.from_numpy(noise_images(16, SHAPE)))
    with torch.no_grad():
        assert model.energy(x_bright(16)).max() < model.energy(noise).min()
        assert model.energy(x_bright(16)).max() < model.energy(-x_bright(16)).min()


def test_chains_go_on_where_they_ended(monkeypatch):
    starts, ends = [], []

    def recorded(energy, x, chain):
        starts.append(x)
        ends.append(langevin(energy, x, chain))
        return ends[-1]

    monkeypatch.setattr(igebm, "langevin", recorded)
    model = build(reinit=0.0)
    still(model, monkeypatch)
    for t in range(4):
        model.step(x_bright(), t)
    known = {tuple(row) for end in ends[:-1] for row in evaluation.to_uint8(end).flatten(1).tolist()}
    assert all(tuple(row) in known for row in evaluation.to_uint8(starts[-1]).flatten(1).tolist())
    assert model.replay.stored == 32


def test_the_buffer_stays_out_of_the_weights(tmp_path):
    """As published it would be 30 MB beside networks of 20 MB."""
    spec = TrainSpec("noise", "igebm", ENTRY, SHAPE, {"width": 0.05, "buffer_size": 5000}, 1, 8, 0)
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams)
    assert model.replay.chains.numel() == 5000 * 784
    save_weights(tmp_path / "model.safetensors", model.state_dict(), spec)
    assert (tmp_path / "model.safetensors").stat().st_size < 200_000
    load_model(tmp_path / "model.safetensors")


# Optimiser


def test_gradients_are_clipped_to_three_standard_deviations():
    """Against Adam written out: bias-corrected second moment of the steps before."""
    p = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.Adam([p], 1e-3, (0.0, 0.999))
    optimizer.register_step_pre_hook(igebm.clip_outliers)
    second = np.zeros(4)
    for step in range(1, 6):
        given = np.array([0.05, 5.0, -50.0, 0.0]) * step
        p.grad = torch.tensor(given, dtype=torch.float32)
        bound = 3 * np.sqrt(second / (1 - 0.999**step)) + 0.1
        clipped = np.clip(given, -bound, bound)
        optimizer.step()
        assert np.allclose(p.grad.numpy(), clipped, rtol=1e-4)
        second = 0.999 * second + 0.001 * clipped**2
    assert bound[1] > 0.15


def test_the_clip_is_part_of_the_model(monkeypatch):
    called = []
    clip = igebm.clip_outliers
    monkeypatch.setattr(igebm, "clip_outliers", lambda *args: called.append(clip(*args)))
    build().step(x_bright(), 0)
    assert called == [None]


# Networks


def test_sizes_of_the_networks():
    """Counted from the code's lists of layers: ResNet32Large and MnistNet."""
    large, plain = ResidualEnergy((3, 32, 32)), PlainEnergy(SHAPE)
    count = 9 * 3 * 128
    for a, b in [(128, 128)] * 3 + [(128, 256)] + [(256, 256)] * 2 + [(256, 512)] + [(512, 512)] * 2:
        count += 9 * a * b + 9 * b * b + (9 * a * b if a != b else 0) + a + b + b
    assert sum(p.numel() for p in large.parameters()) == count + 513
    convolutions = 9 * 64 + 16 * 64 * 64 + 16 * 64 * 128 + 16 * 128 * 256
    assert sum(p.numel() for p in plain.parameters()) == convolutions + (4096 * 128 + 128) + 129


@pytest.mark.parametrize("side", [32, 64])
def test_features_are_summed_over_four_by_four(side: int):
    net = ResidualEnergy((3, side, side), 0.05).eval()
    assert net.blocks(net.first(torch.rand(2, 3, side, side))).shape[2:] == (4, 4)


@pytest.mark.parametrize("scale", [1e-10, 0.01, 10.0])
def test_capped_norm(scale: float):
    """Weights beyond norm one are scaled to it, those within are themselves."""
    weight = scale * torch.randn(6, 5, 3, 3)
    capped = CappedNorm(weight)
    for _ in range(200):
        used = capped(weight)
    sigma = torch.linalg.svdvals(weight.flatten(1))[0].item()
    assert torch.linalg.svdvals(used.flatten(1))[0].item() == pytest.approx(min(sigma, 1.0), rel=1e-3)
    if sigma < 1:
        assert torch.equal(used, weight)
    before = capped.u.clone()
    capped.eval()(2 * weight)
    assert torch.equal(capped.u, before)


def test_a_new_block_passes_its_input_on():
    net = ResidualEnergy((3, 32, 32), 0.05).eval()
    x = torch.randn(2, net.blocks[1].offset1.numel(), 8, 8).relu()
    assert torch.allclose(net.blocks[1](x), x, atol=1e-6)


def test_weights_are_normalised_once_per_iteration():
    """As in the code, where one tensor serves all steps of the chains; also a matter of speed."""
    model, calls = build((3, 32, 32)), []
    for part in model.modules():
        if isinstance(part, CappedNorm):
            part.register_forward_hook(lambda *_: calls.append(1))
    model.step(torch.rand(4, 3, 32, 32), 0)
    assert len(calls) == 9


def test_dropout_acts_in_training_only():
    model, x = build((3, 32, 32), dropout=0.5), torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        for part in model.energy_net.blocks:
            part.conv2.parametrizations.weight.original.normal_()
        assert not torch.equal(model.energy(x), model.energy(x))
        model.eval()
        assert torch.equal(model.energy(x), model.energy(x))
