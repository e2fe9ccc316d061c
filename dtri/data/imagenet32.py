"""ImageNet at 32x32 as van den Oord et al. (2016) reduced it, which paper B cites: 1,281,149 / 49,999 PNG files.

The ImageNet 32x32 of Chrabaszcz et al. (dtri.data.imagenet32_chrabaszcz) has other pixels, other counts, and labels.
The two are often confused, and numbers on them cannot be compared. Images are stored in the order of the tar files.
Indices refer to the sorted paths. The images are written as a stream.
"""

import json
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dtri.data import archives, checks, pictures, rawfiles, saving
from dtri.data.contents import Contents
from dtri.data.stream import Stream

_WHERE = "whoever has a copy: image-net.org/small, the origin, no longer serves it"
_TERMS = "non-commercial research and education, no redistribution; cite van den Oord et al. and Russakovsky et al."
FILES = {
    "train_32x32.tar": rawfiles.RawFile(None, False, 4_113_018_880, _WHERE, _TERMS),
    "valid_32x32.tar": rawfiles.RawFile(None, False, 161_474_560, _WHERE, _TERMS),
}
SHA256 = {  # sizes and hashes are from the checksums of tensorflow_datasets, downsampled_imagenet
    "train_32x32.tar": "244a323d48f8d72f65ad8b54658c01fed68d2d7bdc77ccb43da58c11e94224e5",
    "valid_32x32.tar": "862e559462b24cf736212a19f6b0d47b55c2dc8ebdaa95ccecfe71260124c8f7",
}
N_IMAGES = {"train": 1_281_149, "test": 49_999}
SHAPE = (3, 32, 32)
_ARCHIVES = {"train": "train_32x32.tar", "test": "valid_32x32.tar"}
_MODULE = "dtri.data.imagenet32"


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow images of (3, 32, 32), without options. ValueError otherwise."""
    checks.check_options(options, (), _MODULE)
    if tuple(image_shape) != SHAPE:
        raise ValueError(f"expected image shape {SHAPE}, found {tuple(image_shape)} ({_MODULE})")
    return Contents(splits=("train", "test"), classes=False, streamed=True, n_images=sum(N_IMAGES.values()))


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """Splits train and test (its validation set) at (3, 32, 32). Nothing depends on `seed`; there are no options."""
    check(image_shape, options)
    paths = {split: rawfiles.find_raw(raw, name, FILES[name]) for split, name in _ARCHIVES.items()}
    for path in paths.values():
        archives.check_archive(path, SHA256[path.name])
    source = {"module": _MODULE, "archive_sha256": SHA256}
    return saving.Arrays(
        splits={
            split: Stream(N_IMAGES[split], SHAPE, partial(_images, path), json.dumps([split, source]))
            for split, path in paths.items()
        },
        indices={split: _positions(path, N_IMAGES[split]) for split, path in paths.items()},
        labels={},
        n_classes=None,
        description="ImageNet 32x32 (van den Oord), official split",
        source=source,
    )


def _positions(path: Path, expected: int) -> np.ndarray:
    """int64 [n]: for every image, in the archive's order, its place among the sorted paths."""
    with archives.named(path):
        names = [name for name, _ in archives.members(path) if rawfiles.is_image(name)]
    if len(set(names)) != expected or len(names) != expected:
        raise ValueError(f"expected {expected} images, found {len(names)} of {len(set(names))} names ({path})")
    positions = np.empty(len(names), np.int64)
    positions[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return positions


def _images(path: Path, start: int) -> Generator[np.ndarray, None, None]:
    with archives.named(path):
        files = ((name, read) for name, read in archives.members(path) if rawfiles.is_image(name))
        for position, (name, read) in enumerate(files):
            if position >= start:
                yield pictures.decode(read(), SHAPE, "none", f"{path}, {name}")
