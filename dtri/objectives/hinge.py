"""Hinge losses on scores a that are high on real data, [B] -> scalar. Both are minimised."""

from torch import Tensor
from torch.nn.functional import relu


def hinge_critic(a_real: Tensor, a_fake: Tensor) -> Tensor:
    """E max(0, 1 - a(x)) + E max(0, 1 + a(x_fake)) (Miyato et al., 2018)."""
    return relu(1 - a_real).mean() + relu(1 + a_fake).mean()


def hinge_generator(a_fake: Tensor) -> Tensor:
    """-E a(x_fake) (Miyato et al., 2018)."""
    return -a_fake.mean()
