"""CIFAR-10 (Krizhevsky, 2009): 50,000 / 10,000 images of 32x32x3, official split and order.

The official archive is read as it is. Its batches are Python 2 pickles, and a forged one cannot run code (see
dtri.data.pickled_batches).
"""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from dtri.data import checks, pickled_batches, rawfiles, saving
from dtri.data.contents import Contents
from dtri.messages import reading

ARCHIVE = "cifar-10-python.tar.gz"
FILES = {
    ARCHIVE: rawfiles.RawFile(
        md5="c58f30108f718f92721af3b95e74349a",  # torchvision.datasets.CIFAR10.tgz_md5
        of_content=False,
        size=170_498_071,
        url_hint="https://www.cs.toronto.edu/~kriz/cifar.html",
        terms="no licence text; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    )
}
SHAPE = pickled_batches.SHAPE
_BATCHES = {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}
_MAX_BATCH = 64 * 2**20  # bytes; an official batch has 31 MB


def urls(name: str) -> list[str]:
    """Addresses to try for one of FILES, in order."""
    from torchvision.datasets import CIFAR10  # imports torch, which takes seconds: only downloads pay them

    return [CIFAR10.url]


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow images of (3, 32, 32), without options. ValueError otherwise."""
    checks.check_options(options, (), "dtri.data.cifar10")
    if tuple(image_shape) != SHAPE:
        raise ValueError(f"expected image shape {SHAPE}, found {tuple(image_shape)} (dtri.data.cifar10)")
    return Contents(splits=("train", "test"), classes=True)


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """CIFAR-10 at (3, 32, 32). Nothing depends on `seed`; there are no options."""
    check(image_shape, options)
    path = rawfiles.find_raw(raw, ARCHIVE, FILES[ARCHIVE])
    read = _read_batches(path)
    splits, labels = {}, {}
    for split, names in _BATCHES.items():
        splits[split] = np.concatenate([read[name][0] for name in names])
        labels[split] = np.concatenate([read[name][1] for name in names])
    return saving.Arrays(
        splits=splits,
        indices={split: np.arange(len(images), dtype=np.int64) for split, images in splits.items()},
        labels=labels,
        n_classes=10,
        description="CIFAR-10, official split",
        source={"module": "dtri.data.cifar10"},
    )


def _read_batches(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{batch: (uint8 [n, 3, 32, 32], int64 [n] labels)} of the archive."""
    expected = {f"cifar-10-batches-py/{name}": name for names in _BATCHES.values() for name in names}
    found = {}
    with reading(path, f"expected the complete archive {ARCHIVE}, found"), tarfile.open(path, "r:*") as tar:
        for member in tar:
            if member.name in expected:
                if not member.isfile() or member.size > _MAX_BATCH:
                    raise ValueError(f"expected a plain file of at most {_MAX_BATCH} bytes: {member.name} ({path})")
                content = tar.extractfile(member).read()
                where = f"{path}, {member.name}"
                found[expected[member.name]] = pickled_batches.read(
                    io.BytesIO(content), range(10), "a CIFAR-10 batch", where
                )
    missing = sorted(name for name in expected.values() if name not in found)
    if missing:
        raise ValueError(f"expected the batches {', '.join(expected.values())}, found no {', '.join(missing)} ({path})")
    return found
