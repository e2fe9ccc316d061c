"""The "standard CNN" of SNGAN with MEG's versions of it: generator, critic, and MEG's critic of pairs.

32 px: Miyato et al. (ICLR 2018), taken over by Kumar et al. (2019, MEG). 28 and 64 px: MEG's released code for MNIST
and CelebA. Initial weights are those of MEG for MNIST: N(0, 0.02) in the generator, PyTorch's default in the others.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dtri.networks.convolutional import Conv, image_side, scaled
from dtri.networks.initialisation import dcgan_init


@dataclass(frozen=True)
class Up(Conv):
    """One transposed convolution; `extra` rows and columns are added at the end (output_padding)."""

    extra: int = 0


HALVING = tuple(conv for full in (64, 128, 256) for conv in (Conv(3, 1, 1, full), Conv(4, 2, 1, full)))
CRITIC = {
    28: tuple(Conv(5, 2, 2, full) for full in (64, 128, 256, 512)),
    32: (*HALVING, Conv(3, 1, 1, 512)),
    64: (*HALVING, Conv(3, 1, 1, 512), Conv(4, 2, 1, 512), Conv(3, 1, 1, 512)),
}
CORE = {28: 2, 32: 4, 64: 4}  # side of the critic's features and of the generator's first layer
SLOPE = {28: 0.2, 32: 0.1, 64: 0.1}  # of LeakyReLU

FIRST = 512  # channels of the generator's first layer
DOUBLING = tuple(Up(4, 2, 1, full) for full in (256, 128, 64))
GENERATOR = {
    28: (Up(5, 2, 2, 256, 1), Up(5, 2, 2, 128), Up(5, 2, 2, 64, 1)),
    32: DOUBLING,
    64: (Up(4, 2, 1, 512), *DOUBLING),
}
GENERATOR_LAST = {28: (5, 2, 2, 1), 32: (3, 1, 1, 0), 64: (3, 1, 1, 0)}  # kernel, stride, padding, extra


class StandardGenerator(nn.Module):
    """z: [B, d] -> images [B, C, H, W] in [-1, 1]; linear, transposed convolutions, batch norm, ReLU, tanh.

    The linear layer is neither normalised nor followed by ReLU, except at 28 px.
    """

    def __init__(self, image_shape: tuple[int, int, int], z_dim: int, width: float = 1.0):
        super().__init__()
        side = image_side(image_shape)
        self.core = CORE[side]
        channels = scaled(FIRST, width)
        self.expand = nn.Linear(z_dim, channels * self.core**2)
        layers: list[nn.Module] = [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)] if side == 28 else []
        for up in GENERATOR[side]:
            out = scaled(up.channels, width)
            layers += [
                nn.ConvTranspose2d(channels, out, up.kernel, up.stride, up.padding, up.extra),
                nn.BatchNorm2d(out),
                nn.ReLU(inplace=True),
            ]
            channels = out
        layers += [nn.ConvTranspose2d(channels, image_shape[0], *GENERATOR_LAST[side]), nn.Tanh()]
        self.layers = nn.Sequential(*layers).apply(dcgan_init)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.expand(z).unflatten(1, (-1, self.core, self.core)))


class StandardTrunk(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> features [B, `features`]; convolutions with offsets, LeakyReLU, no norm."""

    def __init__(self, image_shape: tuple[int, int, int], width: float = 1.0):
        super().__init__()
        side = image_side(image_shape)
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for conv in CRITIC[side]:
            out = scaled(conv.channels, width)
            layers += [
                nn.Conv2d(channels, out, conv.kernel, conv.stride, conv.padding),
                nn.LeakyReLU(SLOPE[side], inplace=True),
            ]
            channels = out
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.features = channels * CORE[side] ** 2

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class StandardCritic(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> one number per image [B], with no output non-linearity."""

    def __init__(self, image_shape: tuple[int, int, int], width: float = 1.0):
        super().__init__()
        self.trunk = StandardTrunk(image_shape, width)
        self.head = nn.Linear(self.trunk.features, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).flatten().float()  # [B]


class StatisticsNetwork(nn.Module):
    """MEG's H: images x [B, C, H, W] in [-1, 1] and latents [B, d] twice -> logits [B] of the pairs (x, z), (x, other).

    d linear features of x, computed once, meet each latent in two further layers.
    """

    def __init__(self, image_shape: tuple[int, int, int], z_dim: int, width: float = 1.0):
        super().__init__()
        hidden = scaled(512, width)
        self.trunk = StandardTrunk(image_shape, width)
        self.expand = nn.Linear(self.trunk.features, z_dim)
        self.joint = nn.Sequential(
            nn.Linear(2 * z_dim, hidden),
            nn.LeakyReLU(SLOPE[image_side(image_shape)], inplace=True),
            nn.Linear(hidden, 1),
        )

    def forward(self, x: Tensor, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        features = self.expand(self.trunk(x))
        logits = [self.joint(torch.cat([features, latent], dim=1)).flatten().float() for latent in (z, other)]
        return logits[0], logits[1]
