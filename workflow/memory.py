"""Memory that a job asks for, in MiB, from the images that it holds. Peaks of whole processes were measured (RSS):

| job | images | MiB of images | peak | by the formula |
|-|-|-:|-:|-:|
| prepare, noise | 60,000 x 3x32x32 | 176 | 213 | 1,216 |
| prepare, MNIST | 70,000 x 1x28x28 | 52 | 141 | 722 |
| prepare, image files | 60,000 x 3x32x32 | 176 | 234 | 1,216 |
| prepare, hold-out of | 60,000 x 3x32x32 | 176 | 1,353 | 2,272 |
"""

from pathlib import Path
from typing import Any

from dtri.sealed import read_sealed
from workflow import checks, plan

MOST_IMAGES = 70_000  # of a published set that is held in memory whole: MNIST's and Fashion-MNIST's


def prepare(wildcards: Any) -> int:
    """Libraries, and the images four times: as read, as stored, and what a reader or a padding needs beside them.

    A hold-out pools its source and takes three splits from it.
    """
    data = plan.dataset(wildcards.dataset)
    if data.config.holdout_of:
        return 512 + round(10 * images_mib(plan.dataset(data.config.holdout_of)))
    made = checks.contents(data.family, data.image_shape)
    return 512 + (0 if made and made.streamed else round(4 * images_mib(data)))


def classifier(wildcards: Any) -> int:
    """Libraries and a batch; the images three times: on the disk, which counts once it is read, copied, and checked."""
    return 2048 + round(3 * images_mib(plan.dataset(wildcards.dataset)))


def images_mib(data: plan.Dataset) -> float:
    """MiB of all images of a dataset.

    Their number is that in meta.json, else what its module or its options say, else the largest published set's.
    """
    channels, height, width = data.image_shape
    return _count(data) * channels * height * width / 2**20


def _count(data: plan.Dataset) -> int:
    try:
        return sum(read_sealed(Path(data.folder) / "meta.json", "the description of a dataset")["sizes"].values())
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        source = plan.dataset(data.config.holdout_of) if data.config.holdout_of else data
        made, options = checks.contents(source.family, source.image_shape), source.config.options
        configured = options.get("n") or options.get("n_source")
        drawn = sum(options.get("split", {}).get("random", {}).values())
        return (made.n_images if made else 0) or configured or drawn or MOST_IMAGES
