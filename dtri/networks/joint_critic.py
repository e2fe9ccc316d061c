"""Joint critic f(x, z): branches for image and latent, concatenated, then non-linear layers.

Paper A sections 3.5 and 5: "multiple layers of convolution to transform x and z, then concatenate at the higher layer",
with spectral normalisation. Widths, the number of layers and which of them are normalised are not stated: ours are
listed in docs/deviations.md.
"""

import torch
from torch import Tensor, nn

from dtri.networks.convolutional import LEAK, Trunk, scaled, spectrally_normalised
from dtri.networks.initialisation import dcgan_init


class JointCritic(nn.Module):
    """(x: [B, C, H, W] in [-1, 1], z: [B, d]) -> f: [B], one number per pair.

    `z_layers` linear layers transform z before the concatenation (0 concatenates z itself). Every layer is spectrally
    normalised, the last one only with `spectral_norm_last`: without, the scale of f is learned.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        z_dim: int,
        width: float = 1.0,
        z_layers: int = 2,
        spectral_norm_last: bool = False,
    ):
        super().__init__()
        hidden = scaled(512, width)
        self.trunk = Trunk(image_shape, width, bias=True)
        self.x_branch = nn.Sequential(
            nn.Flatten(), nn.Linear(self.trunk.channels * self.trunk.side**2, hidden), nn.LeakyReLU(LEAK)
        )
        z_branch: list[nn.Module] = []
        z_out = z_dim
        for _ in range(z_layers):
            z_branch += [nn.Linear(z_out, hidden), nn.LeakyReLU(LEAK)]
            z_out = hidden
        self.z_branch = nn.Sequential(*z_branch[:-1]) if z_layers else nn.Identity()
        self.joint = nn.Sequential(
            nn.Linear(hidden + z_out, 2 * hidden),
            nn.LeakyReLU(LEAK),
            nn.Linear(2 * hidden, hidden),
            nn.LeakyReLU(LEAK),
        )
        self.head = nn.Linear(hidden, 1)
        self.apply(dcgan_init)
        for part in (self.trunk, self.x_branch, self.z_branch, self.joint):
            spectrally_normalised(part)
        if spectral_norm_last:
            spectrally_normalised(self.head)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        pair = torch.cat([self.x_branch(self.trunk(x)), self.z_branch(z)], dim=1)
        return self.head(self.joint(pair)).flatten().float()  # [B]
