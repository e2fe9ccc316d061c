"""Adversarial losses of encoder and generator against a critic of pairs. All are minimised; logits [B] -> scalar.

`a_real` are the critic's logits on (x, E(x)), `a_fake` those on (G(z), z), high on (x, E(x)): the critic itself
minimises `adversarial.bce_critic`. Encoder and generator both gain where the critic confuses the two: all three losses
rise with a_real and fall with a_fake, and differ in how strongly.
"""

from torch import Tensor
from torch.nn.functional import softplus


def swapped_labels(a_real: Tensor, a_fake: Tensor) -> Tensor:
    """The critic's cross-entropy, its labels swapped: E softplus(a_real) + E softplus(-a_fake) (ALI, BiGAN)."""
    return softplus(a_real).mean() + softplus(-a_fake).mean()


def probabilities(a_real: Tensor, a_fake: Tensor) -> Tensor:
    """Difference of the probabilities of being real: E s(a_real) - E s(a_fake), s the sigmoid (ALICE's code)."""
    return a_real.sigmoid().mean() - a_fake.sigmoid().mean()


def logits(a_real: Tensor, a_fake: Tensor) -> Tensor:
    """E a_real - E a_fake: with the best critic KL(q || p) + KL(p || q) of the joint densities (SVAE).

    q is the density of (x, E(x)) and p that of (G(z), z); the best critic is a = log q - log p.
    """
    return a_real.mean() - a_fake.mean()
