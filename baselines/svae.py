"""SVAE: symmetric variational auto-encoder (AS-VAE), both Kullback-Leibler divergences of the joint densities.

Paper: L. Chen, Dai, Pu, Zhou, Li, Su, C. Chen & Carin (AISTATS 2018). Reference code:
LiqunChen0606/Symmetric-VAE.
Objective, with logits a high on data pairs, z_x ~ N(mu(x), diag V(x)), x_fake = G(z), z_fake ~ its posterior:
    critic  min  E softplus(-a(x, z_x)) + E softplus(a(x_fake, z))
    maps    min  E a(x, z_x) - E a(x_fake, z) + lambda (mean|x - G(z_x)| + mean|z - z_fake|)
With the best critic a = log q - log p, the first two terms of the maps are KL(q || p) + KL(p || q).
The means are over all elements. The critic is updated first, `critic_steps` times on the same pairs, then the maps.
The reference code labels generated pairs 1: its logit is -a, low on data. It differs from ALICE's in the logits of the
maps' loss, lambda and the learning rate for CelebA.
Critic: a sum h(x) + k(z) that sees noise beside x and z (src/cifar_model.py, byte for byte ALICE's). Each kind of pair
is judged in its own call (src/cifar_R.py:111-112).
Deviations: other convolutions, similar to paper A's. The prior and the encoder are Gaussian, in place of a uniform
prior and of tanh and noise inputs to both maps. At evaluation, statistics of each batch are a variant, not the rule,
and the critic's noise is 0, where the code draws it.
Left open by papers A and B: everything; paper A cites "their optimal networks and hyper-parameters".
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.additive_critic import AdditiveCritic
from dtri.networks.batch_norm import untracked
from dtri.networks.convolutional import GaussianEncoder, Generator
from dtri.objectives import gaussian, pairs
from dtri.objectives.absolute import l1_mean
from dtri.objectives.adversarial import bce_critic


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 256  # reference code, CIFAR-10; 64 for CelebA
    width: float = 1.0  # multiplies all channels; presets may lower it
    lr: float = 1e-4  # reference code, all networks, CIFAR-10; 2e-4 for CelebA
    beta1: float = 0.5  # reference code
    beta2: float = 0.999  # reference code, its framework's default
    critic_steps: int = 1  # reference code, CIFAR-10; 2 for CelebA
    cycle_weight: float = 1.0  # lambda; reference code, CIFAR-10; 10 for CelebA


class SVAE(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.encoder = GaussianEncoder(image_shape, h.z_dim, h.width, batch_norm=True)
        self.critic = AdditiveCritic(image_shape, h.z_dim, h.width)

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
        """Logits [B] on (x, z_x) and on (x_fake, z), each kind by its own batch statistics (cifar_R.py:111-112)."""
        return self.critic(x, z_x), self.critic(x_fake, z)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        h = self.h
        z = torch.randn(len(x), h.z_dim, device=x.device)
        x_fake = self.generate(z)
        mu, logvar = self.encoder(x)
        z_x = gaussian.sample(mu, logvar)

        with self.only("critic"):
            for _ in range(h.critic_steps):
                loss_critic = bce_critic(*self.judge(x, z_x.detach(), x_fake.detach(), z))
                self.descend("critic", loss_critic)

        with self.only("maps"):
            a_real, a_fake = self.judge(x, z_x, x_fake, z)
            adversarial = pairs.logits(a_real, a_fake)
            cycle_x = l1_mean(x, self.generate(z_x))
            with untracked(self.encoder):
                cycle_z = l1_mean(z, gaussian.sample(*self.encoder(x_fake)))
            self.descend("maps", adversarial + h.cycle_weight * (cycle_x + cycle_z))

        return {
            "loss_critic": loss_critic.detach(),
            "adversarial": adversarial.detach(),
            "cycle_x": cycle_x.detach(),
            "cycle_z": cycle_z.detach(),
            "a_real": a_real.detach().mean(),
            "a_fake": a_fake.detach().mean(),
            "logvar": logvar.detach().mean(),
        }
