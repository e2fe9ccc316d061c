"""BiGAN-sigma: anomaly detection by a bidirectional GAN (EGBAD), scored with the critic's cross-entropy.

Paper: Zenati, Foo, Lecouat, Manek & Chandrasekhar (ICLR workshop 2018), on BiGAN (Donahue et al., ICLR 2017). Reference
code: houssamzenati/Efficient-GAN-Anomaly-Detection. "sigma" is the MEG paper's name for its option "cross-e".
Objective, with logits a high on data pairs and a deterministic encoder E:
    critic  min  E softplus(-a(x, E(x))) + E softplus(a(G(z), z))
    maps    min  E softplus(a(x, E(x))) + E softplus(-a(G(z), z))           (encoder and generator, labels swapped)
    score   (1 - w) |x - x_r|_1 + w softplus(-a(x_r, E(x))) with x_r = G(E(x)), larger = stranger
The critic is updated first; the maps draw z anew. One Adam for both maps equals the reference code's two, because
neither loss reaches the other's weights. Weights are averaged for evaluation.
The paper writes the score's cross-entropy at (x, E(x)). The code, and so ours, takes it at (x_r, E(x)). A sum over
pixels beside one cross-entropy makes the score nearly all reconstruction error. `anomaly_scores` has parts and
variants.
Critic: each kind of pair is judged in its own call (bigan/run_mnist.py:99-100). One hidden layer transforms z, and
there is dropout (bigan/mnist_utilities.py).
Deviations: networks similar to paper A's replace the paper's own for 28 px (slopes 0.1, two fully connected layers in
G, one hidden layer behind the critic's concatenation). Dropout is behind the convolutions of the critic, not between
them. Both updates use the same images (the code's second batch is another).
Left open by the paper's code: the number of epochs.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.convolutional import Generator
from dtri.networks.deterministic_encoder import DeterministicEncoder
from dtri.networks.joint_critic import JointCritic
from dtri.objectives import pairs
from dtri.objectives.absolute import l1_norm
from dtri.objectives.adversarial import bce_critic


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 200  # reference code
    width: float = 1.0  # multiplies all channels; presets may lower it
    lr: float = 1e-5  # reference code, all networks
    beta1: float = 0.5  # reference code
    beta2: float = 0.999  # reference code, its framework's default
    dropout: float = 0.5  # reference code, critic
    score_weight: float = 0.1  # w; reference code
    ema_decay: float = 0.999  # reference code


class BiGAN(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.ema_decay = h.ema_decay
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.encoder = DeterministicEncoder(image_shape, h.z_dim, h.width, batch_norm=True)
        self.critic = JointCritic(
            image_shape, h.z_dim, h.width, z_layers=1, spectral_norm=False, batch_norm=True, dropout=h.dropout
        )

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
        return self.encoder(x)

    def energy(self, x: Tensor) -> Tensor:
        """The anomaly score "sigma" as in the reference code. It is no energy: it has no density."""
        z = self.infer(x)
        x_r = self.generate(z)
        return self.score(l1_norm(x, x_r), softplus(-self.critic(x_r, z)))

    def score(self, error: Tensor, discriminator: Tensor) -> Tensor:
        """The two weighted parts of the score, [B] each."""
        return (1 - self.h.score_weight) * error + self.h.score_weight * discriminator

    def anomaly_scores(self, x: Tensor) -> dict[str, Tensor]:
        """Variants and parts of the score.

        "fm" replaces the cross-entropy by feature matching, |h(x, E(x)) - h(x_r, E(x))|_1 of the critic's last hidden
        layer. "sigma_paper" takes the cross-entropy at (x, E(x)). "l1" and "cross_entropy" are the two parts of sigma.
        """
        z = self.infer(x)
        x_r = self.generate(z)
        error, cross_entropy = l1_norm(x, x_r), softplus(-self.critic(x_r, z))
        matching = l1_norm(self.critic.features(x, z), self.critic.features(x_r, z))
        return {
            "fm": self.score(error, matching),
            "sigma_paper": self.score(error, softplus(-self.critic(x, z))),
            "l1": error,
            "cross_entropy": cross_entropy,
        }

    def judge(self, x: Tensor, z_x: Tensor, x_fake: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B] on (x, z_x) and on (x_fake, z), each kind by its own batch statistics (run_mnist.py:99-100)."""
        return self.critic(x, z_x), self.critic(x_fake, z)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        z_dim = self.h.z_dim
        with torch.no_grad():
            z = torch.randn(len(x), z_dim, device=x.device)
            z_x, x_fake = self.infer(x), self.generate(z)
        with self.only("critic"):
            loss_critic = bce_critic(*self.judge(x, z_x, x_fake, z))
            self.descend("critic", loss_critic)

        with self.only("maps"):
            z = torch.randn(len(x), z_dim, device=x.device)
            a_real, a_fake = self.judge(x, self.infer(x), self.generate(z), z)
            loss_maps = pairs.swapped_labels(a_real, a_fake)
            self.descend("maps", loss_maps)

        return {
            "loss_critic": loss_critic.detach(),
            "loss_maps": loss_maps.detach(),
            "a_real": a_real.detach().mean(),
            "a_fake": a_fake.detach().mean(),
        }
