"""The "standard CNN" of SNGAN with MEG's versions of it: generator, critic, and MEG's critic of pairs.

SNGAN: Miyato et al. (ICLR 2018), Table 3, for 32 and 48 px. Its generator starts from an eighth of the side, and so
does ours at 64 px. 28 px has no eighth: ours starts from 7x7, as the published networks without their widest layers.
MEG: Kumar et al. (2019), ritheshkumar95/energy_based_generative_models, networks/{mnist,cifar,celeba}.py. Its 32 px
networks are SNGAN's. Convolutions of all three networks start from N(0, 0.02) for MNIST and CIFAR-10 (mnist.py and
cifar.py, `weights_init`), and from PyTorch's default for CelebA. Linear layers always start from the default.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dtri.networks.convolutional import Conv, scaled
from dtri.networks.initialisation import dcgan_init


@dataclass(frozen=True)
class Up(Conv):
    """One transposed convolution; `extra` rows and columns are added at the end (output_padding)."""

    extra: int = 0


@dataclass(frozen=True)
class Design:
    """Generator and critic for one size of images, with channels at full width.

    The generator's linear layer gives `first` channels of `core` x `core` values. If `normalised`, batch norm and ReLU
    follow it. Then come the convolutions `up` and `last`. The critic has the convolutions `down`, whose result has the
    side `end`, and LeakyReLU with `slope`. With `dcgan` convolutions start as DCGAN's, else from PyTorch's default.
    """

    core: int
    first: int
    up: tuple[Up, ...]
    down: tuple[Conv, ...]
    end: int
    last: tuple[int, int, int, int] = (3, 1, 1, 0)  # kernel, stride, padding, extra
    slope: float = 0.1
    normalised: bool = False
    dcgan: bool = True


def halving(*widths: int) -> tuple[Conv, ...]:
    """At each width, one convolution that keeps the size of the image and one that halves it."""
    return tuple(conv for full in widths for conv in (Conv(3, 1, 1, full), Conv(4, 2, 1, full)))


def doubling(*widths: int) -> tuple[Up, ...]:
    return tuple(Up(4, 2, 1, full) for full in widths)


PUBLISHED = Design(4, 512, doubling(256, 128, 64), (*halving(64, 128, 256), Conv(3, 1, 1, 512)), end=4)
SNGAN = {  # by the side of the images
    28: Design(7, 256, doubling(128, 64), (*halving(64, 128), Conv(3, 1, 1, 256)), end=7),
    32: PUBLISHED,
    64: replace(PUBLISHED, core=8, end=8),
}
MEG = {
    28: Design(
        *(2, 512, (Up(5, 2, 2, 256, 1), Up(5, 2, 2, 128), Up(5, 2, 2, 64, 1))),
        *(tuple(Conv(5, 2, 2, full) for full in (64, 128, 256, 512)), 2),
        last=(5, 2, 2, 1),
        slope=0.2,
        normalised=True,
    ),
    32: PUBLISHED,
    64: replace(
        PUBLISHED,
        up=doubling(512, 256, 128, 64),
        down=(*PUBLISHED.down, Conv(4, 2, 1, 512), Conv(3, 1, 1, 512)),
        dcgan=False,
    ),
}


class StandardGenerator(nn.Module):
    """z: [B, d] -> images [B, C, H, W] in [-1, 1]; linear, transposed convolutions, batch norm, ReLU, tanh."""

    def __init__(self, design: Design, image_channels: int, z_dim: int, width: float = 1.0):
        super().__init__()
        self.core = design.core
        channels = scaled(design.first, width)
        self.expand = nn.Linear(z_dim, channels * self.core**2)
        layers: list[nn.Module] = [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)] if design.normalised else []
        for up in design.up:
            out = scaled(up.channels, width)
            layers += [
                nn.ConvTranspose2d(channels, out, up.kernel, up.stride, up.padding, up.extra),
                nn.BatchNorm2d(out),
                nn.ReLU(inplace=True),
            ]
            channels = out
        layers += [nn.ConvTranspose2d(channels, image_channels, *design.last), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        if design.dcgan:
            self.layers.apply(dcgan_init)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.expand(z).unflatten(1, (-1, self.core, self.core)))


class StandardTrunk(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> features [B, `features`]; convolutions with offsets, LeakyReLU, no norm."""

    def __init__(self, design: Design, image_channels: int, width: float = 1.0):
        super().__init__()
        layers: list[nn.Module] = []
        channels = image_channels
        for conv in design.down:
            out = scaled(conv.channels, width)
            layers += [
                nn.Conv2d(channels, out, conv.kernel, conv.stride, conv.padding),
                nn.LeakyReLU(design.slope, inplace=True),
            ]
            channels = out
        self.layers = nn.Sequential(*layers, nn.Flatten())
        if design.dcgan:
            self.layers.apply(dcgan_init)
        self.features = channels * design.end**2

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class StandardCritic(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> one number per image [B], with no output non-linearity."""

    def __init__(self, design: Design, image_channels: int, width: float = 1.0):
        super().__init__()
        self.trunk = StandardTrunk(design, image_channels, width)
        self.head = nn.Linear(self.trunk.features, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).flatten().float()  # [B]


class StatisticsNetwork(nn.Module):
    """MEG's H: images x [B, C, H, W] in [-1, 1] and latents z, other [B, d] -> logits [B] of (x, z) and of (x, other).

    d linear features of x, computed once, meet each latent in two further layers.
    """

    def __init__(self, design: Design, image_channels: int, z_dim: int, width: float = 1.0):
        super().__init__()
        hidden = scaled(512, width)
        self.trunk = StandardTrunk(design, image_channels, width)
        self.expand = nn.Linear(self.trunk.features, z_dim)
        self.joint = nn.Sequential(
            nn.Linear(2 * z_dim, hidden), nn.LeakyReLU(design.slope, inplace=True), nn.Linear(hidden, 1)
        )

    def forward(self, x: Tensor, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        features = self.expand(self.trunk(x))
        logits = [self.joint(torch.cat([features, latent], dim=1)).flatten().float() for latent in (z, other)]
        return logits[0], logits[1]
