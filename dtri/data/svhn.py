"""SVHN (Netzer et al., 2011), cropped digits: the 26,032 test images of 32x32x3. Test split only.

Paper A scores it as an out-of-distribution set. In the MATLAB 5 file X is [32, 32, 3, N], and y gives the digit 0 as
class 10; `read_mat` corrects both.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dtri.data import checks, rawfiles, saving
from dtri.data.contents import Contents
from dtri.messages import reading

FILE = "test_32x32.mat"
FILES = {
    FILE: rawfiles.RawFile(
        md5="eb5a983be6a315427106f1b164d9cef3",  # torchvision.datasets.SVHN.split_list
        of_content=False,
        size=64_275_384,
        url_hint="http://ufldl.stanford.edu/housenumbers/",
        terms="non-commercial use only; cite Netzer et al., Reading Digits in Natural Images, 2011",
    )
}
SHAPE = (3, 32, 32)


def urls(name: str) -> list[str]:
    """Addresses to try for one of FILES, in order."""
    from torchvision.datasets import SVHN  # imports torch, which takes seconds: only downloads pay them

    return [url for url, file, _ in SVHN.split_list.values() if file == name]


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow images of (3, 32, 32), without options. ValueError otherwise."""
    checks.check_options(options, (), "dtri.data.svhn")
    if tuple(image_shape) != SHAPE:
        raise ValueError(f"expected image shape {SHAPE}, found {tuple(image_shape)} (dtri.data.svhn)")
    return Contents(splits=("test",), classes=True)


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """SVHN's test images at (3, 32, 32) in official order. Nothing depends on `seed`; there are no options."""
    check(image_shape, options)
    images, labels = read_mat(rawfiles.find_raw(raw, FILE, FILES[FILE]))
    return saving.Arrays(
        splits={"test": images},
        indices={"test": np.arange(len(images), dtype=np.int64)},
        labels={"test": labels},
        n_classes=10,
        description="SVHN, official test split of the cropped digits",
        source={"module": "dtri.data.svhn", "file": FILE},
    )


def read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [N, 3, 32, 32], int64 [N] in 0..9) of a cropped-digits file; ValueError for another format or content."""
    from scipy.io import loadmat  # takes half a second, which planning does not pay

    with reading(path, "expected a complete MATLAB 5 file with X and y, found"):
        content = loadmat(path, variable_names=("X", "y"))
        values, classes = content["X"], content["y"].ravel()
    valid = values.dtype == np.uint8 and values.shape == (32, 32, 3, len(classes))
    if not valid or not np.isin(classes, np.arange(1, 11)).all():
        found = f"{values.dtype} {values.shape} and {len(classes)} classes, {np.unique(classes)[:11].tolist()}"
        raise ValueError(f"expected uint8 X [32, 32, 3, N] and N classes in 1..10, found {found} ({path})")
    return np.ascontiguousarray(values.transpose(3, 2, 0, 1)), classes.astype(np.int64) % 10
