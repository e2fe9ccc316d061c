"""CelebA (Liu et al., 2015), aligned faces: 10,000 of the 202,599 drawn at random, 9,000 to train, 1,000 to test.

Both papers use a random 10,000 images and publish neither seed nor list. Our list, `celeba_split.csv`, was made by

    python -m dtri.data.celeba > dtri/data/celeba_split.csv

Options:
  crop       the part that is resized (bilinear, antialiased) to the image size:
               "none"   (default) the whole 178x218 picture, whatever the aspect ratio: what the papers literally say
               "cover"  the shorter side, then the centre is cut out (Resize and CenterCrop of DCGAN and WGAN scripts)
               n        the centre square of n pixels; 178, 160, 140 and 108 are in use
             FIDs of different crops cannot be compared.
  test_only  true: all 10,000 images as one test split (an out-of-distribution set)

The images are read from the official zip. Every name in it is checked, and nothing is extracted. The images are stored
in the order of the list, which is random.
"""

import csv
import hashlib
import io
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dtri.data import archives, checks, pictures, rawfiles, saving
from dtri.data.contents import Contents

ARCHIVE = "img_align_celeba.zip"
FILES = {
    ARCHIVE: rawfiles.RawFile(
        md5="00d2c5bc6d35e252742224ab0c1e8fcb",  # torchvision.datasets.CelebA.file_list
        of_content=False,
        size=1_443_490_838,
        url_hint="http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (Align&Cropped Images, by hand)",
        terms="non-commercial research only, no redistribution; cite Liu et al., Deep Learning Face Attributes, 2015",
    )
}
N_IMAGES = 202_599
SIZE = (178, 218)  # width, height
SPLIT = Path(__file__).with_name("celeba_split.csv")
SPLIT_SHA256 = "63f82ac0366231a6e0c9ec22c26feb2d8a80b4e58aa04c25f378d84cf1b4f0fa"
_SEED, _COUNTS = 0, {"train": 9_000, "test": 1_000}
_MODULE = "dtri.data.celeba"


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow grey or three colours, and the options `crop` and `test_only`. ValueError otherwise."""
    checks.check_options(options, ("crop", "test_only"), _MODULE)
    checks.check_shape(image_shape, (1, 3), _MODULE)
    crop = options.get("crop", "none")
    if crop not in ("none", "cover"):
        checks.check_count(crop, "option 'crop', unless 'none' or 'cover',", _MODULE)
        if crop > min(SIZE):
            raise ValueError(f"expected option 'crop' to be at most {min(SIZE)} pixels, found {crop} ({_MODULE})")
    test_only = options.get("test_only", False)
    if not isinstance(test_only, bool):
        raise ValueError(f"expected option 'test_only' to be true or false, found {test_only!r} ({_MODULE})")
    return Contents(splits=("test",) if test_only else ("train", "test"), classes=False)


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """The listed 10,000 faces at `image_shape`; grey is luminance, where C is 1. Nothing depends on `seed`."""
    test_only = check(image_shape, options).splits == ("test",)
    shape, crop = tuple(image_shape), options.get("crop", "none")
    path = rawfiles.find_raw(raw, ARCHIVE, FILES[ARCHIVE])
    indices = read_split()
    if test_only:
        indices = {"test": np.concatenate(list(indices.values()))}
    splits = {split: np.empty((len(index), *shape), np.uint8) for split, index in indices.items()}
    places = {int(face): (split, k) for split, index in indices.items() for k, face in enumerate(index)}

    seen = set()
    with archives.named(path):
        for name, read in archives.members(path):
            face = _face(name)
            if face is None:
                continue
            if face in seen or not 0 <= face < N_IMAGES:
                raise ValueError(f"expected each of 000001.jpg ... {N_IMAGES:06}.jpg once, found {name} ({path})")
            seen.add(face)
            if face in places:
                split, k = places[face]
                splits[split][k] = _read(read(), shape, crop, f"{path}, {name}")
    if len(seen) != N_IMAGES:
        raise ValueError(f"expected {N_IMAGES} images 000001.jpg ... {N_IMAGES:06}.jpg, found {len(seen)} ({path})")
    return saving.Arrays(
        splits=splits,
        indices=indices,
        labels={},
        n_classes=None,
        description=f"CelebA, the 10,000 aligned faces of celeba_split.csv, crop {crop}",
        source={
            "module": _MODULE,
            "archive": ARCHIVE,
            "crop": crop,
            "filter": "bilinear, antialiased",
            "split_sha256": SPLIT_SHA256,
            "n_source": N_IMAGES,
        },
    )


def read_split() -> dict[str, np.ndarray]:
    """{split: int64 positions among the sorted images}, in the list's order; ValueError if the list was changed."""
    content = SPLIT.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SPLIT_SHA256:
        raise ValueError(f"expected sha256 {SPLIT_SHA256}, found {found} ({SPLIT}); restore it from the repository")
    parts: dict[str, list[int]] = {split: [] for split in _COUNTS}
    for row in csv.DictReader(io.StringIO(content.decode())):
        parts[row["split"]].append(_face(row["image"]))
    return {split: np.array(part, np.int64) for split, part in parts.items()}


def draw_split() -> str:
    """The list as CSV: 10,000 random images in random order, the first 9,000 to train."""
    order = checks.generator(_SEED).permutation(N_IMAGES)
    splits = [split for split, count in _COUNTS.items() for _ in range(count)]
    rows = (f"{face + 1:06}.jpg,{split}\n" for face, split in zip(order[: len(splits)], splits, strict=True))
    return "image,split\n" + "".join(rows)


def _face(name: str) -> int | None:
    """Position of `.../000001.jpg` among the sorted images, from 0; None for other files."""
    path = PurePosixPath(name)
    if path.suffix != ".jpg" or not re.fullmatch(r"[0-9]{6}", path.stem):
        return None
    return int(path.stem) - 1


def _read(content: bytes, shape: tuple[int, int, int], crop: str | int, where: str) -> np.ndarray:
    image = pictures.open_image(content, shape[0], where)
    if image.size != SIZE:
        found, expected = "{}x{}".format(*image.size), "{}x{}".format(*SIZE)
        raise ValueError(f"expected {expected} pixels (width x height), found {found} ({where})")
    if isinstance(crop, int):
        left, top = (SIZE[0] - crop) // 2, (SIZE[1] - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    return pictures.fit(image, shape, "crop" if crop == "cover" else "stretch", where)


if __name__ == "__main__":
    sys.stdout.write(draw_split())
