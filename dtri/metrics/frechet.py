"""Frechet distance between Gaussians, by symmetric eigenvalue problems.

d^2 = |mu_a - mu_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2))        Dowson & Landau (1982); Heusel et al. (2017)

The eigenvalues of A B are those of the symmetric R^T B R with A = R R^T. The root of the reference is found once, and
each distance from it takes one symmetric problem without vectors: several times faster than the general one, and its
eigenvalues cannot turn complex or negative by more than rounding.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Mean [d] and covariance [d, d] of features, float64."""

    mean: Tensor
    covariance: Tensor

    @staticmethod
    def of(features: Tensor) -> "Gaussian":
        """Of features [N, d], in float64 on their device; divisor N - 1. ValueError below two rows."""
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"expected features [N, d] with N > 1, found {list(features.shape)}")
        features = features.double()
        mean = features.mean(0)
        centred = features - mean
        return Gaussian(mean, centred.T @ centred / (len(features) - 1))

    @cached_property
    def root(self) -> Tensor:
        """R [d, d] with covariance = R R^T."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return vectors * values.clamp(min=0).sqrt()


def distance(a: Gaussian, reference: Gaussian) -> float:
    """Squared Frechet distance, as FID reports it: >= 0 up to rounding; symmetric in its arguments."""
    root = reference.root
    eigenvalues = torch.linalg.eigvalsh(root.T @ a.covariance @ root)
    cross = eigenvalues.clamp(min=0).sqrt().sum()
    between = (a.mean - reference.mean).square().sum()
    return (between + a.covariance.trace() + reference.covariance.trace() - 2 * cross).item()
