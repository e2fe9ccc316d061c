"""Every network layer by layer: kinds, channels, kernels, offsets, slopes, norms, dropout, and its first weights."""

import importlib
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, leaky_relu, linear

from dtri.networks import batch_norm, progressive, standard_cnn
from dtri.networks.additive_critic import AdditiveCritic
from dtri.networks.convolutional import (
    GaussianEncoder,
    Generator,
    ImageCritic,
    Trunk,
    scaled,
    softly_bounded,
    spectrally_normalised,
)
from dtri.networks.descriptor import Descriptor
from dtri.networks.deterministic_encoder import DeterministicEncoder
from dtri.networks.joint_critic import JointCritic
from dtri.networks.residual_energy import PlainEnergy, ResidualEnergy, energy_network

SHAPES = {28: (1, 28, 28), 32: (3, 32, 32), 64: (3, 64, 64)}
every_side = pytest.mark.parametrize("side", SHAPES)


def listed(network: nn.Module) -> list[str]:
    """One line per layer: "conv 3>64 4/2/1" has channels 3 and 64, kernel 4, stride 2, padding 1 and no offset (+b)."""
    return [text for layer in network.modules() if (text := _line(layer))]


def _line(layer: nn.Module) -> str:
    offset = "+b" if getattr(layer, "bias", None) is not None else ""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        (k, _), (s, _), (p, _) = layer.kernel_size, layer.stride, layer.padding
        kind, sizes = "conv" if isinstance(layer, nn.Conv2d) else "up", f"{layer.in_channels}>{layer.out_channels}"
        extra = f"/{layer.output_padding[0]}" if kind == "up" and layer.output_padding[0] else ""
        normal = " sn" if hasattr(layer, "parametrizations") else ""
        return f"{kind} {sizes} {k}/{s}/{p}{extra}{offset}{normal}"
    if isinstance(layer, nn.Linear):
        normal = " sn" if hasattr(layer, "parametrizations") else ""
        return f"linear {layer.in_features}>{layer.out_features}{offset}{normal}"
    if isinstance(layer, nn.BatchNorm2d):
        return f"norm {layer.num_features}"
    if isinstance(layer, nn.LeakyReLU):
        return f"leaky {layer.negative_slope}"
    if isinstance(layer, nn.Dropout):
        return f"dropout {layer.p}"
    if isinstance(layer, nn.AvgPool2d):
        return f"mean {layer.kernel_size}"
    return {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Flatten: "flat"}.get(type(layer), "")


def behind(convolutions: list[str], activation: str = "leaky 0.2", norms: str = "", drop: str = "") -> list[str]:
    """Each convolution followed by its activation. `norms`: "all" have batch norm between, or all "but first"."""
    lines = []
    for i, line in enumerate(convolutions):
        channels = line.split(">")[1].split()[0]
        norm = [f"norm {channels}"] if norms == "all" or (norms == "but first" and i > 0) else []
        lines += [line, *norm, activation, *([drop] if drop else [])]
    return lines


def meta(network, *arguments, **options) -> list[str]:
    """Layers at full width, without memory."""
    with torch.device("meta"):
        return listed(network(*arguments, **options))


# The convolutional networks of paper B, DCGAN's at 64 pixels

GENERATORS = {
    28: (["up 100>256 7/1/0", "up 256>128 4/2/1", "up 128>64 4/2/1"], "up 64>1 3/1/1+b"),
    32: (["up 100>512 4/1/0", "up 512>512 4/2/1", "up 512>256 4/2/1", "up 256>128 4/2/1"], "up 128>3 3/1/1+b"),
    64: (["up 100>512 4/1/0", "up 512>256 4/2/1", "up 256>128 4/2/1", "up 128>64 4/2/1"], "up 64>3 4/2/1"),
}
TRUNKS = {
    28: ["conv 1>64 4/2/1", "conv 64>128 4/2/1", "conv 128>256 3/1/1"],
    32: ["conv 3>64 3/1/1", "conv 64>128 4/2/1", "conv 128>256 4/2/1", "conv 256>512 4/2/1"],
    64: ["conv 3>64 4/2/1", "conv 64>128 4/2/1", "conv 128>256 4/2/1", "conv 256>512 4/2/1"],
}
TOP = {28: (256, 7), 32: (512, 4), 64: (512, 4)}  # channels and side of a trunk's features


@every_side
def test_generator(side: int) -> None:
    hidden, last = GENERATORS[side]
    assert meta(Generator, SHAPES[side], 100) == [*behind(hidden, "relu", "all"), last, "tanh"]


@every_side
@pytest.mark.parametrize("norms", [False, True])
def test_trunk_and_heads(side: int, norms: bool) -> None:
    shape, (channels, end) = SHAPES[side], TOP[side]
    trunk = behind(TRUNKS[side], norms="but first" if norms else "")
    head = f"conv {channels}>100 {end}/1/0+b"
    assert meta(GaussianEncoder, shape, 100, 1.0, norms) == [*trunk, head, head]
    assert meta(DeterministicEncoder, shape, 100, 1.0, norms) == [*trunk, head]
    assert meta(ImageCritic, shape, 1.0, norms) == [*trunk, f"conv {channels}>1 {end}/1/0+b"]
    narrow = [line.replace(f">{channels}", ">200").replace(f"norm {channels}", "norm 200") for line in trunk]
    assert meta(ImageCritic, shape, 1.0, norms, 200) == [*narrow, f"conv 200>1 {end}/1/0+b"]
    assert meta(Trunk, shape, bias=True)[0] == f"{TRUNKS[side][0]}+b"


def test_width_multiplies_all_channels_but_eight_remain() -> None:
    assert [scaled(channels, 0.25) for channels in (512, 64, 16)] == [128, 16, 8]
    assert scaled(100, 0.125) == 12


@every_side
def test_first_weights_are_dcgans(side: int) -> None:
    """N(0, 0.02), gains of batch norm N(1, 0.02), their offsets 0."""
    torch.manual_seed(0)
    networks = [Generator(SHAPES[side], 100, 0.25), GaussianEncoder(SHAPES[side], 100, 0.25, True)]
    networks += [ImageCritic(SHAPES[side], 0.25, True), DeterministicEncoder(SHAPES[side], 100, 0.25, True)]
    for layer in (part for network in networks for part in network.modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15)
            assert layer.weight.mean().item() == pytest.approx(0, abs=0.003)
    norms = [layer for network in networks for layer in batch_norm.layers(network)]
    gains = torch.cat([layer.weight for layer in norms])
    assert (gains.mean().item(), gains.std().item()) == pytest.approx((1.0, 0.02), abs=0.003)
    assert all((layer.bias == 0).all() for layer in norms)


def test_log_variances_are_held_in_their_range() -> None:
    """log V by softplus on both sides, written out; without a range it is the layer's output."""
    torch.manual_seed(0)
    encoder = GaussianEncoder(SHAPES[28], 4, 0.05, logvar_range=(-3.0, 2.0))
    with torch.no_grad():
        encoder.logvar.bias.copy_(torch.tensor([-9.0, -3.0, 0.0, 9.0]))
    x = torch.randn(2, *SHAPES[28])
    v = encoder.logvar(encoder.trunk(x)).flatten(1)
    below = 2 - (2 - v).exp().log1p()
    expected = -3 + (below + 3).exp().log1p()
    assert torch.allclose(encoder(x)[1], expected, atol=1e-5)
    assert torch.allclose(softly_bounded(v, -3.0, 2.0), expected, atol=1e-5)
    assert (encoder(x)[1] - v).abs().max() > 5
    encoder.logvar_range = None
    assert torch.equal(encoder(x)[1], v)
    assert torch.equal(encoder(x)[0], encoder.mu(encoder.trunk(x)).flatten(1))


# Critics of pairs


@every_side
def test_joint_critic(side: int) -> None:
    """Every layer is spectrally normalised and has an offset, but for the last one, whose scale is learned."""
    channels, end = TOP[side]
    trunk = behind([f"{line}+b sn" for line in TRUNKS[side]])
    x_branch = ["flat", f"linear {channels * end**2}>512+b sn", "leaky 0.2"]
    z_branch = ["linear 100>512+b sn", "leaky 0.2", "linear 512>512+b sn"]
    joint = ["linear 1024>1024+b sn", "linear 1024>512+b sn"]
    # `modules` names an instance once: one LeakyReLU serves all linear layers.
    lines = [*trunk, *x_branch, *(line for line in z_branch if line != "leaky 0.2"), *joint, "linear 512>1+b"]
    assert listed(JointCritic(SHAPES[side], 100)) == lines
    assert listed(JointCritic(SHAPES[side], 100, 0.05, spectral_norm_last=True))[-1] == "linear 26>1+b sn"


def test_joint_critic_of_the_baselines() -> None:
    lines = meta(JointCritic, SHAPES[28], 100, 1.0, 1, spectral_norm=False, batch_norm=True, dropout=0.4)
    assert lines == [
        *behind(TRUNKS[28], norms="but first"),
        *("flat", "dropout 0.4", f"linear {256 * 49}>512+b", "leaky 0.2", "linear 100>512+b"),
        *("linear 1024>1024+b", "linear 1024>512+b", "linear 512>1+b"),
    ]
    assert meta(JointCritic, SHAPES[28], 100, z_layers=0, spectral_norm=False)[-3] == "linear 612>1024+b"


def test_the_joint_critic_is_its_parts() -> None:
    """The image's features stand before the latent's, and the pair's last hidden layer feeds one linear layer."""
    torch.manual_seed(0)
    critic = JointCritic(SHAPES[28], 10, 0.05).eval()
    x, z = torch.randn(3, *SHAPES[28]), torch.randn(3, 10)

    def through(branch: nn.Sequential, h: Tensor) -> Tensor:
        for layer in branch:
            if isinstance(layer, nn.Linear):
                h = leaky_relu(linear(h, layer.weight, layer.bias), 0.2)
        return h

    h = through(
        critic.joint, torch.cat([through(critic.x_branch, critic.trunk(x).flatten(1)), through(critic.z_branch, z)], 1)
    )
    assert torch.allclose(critic.features(x, z), h, atol=1e-6)
    assert torch.allclose(critic(x, z), linear(h, critic.head.weight, critic.head.bias)[:, 0], atol=1e-6)
    f, other = critic.exchanged(x, z)
    assert torch.allclose(f, critic(x, z), atol=1e-6)
    assert torch.allclose(other, critic(x, z[[2, 0, 1]]), atol=1e-6)


@every_side
def test_additive_critic(side: int) -> None:
    """One more channel and 20 more numbers of noise; batch norm behind every convolution."""
    (channels, end), (first, *others) = TOP[side], TRUNKS[side]
    image_channels = SHAPES[side][0]
    first = first.replace(f"conv {image_channels}>", f"conv {image_channels + 1}>")
    assert meta(AdditiveCritic, SHAPES[side], 100) == [
        *behind([first, *others], norms="all"),
        *("flat", f"linear {channels * end**2}>1+b"),
        *("linear 120>2048+b", "leaky 0.2", "linear 2048>1"),
    ]
    torch.manual_seed(0)
    weights = [p for p in AdditiveCritic(SHAPES[side], 100, 0.25).parameters() if p.dim() > 1 and p.numel() > 400]
    assert [p.std().item() for p in weights] == pytest.approx([0.02] * len(weights), rel=0.15)


# CoopNet


@pytest.mark.parametrize(
    "side, kernels, end",
    [(28, ["4/2/1", "4/2/1", "4/2/2"], 4), (32, ["5/2/2", "3/2/1", "3/1/1"], 8), (64, ["5/2/2", "3/2/1", "3/1/1"], 16)],
)
def test_descriptor(side: int, kernels: list[str], end: int) -> None:
    channels = [SHAPES[side][0], 64, 128, 256]
    convolutions = [f"conv {a}>{b} {k}+b" for a, b, k in zip(channels, channels[1:], kernels)]
    assert meta(Descriptor, SHAPES[side]) == [*behind(convolutions), f"conv 256>100 {end}/1/0"]
    torch.manual_seed(0)
    layers = [layer for layer in Descriptor(SHAPES[side], 0.25).layers if isinstance(layer, nn.Conv2d)]
    assert [layer.weight.std().item() for layer in layers] == pytest.approx([0.01] * 4, rel=0.15)
    assert all(layer.bias is None or (layer.bias == 0).all() for layer in layers)


# IGEBM


@pytest.mark.parametrize("side", [32, 64])
def test_residual_energy(side: int) -> None:
    """Nine blocks whose first, fourth and seventh halve the image; at 64 pixels the second as well."""
    torch.manual_seed(0)
    network = ResidualEnergy(SHAPES[side], 0.25, dropout=0.3)
    lines = ["conv 3>32 3/1/1 sn", "leaky 0.2"]
    for i, (a, b) in enumerate([(32, 32)] * 3 + [(32, 64)] + [(64, 64)] * 2 + [(64, 128)] + [(128, 128)] * 2):
        lines += [f"conv {a}>{b} 3/1/1 sn", "dropout 0.3", f"conv {b}>{b} 3/1/1 sn"]
        lines += [f"conv {a}>{b} 3/1/1 sn"] * (a != b)
        lines += ["mean 2"] * (i in (0, 3, 6) or (i == 1 and side == 64)) + ["leaky 0.2"]
    assert listed(network) == [*lines, "linear 128>1+b"]
    first = network.blocks[3].conv1.parametrizations.weight.original
    assert first.std().item() == pytest.approx(1.0, rel=0.05)
    second = network.blocks[3].conv2.parametrizations.weight.original
    assert second.std().item() == pytest.approx(1e-10, rel=0.05)
    assert network.head.weight.abs().max().item() == pytest.approx(math.sqrt(6 / 129), rel=0.05)
    assert network.head.bias.item() == 0


def test_a_block_and_the_whole_are_their_parts() -> None:
    torch.manual_seed(0)
    network = ResidualEnergy(SHAPES[32], 0.05, dropout=0.5).eval()
    with torch.no_grad():
        for block in network.blocks:
            for p in (block.offset1, block.offset2, block.gain):
                p.normal_()
            block.conv2.parametrizations.weight.original.normal_()
    block, x = network.blocks[3], torch.randn(2, 8, 6, 6)
    h = leaky_relu(conv2d(x + block.offset1, block.conv1.weight, padding=1), 0.2)
    h = block.gain * conv2d(h + block.offset2, block.conv2.weight, padding=1) + block.shortcut(x)
    assert torch.allclose(block(x), leaky_relu(avg_pool2d(h, 2), 0.2), atol=1e-5)
    image = torch.rand(2, *SHAPES[32])
    h = leaky_relu(conv2d(image, network.first[0].weight, padding=1), 0.2)
    for block in network.blocks:
        h = block(h)
    energies = linear(h.clamp(min=0).sum((2, 3)), network.head.weight, network.head.bias)[:, 0]
    assert torch.allclose(network(image), energies, rtol=1e-5)


def test_plain_energy() -> None:
    torch.manual_seed(0)
    network = energy_network(SHAPES[28], 1.0, 0.5)
    assert isinstance(network, PlainEnergy)
    convolutions = ["conv 1>64 3/1/1 sn", "conv 64>64 4/2/1 sn", "conv 64>128 4/2/1 sn", "conv 128>256 4/2/2 sn"]
    assert listed(network) == [*behind(convolutions), "flat", "linear 4096>128+b sn", "leaky 0.2", "linear 128>1+b"]
    hidden = network.layers[9].parametrizations.weight.original
    assert hidden.std().item() == pytest.approx(1.0, rel=0.05)
    assert (network.layers[9].bias == 0).all()
    rates = {part.p for part in energy_network(SHAPES[32], 0.05, 0.3).modules() if isinstance(part, nn.Dropout)}
    assert rates == {0.3}


# SNGAN and MEG

STANDARD_UP = ["up 512>256 4/2/1+b", "up 256>128 4/2/1+b", "up 128>64 4/2/1+b"]
STANDARD_DOWN = [
    *("conv 3>64 3/1/1+b", "conv 64>64 4/2/1+b", "conv 64>128 3/1/1+b", "conv 128>128 4/2/1+b"),
    *("conv 128>256 3/1/1+b", "conv 256>256 4/2/1+b", "conv 256>512 3/1/1+b"),
]
STANDARD = {  # (system, side): core of the generator, its layers, its last one; the critic's layers, its end
    ("SNGAN", 28): (
        *(7, ["up 256>128 4/2/1+b", "up 128>64 4/2/1+b"], "up 64>1 3/1/1+b"),
        ["conv 1>64 3/1/1+b", *STANDARD_DOWN[1:4], "conv 128>256 3/1/1+b"],
        7,
    ),
    ("SNGAN", 32): (4, STANDARD_UP, "up 64>3 3/1/1+b", STANDARD_DOWN, 4),
    ("SNGAN", 64): (8, STANDARD_UP, "up 64>3 3/1/1+b", STANDARD_DOWN, 8),
    ("MEG", 28): (
        *(2, ["up 512>256 5/2/2/1+b", "up 256>128 5/2/2+b", "up 128>64 5/2/2/1+b"], "up 64>1 5/2/2/1+b"),
        [f"conv {a}>{b} 5/2/2+b" for a, b in ((1, 64), (64, 128), (128, 256), (256, 512))],
        2,
    ),
    ("MEG", 32): (4, STANDARD_UP, "up 64>3 3/1/1+b", STANDARD_DOWN, 4),
    ("MEG", 64): (
        *(4, ["up 512>512 4/2/1+b", *STANDARD_UP], "up 64>3 3/1/1+b"),
        [*STANDARD_DOWN, "conv 512>512 4/2/1+b", "conv 512>512 3/1/1+b"],
        4,
    ),
}


@pytest.mark.parametrize("system, side", STANDARD)
def test_standard_networks(system: str, side: int) -> None:
    core, up, last, down, end = STANDARD[system, side]
    design, channels = getattr(standard_cnn, system)[side], SHAPES[side][0]
    published = (system, side) == ("MEG", 28)
    first = int(up[0].split()[1].split(">")[0])
    expand = [f"linear 128>{first * core**2}+b", *([f"norm {first}", "relu"] if published else [])]
    assert meta(standard_cnn.StandardGenerator, design, channels, 128) == [
        *expand,
        *behind(up, "relu", "all"),
        last,
        "tanh",
    ]
    top = int(down[-1].split(">")[1].split()[0]) * end**2
    trunk = [*behind(down, "leaky 0.2" if published else "leaky 0.1"), "flat"]
    assert meta(standard_cnn.StandardCritic, design, channels) == [*trunk, f"linear {top}>1+b"]
    slope = 0.2 if published else 0.1
    pairs = [f"linear {top}>128+b", "linear 256>512+b", f"leaky {slope}", "linear 512>1+b"]
    assert meta(standard_cnn.StatisticsNetwork, design, channels, 128) == [*trunk, *pairs]


def test_the_statistics_network_joins_features_and_latent() -> None:
    torch.manual_seed(0)
    network = standard_cnn.StatisticsNetwork(standard_cnn.MEG[28], 1, 10, 0.05)
    x, z, other = torch.randn(3, *SHAPES[28]), torch.randn(3, 10), torch.randn(3, 10)
    features = linear(network.trunk(x), network.expand.weight, network.expand.bias)
    for latent, found in zip((z, other), network(x, z, other), strict=True):
        assert torch.allclose(found, network.joint(torch.cat([features, latent], 1))[:, 0], atol=1e-6)


# The networks that grow


def test_growing_networks_are_their_parts() -> None:
    """At 8 pixels, alone and while they fade in: He's constants, slopes, pixel norm, tanh, the heads' gain of 1."""
    torch.manual_seed(0)
    generator = progressive.GrowingGenerator(SHAPES[32], 5, 128, 1.0)
    critic, encoder = progressive.GrowingCritic(SHAPES[32], 128), progressive.GrowingEncoder(SHAPES[32], 5, 128)
    z, x, a = torch.randn(2, 5), torch.rand(2, 3, 8, 8), torch.tensor(0.3)

    def by_hand(layer: nn.Module, h: Tensor, gain: float = math.sqrt(2)) -> Tensor:
        weight = layer.weight * gain / math.sqrt(layer.weight[0].numel())
        if weight.dim() == 2:
            return linear(h, weight, layer.bias)
        return conv2d(h, weight, layer.bias, padding=(weight.shape[2] - 1) // 2)

    def normed(h: Tensor) -> Tensor:
        h = leaky_relu(h, 0.2)
        return h / (h.square().mean(1, keepdim=True) + 1e-8).sqrt()

    h = normed(by_hand(generator.first, z).view(2, -1, 4, 4))
    low = normed(by_hand(generator.blocks[0][0], h))
    h = interpolate(low, scale_factor=2)
    for conv in generator.blocks[1]:
        h = normed(by_hand(conv, h))
    old, new = by_hand(generator.to_rgb[0], low, 1.0), by_hand(generator.to_rgb[1], h, 1.0)
    assert torch.allclose(generator(z, 0), torch.tanh(old), atol=1e-5)
    assert torch.allclose(generator(z, 1), torch.tanh(new), atol=1e-5)
    faded = torch.tanh(0.7 * interpolate(old, scale_factor=2) + 0.3 * new)
    assert torch.allclose(generator(z, 1, a), faded, atol=1e-5)

    def trunk(net: progressive.GrowingTrunk, alpha: float) -> Tensor:
        h = leaky_relu(by_hand(net.from_rgb[1], x), 0.2)
        for conv in net.blocks[1]:
            h = leaky_relu(by_hand(conv, h), 0.2)
        below = leaky_relu(by_hand(net.from_rgb[0], avg_pool2d(x, 2)), 0.2)
        h = (1 - alpha) * below + alpha * avg_pool2d(h, 2)
        h = leaky_relu(by_hand(net.blocks[0][0], h), 0.2)
        return leaky_relu(by_hand(net.last, h.flatten(1)), 0.2)

    for alpha, given in ((1.0, None), (0.3, a)):
        expected = by_hand(critic.head, trunk(critic.trunk, alpha), 1.0)[:, 0]
        assert torch.allclose(critic(x, 1, given), expected, atol=1e-5)
        for head, found in zip((encoder.mu, encoder.logvar), encoder(x, 1, given), strict=True):
            assert torch.allclose(found, by_hand(head, trunk(encoder.trunk, alpha), 1.0), atol=1e-5)


def test_channels_of_the_networks_that_grow() -> None:
    """ProGAN's: 2 * 8192 / S, at most 512; two convolutions per level, one at the smallest."""
    assert progressive.channels((3, 1024, 1024), 8192, 1.0) == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    assert progressive.channels((3, 64, 64), 1024, 1.0) == [512, 256, 128, 64, 32]
    generator, trunk = progressive.GrowingGenerator((3, 16, 16), 5, 512), progressive.GrowingTrunk((3, 16, 16), 512)
    assert [[tuple(c.weight.shape) for c in block] for block in generator.blocks] == [
        [(256, 256, 3, 3)],
        [(128, 256, 3, 3), (128, 128, 3, 3)],
        [(64, 128, 3, 3), (64, 64, 3, 3)],
    ]
    assert [[tuple(c.weight.shape) for c in block] for block in trunk.blocks] == [
        [(256, 256, 3, 3)],
        [(128, 128, 3, 3), (256, 128, 3, 3)],
        [(64, 64, 3, 3), (128, 64, 3, 3)],
    ]
    assert [tuple(c.weight.shape) for c in trunk.from_rgb] == [(256, 3, 1, 1), (128, 3, 1, 1), (64, 3, 1, 1)]
    assert (generator.first.weight.shape, trunk.last.weight.shape) == ((4096, 5), (256, 4096))


# Systems are built of these networks, as their hyperparameters say

W, D = 0.1, 7  # width and latents
PAIRS = {"spectral_norm": False}


def parts(shape: tuple[int, int, int]) -> dict[tuple[str, str], tuple[dict, dict[str, nn.Module]]]:
    """(module, class): hyperparameters that are not the defaults, and the networks that they ask for."""
    generator, encoder = Generator(shape, D, W), GaussianEncoder(shape, D, W)
    normed, side = GaussianEncoder(shape, D, W, True), shape[1]
    last = 256 if side == 32 else None
    standard, meg = standard_cnn.SNGAN[side], standard_cnn.MEG[side]
    bounded = GaussianEncoder(shape, D, W, True, (-3.0, 1.0))
    additive = {"generator": generator, "encoder": normed, "critic": AdditiveCritic(shape, D, W)}
    return {
        ("dtri.models.divergence_triangle", "DivergenceTriangle"): (
            {"batch_norm": True},
            {"generator": generator, "encoder": normed, "energy_net": ImageCritic(shape, W, True, last)},
        ),
        ("dtri.models.joint_vae_ebm", "JointVAEEBM"): (
            {"logvar_range": (-3.0, 1.0), "spectral_norm_last": True, "z_layers": 1},
            {"generator": generator, "encoder": bounded, "critic": JointCritic(shape, D, W, 1, True)},
        ),
        ("dtri.models.divergence_triangle_progressive", "ProgressiveTriangle"): (
            {"channel_base": 512},
            {
                "generator": progressive.GrowingGenerator(shape, D, 512, W),
                "encoder": progressive.GrowingEncoder(shape, D, 512, W),
                "energy_net": progressive.GrowingCritic(shape, 512, W),
            },
        ),
        ("baselines.vae", "VAE"): ({}, {"generator": generator, "encoder": encoder}),
        ("baselines.wake_sleep", "WakeSleep"): ({}, {"generator": generator, "encoder": encoder}),
        ("baselines.ali", "ALI"): (
            {"dropout": 0.3, "critic_batch_norm": True},
            {
                "generator": generator,
                "encoder": normed,
                "critic": JointCritic(shape, D, W, **PAIRS, batch_norm=True, dropout=0.3),
            },
        ),
        ("baselines.alice", "ALICE"): ({}, additive),
        ("baselines.svae", "SVAE"): ({}, additive),
        ("baselines.bigan", "BiGAN"): (
            {"dropout": 0.3},
            {
                "generator": generator,
                "encoder": DeterministicEncoder(shape, D, W, True),
                "critic": JointCritic(shape, D, W, 1, **PAIRS, batch_norm=True, dropout=0.3),
            },
        ),
        ("baselines.dcgan", "DCGAN"): ({}, {"generator": generator, "discriminator": ImageCritic(shape, W, True)}),
        ("baselines.wgan", "WGAN"): ({}, {"generator": generator, "critic": ImageCritic(shape, W, True)}),
        ("baselines.sngan", "SNGAN"): (
            {},
            {
                "generator": standard_cnn.StandardGenerator(standard, shape[0], D, W),
                "discriminator": spectrally_normalised(standard_cnn.StandardCritic(standard, shape[0], W)),
            },
        ),
        ("baselines.meg", "MEG"): (
            {},
            {
                "generator": standard_cnn.StandardGenerator(meg, shape[0], D, W),
                "energy_net": standard_cnn.StandardCritic(meg, shape[0], W),
                "statistics": standard_cnn.StatisticsNetwork(meg, shape[0], D, W),
            },
        ),
        ("baselines.cegan", "CEGAN"): (
            {},
            {"generator": generator, "critic": ImageCritic(shape, W, True, 256), "encoder": normed},
        ),
        ("baselines.coopnet", "CoopNet"): ({}, {"generator": generator, "descriptor": Descriptor(shape, W)}),
        ("baselines.igebm", "IGEBM"): ({"dropout": 0.3}, {"energy_net": energy_network(shape, W, 0.3)}),
    }


@pytest.mark.parametrize("side", [28, 32])
def test_networks_of_every_system(side: int) -> None:
    for (module, name), (hparams, networks) in parts(SHAPES[side]).items():
        loaded = importlib.import_module(module)
        small = {} if name == "IGEBM" else {"z_dim": D}
        model = getattr(loaded, name)(SHAPES[side], loaded.Hparams(width=W, **small, **hparams))
        found = {part: network for part, network in model.named_children() if part != "replay"}
        assert found.keys() == networks.keys(), name
        for part, network in networks.items():
            shapes = [(key, tensor.shape) for key, tensor in network.state_dict().items()]
            assert [(key, tensor.shape) for key, tensor in found[part].state_dict().items()] == shapes, (name, part)
            assert listed(found[part]) == listed(network), (name, part)
            if hasattr(network, "logvar_range"):
                assert found[part].logvar_range == network.logvar_range


def test_averaged_weights_are_those_of_the_papers_that_have_them() -> None:
    averaging = {("dtri.models.joint_vae_ebm", "JointVAEEBM"), ("baselines.bigan", "BiGAN")}
    averaging |= {("dtri.models.divergence_triangle_progressive", "ProgressiveTriangle")}
    for module, name in parts(SHAPES[28]):
        loaded = importlib.import_module(module)
        given = {"width": 0.05, **({"ema_decay": 0.7} if (module, name) in averaging else {})}
        model = getattr(loaded, name)(SHAPES[28], loaded.Hparams(**given))
        assert model.ema_decay == given.get("ema_decay", 0.0), name
