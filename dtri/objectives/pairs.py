"""Adversarial losses of encoder and generator against a critic of pairs. All are minimised; logits [B] -> scalar.

`a_real` are the critic's logits on (x, E(x)), and `a_fake` its logits on (G(z), z). The critic is high on (x, E(x)): it
minimises `adversarial.bce_critic`. Encoder and generator both gain where the critic confuses the two. All three losses
rise with a_real and fall with a_fake, but not equally fast.
"""

from torch import Tensor
from torch.nn.functional import softplus


def swapped_labels(a_real: Tensor, a_fake: Tensor) -> Tensor:
    """The critic's cross-entropy with swapped labels: E softplus(a_real) + E softplus(-a_fake) (ALI, BiGAN)."""
    return softplus(a_real).mean() + softplus(-a_fake).mean()


def probabilities(a_real: Tensor, a_fake: Tensor) -> Tensor:
    """Difference of the probabilities of being real: E s(a_real) - E s(a_fake), s the sigmoid (ALICE's code)."""
    return a_real.sigmoid().mean() - a_fake.sigmoid().mean()


def logits(a_real: Tensor, a_fake: Tensor) -> Tensor:
    """E a_real - E a_fake: with the best critic KL(q || p) + KL(p || q) of the joint densities (SVAE).

    q is the density of (x, E(x)), and p the density of (G(z), z). The best critic is a = log q - log p.
    """
    return a_real.mean() - a_fake.mean()
