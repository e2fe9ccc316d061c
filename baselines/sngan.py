"""SNGAN: GAN with spectral normalisation of every layer of the discriminator, standard CNN.

Paper: Miyato, Kataoka, Koyama & Yoshida (ICLR 2018), Algorithm 1. Reference code: the authors' laboratory's
pfnet-research/chainer-gan-lib (standard CNN) and sngan_projection (residual networks).
Objective, with scores a high on data:
    "softplus"  discriminator min E softplus(-a(x)) + E softplus(a(x_fake)); generator min E softplus(-a(x_fake))
    "hinge"     discriminator min E max(0, 1 - a(x)) + E max(0, 1 + a(x_fake)); generator min -E a(x_fake)
Every weight matrix [out, rest] of the discriminator is divided by its largest singular value sigma, which one power
iteration per training pass estimates. The gradient goes through sigma = u^T W v with u and v fixed.
Paper A prints an FID of 29.3 for CIFAR-10. It stands in Table 2 of Miyato et al. for the standard CNN with the softplus
loss (their Eqn 15). There the hinge loss has 25.5, and the residual networks with hinge 21.7. The authors do not say
which of six settings of the optimiser was best. Ours is their setting C with one discriminator update per step, as in
their Fig. 9 and in chainer-gan-lib (example.sh line 8).
Networks are from their Table 3. The networks of chainer-gan-lib (common/net.py lines 55-106 and 199-221) differ: batch
norm and ReLU behind the generator's linear layer, wider layers at each halving (64 to 128 already at the first one),
slope 0.2, latents uniform on (-1, 1). Initial weights are N(0, 0.02) as there, since the paper states none.
Deviations: the discriminator is updated first, and both updates see the same images. In chainer-gan-lib
(stdgan/updater.py lines 19-48) the generator comes first, with other images for each.
Left open by paper A: which variant it trained for CelebA and LSUN-bedroom. Left open by both: networks at 28 and 64 px,
see dtri/networks/standard_cnn.py.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks import standard_cnn
from dtri.networks.convolutional import image_side, spectrally_normalised
from dtri.networks.initialisation import dcgan_init
from dtri.networks.standard_cnn import StandardCritic, StandardGenerator
from dtri.objectives.adversarial import bce_critic, bce_generator
from dtri.objectives.hinge import hinge_critic, hinge_generator

LOSSES = {"softplus": (bce_critic, bce_generator), "hinge": (hinge_critic, hinge_generator)}


@dataclass(frozen=True)
class Hparams:
    loss: Literal["softplus", "hinge"] = "softplus"  # Table 2, the printed 29.3; "hinge" has 25.5 there
    z_dim: int = 128  # section 4
    width: float = 1.0  # multiplies all channels; presets may lower it
    lr: float = 2e-4  # Table 1, setting C, both networks
    beta1: float = 0.5  # Table 1, setting C
    beta2: float = 0.999  # Table 1, setting C


class SNGAN(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        if h.loss not in LOSSES:
            raise ValueError(f"expected loss 'softplus' or 'hinge', found {h.loss!r}")
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        design, channels = standard_cnn.SNGAN[image_side(image_shape)], image_shape[0]
        self.generator = StandardGenerator(design, channels, h.z_dim, h.width).apply(dcgan_init)
        critic = StandardCritic(design, channels, h.width).apply(dcgan_init)
        self.discriminator = spectrally_normalised(critic)

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
        critic_loss, generator_loss = LOSSES[self.h.loss]
        x_fake = self.generate(torch.randn(len(x), self.h.z_dim, device=x.device))

        with self.only("discriminator"):
            loss_d = critic_loss(self.discriminator(x), self.discriminator(x_fake.detach()))
            self.descend("discriminator", loss_d)

        with self.only("generator"):
            loss_g = generator_loss(self.discriminator(x_fake))
            self.descend("generator", loss_g)

        return {"loss_discriminator": loss_d.detach(), "loss_generator": loss_g.detach()}
