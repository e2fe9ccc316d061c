"""MEG: maximum entropy generator, an energy-based model whose samples come from a generator of high entropy.

Paper: Kumar, Ozair, Goyal, Courville & Bengio (2019, arXiv 1901.08508). Reference code:
ritheshkumar95/energy_based_generative_models.
Objective, with the energy U and a statistics network H that tells pairs (x_fake, z) from pairs with another z:
    energy     min  E U(x) - E U(x_fake) + lambda E ||grad U(x)||^2 / (height * width)
    generator  min  E U(x_fake) + J,  J = (E softplus(-H(x_fake, z)) + E softplus(H(x_fake, z'))) / 2, z' permuted z
log 2 - J is a lower bound on the Jensen-Shannon divergence between the pairs and their shuffled copies. Generator and
H lower J together and so raise the mutual information of x_fake and z. For a deterministic generator this is the
entropy of x_fake. The penalty is on real images only, a mean over pixels in the reference code.
One step is one energy update, with new images and latents. After every n_energy-th update generator and H follow, with
one Adam, which equals the reference code's two with equal constants. A generator iteration of the paper is n_energy
steps.
Deviations: for CIFAR-10 and CelebA the reference code updates the generator before the energy, not after it.
Left open by paper A: which of the reference code's two anomaly scores it quotes, U(x) or ||grad U(x)||.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks import standard_cnn
from dtri.networks.convolutional import image_side
from dtri.networks.standard_cnn import StandardCritic, StandardGenerator, StatisticsNetwork
from dtri.objectives import gradient_penalty
from dtri.objectives.adversarial import bce_critic


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 128  # reference code
    width: float = 1.0  # multiplies all channels; presets may lower it
    lr: float = 1e-4  # reference code, all networks
    beta1: float = 0.5  # reference code
    beta2: float = 0.9  # reference code
    penalty_weight: float = 10.0  # lambda; reference code; anomaly detection on MNIST: 100
    n_energy: int = 5  # reference code, energy updates per generator update


class MEG(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        design, channels = standard_cnn.MEG[image_side(image_shape)], image_shape[0]
        self.generator = StandardGenerator(design, channels, h.z_dim, h.width)
        self.energy_net = StandardCritic(design, channels, h.width)
        self.statistics = StatisticsNetwork(design, channels, h.z_dim, h.width)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        h = self.h
        betas = (h.beta1, h.beta2)
        return {
            "energy": Adam(self.energy_net.parameters(), h.lr, betas),
            "generator": Adam([*self.generator.parameters(), *self.statistics.parameters()], h.lr, betas),
        }

    def generate(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def energy(self, x: Tensor) -> Tensor:
        return self.energy_net(x)

    def anomaly_scores(self, x: Tensor) -> dict[str, Tensor]:
        """ "gradient_norm" is ||grad U(x)|| over all channels and pixels, the reference code's second score."""
        with torch.enable_grad():
            gradient = gradient_penalty.input_gradient(self.energy_net, x, create_graph=False)
        return {"gradient_norm": gradient.flatten(1).norm(dim=1)}

    def phase(self, t: int) -> bool:
        """Whether the generator is updated at t."""
        return t % self.h.n_energy == self.h.n_energy - 1

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        h = self.h
        with torch.no_grad():
            x_fake = self.generate(torch.randn(len(x), h.z_dim, device=x.device))
        with self.only("energy"):
            u_real, u_fake = self.energy(x).mean(), self.energy(x_fake).mean()
            penalty = gradient_penalty.zero_centred(self.energy_net, x)
            self.descend("energy", u_real - u_fake + h.penalty_weight * penalty)

        if self.phase(t):
            with self.only("generator"):
                z = torch.randn(len(x), h.z_dim, device=x.device)
                x_fake = self.generate(z)
                self.descend("generator", self.energy(x_fake).mean() + self.unpairing(x_fake, z))

        return {"energy_real": u_real.detach(), "energy_fake": u_fake.detach(), "penalty": penalty.detach()}

    def unpairing(self, x_fake: Tensor, z: Tensor) -> Tensor:
        """J: how badly H tells images with their own latents from images with others' -> scalar, log 2 at chance."""
        shuffled = z[torch.randperm(len(z), device=z.device)]
        return bce_critic(*self.statistics(x_fake, z, shuffled)) / 2
