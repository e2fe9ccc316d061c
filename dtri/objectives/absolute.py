"""Absolute errors ("L1")."""

from torch import Tensor


def l1_mean(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference over all elements of two batches of one shape -> scalar."""
    return (a - b).float().abs().mean()


def l1_norm(a: Tensor, b: Tensor) -> Tensor:
    """Sum of absolute differences per image or vector: a, b [B, ...] -> [B]."""
    return (a - b).float().abs().flatten(1).sum(1)
