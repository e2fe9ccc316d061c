"""SNGAN: exact spectral norms of the whole discriminator, hinge losses, sizes of the standard CNN."""

import copy

import pytest
import torch
from torch import Tensor, nn

from baselines.sngan import SNGAN, Hparams
from dtri.networks.standard_cnn import StandardCritic, StandardGenerator, StatisticsNetwork
from dtri.objectives.hinge import hinge_critic, hinge_generator
from tests.toys import noise_images, still

SHAPE = (1, 28, 28)
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64)]


def build(shape: tuple[int, int, int] = SHAPE) -> SNGAN:
    torch.manual_seed(1)
    return SNGAN(shape, Hparams(width=0.05, z_dim=10)).train()


def images(n: int = 8) -> Tensor:
    return torch.from_numpy(noise_images(n, SHAPE)).float() / 127.5 - 1


def layers(model: SNGAN) -> list[nn.Module]:
    return [layer for layer in model.discriminator.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


# Spectral norm


@pytest.mark.parametrize("shape, n_layers", zip(SHAPES, (5, 8, 10)), ids=["28", "32", "64"])
def test_sigma_of_every_layer_is_exact(shape, n_layers):
    """After enough training passes: largest singular value of the kernel as a matrix [out, rest]."""
    model = build(shape)
    assert len(layers(model)) == n_layers
    for layer in layers(model):
        original = layer.parametrizations.weight.original.detach()
        for _ in range(1500):
            weight = layer.weight.detach()  # one power iteration, as in every training pass
        sigma = torch.linalg.svdvals(original.flatten(1))[0]
        assert torch.allclose(original / weight, sigma.expand_as(original), rtol=2e-3)


def test_training_passes_sharpen_sigma_and_evaluation_does_not():
    model = build()

    def largest() -> float:
        with torch.no_grad():
            model.eval()
            found = max(torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers(model))
            model.train()
        return found

    with torch.no_grad():
        for layer in layers(model):  # as after a large update
            layer.parametrizations.weight.original.copy_(torch.randn_like(layer.weight))
        rough = largest()
        model.eval()
        for _ in range(5):
            model.discriminator(images())
        assert largest() == rough > 1.1
        for _ in range(50):
            model.discriminator(images())
    assert 1 - 1e-3 < largest() < 1.03


def test_gradient_goes_through_sigma(monkeypatch):
    """W / sigma(W) does not change along W, so no gradient points that way; it would with sigma fixed."""
    model = build()
    with torch.no_grad():
        for _ in range(300):
            model.discriminator(images(2))
    still(model, monkeypatch)
    loss = model.discriminator(images()).square().sum()
    loss.backward()
    for layer in layers(model):
        weight = layer.parametrizations.weight.original
        assert (weight * weight.grad).sum().abs() < 1e-2 * weight.norm() * weight.grad.norm()


# Losses


def test_hinge_closed_form():
    real, fake = torch.tensor([2.0, 1.0, 0.0, -3.0]), torch.tensor([-2.0, -1.0, 0.0, 3.0])
    assert hinge_critic(real, fake).item() == (0 + 0 + 1 + 4) / 4 * 2
    assert hinge_critic(real[:1], fake[:1]).item() == 0  # beyond the margin
    assert hinge_critic(fake[:1], real[:1]).item() == 6  # the wrong way round
    assert hinge_generator(fake).item() == 0.0
    assert hinge_generator(torch.tensor([3.0])) < hinge_generator(torch.tensor([-3.0]))


def test_losses(monkeypatch):
    model, x = build(), images()
    losses, twin = still(model, monkeypatch), copy.deepcopy(model)
    torch.manual_seed(5)
    model.step(x, 0)
    torch.manual_seed(5)
    x_fake = twin.generate(torch.randn(len(x), model.z_dim))
    a_real, a_fake, a_again = (twin.discriminator(part) for part in (x, x_fake, x_fake))
    assert torch.allclose(losses["discriminator"], hinge_critic(a_real, a_fake))
    assert torch.allclose(losses["generator"], -a_again.mean())


# Standard CNN


def convolution(kernel: int, channels: int, out: int) -> int:
    return kernel**2 * channels * out + out


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


TRUNKS = {
    28: sum(convolution(5, a, b) for a, b in [(1, 64), (64, 128), (128, 256), (256, 512)]),
    32: sum(convolution(3, a, b) for a, b in [(3, 64), (64, 128), (128, 256), (256, 512)])
    + sum(convolution(4, a, a) for a in (64, 128, 256)),
}
TRUNKS[64] = TRUNKS[32] + convolution(4, 512, 512) + convolution(3, 512, 512)
GENERATORS = {  # convolutions, batch norms; channels behind the linear layer
    28: sum(convolution(5, a, b) for a, b in [(512, 256), (256, 128), (128, 64), (64, 1)]) + 2 * (512 + 256 + 128 + 64),
    32: sum(convolution(4, a, b) for a, b in [(512, 256), (256, 128), (128, 64)])
    + convolution(3, 64, 3)
    + 2 * (256 + 128 + 64),
}
GENERATORS[64] = GENERATORS[32] + convolution(4, 512, 512) + 2 * 512


@pytest.mark.parametrize("shape", SHAPES, ids=["28", "32", "64"])
def test_sizes_are_those_of_the_published_networks(shape):
    side, features = shape[1], 512 * (2 if shape[1] == 28 else 4) ** 2
    with torch.device("meta"):
        assert parameters(StandardCritic(shape)) == TRUNKS[side] + features + 1
        assert parameters(StandardGenerator(shape, 128)) == 129 * features + GENERATORS[side]
        joint = features * 128 + 128 + 257 * 512 + 513
        assert parameters(StatisticsNetwork(shape, 128)) == TRUNKS[side] + joint
