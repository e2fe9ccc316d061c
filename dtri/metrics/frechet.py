"""Frechet distance between Gaussians, by symmetric eigenvalue problems.

d^2 = |mu_a - mu_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2))        Dowson & Landau (1982); Heusel et al. (2017)

The eigenvalues of A B equal those of the symmetric matrix R^T B R, with A = R R^T. The root R of the reference is
computed once. Each distance then needs one symmetric problem without eigenvectors, which is several times faster than
the general one. The eigenvalues are real, and negative only by rounding.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

ROWS = 1024  # rows converted to float64 at a time


class Moments:
    """Mean and covariance in float64 of rows that come in parts; one pass suffices (Chan, Golub & LeVeque, 1983)."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, features: Tensor) -> None:
        """Account for rows [N, d]; the sums stay on their device."""
        for rows in features.split(ROWS):
            rows = rows.double()
            n, mean = len(rows), rows.mean(0)
            centred = rows - mean
            scatter = centred.T @ centred
            if self.n:
                shift, total = mean - self.mean, self.n + n
                scatter += self.scatter + torch.outer(shift, shift) * (self.n * n / total)
                mean = self.mean + shift * (n / total)
            self.n, self.mean, self.scatter = self.n + n, mean, scatter

    def gaussian(self) -> "Gaussian":
        """Mean and covariance with divisor n - 1; ValueError below two rows."""
        if self.n < 2:
            raise ValueError(f"expected features [N, d] with N > 1, found {self.n} rows")
        return Gaussian(self.mean, self.scatter / (self.n - 1))


@dataclass(frozen=True)
class Gaussian:
    """Mean [d] and covariance [d, d] of features, float64."""

    mean: Tensor
    covariance: Tensor

    @staticmethod
    def of(features: Tensor) -> "Gaussian":
        """The Gaussian of features [N, d], in float64 on their device; divisor N - 1. ValueError below two rows."""
        moments = Moments()
        moments.add(features)
        return moments.gaussian()

    @cached_property
    def root(self) -> Tensor:
        """R [d, d] with covariance = R R^T."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return vectors * values.clamp(min=0).sqrt()


def distance(a: Gaussian, reference: Gaussian) -> float:
    """Squared Frechet distance, which is what FID reports; symmetric in its arguments.

    It is never below 0. Only rounding would take it there, for sets that are equal or nearly so.
    """
    root = reference.root
    eigenvalues = torch.linalg.eigvalsh(root.T @ a.covariance @ root)
    cross = eigenvalues.clamp(min=0).sqrt().sum()
    between = (a.mean - reference.mean).square().sum()
    return max(0.0, (between + a.covariance.trace() + reference.covariance.trace() - 2 * cross).item())
