"""WS: wake-sleep, generator and encoder trained in turn, each on what the other infers or dreams.

Paper: Hinton, Dayan, Frey & Neal (Science 268, 1995), as paper A section 3.4 and paper B section 3.2.1 read it: wake
min_theta KL(Q||P), sleep min_phi KL(P||Q), with Q = q_data(x) q_phi(z|x) and P = p(z) p_theta(x|z).
Objective:
    generator  min  E SSE(x, g(z_x)), z_x ~ q(z|x) inferred by an encoder at rest          (wake, times 2 s2)
    encoder    min  E[-log q(z | x_fake)], x_fake = g(z) dreamt by a generator at rest     (sleep)
Each batch takes one wake step, then one sleep step with the updated generator. There is no joint objective.
Deviations: dreams are the generator's means, without the decoder's noise (as in the third term of paper B's script).
Left open by both papers: everything else. Networks, learning rates and their decay are our VAE's. The generator's batch
norm averages over inferred and prior latents alike.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.convolutional import GaussianEncoder, Generator
from dtri.objectives import gaussian
from dtri.objectives.reconstruction import sse
from dtri.objectives.schedules import exponential


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 100  # not stated; as in the VAE, paper B's script
    width: float = 1.0  # multiplies all channels; presets may lower it
    lr: float = 3e-4  # not stated; paper B's script, generator and encoder
    beta1: float = 0.5  # not stated; paper B's script
    beta2: float = 0.999  # not stated; paper B's script
    gamma: float = 0.998  # not stated; paper B's script, per epoch
    gamma_every: int = 500  # iterations per epoch: CIFAR-10 in batches of 100


class WakeSleep(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.encoder = GaussianEncoder(image_shape, h.z_dim, h.width)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        h = self.h
        betas = (h.beta1, h.beta2)
        return {
            "generator": Adam(self.generator.parameters(), h.lr, betas),
            "encoder": Adam(self.encoder.parameters(), h.lr, betas),
        }

    def generate(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def infer(self, x: Tensor) -> Tensor:
        return self.encoder(x)[0]

    def learning_rates(self, t: int) -> dict[str, float]:
        lr = exponential(self.h.lr, self.h.gamma, self.h.gamma_every, t)
        return {"generator": lr, "encoder": lr}

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        # Wake: fit the generator to inferred latents.
        with torch.no_grad():
            z_x = gaussian.sample(*self.encoder(x))
        with self.only("generator"):
            rec = sse(x, self.generate(z_x)).mean()
            self.descend("generator", rec)

        # Sleep: fit the encoder to the latents of dreams.
        z = torch.randn(len(x), self.h.z_dim, device=x.device)
        with torch.no_grad():
            x_fake = self.generate(z)
        with self.only("encoder"):
            mu, logvar = self.encoder(x_fake)
            latent = gaussian.nll(z, mu, logvar).mean()
            self.descend("encoder", latent)

        return {"rec": rec.detach(), "latent_nll": latent.detach(), "logvar": logvar.detach().mean()}
