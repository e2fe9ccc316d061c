"""MNIST (LeCun, Cortes & Burges, 1998): 60,000 / 10,000 digits of 28x28, official split and order.

Files are checked by their decompressed content, because copies of the four files are compressed differently. An image
shape of (1, 32, 32) pads with two black pixels on every side. Nothing is ever resized.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dtri.data import checks, rawfiles, saving
from dtri.data.contents import Contents
from dtri.data.rawfiles import RawFile
from dtri.messages import reading

_WHERE = "https://yann.lecun.com/exdb/mnist/ or its mirror https://ossci-datasets.s3.amazonaws.com/mnist/"
_TERMS = "no licence text at the origin; commonly cited as CC BY-SA 3.0"
# md5 and size of the decompressed bytes: a header of 16 or 8 bytes, then one byte per value.
FILES = {
    "train-images-idx3-ubyte.gz": RawFile("6bbc9ace898e44ae57da46a324031adb", True, 47_040_016, _WHERE, _TERMS),
    "train-labels-idx1-ubyte.gz": RawFile("a25bea736e30d166cdddb491f175f624", True, 60_008, _WHERE, _TERMS),
    "t10k-images-idx3-ubyte.gz": RawFile("2646ac647ad5339dbf082846283269ea", True, 7_840_016, _WHERE, _TERMS),
    "t10k-labels-idx1-ubyte.gz": RawFile("27ae3e4e09519cfbb04c329615203637", True, 10_008, _WHERE, _TERMS),
}
SHAPE = (1, 28, 28)
_PREFIX = {"train": "train", "test": "t10k"}


def urls(name: str) -> list[str]:
    """Addresses to try for one of FILES, in order."""
    from torchvision.datasets import MNIST  # imports torch, which takes seconds: only downloads pay them

    return [f"{mirror}{name}" for mirror in MNIST.mirrors]


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow MNIST as it is or zero-padded, without options. ValueError otherwise."""
    return check_padded(image_shape, options, "dtri.data.mnist")


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """MNIST at (1, 28, 28), or zero-padded to (1, 32, 32). Nothing depends on `seed`; there are no options."""
    return arrays(raw, image_shape, options, FILES, "MNIST", "dtri.data.mnist")


def check_padded(image_shape: tuple[int, int, int], options: dict[str, Any], module: str) -> Contents:
    """The check for datasets in MNIST's format: 28x28, or 32x32 zero-padded, without options. ValueError otherwise."""
    checks.check_options(options, (), module)
    if tuple(image_shape) not in (SHAPE, (1, 32, 32)):
        raise ValueError(f"expected image shape {SHAPE} or (1, 32, 32), found {tuple(image_shape)} ({module})")
    return Contents(splits=("train", "test"), classes=True)


def arrays(
    raw: Path,
    image_shape: tuple[int, int, int],
    options: dict[str, Any],
    files: dict[str, RawFile],
    title: str,
    module: str,
) -> saving.Arrays:
    """A dataset with MNIST's four file names and sizes.

    Args:
        raw:         the drop folder.
        image_shape: (1, 28, 28), or (1, 32, 32) for zero-padding.
        options:     none are known.
        files:       size and md5 of the four files.
        title:       name of the dataset for descriptions.
        module:      name of the dataset module.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file has another content or format, or an argument is wrong.
    """
    check_padded(image_shape, options, module)
    shape = tuple(image_shape)
    splits, labels = {}, {}
    for split, prefix in _PREFIX.items():
        names = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
        images, classes = (read_idx(rawfiles.find_raw(raw, n, files[n]), d) for n, d in zip(names, (3, 1)))
        labels[split] = classes.astype(np.int64)
        if images.shape[1:] != (28, 28) or len(images) != len(labels[split]):
            raise ValueError(
                f"expected 28x28 images and labels, found {images.shape} and {labels[split].shape} ({raw}, {split})"
            )
        border = (shape[1] - 28) // 2
        splits[split] = np.pad(images, ((0, 0), (border, border), (border, border)))[:, None]
    return saving.Arrays(
        splits=splits,
        indices={split: np.arange(len(images), dtype=np.int64) for split, images in splits.items()},
        labels=labels,
        n_classes=10,
        description=f"{title}, official split" + ("" if shape[1] == 28 else ", zero-padded to 32x32"),
        source={"module": module, "padding": (shape[1] - 28) // 2},
    )


def read_idx(path: Path, n_dims: int) -> np.ndarray:
    """uint8 array of an idx file (big-endian header), compressed or not. ValueError for another format or length.

    `n_dims` is the expected number of dimensions.
    """
    with reading(path, "expected a complete idx file, found"), rawfiles.open_content(path) as file:
        content = file.read()
    start = 4 + 4 * n_dims
    magic = 0x800 + n_dims  # type 8 (unsigned byte), number of dimensions: 2051 for images, 2049 for labels
    found = int.from_bytes(content[:4], "big")
    if len(content) < start or found != magic:
        raise ValueError(f"expected an idx file with magic {magic}, found {found} in {len(content)} bytes ({path})")
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    expected = start + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise ValueError(f"expected {expected} bytes for shape {shape}, found {len(content)} ({path})")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
