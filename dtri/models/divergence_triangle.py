"""Divergence triangle: joint training of generator, energy-based model and inference model.

Paper: Han, Nijkamp, Fang, Hill, Zhu & Wu (CVPR 2019), "paper B", Eqn 13; constants of the authors' CIFAR-10 script.
Objective: max_alpha min_theta min_phi  KL(Q||P) + KL(P||Pi) - KL(Q||Pi) with
Q = q_data(x) q_phi(z|x), P = p(z) p_theta(x|z), Pi = pi_alpha(x) q_phi(z|x), pi_alpha ∝ exp(-U).
    energy     min  E U(x) - E U(x_fake)
    encoder    min  E SSE(x, g(z_x)) + KL / d + 0.1 E[-log q(z | x_fake)]
    generator  min  E SSE(x, g(z_x)) + E U(x_fake) + 0.1 E[-log q(z | x_fake)]
One z and one x_fake = g(z) serve all three updates. z_x is drawn again after the encoder's update. Each of several
generator steps draws z_x anew, and computes x_fake anew from the same z.
Deviations: none from the script. The script deviates from the paper's text: weight decay and batch norm are in the
generator only, -log q(z | x_fake) has weight 0.1, and KL is divided by d (an ELBO with decoder variance 0.005 times
0.01). On large datasets (section 4.1.2) the paper doubles the channels and normalises batches in all three networks:
`width: 2, batch_norm: true`, which normalises every layer but the first of the energy and inference networks.
Left open: networks at 28 and 64 px (64: DCGAN and mirror encoder without batch norm; 28: ours).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.batch_norm import untracked
from dtri.networks.convolutional import GaussianEncoder, Generator, ImageCritic, image_side
from dtri.objectives import gaussian
from dtri.objectives.reconstruction import sse
from dtri.objectives.schedules import exponential


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 100  # script, nz
    width: float = 1.0  # multiplies all channels; presets may lower it
    batch_norm: bool = False  # also in the energy and inference networks: section 4.1.2, large datasets
    lr_energy: float = 1e-4  # script
    lr_generator: float = 3e-4  # script
    lr_encoder: float = 3e-4  # script
    beta1: float = 0.5  # script
    beta2: float = 0.999  # script
    weight_decay: float = 5e-4  # paper section 4; script: generator only
    gamma: float = 0.998  # script, per epoch
    gamma_every: int = 500  # iterations per epoch: CIFAR-10 in batches of 100
    elbo_weight: float = 1.0  # script, on the summed squared error plus KL / d
    latent_weight: float = 0.1  # script, on -log q(z | x_fake)
    clip_norm: float = 100.0  # script, each network by itself
    generator_steps: int = 1  # script; Algorithm 1, line 9: "optional: multiple-step update", used in section 4.3


class DivergenceTriangle(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.generator = Generator(image_shape, h.z_dim, h.width)
        last = 256 if image_side(image_shape) == 32 else None
        self.energy_net = ImageCritic(image_shape, h.width, h.batch_norm, last)
        self.encoder = GaussianEncoder(image_shape, h.z_dim, h.width, h.batch_norm)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        h = self.h
        betas = (h.beta1, h.beta2)
        return {
            "energy": Adam(self.energy_net.parameters(), h.lr_energy, betas),
            "encoder": Adam(self.encoder.parameters(), h.lr_encoder, betas),
            "generator": Adam(self.generator.parameters(), h.lr_generator, betas, weight_decay=h.weight_decay),
        }

    def generate(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def infer(self, x: Tensor) -> Tensor:
        return self.encoder(x)[0]

    def energy(self, x: Tensor) -> Tensor:
        return self.energy_net(x)

    def learning_rates(self, t: int) -> dict[str, float]:
        h = self.h
        base = {"energy": h.lr_energy, "encoder": h.lr_encoder, "generator": h.lr_generator}
        return {name: exponential(lr, h.gamma, h.gamma_every, t) for name, lr in base.items()}

    def latent_nll(self, z: Tensor, x_fake: Tensor) -> Tensor:
        """-log q(z | x_fake), averaged over the batch; z: [B, d], x_fake: [B, C, H, W]."""
        with untracked(self.encoder):
            return gaussian.nll(z, *self.encoder(x_fake)).mean()

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        h = self.h
        z = torch.randn(len(x), h.z_dim, device=x.device)
        x_fake = self.generate(z)

        with self.only("energy"):
            u_real, u_fake = self.energy(x).mean(), self.energy(x_fake.detach()).mean()
            self.descend("energy", u_real - u_fake, h.clip_norm)

        with self.only("encoder"):
            mu, logvar = self.encoder(x)
            rec = sse(x, self.generate(gaussian.sample(mu, logvar))).mean()
            kl = gaussian.kl_standard(mu, logvar).mean() / h.z_dim
            latent = self.latent_nll(z, x_fake.detach())
            self.descend("encoder", h.elbo_weight * (rec + kl) + h.latent_weight * latent, h.clip_norm)

        with self.only("generator"):
            for k in range(h.generator_steps):
                if k > 0:
                    x_fake = self.generate(z)  # the generator has changed
                with torch.no_grad():
                    z_x = gaussian.sample(*self.encoder(x))
                rec = sse(x, self.generate(z_x)).mean()
                adversarial = self.energy(x_fake).mean()
                latent = self.latent_nll(z, x_fake)
                self.descend("generator", h.elbo_weight * rec + adversarial + h.latent_weight * latent, h.clip_norm)

        return {
            "energy_real": u_real.detach(),
            "energy_fake": u_fake.detach(),
            "rec": rec.detach(),
            "kl_per_dim": kl.detach(),
            "latent_nll": latent.detach(),
            "logvar": logvar.detach().mean(),
        }
