"""Convolutional generator and trunk shared by all systems, at 28, 32 and 64 pixels.

32 px: the official networks of paper B (generator 7,641,219, energy 1,709,761, encoder 4,392,840 parameters at full
width, 3 channels, d = 100). 64 px: DCGAN (Radford et al., 2016) and its mirror. 28 px: the papers publish no networks;
ours have two up- or downsampling layers around a 7x7 core.

`image_shape` is (C, H, W), `z_dim` is d, and `width` multiplies all channels (`scaled`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dtri.networks.initialisation import dcgan_init

LEAK = 0.2  # LeakyReLU slope of DCGAN and of both papers

IMAGE_SIDES = (28, 32, 64)


@dataclass(frozen=True)
class Conv:
    """One (transposed) convolution: kernel, stride, padding and output channels."""

    kernel: int
    stride: int
    padding: int
    channels: int


GENERATOR = {
    28: (Conv(7, 1, 0, 256), Conv(4, 2, 1, 128), Conv(4, 2, 1, 64)),
    32: (Conv(4, 1, 0, 512), Conv(4, 2, 1, 512), Conv(4, 2, 1, 256), Conv(4, 2, 1, 128)),
    64: (Conv(4, 1, 0, 512), Conv(4, 2, 1, 256), Conv(4, 2, 1, 128), Conv(4, 2, 1, 64)),
}
GENERATOR_LAST = {28: (3, 1, 1), 32: (3, 1, 1), 64: (4, 2, 1)}

TRUNK = {
    28: (Conv(4, 2, 1, 64), Conv(4, 2, 1, 128), Conv(3, 1, 1, 256)),
    32: (Conv(3, 1, 1, 64), Conv(4, 2, 1, 128), Conv(4, 2, 1, 256), Conv(4, 2, 1, 512)),
    64: (Conv(4, 2, 1, 64), Conv(4, 2, 1, 128), Conv(4, 2, 1, 256), Conv(4, 2, 1, 512)),
}
TRUNK_SIDE = {28: 7, 32: 4, 64: 4}


def image_side(image_shape: tuple[int, int, int]) -> int:
    """The side of square images; ValueError for other images and for unsupported sizes."""
    _, height, width = image_shape
    if height != width or height not in IMAGE_SIDES:
        raise ValueError(f"expected square images of side {IMAGE_SIDES}, found image_shape {tuple(image_shape)}")
    return height


def scaled(channels: int, width: float) -> int:
    """`channels` times the width multiplier, at least 8 so that no layer degenerates."""
    return max(8, round(channels * width))


class Generator(nn.Module):
    """z: [B, d] -> images [B, C, H, W] in [-1, 1]; transposed convolutions, batch norm, ReLU, tanh."""

    def __init__(self, image_shape: tuple[int, int, int], z_dim: int, width: float = 1.0):
        super().__init__()
        side = image_side(image_shape)
        layers: list[nn.Module] = []
        channels = z_dim
        for conv in GENERATOR[side]:
            out = scaled(conv.channels, width)
            layers += [
                nn.ConvTranspose2d(channels, out, conv.kernel, conv.stride, conv.padding, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(inplace=True),
            ]
            channels = out
        kernel, stride, padding = GENERATOR_LAST[side]
        layers += [nn.ConvTranspose2d(channels, image_shape[0], kernel, stride, padding, bias=side != 64), nn.Tanh()]
        self.layers = nn.Sequential(*layers).apply(dcgan_init)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z[:, :, None, None])


class Trunk(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> features [B, `channels`, `side`, `side`]; convolutions and LeakyReLU.

    Args:
        image_shape: (C, H, W).
        width:       multiplies all channels.
        batch_norm:  whether to normalise every layer but the first.
        last:        channels of the last layer at full width. At 32 px paper B's energy has 256, its encoder 512.
        bias:        whether convolutions have offsets.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        width: float = 1.0,
        batch_norm: bool = False,
        last: int | None = None,
        bias: bool = False,
    ):
        super().__init__()
        side = image_side(image_shape)
        convs = TRUNK[side]
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for i, conv in enumerate(convs):
            full = last if last is not None and i == len(convs) - 1 else conv.channels
            out = scaled(full, width)
            layers.append(nn.Conv2d(channels, out, conv.kernel, conv.stride, conv.padding, bias=bias))
            if batch_norm and i > 0:
                layers.append(nn.BatchNorm2d(out))
            layers.append(nn.LeakyReLU(LEAK, inplace=True))
            channels = out
        self.layers = nn.Sequential(*layers).apply(dcgan_init)
        self.channels = channels
        self.side = TRUNK_SIDE[side]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ImageCritic(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> one number per image [B], with no output non-linearity."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        width: float = 1.0,
        batch_norm: bool = False,
        last: int | None = None,
    ):
        super().__init__()
        self.trunk = Trunk(image_shape, width, batch_norm, last)
        self.head = nn.Conv2d(self.trunk.channels, 1, self.trunk.side).apply(dcgan_init)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).flatten().float()  # [B]


class GaussianEncoder(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> (mu, logvar), each [B, d]; logvar is log sigma^2, bounded by `logvar_range`."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        z_dim: int,
        width: float = 1.0,
        batch_norm: bool = False,
        logvar_range: tuple[float, float] | None = None,
    ):
        super().__init__()
        self.trunk = Trunk(image_shape, width, batch_norm)
        self.mu = nn.Conv2d(self.trunk.channels, z_dim, self.trunk.side).apply(dcgan_init)
        self.logvar = nn.Conv2d(self.trunk.channels, z_dim, self.trunk.side).apply(dcgan_init)
        self.logvar_range = logvar_range

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x)
        mu = self.mu(features).flatten(1).float()
        logvar = self.logvar(features).flatten(1).float()
        if self.logvar_range is not None:
            logvar = softly_bounded(logvar, *self.logvar_range)
        return mu, logvar


def softly_bounded(v: Tensor, low: float, high: float) -> Tensor:
    """v held between `low` and about `high` by a smooth clamp, whose gradient is positive everywhere.

    Chua et al. (2018, PETS) bound log variances like this. At a distance d inside a bound, v changes by
    log(1 + exp(-d)), .007 for d = 5. At a distance d outside, the gradient is about exp(-d).
    """
    v = high - softplus(high - v)
    return low + softplus(v - low)


def spectrally_normalised(module: nn.Module) -> nn.Module:
    """Put spectral normalisation (Miyato et al., 2018) on every convolution and linear layer of `module`."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            torch.nn.utils.parametrizations.spectral_norm(layer)
    return module
