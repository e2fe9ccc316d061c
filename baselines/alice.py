"""ALICE: ALI with conditional-entropy regularisation, here cycle consistency of images and latents.

Paper: Li, Liu, Chen, Pu, Chen, Henao & Carin (NeurIPS 2017). Reference code: ChunyuanLI/ALICE.
Objective, with logits a high on data pairs, s the sigmoid, z_x ~ N(mu(x), diag V(x)), x_fake = G(z), z_fake ~ its
posterior:
    critic  min  E softplus(-a(x, z_x)) + E softplus(a(x_fake, z))
    maps    min  E s(a(x, z_x)) - E s(a(x_fake, z)) + lambda (mean|x - G(z_x)| + mean|z - z_fake|)
The means are over all elements. The critic is updated first, `critic_steps` times on the same pairs, then the maps.
The reference code labels generated pairs 1: its logit is -a, low on data. At lambda = 0 this is ALI up to the form of
the maps' adversarial term.
Critic: a sum h(x) + k(z) that sees noise beside x and z (cifar/cifar_model.py:29). Each kind of pair is judged in its
own call (cifar/cifar_R.py:112-113).
Deviations: other convolutions, similar to paper A's. The prior and the encoder are Gaussian, in place of a uniform
prior and of tanh and noise inputs to both maps. At evaluation, statistics of each batch are a variant, not the rule,
and the critic's noise is 0, where the code draws it.
Left open by papers A and B: lambda. Their numbers cannot have one lambda: in the authors' sweep on CIFAR-10 an
Inception Score of 6.02 belongs to lambda = 1e-6 (MSE 0.416), and an MSE of 0.034 to lambda = 10 or more (score below
2). Ours, 0.01, is the largest lambda of the sweep that costs little of the score (5.83, MSE 0.155). Larger ones
outweigh the maps' adversarial term, whose gradient vanishes where the critic is sure.
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
    lr: float = 1e-4  # reference code, all networks
    beta1: float = 0.5  # reference code
    beta2: float = 0.999  # reference code, its framework's default
    critic_steps: int = 1  # reference code, CIFAR-10; 2 for CelebA
    cycle_weight: float = 0.01  # lambda; chosen from the authors' sweep of 0 to 1000


class ALICE(Model):
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
        """Logits [B] on (x, z_x) and on (x_fake, z), each kind by its own batch statistics (cifar_R.py:112-113)."""
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
            adversarial = pairs.probabilities(a_real, a_fake)
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
