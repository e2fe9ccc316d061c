"""SNGAN: GAN with spectral normalisation of every layer of the discriminator, standard CNN, hinge loss.

Paper: Miyato, Kataoka, Koyama & Yoshida (ICLR 2018), Algorithm 1. Reference code: pfnet-research/
sngan_projection (residual networks) and chainer-gan-lib (standard CNN).
Objective, with scores a high on data: discriminator min E max(0, 1 - a(x)) + E max(0, 1 + a(x_fake)); generator
min -E a(x_fake). Every weight matrix [out, rest] of the discriminator is divided by its largest singular value sigma,
found by one power iteration per training pass; the gradient goes through sigma = u^T W v with u and v fixed.
Deviations: the discriminator moves first, both updates see the same images (chainer-gan-lib: the generator first).
Paper A's FID on CIFAR-10 (29.3) seems to be that of the standard CNN with the non-saturating loss.
Left open by paper A: which variant it trained for CelebA and LSUN-bedroom. Networks at 28 and 64 px are MEG's versions.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.convolutional import spectrally_normalised
from dtri.networks.standard_cnn import StandardCritic, StandardGenerator
from dtri.objectives.hinge import hinge_critic, hinge_generator


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 128  # chainer-gan-lib
    width: float = 1.0  # multiplies all channels; presets may lower it
    lr: float = 2e-4  # chainer-gan-lib, both networks
    beta1: float = 0.5  # chainer-gan-lib
    beta2: float = 0.999  # chainer-gan-lib


class SNGAN(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.generator = StandardGenerator(image_shape, h.z_dim, h.width)
        self.discriminator = spectrally_normalised(StandardCritic(image_shape, h.width))

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
            loss_d = hinge_critic(self.discriminator(x), self.discriminator(x_fake.detach()))
            self.descend("discriminator", loss_d)

        with self.only("generator"):
            loss_g = hinge_generator(self.discriminator(x_fake))
            self.descend("generator", loss_g)

        return {"loss_discriminator": loss_d.detach(), "loss_generator": loss_g.detach()}
