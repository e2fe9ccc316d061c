"""Patches of scikit-learn's two bundled photographs (china, flower; 427x640) as an out-of-distribution set. Test only.

A patch covers 2, 3, 4 or 6 times the requested height and width; the factor is drawn among those that fit. It is
reduced with PIL's antialiased bilinear filter. Photographs: danielbuechele (china), vultilion (flower), both CC BY 2.0.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dtri.data import checks, rawfiles, saving
from dtri.data.contents import Contents

FILES: dict[str, rawfiles.RawFile] = {}
_SCALES = (2, 3, 4, 6)
_HEIGHT, _WIDTH = 427, 640  # pixels of both photographs


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow option `n`, and patches that fit into the photographs at half their size. ValueError otherwise."""
    checks.check_options(options, ("n",), "dtri.data.photos")
    shape = checks.check_shape(image_shape, (1, 3), "dtri.data.photos")
    checks.check_count(options.get("n", 2_000), "option 'n'", "dtri.data.photos")
    if not _fitting(shape):
        raise ValueError(f"expected patches of at most {_HEIGHT // 2}x{_WIDTH // 2}, found {shape} (dtri.data.photos)")
    return Contents(splits=("test",), classes=False)


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """`n` patches (option, default 2,000), drawn with `seed`; grey is luminance, where C is 1. `raw` is not read."""
    from sklearn.datasets import load_sample_images  # takes seconds, which planning does not pay

    check(image_shape, options)
    shape, n = tuple(image_shape), options.get("n", 2_000)
    photos = [Image.fromarray(photo).convert("L" if shape[0] == 1 else "RGB") for photo in load_sample_images().images]
    scales = _fitting(shape)
    random = checks.generator(seed)
    images = np.empty((n, *shape), np.uint8)
    for k in range(n):
        images[k] = _patch(photos[random.randint(len(photos))], shape, scales[random.randint(len(scales))], random)
    return saving.Arrays(
        splits={"test": images},
        indices={"test": np.arange(n, dtype=np.int64)},
        labels={},
        n_classes=None,
        description="random patches of two photographs (scikit-learn sample images)",
        source={"module": "dtri.data.photos", "seed": seed, "scales": scales, "filter": "bilinear, antialiased"},
    )


def _fitting(shape: tuple[int, int, int]) -> list[int]:
    """The factors at which a patch fits into a photograph."""
    return [scale for scale in _SCALES if scale * shape[1] <= _HEIGHT and scale * shape[2] <= _WIDTH]


def _patch(photo: Image.Image, shape: tuple[int, int, int], scale: int, random: np.random.RandomState) -> np.ndarray:
    """uint8 [C, H, W]: a random window of scale * (H, W) pixels, reduced to H x W."""
    height, width = scale * shape[1], scale * shape[2]
    left, top = random.randint(photo.width - width + 1), random.randint(photo.height - height + 1)
    window = photo.crop((left, top, left + width, top + height))
    pixels = np.asarray(window.resize((shape[2], shape[1]), Image.Resampling.BILINEAR))
    return pixels.reshape(*shape[1:], shape[0]).transpose(2, 0, 1)
