"""CoopNet: cooperative training of an energy-based "descriptor" and a generator.

Paper: Xie, Lu, Gao, Zhu & Wu, "Cooperative training of descriptor and generator networks" (PAMI 2018, arXiv
1609.09408). Reference code: jianwen-xie/CoopNets.
Objective: pi ∝ exp f(x) N(x; 0, s^2 I), so U(x) = ||x||^2 / (2 s^2) - f(x). Langevin dynamics on U revise x_fake = g(z)
to x_revised, and then
    descriptor  min  E f(x_revised) - E f(x)
    generator   min  E SSE(x_revised, g(z)) / (2 s_g^2)
Deviations: the generator is the divergence triangle's ("network structures similar to our model", paper B section
4.1.1). It has kernels of 4 instead of 5, ReLU instead of LeakyReLU, and the triangle's initial weights. Images are
scaled as everywhere here, not each by its own extremes. Real batches are shuffled. Batch norm has standing statistics
at test.
Left open: networks at 32 px; whether the published FID and Inception Score belong to revised samples. The code's own
Inception Score does (model/model.py lines 221-253: samples of the last epoch, by the 15 steps of training). Ours does
too, with the 10 steps of the code's test (main.py line 93). `sampler: {steps: 0}` measures the generator alone.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.convolutional import Generator
from dtri.networks.descriptor import Descriptor
from dtri.objectives.reconstruction import sse
from dtri.sampling.langevin import Chain, langevin


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 100  # code, gen_latent_size
    width: float = 1.0  # multiplies all channels; presets may lower it
    chains: int = 144  # code, 12 x 12 chains whatever the batch size
    langevin_steps: int = 15  # code, des_sample_steps
    langevin_scale: float = 0.002  # code, des_step_size: the noise, and half its square is the step along the gradient
    reference_std: float = 0.016  # s; code, des_refsig
    generator_std: float = 0.3  # s_g; code, gen_refsig
    lr_descriptor: float = 0.007  # code, d_lr
    lr_generator: float = 1e-4  # code, g_lr
    beta1: float = 0.5  # code, both networks
    beta2: float = 0.999  # code


@dataclass(frozen=True)
class Sampler:
    steps: Annotated[int, "may be 0"] = 10  # of the revision; code, at test. 0: the generator alone
    scale: float = 0.002  # as `langevin_scale`; code


class CoopNet(Model):
    memory_format = torch.contiguous_format  # a step takes .86 of the CPU time at full width, .73 at an eighth

    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h, self.sampler = image_shape, h.z_dim, h, Sampler()
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.descriptor = Descriptor(image_shape, h.width)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        h = self.h
        betas = (h.beta1, h.beta2)
        return {
            "descriptor": Adam(self.descriptor.parameters(), h.lr_descriptor, betas),
            "generator": Adam(self.generator.parameters(), h.lr_generator, betas),
        }

    def generate(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def energy(self, x: Tensor) -> Tensor:
        return x.square().flatten(1).sum(1) / (2 * self.h.reference_std**2) - self.descriptor(x)

    def revise(self, x: Tensor, steps: int, scale: float, generator: torch.Generator | None = None) -> Tensor:
        """Run Langevin dynamics on the energy from x: [B, C, H, W], with `scale` as `langevin_scale` in Hparams."""
        return langevin(self.energy, x, Chain(steps, step_size=scale**2 / 2, noise=scale), generator)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        return self.revise(self.generate(z), self.sampler.steps, self.sampler.scale, generator)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        h = self.h
        x_fake = self.generate(torch.randn(h.chains, h.z_dim, device=x.device))
        x_revised = self.revise(x_fake, h.langevin_steps, h.langevin_scale)

        with self.only("descriptor"):
            f_real, f_revised = self.descriptor(x).mean(), self.descriptor(x_revised).mean()
            self.descend("descriptor", f_revised - f_real)

        with self.only("generator"):
            distance = sse(x_revised, x_fake).mean()
            self.descend("generator", distance / (2 * h.generator_std**2))

        return {"f_real": f_real.detach(), "f_revised": f_revised.detach(), "distance": distance.detach()}
