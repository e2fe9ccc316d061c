"""ALI: adversarially learned inference, a critic of pairs (image, latent).

Paper: Dumoulin, Belghazi, Poole, Mastropietro, Lamb, Arjovsky & Courville (ICLR 2017), Algorithm 1. Reference code:
IshmaelBelghazi/ALI.
Objective, with logits a high on data pairs, z_x ~ N(mu(x), diag V(x)) and x_fake = G(z):
    critic  min  E softplus(-a(x, z_x)) + E softplus(a(x_fake, z))
    maps    min  E softplus(a(x, z_x)) + E softplus(-a(x_fake, z))          (encoder and generator, labels swapped)
The reference code takes both gradients at the same weights and applies them together. So does the step here: the maps
are updated first, then the critic, by the pairs that the maps made before their update.
Deviations: networks similar to paper A's, weights N(0, 0.02) and dropout at one rate, in place of the paper's own (no
padding, maxout, 0.2 to 0.5); images in [-1, 1], tanh. The masks of dropout differ between the two updates.
Left open by papers A and B: everything; both quote numbers of ALI's paper.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.convolutional import GaussianEncoder, Generator
from dtri.networks.joint_critic import JointCritic
from dtri.objectives import gaussian, pairs
from dtri.objectives.adversarial import bce_critic


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 64  # paper, CIFAR-10; 256 for CelebA
    width: float = 1.0  # multiplies all channels; presets may lower it
    lr: float = 1e-4  # paper, all networks
    beta1: float = 0.5  # paper
    beta2: float = 0.999  # paper ("10^-3" in the convention of its framework, 1 - beta2)
    critic_batch_norm: bool = False  # reference code, CIFAR-10; true for CelebA
    dropout: float = 0.2  # reference code, all critic layers for CelebA; CIFAR-10: 0.2 on inputs, 0.5 deeper


class ALI(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.encoder = GaussianEncoder(image_shape, h.z_dim, h.width, batch_norm=True)
        self.critic = JointCritic(
            image_shape,
            h.z_dim,
            h.width,
            spectral_norm=False,
            batch_norm=h.critic_batch_norm,
            dropout=h.dropout,
        )

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        h = self.h
        betas = (h.beta1, h.beta2)
        return {
            "critic": Adam(self.critic.parameters(), h.lr, betas),
            "maps": Adam([*self.encoder.parameters(), *self.generator.parameters()], h.lr, betas),
        }

    def generate(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def infer(self, x: Tensor) -> Tensor:
        return self.encoder(x)[0]

    def energy(self, x: Tensor) -> Tensor:
        """-a(x, mu(x)): the critic is trained to be high on data pairs. This is not a density of x."""
        return -self.critic(x, self.infer(x))

    def judge(self, x: Tensor, z_x: Tensor, x_fake: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B] on (x, z_x) and on (x_fake, z), judged as one batch (ali/bricks.py:45-49)."""
        a_real, a_fake = self.critic(torch.cat([x, x_fake]), torch.cat([z_x, z])).chunk(2)
        return a_real, a_fake

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        z = torch.randn(len(x), self.h.z_dim, device=x.device)
        x_fake = self.generate(z)
        mu, logvar = self.encoder(x)
        z_x = gaussian.sample(mu, logvar)

        with self.only("maps"):
            a_real, a_fake = self.judge(x, z_x, x_fake, z)
            loss_maps = pairs.swapped_labels(a_real, a_fake)
            self.descend("maps", loss_maps)

        with self.only("critic"):
            loss_critic = bce_critic(*self.judge(x, z_x.detach(), x_fake.detach(), z))
            self.descend("critic", loss_critic)

        return {
            "loss_critic": loss_critic.detach(),
            "loss_maps": loss_maps.detach(),
            "a_real": a_real.detach().mean(),
            "a_fake": a_fake.detach().mean(),
            "logvar": logvar.detach().mean(),
        }
