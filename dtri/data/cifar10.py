"""CIFAR-10 (Krizhevsky, 2009): 50,000 / 10,000 images of 32x32x3, official split and order.

Reads the official archive as it is. Its batches are Python 2 pickles; they are read by an unpickler that knows NumPy
arrays and nothing else, so that a forged archive cannot run code.
"""

import gzip
import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from dtri.data import store

ARCHIVE = "cifar-10-python.tar.gz"
FILES = {
    ARCHIVE: store.RawFile(
        md5="c58f30108f718f92721af3b95e74349a",  # torchvision.datasets.CIFAR10.tgz_md5
        of_content=False,
        size=170_498_071,
        url_hint="https://www.cs.toronto.edu/~kriz/cifar.html",
        terms="no licence text; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    )
}
SHAPE = (3, 32, 32)
_BATCHES = {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}
_MAX_BATCH = 64 * 2**20  # bytes; an official batch has 31 MB
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def urls(name: str) -> list[str]:
    """Addresses to try for one of FILES, in order."""
    from torchvision.datasets import CIFAR10  # imports torch: seconds that only a download pays

    return [CIFAR10.url]


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> store.Arrays:
    """CIFAR-10 at (3, 32, 32); nothing depends on `seed`, there are no options."""
    store.check_options(options, (), "dtri.data.cifar10")
    if tuple(image_shape) != SHAPE:
        raise ValueError(f"expected image shape {SHAPE}, found {tuple(image_shape)} (dtri.data.cifar10)")
    path = store.find_raw(raw, ARCHIVE, FILES[ARCHIVE])
    batches = _read_batches(path)
    splits, labels = {}, {}
    for split, names in _BATCHES.items():
        splits[split] = np.concatenate([batches[name][0] for name in names])
        labels[split] = np.concatenate([batches[name][1] for name in names])
    return store.Arrays(
        splits=splits,
        indices={split: np.arange(len(images), dtype=np.int64) for split, images in splits.items()},
        labels=labels,
        n_classes=10,
        description="CIFAR-10, official split",
        source={"module": "dtri.data.cifar10"},
    )


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a CIFAR-10 batch") from None


def _read_batches(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{batch: (uint8 [n, 3, 32, 32], int64 [n])} of the archive."""
    expected = {f"cifar-10-batches-py/{name}": name for names in _BATCHES.values() for name in names}
    batches = {}
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                if member.name in expected:
                    if not member.isfile() or member.size > _MAX_BATCH:
                        raise ValueError(f"expected a plain file of at most {_MAX_BATCH} bytes: {member.name} ({path})")
                    content = tar.extractfile(member).read()
                    batches[expected[member.name]] = _read_batch(content, f"{path}, {member.name}")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"expected the complete archive {ARCHIVE}, found: {error} ({path})") from error
    missing = sorted(name for name in expected.values() if name not in batches)
    if missing:
        raise ValueError(f"expected the batches {', '.join(expected.values())}, found no {', '.join(missing)} ({path})")
    return batches


def _read_batch(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        data, labels = np.asarray(batch["data"]), np.asarray(batch["labels"], dtype=np.int64)
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"expected a CIFAR-10 batch, found: {error!r} ({where})") from error
    valid = data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == 3072 and labels.shape == data.shape[:1]
    if not valid or (labels < 0).any() or (labels > 9).any():
        raise ValueError(f"expected uint8 [n, 3072] and n labels in 0..9, found {data.dtype} {data.shape} ({where})")
    return data.reshape(-1, *SHAPE), labels  # a row holds all red, then all green, then all blue values
