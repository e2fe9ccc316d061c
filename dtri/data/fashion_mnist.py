"""Fashion-MNIST (Xiao, Rasul & Vollgraf, 2017): 60,000 / 10,000 articles of 28x28, official split and order.

The files have MNIST's names and format, and lie in another drop folder. Here the compressed files themselves are
checked: all copies are the publisher's, byte by byte. An image shape of (1, 32, 32) pads with two black pixels on every
side.
"""

from pathlib import Path
from typing import Any

from dtri.data import mnist, saving
from dtri.data.contents import Contents
from dtri.data.rawfiles import RawFile

_WHERE = "https://github.com/zalandoresearch/fashion-mnist"
_TERMS = "MIT licence"
# md5: torchvision.datasets.FashionMNIST.resources.
FILES = {
    "train-images-idx3-ubyte.gz": RawFile("8d4fb7e6c68d591d4c3dfef9ec88bf0d", False, 26_421_880, _WHERE, _TERMS),
    "train-labels-idx1-ubyte.gz": RawFile("25c81989df183df01b3e8a0aad5dffbe", False, 29_515, _WHERE, _TERMS),
    "t10k-images-idx3-ubyte.gz": RawFile("bef4ecab320f06d8554ea6380940ec79", False, 4_422_102, _WHERE, _TERMS),
    "t10k-labels-idx1-ubyte.gz": RawFile("bb300cfdad3c16e7a12a480ee83cd310", False, 5_148, _WHERE, _TERMS),
}


def urls(name: str) -> list[str]:
    """Addresses to try for one of FILES, in order."""
    from torchvision.datasets import FashionMNIST  # imports torch, which takes seconds: only downloads pay them

    return [f"{mirror}{name}" for mirror in FashionMNIST.mirrors]


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow Fashion-MNIST as it is or zero-padded, without options. ValueError otherwise."""
    return mnist.check_padded(image_shape, options, "dtri.data.fashion_mnist")


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """Fashion-MNIST at (1, 28, 28), or zero-padded to (1, 32, 32). Nothing depends on `seed`; there are no options."""
    return mnist.arrays(raw, image_shape, options, FILES, "Fashion-MNIST", "dtri.data.fashion_mnist")
