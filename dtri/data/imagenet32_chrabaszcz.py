"""ImageNet at 32x32 as Chrabaszcz, Loshchilov & Hutter (2017) reduced it: 1,281,167 / 50,000 images, 1,000 classes.

Every image of ImageNet was reduced with a box filter. The pixels differ from the version of van den Oord et al., which
paper B cites (dtri.data.imagenet32). The authors shuffled the train batches, and their order is kept. Labels 1..1000
become 0..999, in the authors' own order of the classes. The images are written as a stream, with one batch (0.4 GB) in
memory at a time.
"""

import json
import zipfile
from collections.abc import Generator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dtri.data import archives, checks, pickled_batches, rawfiles, saving
from dtri.data.contents import Contents
from dtri.data.stream import Stream
from dtri.messages import reading

_WHERE = "https://image-net.org/download-images (downsampled image data, after a login)"
_TERMS = "non-commercial research and education, no redistribution; cite Chrabaszcz et al. and Russakovsky et al."
FILES = {  # hashes are not published: counts, labels and the checksums inside the zips are verified
    "Imagenet32_train.zip": rawfiles.RawFile(None, False, None, _WHERE, _TERMS),
    "Imagenet32_val.zip": rawfiles.RawFile(None, False, None, _WHERE, _TERMS),
}
N_IMAGES = {"train": 1_281_167, "test": 50_000}
SHAPE = pickled_batches.SHAPE
N_CLASSES = 1000
_BATCHES = {
    "train": ("Imagenet32_train.zip", tuple(f"train_data_batch_{k}" for k in range(1, 11))),
    "test": ("Imagenet32_val.zip", ("val_data",)),
}
_MAX_BATCH = 512 * 2**20  # bytes; an official batch has 394 MB
_MODULE = "dtri.data.imagenet32_chrabaszcz"


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow images of (3, 32, 32), without options. ValueError otherwise."""
    checks.check_options(options, (), _MODULE)
    if tuple(image_shape) != SHAPE:
        raise ValueError(f"expected image shape {SHAPE}, found {tuple(image_shape)} ({_MODULE})")
    return Contents(splits=("train", "test"), classes=True, streamed=True, n_images=sum(N_IMAGES.values()))


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """Splits train and test (its validation set) at (3, 32, 32). Nothing depends on `seed`; there are no options."""
    check(image_shape, options)
    paths = {split: rawfiles.find_raw(raw, name, FILES[name]) for split, (name, _) in _BATCHES.items()}
    hashes = {path.name: archives.check_archive(path, None) for path in paths.values()}
    labels = {split: _labels(path, _BATCHES[split][1]) for split, path in paths.items()}
    for split, parts in labels.items():
        if sum(map(len, parts)) != N_IMAGES[split]:
            raise ValueError(f"expected {N_IMAGES[split]} images, found {sum(map(len, parts))} ({paths[split]})")
    source = {"module": _MODULE, "archive_sha256": hashes}
    return saving.Arrays(
        splits={
            split: Stream(
                length=N_IMAGES[split],
                image_shape=SHAPE,
                read=partial(_images, path, _BATCHES[split][1], [len(part) for part in labels[split]]),
                identity=json.dumps([split, source]),
            )
            for split, path in paths.items()
        },
        indices={split: np.arange(n, dtype=np.int64) for split, n in N_IMAGES.items()},
        labels={split: np.concatenate(parts) - 1 for split, parts in labels.items()},
        n_classes=N_CLASSES,
        description="ImageNet 32x32 (Chrabaszcz), official split",
        source=source,
    )


def _labels(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """int64 [n] labels in 1..1000 of every batch. Reads, and so verifies, the whole archive."""
    return [_read(path, name)[1] for name in names]


def _images(path: Path, names: tuple[str, ...], lengths: list[int], start: int) -> Generator[np.ndarray, None, None]:
    for name, length in zip(names, lengths, strict=True):
        if start < length:
            yield from _read(path, name)[0][start:]
        start = max(0, start - length)


def _read(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [n, 3, 32, 32], int64 [n] labels) of one batch, in whichever folder of the zip it lies."""
    with reading(path, "expected a complete zip archive, found"), zipfile.ZipFile(path) as file:
        found = [member for member in file.infolist() if PurePosixPath(member.filename).name == name]
        if len(found) != 1 or found[0].file_size > _MAX_BATCH:
            sizes = [member.file_size for member in found]
            raise ValueError(f"expected one {name} of at most {_MAX_BATCH} bytes, found the sizes {sizes} ({path})")
        with file.open(found[0]) as content:
            batch = pickled_batches.read(content, range(1, N_CLASSES + 1), "a batch of 32x32 images", f"{path}, {name}")
            while content.read(1 << 20):  # zipfile compares the checksum at the end
                pass
    return batch
