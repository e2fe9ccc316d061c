"""WGAN: Wasserstein GAN with weight clipping, and WGAN-GP, its variant with a gradient penalty.

Paper: Arjovsky, Chintala & Bottou (ICML 2017), Algorithm 1; reference code: martinarjovsky/WassersteinGAN. "penalty":
Gulrajani, Ahmed, Arjovsky, Dumoulin & Courville (NeurIPS 2017), Algorithm 1.
Objective, with a critic f high on data (the reference code's is low):
    critic     min  E f(x_fake) - E f(x),                      all weights cut to [-c, c] afterwards       ("clip")
               min  E f(x_fake) - E f(x) + lambda E (||grad f(x_hat)|| - 1)^2                           ("penalty")
    generator  min  -E f(x_fake)
One step is one critic update, with new images and latents; after every n_critic-th update the generator follows. So a
generator iteration of the papers is n_critic steps. "clip" has RMSProp, and batch norm in the critic, whose gains are
cut to c as well. "penalty" has Adam and no batch norm in the critic.
Deviations: networks at 32 and 28 px are the divergence triangle's (the reference code has one layer less). The
reference code cuts weights before the gradient, Algorithm 1 and ours after the update. The code gives the critic 100
updates in the first 25 and every 500th generator iteration, which Algorithm 1 does not. WGAN-GP's paper has residual
networks for CIFAR-10.
Left open by papers A and B: which of the two they quote; A's FID on CIFAR-10 fits "penalty" (see table 1's notes).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, RMSprop

from dtri.model import Model
from dtri.networks.convolutional import Generator, ImageCritic
from dtri.objectives import gradient_penalty


@dataclass(frozen=True)
class Hparams:
    lipschitz: Literal["clip", "penalty"] = "clip"  # how f is kept Lipschitz: "clip" (WGAN) or "penalty" (WGAN-GP)
    z_dim: int = 100  # reference code, nz
    width: float = 1.0  # multiplies all channels; presets may lower it
    lr: float = 5e-5  # Algorithm 1, both networks; WGAN-GP: 1e-4
    clip: float = 0.01  # Algorithm 1, c; "clip" only
    penalty_weight: float = 10.0  # WGAN-GP Algorithm 1, lambda; "penalty" only
    beta1: float = 0.0  # WGAN-GP Algorithm 1; "penalty" only
    beta2: float = 0.9  # WGAN-GP Algorithm 1; "penalty" only
    n_critic: int = 5  # Algorithm 1 of both


class WGAN(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        if h.lipschitz not in ("clip", "penalty"):
            raise ValueError(f"expected lipschitz 'clip' (WGAN) or 'penalty' (WGAN-GP), found {h.lipschitz!r}")
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.critic = ImageCritic(image_shape, h.width, batch_norm=h.lipschitz == "clip")

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        return {
            "critic": self._optimizer(self.critic.parameters()),
            "generator": self._optimizer(self.generator.parameters()),
        }

    def _optimizer(self, params: Iterable[nn.Parameter]) -> Optimizer:
        h = self.h
        return RMSprop(params, h.lr) if h.lipschitz == "clip" else Adam(params, h.lr, (h.beta1, h.beta2))

    def generate(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def phase(self, t: int) -> bool:
        """Whether the generator is updated at t."""
        return t % self.h.n_critic == self.h.n_critic - 1

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        h = self.h
        with torch.no_grad():
            x_fake = self.generate(torch.randn(len(x), h.z_dim, device=x.device))
        with self.only("critic"):
            f_real, f_fake = self.critic(x).mean(), self.critic(x_fake).mean()
            terms = {"f_real": f_real, "f_fake": f_fake}
            loss = f_fake - f_real
            if h.lipschitz == "penalty":
                terms["penalty"] = gradient_penalty.interpolated(self.critic, x, x_fake)
                loss = loss + h.penalty_weight * terms["penalty"]
            self.descend("critic", loss)
        if h.lipschitz == "clip":
            with torch.no_grad():
                for p in self.critic.parameters():
                    p.clamp_(-h.clip, h.clip)

        if self.phase(t):
            with self.only("generator"):
                x_fake = self.generate(torch.randn(len(x), h.z_dim, device=x.device))
                self.descend("generator", -self.critic(x_fake).mean())

        return {name: term.detach() for name, term in terms.items()}
