"""The only conversions between stored and trained images.

Images on disk are uint8 [N, C, H, W] in 0..255. Images in memory are float32 in [-1, 1], the scale of both papers.
dtri/evaluation.py lets no value that is not finite become a pixel.
"""

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """x / 127.5 - 1: uint8 [B, C, H, W] in 0..255 -> float32 [B, C, H, W] in [-1, 1]. TypeError for other types."""
    if images.dtype != torch.uint8:
        raise TypeError(f"expected uint8 images, found {images.dtype}")
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def quantised(images: Tensor) -> Tensor:
    """float [B, C, H, W] in [-1, 1] -> uint8, rounded to nearest (truncation darkens by half a grey level).

    Nothing is checked on the host, so training can use this function; callers must handle values that are not finite.
    """
    if not images.is_floating_point():
        raise TypeError(f"expected floating-point images, found {images.dtype}")
    return images.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
