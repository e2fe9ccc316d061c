"""SNGAN: exact spectral norms of the whole discriminator, both losses, sizes and first weights of the standard CNN."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from baselines.meg import MEG
from baselines.meg import Hparams as MEGHparams
from baselines.sngan import SNGAN, Hparams
from dtri.data import digits
from dtri.networks import standard_cnn
from dtri.networks.standard_cnn import StandardCritic, StandardGenerator, StatisticsNetwork
from dtri.objectives.hinge import hinge_critic, hinge_generator
from tests.toys import noise_images, still

SHAPE = (1, 28, 28)
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64)]


def build(shape: tuple[int, int, int] = SHAPE, **hparams) -> SNGAN:
    torch.manual_seed(1)
    return SNGAN(shape, Hparams(width=0.05, z_dim=10, **hparams)).train()


def images(n: int = 8) -> Tensor:
    return torch.from_numpy(noise_images(n, SHAPE)).float() / 127.5 - 1


def layers(model: SNGAN) -> list[nn.Module]:
    return [layer for layer in model.discriminator.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


# Spectral norm


@pytest.mark.parametrize("shape, n_layers", zip(SHAPES, (6, 8, 8)), ids=["28", "32", "64"])
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


@pytest.mark.parametrize("loss", ["softplus", "hinge"])
def test_losses(loss, monkeypatch):
    model, x = build(loss=loss), images()
    losses, twin = still(model, monkeypatch), copy.deepcopy(model)
    torch.manual_seed(5)
    model.step(x, 0)
    torch.manual_seed(5)
    x_fake = twin.generate(torch.randn(len(x), model.z_dim))
    a_real, a_fake, a_again = (twin.discriminator(part) for part in (x, x_fake, x_fake))
    if loss == "hinge":
        critic, generator = hinge_critic(a_real, a_fake), -a_again.mean()
    else:
        critic, generator = softplus(-a_real).mean() + softplus(a_fake).mean(), softplus(-a_again).mean()
    assert torch.allclose(losses["discriminator"], critic)
    assert torch.allclose(losses["generator"], generator)


def test_the_published_constants():
    """Miyato et al. (2018): Eqn 15 of the row with 29.3, setting C of Table 1, dimension of section 4."""
    h = Hparams()
    assert (h.loss, h.z_dim, h.lr, h.beta1, h.beta2) == ("softplus", 128, 2e-4, 0.5, 0.999)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="expected loss 'softplus' or 'hinge', found 'wasserstein'"):
        build(loss="wasserstein")


def test_images_of_28_px_differ_between_latents(tmp_path):
    """After 80 iterations on digits, whose pixels spread by 0.27 over images; MEG's networks reach 0.06."""
    digits_28 = digits.prepare(tmp_path, SHAPE, {}, 0).splits["train"]
    torch.manual_seed(0)
    model = SNGAN(SHAPE, Hparams(width=0.05)).train()
    for t in range(80):
        batch = torch.from_numpy(digits_28[32 * t % 1376 :][:32]).float() / 127.5 - 1
        model.step(batch, t)
    with torch.no_grad():
        assert model.generate(torch.randn(100, model.z_dim)).std(0).mean() > 0.15


# Standard CNN


def convolution(kernel: int, channels: int, out: int) -> int:
    return kernel**2 * channels * out + out


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# Parameters of the critic's convolutions, and of the generator behind its linear layer, batch norms included.
MIYATO_CRITIC = sum(convolution(3, a, b) for a, b in [(3, 64), (64, 128), (128, 256), (256, 512)]) + sum(
    convolution(4, a, a) for a in (64, 128, 256)
)
MIYATO_GENERATOR = (
    sum(convolution(4, a, b) for a, b in [(512, 256), (256, 128), (128, 64)])
    + convolution(3, 64, 3)
    + 2 * (256 + 128 + 64)
)
SIZES = {  # values in front of the critic's last layer, of the generator's first one, and the above
    ("sngan", 28): (
        256 * 49,
        256 * 49,
        sum(convolution(3, a, b) for a, b in [(1, 64), (64, 128), (128, 256)])
        + convolution(4, 64, 64)
        + convolution(4, 128, 128),
        convolution(4, 256, 128) + convolution(4, 128, 64) + convolution(3, 64, 1) + 2 * (128 + 64),
    ),
    ("sngan", 32): (512 * 16, 512 * 16, MIYATO_CRITIC, MIYATO_GENERATOR),
    ("sngan", 64): (512 * 64, 512 * 64, MIYATO_CRITIC, MIYATO_GENERATOR),
    ("meg", 28): (
        512 * 4,
        512 * 4,
        sum(convolution(5, a, b) for a, b in [(1, 64), (64, 128), (128, 256), (256, 512)]),
        sum(convolution(5, a, b) for a, b in [(512, 256), (256, 128), (128, 64), (64, 1)]) + 2 * (512 + 256 + 128 + 64),
    ),
    ("meg", 32): (512 * 16, 512 * 16, MIYATO_CRITIC, MIYATO_GENERATOR),
    ("meg", 64): (
        512 * 16,
        512 * 16,
        MIYATO_CRITIC + convolution(4, 512, 512) + convolution(3, 512, 512),
        MIYATO_GENERATOR + convolution(4, 512, 512) + 2 * 512,
    ),
}
DESIGNS = {"sngan": standard_cnn.SNGAN, "meg": standard_cnn.MEG}
every_design = pytest.mark.parametrize("system, side", SIZES, ids=[f"{system}{side}" for system, side in SIZES])


@every_design
def test_sizes_are_those_of_the_published_networks(system: str, side: int):
    features, first, convolutions, behind = SIZES[system, side]
    design, channels = DESIGNS[system][side], 1 if side == 28 else 3
    with torch.device("meta"):
        assert parameters(StandardCritic(design, channels)) == convolutions + features + 1
        assert parameters(StandardGenerator(design, channels, 128)) == 129 * first + behind
        if system == "meg":
            joint = features * 128 + 128 + 257 * 512 + 513
            assert parameters(StatisticsNetwork(design, channels, 128)) == convolutions + joint


@every_design
def test_shapes_and_slopes(system: str, side: int):
    design, channels = DESIGNS[system][side], 1 if side == 28 else 3
    x = StandardGenerator(design, channels, 10, 0.05)(torch.randn(2, 10))
    critic = StandardCritic(design, channels, 0.05)
    assert x.shape == (2, channels, side, side)
    assert critic(x).shape == (2,)
    slopes = {part.negative_slope for part in critic.modules() if isinstance(part, nn.LeakyReLU)}
    assert slopes == {0.2 if (system, side) == ("meg", 28) else 0.1}


def spreads(*networks: nn.Module) -> tuple[list[float], list[float]]:
    """Standard deviations of the initial weights: of the convolutions, and of the linear layers."""
    parts = [part for network in networks for part in network.modules()]
    convolutions = [part.weight.std().item() for part in parts if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    return convolutions, [part.weight.std().item() for part in parts if isinstance(part, nn.Linear)]


@pytest.mark.parametrize("shape", SHAPES, ids=["28", "32", "64"])
def test_initial_weights_of_meg(shape):
    """energy_based_generative_models, networks/mnist.py and cifar.py: N(0, 0.02) in the convolutions of all three."""
    torch.manual_seed(0)
    model = MEG(shape, MEGHparams(width=0.25))
    convolutions, linear = spreads(model.generator, model.energy_net, model.statistics)
    wide = [std for std in convolutions if abs(std / 0.02 - 1) > 0.15]
    assert bool(wide) == (shape[1] == 64)  # celeba.py: PyTorch's default, U(-k, k) with k = 1 / sqrt(fan-in)
    default = 1 / (3 * model.statistics.expand.in_features) ** 0.5
    assert model.statistics.expand.weight.std().item() == pytest.approx(default, rel=0.05)
    assert len(linear) == 5


@pytest.mark.parametrize("shape", SHAPES, ids=["28", "32", "64"])
def test_initial_weights_of_sngan(shape, monkeypatch):
    """chainer-gan-lib, common/net.py: N(0, 0.02) in every layer."""
    monkeypatch.setattr("baselines.sngan.spectrally_normalised", lambda module: module)
    torch.manual_seed(0)
    model = SNGAN(shape, Hparams(width=0.25))
    convolutions, linear = spreads(model.generator, model.discriminator)
    for std in (*convolutions, *linear):
        assert std == pytest.approx(0.02, rel=0.15)
