"""Divergence triangle grown layer by layer: all three networks start at about 4 pixels and double in synchrony.

Paper: Han, Nijkamp, Fang, Hill, Zhu & Wu (CVPR 2019), "paper B", section 4.1.3, Figures 8 and 9: up to 1024 pixels on
CelebA-HQ, with d = 512, "as in" progressive GANs (Karras et al., 2018; ProGAN). 1x1 convolutions stand between colours
and features; there is no minibatch discrimination and no gradient penalty. Objective and order of updates are as in the
fixed-size model (dtri/models/divergence_triangle.py, the authors' script), at the level's size S:
    energy     min  E U(x) - E U(x_fake)
    encoder    min  (32 / S)^2 E SSE(x, g(z_x)) + KL / d + 0.1 E[-log q(z | x_fake)]
    generator  min  (32 / S)^2 E SSE(x, g(z_x)) + E U(x_fake) + 0.1 E[-log q(z | x_fake)]
The paper says no more. Chosen here:
  * The squared error has the same weight at every level as in the script at 32 pixels, so its balance with U stays.
  * ProGAN's schedule, batch sizes, channels, equalised learning rate, pixel norm in g, mirrored images, fading of
    networks and of real images, and average of weights. As there, optimisers get a new state whenever a level starts or
    its fading ends. Level and alpha are functions of the images seen, the number of real images in all batches.
  * A level shows means over squares of the full-size images, computed on the model's device: one array serves all
    levels. They differ from the prepared pyramid by its rounding alone (half a grey level).
  * From the script: tanh, clipped gradients (the only bound on U), and the ratio 1 to 3 of its learning rates. Not from
    the script: weight decay (weights of unit variance would shrink) and a falling learning rate (ProGAN's is constant).
  * z is not put on the sphere as in ProGAN: the posterior's length, and the KL, would then mean nothing.
Deviations: none known; the authors published no code for this section.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.progressive import GrowingCritic, GrowingEncoder, GrowingGenerator, cross_fade, down, sides, up
from dtri.objectives import gaussian
from dtri.objectives.reconstruction import sse


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 512  # paper B, Fig. 8
    width: float = 1.0  # multiplies all channels; presets may lower it
    channel_base: int = 8192  # ProGAN: 2 channel_base / S channels at side S, at most 512
    start_side: int = 4  # smallest side at which growth starts; the images' own side: the same networks without growth
    fade_kimg: float = 800.0  # ProGAN, CelebA-HQ: thousands of real images while a level fades in
    stable_kimg: float = 800.0  # ProGAN, CelebA-HQ: and after that; the last level lasts until training ends
    batch_sizes: tuple[int, ...] = (16, 16, 16, 16, 16, 16, 14, 6, 3)  # ProGAN; by level, from the smallest
    mirror: bool = True  # ProGAN, CelebA-HQ: each real image is reflected left to right with probability 1/2
    lr_energy: float = 3e-4  # about a third of the other rates, as in the script
    lr_generator: float = 1e-3  # ProGAN
    lr_encoder: float = 1e-3  # equal to the generator's, as in the script
    beta1: float = 0.0  # ProGAN
    beta2: float = 0.99  # ProGAN
    rec_weight: float = 1.0  # script, on the summed squared error
    rec_side: int = 32  # the side at which the script's weight applies; other levels are scaled by their pixels
    latent_weight: float = 0.1  # script, on -log q(z | x_fake)
    clip_norm: float = 100.0  # script, each network by itself
    ema_decay: float = 0.999  # ProGAN, there for the generator alone


@dataclass(frozen=True)
class Phase:
    """A stretch of training: `steps` iterations from iteration `start`, after `images` images; the last never ends."""

    level: int
    fading: bool
    batch_size: int
    start: int
    images: int
    steps: int


class ProgressiveTriangle(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.ema_decay = h.ema_decay
        self.sides = sides(image_shape)
        self.phases = _phases(self.sides, h)
        self.generator = GrowingGenerator(image_shape, h.z_dim, h.channel_base, h.width)
        self.energy_net = GrowingCritic(image_shape, h.channel_base, h.width)
        self.encoder = GrowingEncoder(image_shape, h.z_dim, h.channel_base, h.width)
        # These buffers are saved with the weights, so that a run that ends early is evaluated at the level it reached.
        self.register_buffer("reached", torch.zeros((), dtype=torch.int64))  # index of the phase
        self.register_buffer("alpha", torch.ones(()))
        self._now = self.phases[0]
        self.register_load_state_dict_post_hook(_find_phase)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        h = self.h
        betas = (h.beta1, h.beta2)
        return {
            "energy": Adam(self.energy_net.parameters(), h.lr_energy, betas),
            "encoder": Adam(self.encoder.parameters(), h.lr_encoder, betas),
            "generator": Adam(self.generator.parameters(), h.lr_generator, betas),
        }

    # The schedule

    def phase_at(self, t: int) -> Phase:
        return self.phases[bisect_right(self.phases, t, key=lambda phase: phase.start) - 1]

    def phase(self, t: int) -> tuple[int, bool]:
        """(side, whether it is fading in)."""
        now = self.phase_at(t)
        return self.sides[now.level], now.fading

    def span(self, t: int, batch_size: int) -> tuple[int, int]:
        first = self.phases[0].batch_size
        if batch_size != first:
            raise ValueError(f"expected batch_size {first}, that of the first level in batch_sizes, found {batch_size}")
        now = self.phase_at(t)
        start = now.images + (t - now.start) * now.batch_size
        return start, start + now.batch_size

    def milestones(self, steps: int) -> list[int]:
        """The ends of all levels but the last."""
        return [phase.start for phase in self.phases if phase.fading and phase.start < steps]

    def begin(self, t: int) -> None:
        """Set the level and alpha of iteration t, and clear the optimisers' memory where a phase starts."""
        now = self._now = self.phase_at(t)
        self.reached.fill_(self.phases.index(now))
        self.alpha.fill_((t - now.start) / now.steps if now.fading else 1.0)
        if t == now.start:
            for optimizer in self.optimizers.values():
                for state in optimizer.state.values():
                    for memory in state.values():
                        memory.zero_()  # in place, because a captured step keeps its addresses

    @property
    def now(self) -> Phase:
        """The phase of the last iteration, in a loaded model too."""
        return self._now

    @property
    def _fade(self) -> Tensor | None:
        return self.alpha if self._now.fading else None

    # The maps, which work at full size at every level

    def at_level(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] at full size -> [B, C, S, S], as this iteration trains on them."""
        x = down(x, self.sides[-1] // self.sides[self._now.level])
        return x if self._fade is None else cross_fade(up(down(x)), x, self._fade)

    def draw(self, z: Tensor) -> Tensor:
        """z: [B, d] -> images [B, C, S, S] at this iteration's level."""
        return self.generator(z, self._now.level, self._fade)

    def generate(self, z: Tensor) -> Tensor:
        return interpolate(self.draw(z), size=self.sides[-1], mode="nearest")

    def infer(self, x: Tensor) -> Tensor:
        return self.encoder(self.at_level(x), self._now.level, self._fade)[0]

    def energy(self, x: Tensor) -> Tensor:
        return self.energy_net(self.at_level(x), self._now.level, self._fade)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        h, grown = self.h, (self._now.level, self._fade)
        rec_weight = h.rec_weight * (h.rec_side / self.sides[self._now.level]) ** 2
        x = self.at_level(x)
        if h.mirror:
            x = mirrored(x)
        z = torch.randn(len(x), h.z_dim, device=x.device)
        x_fake = self.draw(z)

        with self.only("energy"):
            u_real = self.energy_net(x, *grown).mean()
            u_fake = self.energy_net(x_fake.detach(), *grown).mean()
            self.descend("energy", u_real - u_fake, h.clip_norm)

        with self.only("encoder"):
            mu, logvar = self.encoder(x, *grown)
            rec = sse(x, self.draw(gaussian.sample(mu, logvar))).mean()
            kl = gaussian.kl_standard(mu, logvar).mean() / h.z_dim
            latent = gaussian.nll(z, *self.encoder(x_fake.detach(), *grown)).mean()
            self.descend("encoder", rec_weight * rec + kl + h.latent_weight * latent, h.clip_norm)

        with self.only("generator"):
            with torch.no_grad():
                z_x = gaussian.sample(*self.encoder(x, *grown))
            rec = sse(x, self.draw(z_x)).mean()
            adversarial = self.energy_net(x_fake, *grown).mean()
            latent = gaussian.nll(z, *self.encoder(x_fake, *grown)).mean()
            self.descend("generator", rec_weight * rec + adversarial + h.latent_weight * latent, h.clip_norm)

        return {
            "energy_real": u_real.detach(),
            "energy_fake": u_fake.detach(),
            "rec": rec.detach(),
            "kl_per_dim": kl.detach(),
            "latent_nll": latent.detach(),
            "logvar": logvar.detach().mean(),
        }


def mirrored(x: Tensor) -> Tensor:
    """Reflect each image of x: [B, C, H, W] left to right with probability 1/2."""
    return torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x.flip(3), x)


def _phases(sides: list[int], h: Hparams) -> tuple[Phase, ...]:
    """The first level, then every other level fading in and alone. A phase is a whole number of iterations."""
    levels = [level for level, side in enumerate(sides) if side >= h.start_side]
    if len(sides) > len(h.batch_sizes):
        raise ValueError(f"expected batch_sizes for {len(sides)} levels, found {list(h.batch_sizes)}")
    if not levels:
        raise ValueError(f"expected start_side among {sides} or below, found {h.start_side}")
    plan = [(levels[0], False), *((level, fading) for level in levels[1:] for fading in (True, False))]
    sizes = [h.batch_sizes[level] for level, _ in plan]
    kimg = [h.fade_kimg if fading else h.stable_kimg for _, fading in plan]
    steps = [max(1, math.ceil(1000 * k / size)) for k, size in zip(kimg, sizes)]
    starts = accumulate(steps[:-1], initial=0)
    images = accumulate((n * size for n, size in zip(steps[:-1], sizes)), initial=0)
    return tuple(
        Phase(level, fading, *rest) for (level, fading), *rest in zip(plan, sizes, starts, images, steps, strict=True)
    )


def _find_phase(model: ProgressiveTriangle, _incompatible: object) -> None:
    model._now = model.phases[int(model.reached)]
