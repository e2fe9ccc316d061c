"""Describable Textures (Cimpoi et al., 2014), release r1.0.1: all 5,640 images, 47 classes of 120. Test split only.

Option `crop` says how the photographs, 300 to 640 pixels wide, become small images:
  "centre"    (default) the shorter side is resized to the size, bilinear and antialiased, then the centre is cut out
  "top_left"  the corner of the photograph at full resolution, without resizing. Du & Mordatch (2019) measured this;
              paper A prints their number for Textures in its row EBM

The source order is the sorted order of the paths. Images are stored in a seeded random order, so that the first n
images are a sample of all classes. The archive is decoded in one pass and never extracted.
"""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dtri.data import archives, checks, pictures, rawfiles, saving
from dtri.data.contents import Contents

ARCHIVE = "dtd-r1.0.1.tar.gz"
FILES = {
    ARCHIVE: rawfiles.RawFile(
        md5="fff73e5086ae6bdbea199a49dfb8a4c1",  # torchvision.datasets.DTD
        of_content=False,
        size=625_239_812,
        url_hint="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        terms="for research purposes; cite Cimpoi et al., Describing Textures in the Wild, 2014",
    )
}
N_CLASSES, PER_CLASS = 47, 120
_FOLDER = "dtd/images/"  # other folders hold lists of labels, and one class folder holds a hidden file


def urls(name: str) -> list[str]:
    """Addresses to try for one of FILES, in order."""
    return ["https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz"]


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow grey or three colours, and option `crop`. ValueError otherwise."""
    checks.check_options(options, ("crop",), "dtri.data.dtd")
    checks.check_shape(image_shape, (1, 3), "dtri.data.dtd")
    crop = options.get("crop", "centre")
    if crop not in ("centre", "top_left"):
        raise ValueError(f"expected option 'crop' to be 'centre' or 'top_left', found {crop!r} (dtri.data.dtd)")
    return Contents(splits=("test",), classes=True)


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """All textures at `image_shape`; grey is luminance, where C is 1. ValueError names missing or unreadable files."""
    check(image_shape, options)
    shape, crop = tuple(image_shape), options.get("crop", "centre")
    path = rawfiles.find_raw(raw, ARCHIVE, FILES[ARCHIVE])
    read = _read_top_left if crop == "top_left" else _read_centre
    images = {}
    with archives.named(path):
        for name, content in archives.members(path):
            if name.startswith(_FOLDER) and rawfiles.is_image(name):
                images[name] = read(content(), shape, f"{path}, {name}")

    names = sorted(images)
    parents = [PurePosixPath(name).parent.name for name in names]
    counts = Counter(parents)
    if len(counts) != N_CLASSES or set(counts.values()) != {PER_CLASS}:
        odd = next((f", {n} of {name}" for name, n in counts.items() if n != PER_CLASS), "")
        raise ValueError(
            f"expected {N_CLASSES} classes of {PER_CLASS} images in {_FOLDER}, found {len(names)} images of "
            f"{len(counts)} classes{odd} ({path})"
        )
    number = {name: k for k, name in enumerate(sorted(counts))}
    order = checks.generator(seed).permutation(len(names)).astype(np.int64)
    return saving.Arrays(
        splits={"test": np.stack([images[names[k]] for k in order])},
        indices={"test": order},
        labels={"test": np.array([number[parents[k]] for k in order], np.int64)},
        n_classes=N_CLASSES,
        description=f"Describable Textures r1.0.1, crop {crop}",
        source={
            "module": "dtri.data.dtd",
            "crop": crop,
            "filter": "bilinear, antialiased" if crop == "centre" else None,
            "seed": seed,
            "classes": sorted(counts),
        },
    )


def _read_centre(content: bytes, shape: tuple[int, int, int], where: str) -> np.ndarray:
    return pictures.decode(content, shape, "crop", where)


def _read_top_left(content: bytes, shape: tuple[int, int, int], where: str) -> np.ndarray:
    image = pictures.open_image(content, shape[0], where)
    if image.width < shape[2] or image.height < shape[1]:
        found = f"{image.width}x{image.height}"
        raise ValueError(f"expected at least {shape[2]}x{shape[1]} pixels (width x height), found {found} ({where})")
    return pictures.pixels(image.crop((0, 0, shape[2], shape[1])))
