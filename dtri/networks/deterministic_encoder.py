"""Encoder without a distribution: one latent per image."""

from torch import Tensor, nn

from dtri.networks.convolutional import Trunk
from dtri.networks.initialisation import dcgan_init


class DeterministicEncoder(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> z: [B, d], unbounded; the mirror of the generator, without a posterior."""

    def __init__(self, image_shape: tuple[int, int, int], z_dim: int, width: float = 1.0, batch_norm: bool = False):
        super().__init__()
        self.trunk = Trunk(image_shape, width, batch_norm)
        self.head = nn.Conv2d(self.trunk.channels, z_dim, self.trunk.side).apply(dcgan_init)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).flatten(1).float()
