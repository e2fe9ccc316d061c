"""Generator and trunk that grow from about 4 pixels by doubling, for layer-wise training up to 1024 pixels.

The structure is from progressive GANs (Karras et al., 2018; ProGAN). In their code the channels at side S are
2 base / S, at most 512, with a base of 8192. Paper B (section 4.1.3) only states the 1x1 convolutions between colours
and features, and that there is no minibatch discrimination. A level is the number of doublings since the smallest side.
The smallest side is the image's side, halved as long as at least 4 pixels remain: 4 for 32, 64, ..., 1024 pixels, 7 for
28.

Weights are N(0, 1), multiplied by He's constant whenever they are used ("equalised learning rate"): Adam then changes
all layers equally fast, whatever their width. The generator normalises each pixel's feature vector after every layer.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, leaky_relu, linear

from dtri.networks.convolutional import LEAK, scaled

LEAST_SIDE = 4
MOST_CHANNELS = 512
BASE = 8192
STABILITY = 1e-8  # added to the mean square of a pixel's features, as in ProGAN


def sides(image_shape: tuple[int, int, int]) -> list[int]:
    """Sides of all levels, the smallest first; ValueError where images are not square or cannot be halved once."""
    _, height, width = image_shape
    found = [height]
    while found[0] % 2 == 0 and found[0] // 2 >= LEAST_SIDE:
        found.insert(0, found[0] // 2)
    if height != width or len(found) < 2:
        raise ValueError(f"expected square images of a side such as 28, 32, 64, ..., 1024, found {tuple(image_shape)}")
    return found


def channels(image_shape: tuple[int, int, int], base: int, width: float) -> list[int]:
    """Feature channels of all levels, the smallest side first."""
    return [scaled(min(MOST_CHANNELS, 2 * base // side), width) for side in sides(image_shape)]


def up(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 2H, 2W], each pixel repeated four times."""
    return interpolate(x, scale_factor=2, mode="nearest")


def down(x: Tensor, factor: int = 2) -> Tensor:
    """[B, C, H, W] -> [B, C, H / factor, W / factor], means over squares."""
    return avg_pool2d(x, factor) if factor > 1 else x


def cross_fade(old: Tensor, new: Tensor, alpha: Tensor | None) -> Tensor:
    """(1 - alpha) old + alpha new, exact at both ends; `new` where alpha is None."""
    return new if alpha is None else torch.lerp(old, new, alpha.to(new.dtype))


def normalise_pixels(x: Tensor) -> Tensor:
    """[B, C, ...] -> the same shape, with a mean square of 1 over C at each pixel."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + STABILITY)


class Dense(nn.Module):
    """[B, n] -> [B, out]."""

    def __init__(self, n: int, out: int, gain: float = math.sqrt(2)):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, n))
        self.bias = nn.Parameter(torch.zeros(out))
        self.scale = gain / math.sqrt(n)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight * self.scale, self.bias)


class Conv(nn.Module):
    """[B, n, H, W] -> [B, out, H, W], zero padding."""

    def __init__(self, n: int, out: int, kernel: int, gain: float = math.sqrt(2)):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, n, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out))
        self.scale = gain / math.sqrt(n * kernel * kernel)
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class GrowingGenerator(nn.Module):
    """z: [B, d], level -> images [B, C, S, S] in [-1, 1] with S = sides[level]."""

    def __init__(self, image_shape: tuple[int, int, int], z_dim: int, base: int = BASE, width: float = 1.0):
        super().__init__()
        self.sides = sides(image_shape)
        counts = channels(image_shape, base, width)
        self.first = Dense(z_dim, counts[0] * self.sides[0] ** 2)
        self.blocks = nn.ModuleList([nn.ModuleList([Conv(counts[0], counts[0], 3)])])
        for n, out in pairwise(counts):
            self.blocks.append(nn.ModuleList([Conv(n, out, 3), Conv(out, out, 3)]))
        self.to_rgb = nn.ModuleList(Conv(n, image_shape[0], 1, gain=1.0) for n in counts)

    def forward(self, z: Tensor, level: int, alpha: Tensor | None = None) -> Tensor:
        """The image of `level`. `alpha` in [0, 1], a scalar tensor, fades it in over the image of the level below."""
        h = self.first(z).unflatten(1, (-1, self.sides[0], self.sides[0]))
        h = below = self._block(0, normalise_pixels(leaky_relu(h, LEAK)))
        for k in range(1, level + 1):
            below, h = h, self._block(k, up(h))
        rgb = self.to_rgb[level](h)
        if alpha is not None:
            rgb = cross_fade(up(self.to_rgb[level - 1](below)), rgb, alpha)
        return torch.tanh(rgb)

    def _block(self, k: int, h: Tensor) -> Tensor:
        for conv in self.blocks[k]:
            h = normalise_pixels(leaky_relu(conv(h), LEAK))
        return h


class GrowingTrunk(nn.Module):
    """Images [B, C, S, S] in [-1, 1] of a level -> features [B, `channels`]: the generator's mirror, unnormalised."""

    def __init__(self, image_shape: tuple[int, int, int], base: int = BASE, width: float = 1.0):
        super().__init__()
        self.sides = sides(image_shape)
        counts = channels(image_shape, base, width)
        self.from_rgb = nn.ModuleList(Conv(image_shape[0], n, 1) for n in counts)
        self.blocks = nn.ModuleList([nn.ModuleList([Conv(counts[0], counts[0], 3)])])
        for out, n in pairwise(counts):
            self.blocks.append(nn.ModuleList([Conv(n, n, 3), Conv(n, out, 3)]))
        self.last = Dense(counts[0] * self.sides[0] ** 2, counts[0])
        self.channels = counts[0]

    def forward(self, x: Tensor, level: int, alpha: Tensor | None = None) -> Tensor:
        h = self._from_rgb(x, level)
        for k in range(level, 0, -1):
            h = down(self._block(k, h))
            if k == level and alpha is not None:
                h = cross_fade(self._from_rgb(down(x), level - 1), h, alpha)
        return leaky_relu(self.last(self._block(0, h).flatten(1)), LEAK)

    def _from_rgb(self, x: Tensor, level: int) -> Tensor:
        return leaky_relu(self.from_rgb[level](x), LEAK)

    def _block(self, k: int, h: Tensor) -> Tensor:
        for conv in self.blocks[k]:
            h = leaky_relu(conv(h), LEAK)
        return h


class GrowingCritic(nn.Module):
    """Images [B, C, S, S] of a level -> one number per image [B], with no output non-linearity."""

    def __init__(self, image_shape: tuple[int, int, int], base: int = BASE, width: float = 1.0):
        super().__init__()
        self.trunk = GrowingTrunk(image_shape, base, width)
        self.head = Dense(self.trunk.channels, 1, gain=1.0)

    def forward(self, x: Tensor, level: int, alpha: Tensor | None = None) -> Tensor:
        return self.head(self.trunk(x, level, alpha)).flatten().float()  # [B]


class GrowingEncoder(nn.Module):
    """Images [B, C, S, S] of a level -> (mu, logvar), each [B, d]; logvar is log sigma^2."""

    def __init__(self, image_shape: tuple[int, int, int], z_dim: int, base: int = BASE, width: float = 1.0):
        super().__init__()
        self.trunk = GrowingTrunk(image_shape, base, width)
        self.mu = Dense(self.trunk.channels, z_dim, gain=1.0)
        self.logvar = Dense(self.trunk.channels, z_dim, gain=1.0)

    def forward(self, x: Tensor, level: int, alpha: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = self.trunk(x, level, alpha)
        return self.mu(h).float(), self.logvar(h).float()
