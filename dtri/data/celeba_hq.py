"""CelebA-HQ (Karras et al., 2018): 30,000 faces of 1024x1024, at every level of its pyramid: 4, 8, ..., 1024 pixels.

Options:
  archive   (required) a zip, tar or tar.gz archive or a folder of the 1024x1024 images, in the drop folder
  sha256    sha256 of the archive file; checked when given
  n_source  number of images in the archive; checked when given
  holdout   number of test images, drawn with the seed (default 1,000); all other images train

The image shape chooses the level. A pixel of a level is the mean over its square of the full-size image, rounded once
to the nearest value (half to even). The authors of progressive GANs made their training data like this, and the papers'
model grows as theirs does. Indices refer to the sorted paths. Images are stored in the archive's order, so that it is
read once, from front to back. Neither the authors nor the papers publish a split.
"""

import hashlib
import json
import os
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from dtri.data import archives, checks, pictures, rawfiles, saving
from dtri.data.contents import Contents
from dtri.data.stream import Stream

FILES: dict[str, rawfiles.RawFile] = {}  # an option names the archive
SIDE = 1024
HOLDOUT = 1_000  # test images
LEVELS = tuple(2**k for k in range(2, 11))
_MODULE = "dtri.data.celeba_hq"
_KNOWN = ("archive", "sha256", "n_source", "holdout")


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow three colours at a level of the pyramid, and more images than are held out. ValueError otherwise."""
    checks.check_options(options, _KNOWN, _MODULE)
    shape = checks.check_shape(image_shape, (3,), _MODULE)
    if shape[1] != shape[2] or shape[1] not in LEVELS:
        levels = ", ".join(map(str, LEVELS))
        raise ValueError(f"expected square images of {levels} pixels, found {shape} ({_MODULE})")
    archives.check_options(options, _MODULE)
    archives.check_holdout(options, HOLDOUT, _MODULE)
    return Contents(splits=("train", "test"), classes=False, streamed=True)


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """Splits train and test of `options["archive"]` at (3, level, level), streamed; `seed` draws the test images."""
    check(image_shape, options)
    shape, n_test = tuple(image_shape), options.get("holdout", HOLDOUT)
    archive = archives.inside(raw, options.get("archive"), "archive")
    sha256 = archives.check_archive(archive, options.get("sha256"))

    with archives.named(archive):
        names = [name for name, _ in archives.members(archive) if rawfiles.is_image(name)]
    if len(set(names)) != len(names):
        raise ValueError(f"expected every path once, found {len(names) - len(set(names))} again ({archive})")
    if options.get("n_source") not in (None, len(names)):
        raise ValueError(f"expected {options['n_source']} images, found {len(names)} ({archive})")
    if n_test >= len(names):
        raise ValueError(
            f"expected more than {n_test} images, all of which would be held out, found {len(names)} ({archive})"
        )
    rank = {name: k for k, name in enumerate(sorted(names))}
    stored = np.array([rank[name] for name in names], np.int64)
    is_test = np.isin(stored, checks.generator(seed).permutation(len(names))[:n_test])
    places = {"train": np.flatnonzero(~is_test), "test": np.flatnonzero(is_test)}
    source = {
        "module": _MODULE,
        "archive": archive.name,
        "archive_sha256": sha256,
        "paths_sha256": hashlib.sha256(os.fsencode("\n".join(names))).hexdigest(),
        "n_source": len(names),
        "filter": f"box, {SIDE // shape[1]}x{SIDE // shape[1]}",
        "holdout": n_test,
        "seed": seed,
    }
    return saving.Arrays(
        splits={
            split: Stream(
                length=len(place),
                image_shape=shape,
                read=partial(_images, archive, {names[k] for k in place}, shape[1]),
                identity=json.dumps([split, source, PIL.__version__]),
            )
            for split, place in places.items()
        },
        indices={split: stored[place] for split, place in places.items()},
        labels={},
        n_classes=None,
        description=f"CelebA-HQ at {shape[1]}x{shape[1]}, reduced by averaging; {n_test} images held out",
        source=source,
    )


def reduce(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 [C, S, S] -> uint8 [C, side, side], the means over squares, exact before the one rounding."""
    factor = image.shape[1] // side
    sums = image.reshape(-1, side, factor, side, factor).sum(axis=(2, 4), dtype=np.uint32)
    return np.rint(sums / factor**2).astype(np.uint8)


def _images(archive: Path, wanted: set[str], side: int, start: int) -> Generator[np.ndarray, None, None]:
    with archives.named(archive):
        for name, read in archives.members(archive):
            if name in wanted:
                if start:
                    start -= 1
                else:
                    where = archives.place(archive, name)
                    yield reduce(pictures.decode(read(), (3, SIDE, SIDE), "none", where), side)
