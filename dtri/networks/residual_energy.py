"""Energy networks of Du & Mordatch (2019), as their code has them, with spectral normalisation throughout.

32 px: its `ResNet32Large`. 28 px: its `MnistNet`. 64 px: not published; ours is the network for 32 px, with one more
block that halves the image.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization

from dtri.networks.convolutional import LEAK, image_side, scaled

# (channels, whether the block halves the image); at 64 px the second block halves it as well
BLOCKS = (
    *((128, True), (128, False), (128, False)),
    *((256, True), (256, False), (256, False)),
    *((512, True), (512, False), (512, False)),
)
TINY = 1e-10  # initial weights of a block's last convolution, so that the block first passes its input on


class CappedNorm(nn.Module):
    """Parametrisation w / max(1, sigma(w)); each use in training takes one power iteration for the singular value."""

    u: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("u", normalize(torch.randn(len(weight)), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        rows = weight.flatten(1)
        with torch.no_grad():
            v = normalize(rows.T @ self.u, dim=0)
            u = normalize(rows @ v, dim=0)
            if self.training:
                self.u.copy_(u)
        return weight / (u @ rows @ v).clamp(min=1.0)


def conv(channels: int, out: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Module:
    """Convolution without bias; its weights are N(0, 1) before spectral normalisation."""
    layer = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
    nn.init.normal_(layer.weight)
    return spectral_norm(layer)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, average pooling of their sum where the image is halved, LeakyReLU.

    The inputs of both convolutions have learned offsets, and the output of the second one a learned gain.
    """

    def __init__(self, channels: int, out: int, halve: bool, dropout: float):
        super().__init__()
        self.offset1 = nn.Parameter(torch.zeros(channels, 1, 1))
        self.conv1 = conv(channels, out)
        self.dropout = nn.Dropout(dropout)
        self.offset2 = nn.Parameter(torch.zeros(out, 1, 1))
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        nn.init.normal_(self.conv2.weight, 0.0, TINY)
        register_parametrization(self.conv2, "weight", CappedNorm(self.conv2.weight))
        self.gain = nn.Parameter(torch.ones(out, 1, 1))
        self.shortcut = nn.Identity() if channels == out else conv(channels, out)
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()
        self.activation = nn.LeakyReLU(LEAK)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.dropout(self.conv1(x + self.offset1)))
        residual = self.gain * self.conv2(hidden + self.offset2)
        return self.activation(self.pool(residual + self.shortcut(x)))


class ResidualEnergy(nn.Module):
    """Images [B, C, H, W] in [0, 1], 32 or 64 px -> energies [B]; `dropout` within every block, in training only."""

    def __init__(self, image_shape: tuple[int, int, int], width: float = 1.0, dropout: float = 0.5):
        super().__init__()
        channels = scaled(BLOCKS[0][0], width)
        self.first = nn.Sequential(conv(image_shape[0], channels), nn.LeakyReLU(LEAK))
        blocks: list[nn.Module] = []
        for i, (full, halve) in enumerate(BLOCKS):
            out = scaled(full, width)
            blocks.append(Block(channels, out, halve or (i == 1 and image_side(image_shape) == 64), dropout))
            channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, 1)
        _init_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        features = self.blocks(self.first(x)).relu().sum((2, 3))
        return self.head(features).flatten().float()  # [B]


class PlainEnergy(nn.Module):
    """Images [B, C, 28, 28] in [0, 1] -> energies [B]."""

    def __init__(self, image_shape: tuple[int, int, int], width: float = 1.0):
        super().__init__()
        a, b, c = (scaled(full, width) for full in (64, 128, 256))
        hidden = nn.Linear(4 * 4 * c, b)
        nn.init.normal_(hidden.weight)
        nn.init.zeros_(hidden.bias)
        self.layers = nn.Sequential(
            *(conv(image_shape[0], a), nn.LeakyReLU(LEAK)),
            *(conv(a, a, 4, 2, 1), nn.LeakyReLU(LEAK)),
            *(conv(a, b, 4, 2, 1), nn.LeakyReLU(LEAK)),
            *(conv(b, c, 4, 2, 2), nn.LeakyReLU(LEAK), nn.Flatten()),
            *(spectral_norm(hidden), nn.LeakyReLU(LEAK)),
        )
        self.head = nn.Linear(b, 1)
        _init_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x)).flatten().float()  # [B]


def _init_head(head: nn.Linear) -> None:
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)


def energy_network(image_shape: tuple[int, int, int], width: float, dropout: float) -> nn.Module:
    """The network for images of this size. Its output is the energy, whatever training makes it mean."""
    if image_side(image_shape) == 28:
        return PlainEnergy(image_shape, width)
    return ResidualEnergy(image_shape, width, dropout)
