"""The only conversions between stored and trained images.

On disk images are uint8 [N, C, H, W] in 0..255; in memory they are float32 in [-1, 1], the scale of both papers. No
value that is not finite becomes a pixel.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from dtri import finite


def to_float(images: Tensor) -> Tensor:
    """uint8 [B, C, H, W] in 0..255 -> float32 [B, C, H, W] in [-1, 1], x / 127.5 - 1."""
    if images.dtype != torch.uint8:
        raise TypeError(f"expected uint8 images, found {images.dtype}")
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """float [B, C, H, W] in [-1, 1] -> uint8, as `quantised`; NonFinite where a value is NaN or infinite."""
    pixels = quantised(images)
    finite.check("images", images)
    return pixels


def stacked(batches: Iterable[Tensor]) -> np.ndarray:
    """float batches [B, C, H, W] on any device -> uint8 [n, C, H, W]; NonFinite counts over all of them.

    Its `rest` are the images that are finite.
    """
    count, parts = finite.Count(), []
    for batch in batches:
        whole = count.add(batch)
        parts.append(quantised(batch[whole] if count.bad else batch).cpu())
    stored = torch.cat(parts).numpy()
    count.refuse("images", stored)
    return stored


def quantised(images: Tensor) -> Tensor:
    """float [B, C, H, W] in [-1, 1] -> uint8, rounded to nearest (truncation darkens by half a grey level).

    Asks nothing of the host: for training, which has to see to values that are not finite by itself.
    """
    if not images.is_floating_point():
        raise TypeError(f"expected floating-point images, found {images.dtype}")
    return images.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
