"""scikit-learn's bundled handwritten digits: 1797 real 8x8 images, enlarged; the stand-in that needs no download.

Source: UCI optical recognition of handwritten digits, test part (Alpaydin & Kaynak, 1998). A pixel of the source counts
the ink of a 4x4 cell, 0..16. The digits touch the border, so one empty cell is added on every side. The 10x10 cells are
then enlarged with PIL's bicubic filter on float values, clipped to 0..255 and rounded.
The split is random, 1437 train / 360 test, and a function of the seed.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dtri.data import checks, rawfiles, saving
from dtri.data.contents import Contents

FILES: dict[str, rawfiles.RawFile] = {}


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow digits at (1, H, W) with H, W >= 10, without options. ValueError otherwise."""
    checks.check_options(options, (), "dtri.data.digits")
    shape = checks.check_shape(image_shape, (1,), "dtri.data.digits")
    if min(shape[1:]) < 10:
        raise ValueError(f"expected an image shape of at least (1, 10, 10), found {shape} (dtri.data.digits)")
    return Contents(splits=("train", "test"), classes=True)


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """Digits at (1, H, W) with H, W >= 10; `seed` draws the split. `raw` is not read; there are no options."""
    from sklearn.datasets import load_digits  # takes seconds, which planning does not pay

    check(image_shape, options)
    digits = load_digits()
    images = np.stack([_enlarge(image, image_shape[1:]) for image in digits.images])[:, None]
    labels = digits.target.astype(np.int64)
    order = checks.generator(seed).permutation(len(images)).astype(np.int64)
    n_train = len(images) * 4 // 5
    indices = {"train": order[:n_train], "test": order[n_train:]}
    return saving.Arrays(
        splits={split: images[index] for split, index in indices.items()},
        indices=indices,
        labels={split: labels[index] for split, index in indices.items()},
        n_classes=10,
        description="scikit-learn handwritten digits, 8x8 with a margin, enlarged; random 80/20 split",
        source={"module": "dtri.data.digits", "seed": seed, "filter": "bicubic", "n_source": len(images)},
    )


def _enlarge(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float [8, 8] in 0..16 -> uint8 [H, W], white on black."""
    scaled = np.pad(image, 1).astype(np.float32) * (255 / 16)
    enlarged = np.asarray(Image.fromarray(scaled).resize(size[::-1], Image.Resampling.BICUBIC))
    return np.clip(np.rint(enlarged), 0, 255).astype(np.uint8)
