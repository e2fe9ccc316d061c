"""Additive critic h(x) + k(z), as in the released codes of ALICE and SVAE: image and latent meet in one sum.

ChunyuanLI/ALICE, cifar/cifar_model.py:29-59 (`discriminator`); LiqunChen0606/Symmetric-VAE has the same file. The last
linear layer takes the features of x beside the features of z, which is a sum. The critic also sees noise beside x and
z. Every convolution has batch norm, and only the last linear layer follows the convolutions.
"""

import torch
from torch import Tensor, nn

from dtri.networks.convolutional import LEAK, TRUNK, TRUNK_SIDE, image_side, scaled
from dtri.networks.initialisation import dcgan_init

NOISE_DIM = 20  # numbers of noise beside z
HIDDEN = 2048  # units of k's hidden layer


class AdditiveCritic(nn.Module):
    """(x: [B, C, H, W] in [-1, 1], z: [B, d]) -> logits [B].

    In training, every call draws one channel beside x and `NOISE_DIM` numbers beside z from U(-1, 1). At evaluation
    they are 0, their mean, so that scores are deterministic; the released code draws there as well. The convolutions
    are those in `Trunk`, and weights start from N(0, 0.02). The code's Xavier initialisation gives its layers standard
    deviations of 0.010 to 0.034 at full width.
    """

    def __init__(self, image_shape: tuple[int, int, int], z_dim: int, width: float = 1.0):
        super().__init__()
        side = image_side(image_shape)
        layers: list[nn.Module] = []
        channels = image_shape[0] + 1
        for conv in TRUNK[side]:
            out = scaled(conv.channels, width)
            layers += [
                nn.Conv2d(channels, out, conv.kernel, conv.stride, conv.padding, bias=False),
                nn.BatchNorm2d(out),
                nn.LeakyReLU(LEAK),
            ]
            channels = out
        self.h = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * TRUNK_SIDE[side] ** 2, 1))
        hidden = scaled(HIDDEN, width)
        self.k = nn.Sequential(
            nn.Linear(z_dim + NOISE_DIM, hidden), nn.LeakyReLU(LEAK), nn.Linear(hidden, 1, bias=False)
        )
        self.apply(dcgan_init)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        x = torch.cat([x, self.noise(x[:, :1])], dim=1)
        z = torch.cat([z, self.noise(z.new_empty(len(z), NOISE_DIM))], dim=1)
        return (self.h(x) + self.k(z)).flatten().float()

    def noise(self, like: Tensor) -> Tensor:
        """U(-1, 1) in the shape of `like` in training, zeros at evaluation."""
        return torch.empty_like(like).uniform_(-1, 1) if self.training else torch.zeros_like(like)
