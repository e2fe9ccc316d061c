"""Joint critic f(x, z): branches for image and latent, concatenated, then non-linear layers.

Paper A sections 3.5 and 5: "multiple layers of convolution to transform x and z, then concatenate at the higher layer",
with spectral normalisation. The paper does not state the widths, the number of layers and which of them are normalised.
docs/deviations.md lists our choices.
"""

import torch
from torch import Tensor, nn

from dtri.networks.convolutional import LEAK, Trunk, scaled, spectrally_normalised
from dtri.networks.initialisation import dcgan_init


class JointCritic(nn.Module):
    """(x: [B, C, H, W] in [-1, 1], z: [B, d]) -> f: [B], one number per pair.

    Args:
        image_shape: (C, H, W).
        z_dim: d.
        width: multiplies all channels and hidden units.
        z_layers: number of activated linear layers that transform z before the concatenation; 0 concatenates z itself.
        spectral_norm_last: whether the last layer is spectrally normalised too; without, the scale of f is learned.
        spectral_norm: whether all other layers are spectrally normalised; not in the discriminators of the baselines.
        batch_norm: whether the convolutions except the first have batch norm.
        dropout: rate of dropout behind the convolutions and every hidden linear layer.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        z_dim: int,
        width: float = 1.0,
        z_layers: int = 2,
        spectral_norm_last: bool = False,
        spectral_norm: bool = True,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        hidden = scaled(512, width)
        drop = [nn.Dropout(dropout)] if dropout else []  # stateless, like LeakyReLU: one instance serves everywhere
        activation = [nn.LeakyReLU(LEAK), *drop]
        self.trunk = Trunk(image_shape, width, batch_norm, bias=not batch_norm)
        self.x_branch = nn.Sequential(
            nn.Flatten(), *drop, nn.Linear(self.trunk.channels * self.trunk.side**2, hidden), *activation
        )
        z_branch: list[nn.Module] = []
        z_out = z_dim
        for _ in range(z_layers):
            z_branch += [nn.Linear(z_out, hidden), *activation]
            z_out = hidden
        self.z_branch = nn.Sequential(*z_branch)
        self.joint = nn.Sequential(
            nn.Linear(hidden + z_out, 2 * hidden), *activation, nn.Linear(2 * hidden, hidden), *activation
        )
        self.head = nn.Linear(hidden, 1)
        self.apply(dcgan_init)
        if spectral_norm:
            for part in (self.trunk, self.x_branch, self.z_branch, self.joint):
                spectrally_normalised(part)
        if spectral_norm_last:
            spectrally_normalised(self.head)

    def features(self, x: Tensor, z: Tensor) -> Tensor:
        """The last hidden layer: [B, hidden]."""
        return self.joint(torch.cat([self.x_branch(self.trunk(x)), self.z_branch(z)], dim=1))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.head(self.features(x, z)).flatten().float()  # [B]

    @torch.no_grad()
    def exchanged(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """f(x, z) and f(x, z'), [B] each, z' the latents of another image: how much f uses z. Updates no buffer."""
        training = self.training
        self.eval()
        h_x = self.x_branch(self.trunk(x)).repeat(2, 1)
        h_z = self.z_branch(torch.cat([z, z.roll(1, 0)]))
        f, f_other = self.head(self.joint(torch.cat([h_x, h_z], dim=1))).flatten().float().chunk(2)
        self.train(training)
        return f, f_other
