"""Adversarial losses on scores a that are high on real data, [B] -> scalar. All are minimised."""

from torch import Tensor
from torch.nn.functional import softplus


def bce_critic(a_real: Tensor, a_fake: Tensor) -> Tensor:
    """Binary cross-entropy of the critic: E softplus(-a(x)) + E softplus(a(x_fake)) (Goodfellow et al., 2014)."""
    return softplus(-a_real).mean() + softplus(a_fake).mean()


def bce_generator(a_fake: Tensor) -> Tensor:
    """Non-saturating loss of the generator: E softplus(-a(x_fake)) (Goodfellow et al., 2014, section 3)."""
    return softplus(-a_fake).mean()
