"""Closed forms for diagonal Gaussians q = N(mu, exp(logvar)) in d dimensions, in nats, one value per image.

Shapes: mu, logvar, z [B, d] -> [B].
"""

import torch
from torch import Tensor

STABILITY = 1e-6  # added to variances in denominators, as in the official code of paper B


def sample(mu: Tensor, logvar: Tensor) -> Tensor:
    """One reparameterised draw z ~ q, [B, d]."""
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)


def kl_standard(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q || N(0, I)) = 1/2 sum_j (mu_j^2 + exp(logvar_j) - 1 - logvar_j)."""
    return 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).sum(1)


def prior_energy(mu: Tensor, logvar: Tensor) -> Tensor:
    """E_q[ ||z||^2 / 2 ], the cross-entropy of q with N(0, I) without its constant."""
    return 0.5 * (mu.square() + logvar.exp()).sum(1)


def entropy(logvar: Tensor) -> Tensor:
    """Differential entropy of q without its constant: 1/2 sum_j logvar_j."""
    return 0.5 * logvar.sum(1)


def nll(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """-log q(z) without its constant: 1/2 sum_j ( logvar_j + (z_j - mu_j)^2 / exp(logvar_j) )."""
    return 0.5 * (logvar + (z - mu).square() / (logvar.exp() + STABILITY)).sum(1)
