"""Memory that a job asks for, in MiB, from the images that it holds. Peaks of whole processes were measured (RSS):

| job | images | MiB of images | peak | by the formula |
|-|-|-:|-:|-:|
| prepare, noise | 60,000 x 3x32x32 | 176 | 213 | 1,215 |
| prepare, MNIST | 70,000 x 1x28x28 | 52 | 141 | 721 |
| prepare, image files | 60,000 x 3x32x32 | 176 | 234 | 1,215 |
| prepare, hold-out of | 60,000 x 3x32x32 | 176 | 1,353 | 2,270 |
"""

from pathlib import Path
from typing import Any

from dtri.sealed import read_sealed
from workflow import checks, specs

MOST_IMAGES = 70_000  # of a published set that is held whole in memory: MNIST's and Fashion-MNIST's


def prepare(wildcards: Any) -> int:
    """MiB: 512 for libraries, and the images four times: as read, as stored, and twice for reading or padding.

    A hold-out pools its source and takes three splits from it, which is ten times the source's images. A dataset that
    is streamed needs the libraries alone.
    """
    data = specs.dataset(wildcards.dataset)
    if data.config.holdout_of:
        return 512 + round(10 * images_mib(specs.dataset(data.config.holdout_of)))
    made = checks.contents(data.family, data.image_shape)
    return 512 + (0 if made and made.streamed else round(4 * images_mib(data)))


def classifier(wildcards: Any) -> int:
    """MiB: 2,048 for libraries and a batch, and the images three times: mapped from disk, copied, and checked."""
    return 2048 + round(3 * images_mib(specs.dataset(wildcards.dataset)))


def images_mib(data: specs.Dataset) -> float:
    """MiB of all images of a dataset.

    Their number comes from meta.json, else from the dataset's module or options. Else it is the largest published
    set's.
    """
    channels, height, width = data.image_shape
    return _count(data) * channels * height * width / 2**20


def _count(data: specs.Dataset) -> int:
    try:
        return sum(read_sealed(Path(data.folder) / "meta.json", "the description of a dataset")["sizes"].values())
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        source = specs.dataset(data.config.holdout_of) if data.config.holdout_of else data
        made, options = checks.contents(source.family, source.image_shape), source.config.options
        configured = options.get("n") or options.get("n_source")
        drawn = sum(options.get("split", {}).get("random", {}).values())
        return (made.n_images if made else 0) or configured or drawn or MOST_IMAGES
