"""IGEBM: energy-based model trained by maximum likelihood with Langevin dynamics from a replay buffer.

Paper: Du & Mordatch, "Implicit generation and modeling with energy-based models" (NeurIPS 2019, arXiv 1903.08689),
Algorithm 1; "EBM" in paper A's Table 3. Reference code: openai/ebm_code_release, its last version ("code" below).
Objective: min E U(x) - E U(x_fake) + a E[ U(x)^2 + U(x_fake)^2 ]. x_fake are the ends of Langevin chains on U, which
start where earlier ones ended or, now and then, from uniform noise.
Deviations: dequantisation noise is centred on a grey level instead of added above it (train.py lines 110-118). Before
20 March 2019 the code made white pixels of the buffer black; before 11 March it had a buffer of 50,000 images.
Left open: the number of iterations (ours is the number of the checkpoint that the code's out-of-distribution test
loads), and networks at 64 px.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.residual_energy import energy_network
from dtri.sampling.langevin import Chain, langevin
from dtri.sampling.replay import ReplayBuffer


@dataclass(frozen=True)
class Hparams:
    width: float = 1.0  # multiplies all channels; presets may lower it
    dropout: float = 0.5  # code, within residual blocks in training, also along the chains
    langevin_steps: int = 60  # code's README, CIFAR-10 unconditional
    step_size: float = 10.0  # README, step_lr; pixels in [0, 1]
    noise: float = 0.005  # code; pixels in [0, 1]
    gradient_clip: float = 0.01  # README, proj_norm, elementwise; pixels in [0, 1]
    buffer_size: int = 10_000  # paper; code, train.py line 212
    reinit: float = 0.05  # code: fraction of chains that start from noise
    energy_l2: float = 1.0  # a; code
    lr: float = 3e-4  # code
    beta1: float = 0.0  # code
    beta2: float = 0.999  # code


@dataclass(frozen=True)
class Sampler:
    # Chains start from noise and take langevin_steps / reinit steps, as an average chain in the replay buffer.
    steps: Annotated[int, "may be 0"] = 1200
    step_size: float = 10.0  # as in training
    noise: float = 0.005  # as in training
    gradient_clip: float = 0.01  # as in training


class IGEBM(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h, self.sampler = image_shape, 0, h, Sampler()
        self.energy_net = energy_network(image_shape, h.width, h.dropout)
        self.replay = ReplayBuffer(image_shape, h.buffer_size, h.reinit)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        h = self.h
        optimizer = Adam(self.energy_net.parameters(), h.lr, (h.beta1, h.beta2))
        optimizer.register_step_pre_hook(clip_outliers)
        return {"energy": optimizer}

    def energy(self, x: Tensor) -> Tensor:
        return self.energy_net((x + 1) / 2)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """The ends of chains from uniform noise, one per row of z: [B, 0]."""
        s = self.sampler
        noise = torch.rand(len(z), *self.image_shape, device=z.device, generator=generator)
        chain = chain_of(s.steps, s.step_size, s.noise, s.gradient_clip)
        return langevin(self.energy, 2 * noise - 1, chain, generator)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        h = self.h
        chain = chain_of(h.langevin_steps, h.step_size, h.noise, h.gradient_clip)
        with parametrize.cached():  # as in the code, weights are normalised once per iteration, not at every step
            x_fake = langevin(self.energy, dequantised(self.replay.draw(len(x))), chain)
            u_real, u_fake = self.energy(dequantised(x)), self.energy(x_fake)
            energy_l2 = (u_real.square() + u_fake.square()).mean()
            self.descend("energy", u_real.mean() - u_fake.mean() + h.energy_l2 * energy_l2)
        self.replay.store(x_fake)
        return {
            "energy_real": u_real.detach().mean(),
            "energy_fake": u_fake.detach().mean(),
            "energy_l2": energy_l2.detach(),
        }


def chain_of(steps: int, step_size: float, noise: float, gradient_clip: float) -> Chain:
    """A chain on [-1, 1] from the code's constants, which are for [0, 1]: lengths double and gradients halve."""
    return Chain(steps, 4 * step_size, 2 * noise, gradient_clip / 2, clamp=(-1.0, 1.0), noise_first=True)


def dequantised(x: Tensor) -> Tensor:
    """x on the 256 grey levels of [-1, 1], plus uniform noise up to half a level."""
    return x + (2 * torch.rand_like(x) - 1) / 255


@torch.no_grad()
def clip_outliers(optimizer: Adam, *_: Any) -> None:
    """Clip gradients elementwise to 3 sqrt(v) + 0.1, v: Adam's unbiased second moment before this step (code)."""
    beta2 = optimizer.defaults["betas"][1]
    for p in optimizer.param_groups[0]["params"]:
        bound = torch.full_like(p, 0.1)
        if state := optimizer.state[p]:
            bound += 3 * (state["exp_avg_sq"] / (1 - beta2 ** (state["step"] + 1))).sqrt()
        p.grad.clamp_(-bound, bound)
