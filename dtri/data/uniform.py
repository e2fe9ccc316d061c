"""Uniform noise as an out-of-distribution set: i.i.d. uint8 values, 0..255 with equal probability. Test split only."""

from pathlib import Path
from typing import Any

import numpy as np

from dtri.data import checks, rawfiles, saving
from dtri.data.contents import Contents

FILES: dict[str, rawfiles.RawFile] = {}


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow option `n`, and grey or three colours. ValueError otherwise."""
    checks.check_options(options, ("n",), "dtri.data.uniform")
    checks.check_shape(image_shape, (1, 3), "dtri.data.uniform")
    checks.check_count(options.get("n", 10_000), "option 'n'", "dtri.data.uniform")
    return Contents(splits=("test",), classes=False)


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """`n` images (option, default 10,000), drawn with `seed`. `raw` is not read."""
    check(image_shape, options)
    n = options.get("n", 10_000)
    images = checks.generator(seed).randint(0, 256, size=(n, *image_shape), dtype=np.uint8)
    return saving.Arrays(
        splits={"test": images},
        indices={"test": np.arange(n, dtype=np.int64)},
        labels={},
        n_classes=None,
        description="i.i.d. uniform uint8 noise",
        source={"module": "dtri.data.uniform", "seed": seed},
    )
