"""CEGAN: calibrated energy-based GAN, its generator's entropy bounded by variational inference ("EGAN-Ent-VI").

Paper: Dai, Almahairi, Bachman, Hovy & Courville (ICLR 2017). Reference code:
zihangdai/cegan_iclr2017. In paper B it is the part KL(P||Pi) - KL(Q||Pi) of the divergence triangle.
Objective, with a score s high on data and the energy U = softplus(-s) >= 0, or U = -s (`bounded` false):
    critic     min  E U(x) - E U(x_fake) + a (E s(x)^2 + E s(x_fake)^2) + b ||weights||^2
    generator  min  E U(x_fake) + r E[-log q(u | x_fake)] + b ||weights||^2
    encoder    min  r E[-log q(u | x_fake)]
The entropy of x_fake = G(u) is at least the entropy of u minus E[-log q(u | x_fake)]. So the generator seeks low
energies and, with weight r, a high entropy. The latents u are uniform on (-1, 1)^d; here u = 2 Phi(z) - 1 of a normal
z. All three gradients are taken at the same weights: the generator is updated first, the others by the images made
before.
The reference code's -log q takes one head h for log sigma in one term and for log sigma^2 in the other: sum h / 2 +
sum ((u - mu) / e^h)^2 / 2 (cifar10/conv_cifar10_energy_gan.py lines 275-278). With h = (log V + log 2) / 2 this is half
of our -log q plus d log 2 / 4, so its weight 0.1 is r = 0.05 here.
Deviations: networks similar to paper B's (LeakyReLU for ReLU, no batch norm on the first layer of critic and encoder,
batch norm of the generator's first layer per channel). On CelebA the reference code also lowers its weight from 0.5 to
0.1, by a tenth per epoch. After half of the epochs it lowers the learning rates likewise
(celebA/conv_celeba_energy_gan.py lines 69-75 and 379-392). Ours keeps r, and lowers the rates linearly as on CIFAR-10.
The encoder never sees data, so it is no map of this system.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.convolutional import GaussianEncoder, Generator, ImageCritic
from dtri.objectives import gaussian


@dataclass(frozen=True)
class Hparams:
    bounded: bool = True  # reference code, CIFAR-10: U = softplus(-s); CelebA: U = -s
    z_dim: int = 100  # reference code
    width: float = 1.0  # multiplies all channels; presets may lower it
    lr_critic: float = 2e-5  # reference code, CIFAR-10: a tenth of the others; CelebA: 2e-4
    lr_generator: float = 2e-4  # reference code
    lr_encoder: float = 2e-4  # reference code
    beta1: float = 0.5  # reference code
    beta2: float = 0.999  # reference code, its framework's default
    decay_from: int = 39_100  # reference code: 100 epochs of CIFAR-10 in batches of 128 ...
    decay_until: int = 78_200  # ... and 100 more, in which learning rates fall linearly to 0
    entropy_weight: float = 0.05  # r; half of the reference code's 0.1, see above
    score_weight: float = 0.01  # a; reference code
    weights_weight: float = 1e-5  # b; reference code, CIFAR-10; CelebA: 0
    clip_norm: float = 500.0  # reference code, CIFAR-10, each network by itself; CelebA: none, 0 here
    init_std: float = 0.02  # reference code, CIFAR-10, all layers; CelebA: 0.015


def uniform(z: Tensor) -> Tensor:
    """2 Phi(z) - 1, uniform on (-1, 1) for a standard normal z."""
    return torch.erf(z / math.sqrt(2.0))


class CEGAN(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.critic = ImageCritic(image_shape, h.width, batch_norm=True, last=256)
        self.encoder = GaussianEncoder(image_shape, h.z_dim, h.width, batch_norm=True)
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    layer.weight.mul_(h.init_std / 0.02)  # they were drawn with 0.02

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        h = self.h
        betas, decay = (h.beta1, h.beta2), 2 * h.weights_weight  # the gradient of b w^2 is 2 b w
        return {
            "generator": Adam(self.generator.parameters(), h.lr_generator, betas, weight_decay=decay),
            "critic": Adam(self.critic.parameters(), h.lr_critic, betas, weight_decay=decay),
            "encoder": Adam(self.encoder.parameters(), h.lr_encoder, betas),
        }

    def generate(self, z: Tensor) -> Tensor:
        return self.generator(uniform(z))

    def energy(self, x: Tensor) -> Tensor:
        return self.energy_of(self.critic(x))

    def energy_of(self, s: Tensor) -> Tensor:
        """U of scores s [B], which are high on data."""
        return softplus(-s) if self.h.bounded else -s

    def learning_rates(self, t: int) -> dict[str, float]:
        h = self.h
        left = min(1.0, max(0.0, (h.decay_until - t) / (h.decay_until - h.decay_from)))
        base = {"generator": h.lr_generator, "critic": h.lr_critic, "encoder": h.lr_encoder}
        return {name: left * lr for name, lr in base.items()}

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        h, clip_norm = self.h, self.h.clip_norm or None
        z = torch.randn(len(x), h.z_dim, device=x.device)
        u, x_fake = uniform(z), self.generate(z)

        with self.only("generator"):
            latent = gaussian.nll(u, *self.encoder(x_fake)).mean()
            self.descend("generator", self.energy(x_fake).mean() + h.entropy_weight * latent, clip_norm)

        with self.only("critic"):
            s_real, s_fake = self.critic(x), self.critic(x_fake.detach())
            u_real, u_fake = self.energy_of(s_real).mean(), self.energy_of(s_fake).mean()
            square = s_real.square().mean() + s_fake.square().mean()
            self.descend("critic", u_real - u_fake + h.score_weight * square, clip_norm)

        with self.only("encoder"):
            mu, logvar = self.encoder(x_fake.detach())
            self.descend("encoder", h.entropy_weight * gaussian.nll(u, mu, logvar).mean(), clip_norm)

        return {
            "energy_real": u_real.detach(),
            "energy_fake": u_fake.detach(),
            "score_square": square.detach(),
            "latent_nll": latent.detach(),
            "logvar": logvar.detach().mean(),
        }
