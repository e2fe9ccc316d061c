"""DCGAN: convolutional generative adversarial network with the non-saturating loss.

Paper: Radford, Metz & Chintala (ICLR 2016); Goodfellow et al. (NeurIPS 2014). Reference code: soumith/dcgan.torch.
Objective: discriminator min E softplus(-a(x)) + E softplus(a(x_fake)); generator min E softplus(-a(x_fake)).
Deviations: z is Gaussian (as in the reference code; the paper's is uniform). At 32 and 28 px the paper has no networks.
Ours are the divergence triangle's, with batch norm in the discriminator on all layers but the first. The generator step
evaluates the updated discriminator anew.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.convolutional import Generator, ImageCritic
from dtri.objectives.adversarial import bce_critic, bce_generator


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 100  # reference code, nz
    width: float = 1.0  # multiplies all channels; presets may lower it
    lr: float = 2e-4  # section 3, both networks
    beta1: float = 0.5  # section 3
    beta2: float = 0.999  # reference code


class DCGAN(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.discriminator = ImageCritic(image_shape, h.width, batch_norm=True)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        h = self.h
        betas = (h.beta1, h.beta2)
        return {
            "discriminator": Adam(self.discriminator.parameters(), h.lr, betas),
            "generator": Adam(self.generator.parameters(), h.lr, betas),
        }

    def generate(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        x_fake = self.generate(torch.randn(len(x), self.h.z_dim, device=x.device))

        with self.only("discriminator"):
            loss_d = bce_critic(self.discriminator(x), self.discriminator(x_fake.detach()))
            self.descend("discriminator", loss_d)

        with self.only("generator"):
            loss_g = bce_generator(self.discriminator(x_fake))
            self.descend("generator", loss_g)

        return {"loss_discriminator": loss_d.detach(), "loss_generator": loss_g.detach()}
