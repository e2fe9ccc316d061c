"""VAE: variational auto-encoder with convolutional networks.

Paper: Kingma & Welling (ICLR 2014); Rezende, Mohamed & Wierstra (ICML 2014). Paper A Eqn 3, paper B Eqn 14.
Objective: min E[ SSE(x, g(z_x)) / (2 s2) + KL(q(z|x) || N(0, I)) ], times 2 s2 (Adam does not see the factor).
Deviations: none known. Neither paper states the networks, the decoder variance s2 or the optimiser of its VAE. Ours are
the divergence triangle's ("network structures similar to our model", paper B section 4.1.1), whose auto-encoding part
is an ELBO with s2 = 0.005.
"""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.convolutional import GaussianEncoder, Generator
from dtri.objectives import gaussian
from dtri.objectives.reconstruction import sse
from dtri.objectives.schedules import exponential


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 100  # paper B's script
    width: float = 1.0  # multiplies all channels; presets may lower it
    decoder_variance: float = 0.005  # s2; implied by paper B's script
    lr: float = 3e-4  # paper B's script, generator and encoder
    beta1: float = 0.5  # paper B's script
    beta2: float = 0.999  # paper B's script
    gamma: float = 0.998  # paper B's script, per epoch
    gamma_every: int = 500  # iterations per epoch: CIFAR-10 in batches of 100


class VAE(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.encoder = GaussianEncoder(image_shape, h.z_dim, h.width)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        return {"vae": Adam(self.parameters(), self.h.lr, (self.h.beta1, self.h.beta2))}

    def generate(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def infer(self, x: Tensor) -> Tensor:
        return self.encoder(x)[0]

    def energy(self, x: Tensor) -> Tensor:
        """Negative ELBO in nats without constants; its expectation over z is replaced by the value at mu(x)."""
        mu, logvar = self.encoder(x)
        return sse(x, self.generate(mu)) / (2 * self.h.decoder_variance) + gaussian.kl_standard(mu, logvar)

    def learning_rates(self, t: int) -> dict[str, float]:
        return {"vae": exponential(self.h.lr, self.h.gamma, self.h.gamma_every, t)}

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        mu, logvar = self.encoder(x)
        rec = sse(x, self.generate(gaussian.sample(mu, logvar))).mean()
        kl = gaussian.kl_standard(mu, logvar).mean()
        self.descend("vae", rec + 2 * self.h.decoder_variance * kl)
        return {"rec": rec.detach(), "kl": kl.detach(), "logvar": logvar.detach().mean()}
