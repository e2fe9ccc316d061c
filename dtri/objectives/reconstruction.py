"""Reconstruction errors per image."""

from torch import Tensor


def sse(x: Tensor, y: Tensor) -> Tensor:
    """Sum of squared errors over channels and pixels: x, y [B, C, H, W] -> [B]."""
    return (x - y).float().square().flatten(1).sum(1)
