"""Joint training of a variational auto-encoder and a latent energy-based model: "Ours" and "Ours(+)".

Paper: Han, Nijkamp, Zhou, Pang, Zhu & Wu (CVPR 2020), "paper A", Algorithm 1. No code was ever published.
Objective: min_theta min_phi max_alpha  KL(q||p) + KL(p||pi) - KL(q||pi), all joint in (x, z), with
q = q_data(x) N(z; mu_phi(x), V_phi(x)), p = N(z; 0, I) N(x; g_theta(z), sigma^2 I), pi ∝ exp f_alpha(x, z).
    critic     min  E f(x_fake, z) - E f(x, z_x)                                     (Eqn 19)
    encoder    min  r SSE(x, g(z_x)) + p E ||z_x||^2 / 2 + a f(x, z_x)               (Eqn 15, 20: "Ours")
               min  r SSE(x, g(z_x)) + p E ||z_x||^2 / 2 - a f(x, z_x) - e H(q)      (Eqn 17: "Ours(+)")
    generator  min  r SSE(x, g(z_x)) - a f(x_fake, z)                                (Eqn 21)
The paper has r = 1 / (2 sigma^2) and p = a = 1. Then the entropies of KL(q||p) and KL(q||pi) cancel in Eqn 15, and add
up to e = 2 in Eqn 17. With weight p on KL(q||p) and weight a on KL(q||pi), r is p / (2 sigma^2), Eqn 15 keeps
(a - p) H(q) and Eqn 17 has e = a + p.
Deviations: the weights differ, and the entropies do not follow them. With sigma^2 I and equal weights the critic would
have no influence: the gradient of SSE is some hundred times the gradient of a 1-Lipschitz f. "Ours" drops (a - p) H(q),
which would draw V to zero. "Ours(+)" has e = 2 p = 0.02, a free choice, where a + p is 0.11. In these terms "Ours"
weights KL(q||p) with p = 5e-4 and has sigma^2 = 0.005, as paper B's script; "Ours(+)" has p = 0.01 and sigma^2 = 0.1.
Left open by the paper, and chosen here: every number in `Hparams`, the networks (joint critic: dtri/networks/
joint_critic.py), the layers of the encoder with batch norm (all but the first), sigma, and what keeps V from
collapsing. With the spectrally normalised critic nothing in Eqn 15 does, so log V is softly bounded. Weights are
averaged for evaluation. Eqn 18 prints x_fake = g(z) + sigma e; the text below it takes x_fake = g(z), the default here.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.convolutional import GaussianEncoder, Generator
from dtri.networks.joint_critic import JointCritic
from dtri.objectives import dependence, gaussian
from dtri.objectives.reconstruction import sse
from dtri.objectives.schedules import exponential


@dataclass(frozen=True)
class Hparams:
    kl_sign: Literal["minus", "plus"] = "minus"  # "minus": Eqn 15, "Ours"; "plus": Eqn 17, "Ours(+)"
    z_dim: int = 100  # not stated; as in paper B
    width: float = 1.0  # multiplies all channels; presets may lower it
    noise: float = 0.0  # standard deviation of e in x_fake; Eqn 18 prints sigma e, the text below it drops the term
    lr_critic: float = 1e-4  # not stated; as for paper B's energy network
    lr_generator: float = 3e-4  # not stated; paper B
    lr_encoder: float = 3e-4  # not stated; paper B
    beta1: float = 0.5  # not stated; paper B
    beta2: float = 0.999  # not stated; paper B
    gamma: float = 0.998  # not stated; paper B, per epoch
    gamma_every: int = 500  # iterations per epoch: CIFAR-10 in batches of 100
    rec_weight: float = 0.05  # r = p / (2 sigma^2), sigma^2 = 0.005; sigma is not stated
    prior_weight: float = 5e-4  # p; r / 100, the ratio in paper B's script
    energy_weight: float = 1.0  # a; Eqn 20, 21
    entropy_weight: float = 1e-3  # e, Eqn 17 only: 2 p, a free choice (a + p would follow from the weights)
    logvar_range: tuple[float, float] = (-8.0, 4.0)  # soft bounds; V stays representable when it collapses or explodes
    spectral_norm_last: bool = False  # which layers is not stated; with it f stays too flat to rank images
    z_layers: Annotated[int, "may be 0"] = 2  # section 5: z is transformed before it meets x (0: section 3.5)
    clip_norm: float = 100.0  # paper B's script
    ema_decay: float = 0.999  # not stated; f wanders between iterations, its average does not (EGBAD averages too)


class JointVAEEBM(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        if h.kl_sign not in ("minus", "plus"):
            raise ValueError(f"expected kl_sign 'minus' (Eqn 15) or 'plus' (Eqn 17), found {h.kl_sign!r}")
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.ema_decay = h.ema_decay
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.encoder = GaussianEncoder(image_shape, h.z_dim, h.width, batch_norm=True, logvar_range=h.logvar_range)
        self.critic = JointCritic(image_shape, h.z_dim, h.width, h.z_layers, h.spectral_norm_last)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        h = self.h
        betas = (h.beta1, h.beta2)
        return {
            "critic": Adam(self.critic.parameters(), h.lr_critic, betas),
            "encoder": Adam(self.encoder.parameters(), h.lr_encoder, betas),
            "generator": Adam(self.generator.parameters(), h.lr_generator, betas),
        }

    def generate(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def synthesise(self, z: Tensor) -> Tensor:
        """x_fake = g(z) + noise e, e ~ N(0, I), of Eqn 18; with noise 0 it is g(z), and nothing is drawn."""
        x_fake = self.generate(z)
        return x_fake + self.h.noise * torch.randn_like(x_fake) if self.h.noise else x_fake

    def infer(self, x: Tensor) -> Tensor:
        return self.encoder(x)[0]

    def energy(self, x: Tensor) -> Tensor:
        """-f(x, mu(x)): the latent EBM's energy at the inferred latent (section 5.3)."""
        return -self.critic(x, self.infer(x))

    def learning_rates(self, t: int) -> dict[str, float]:
        h = self.h
        base = {"critic": h.lr_critic, "encoder": h.lr_encoder, "generator": h.lr_generator}
        return {name: exponential(lr, h.gamma, h.gamma_every, t) for name, lr in base.items()}

    def encoder_loss(self, rec: Tensor, mu: Tensor, logvar: Tensor, f: Tensor) -> Tensor:
        """Eqn 15 or 17 from the batch's values rec, f: [B] and mu, logvar: [B, d] -> scalar."""
        h = self.h
        auto_encoder = h.rec_weight * rec + h.prior_weight * gaussian.prior_energy(mu, logvar)
        if h.kl_sign == "minus":
            return (auto_encoder + h.energy_weight * f).mean()
        return (auto_encoder - h.energy_weight * f - h.entropy_weight * gaussian.entropy(logvar)).mean()

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        h = self.h
        z = torch.randn(len(x), h.z_dim, device=x.device)
        x_fake = self.synthesise(z)
        with self.only("encoder"):
            mu, logvar = self.encoder(x)
            z_x = gaussian.sample(mu, logvar)

        with self.only("critic"):
            f_real = self.critic(x, z_x.detach()).mean()
            f_fake = self.critic(x_fake.detach(), z).mean()
            use_of_z = dependence.share(*self.critic.exchanged(x, z_x))
            self.descend("critic", f_fake - f_real, h.clip_norm)

        with self.only("encoder"):
            rec = sse(x, self.generate(z_x))
            self.descend("encoder", self.encoder_loss(rec, mu, logvar, self.critic(x, z_x)), h.clip_norm)

        with self.only("generator"):
            rec = sse(x, self.generate(z_x.detach())).mean()
            adversarial = -self.critic(x_fake, z).mean()
            self.descend("generator", h.rec_weight * rec + h.energy_weight * adversarial, h.clip_norm)

        return {
            "f_real": f_real.detach(),
            "f_fake": f_fake.detach(),
            "use_of_z": use_of_z,
            "rec": rec.detach(),
            "prior": gaussian.prior_energy(mu, logvar).detach().mean(),
            "logvar": logvar.detach().mean(),
        }
