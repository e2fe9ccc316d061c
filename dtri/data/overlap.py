"""Images that occur more than once in a dataset: the same pixels, whatever their names."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

SHOWN = 3  # number of pairs that a message names


def repeated(images: np.ndarray, among: np.ndarray) -> list[tuple[int, int]]:
    """(position in `images`, first position in `among`) of every image in both arrays, uint8 [N, C, H, W] each.

    `among` is read once, image by image. The memory needed grows with `images` alone.
    """
    positions: dict[bytes, list[int]] = {}
    for k, key in enumerate(_keys(images)):
        positions.setdefault(key, []).append(k)
    found: dict[bytes, int] = {}
    for k, key in enumerate(_keys(among)):
        if key in positions:
            found.setdefault(key, k)
    return sorted((k, found[key]) for key in found for k in positions[key])


def report(pairs: list[tuple[int, int]], test: np.ndarray, train: np.ndarray, names: Sequence[str]) -> str:
    """One line on test images that also train; `test` and `train` [n] are indices into the source's `names`."""

    def name(index: int) -> str:
        return names[index] if names else f"image {index} of the source"

    examples = ", ".join(f"{name(int(test[i]))} = {name(int(train[k]))}" for i, k in pairs[:SHOWN])
    more = ", ..." if len(pairs) > SHOWN else ""
    return f"{len(pairs)} of {len(test)} test images are training images too, pixel by pixel: {examples}{more}"


def _keys(images: np.ndarray) -> Iterator[bytes]:
    return (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images)
