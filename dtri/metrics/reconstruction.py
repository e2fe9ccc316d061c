"""Reconstruction error of Table 2 of both papers: the mean over all N*C*H*W elements, in [-1, 1].

RMSE is the root of this global mean. It is never a mean of roots, nor a mean of batch means.
"""

import numpy as np

GREY_LEVEL = 1.0 / 127.5  # one uint8 step on the [-1, 1] scale
ROWS = 1024  # images converted to float64 at a time


class SquaredError:
    """Sums squared errors in float64 over batches of any size.

    add(originals, reconstructions)  float arrays of one shape [B, C, H, W] in [-1, 1]
    mse, rmse                        global mean over every element so far, and its square root
    n                                number of images so far
    """

    def __init__(self) -> None:
        self.n = 0
        self._elements = 0
        self._sum = 0.0

    def add(self, originals: np.ndarray, reconstructions: np.ndarray) -> None:
        originals, reconstructions = np.asarray(originals), np.asarray(reconstructions)
        if originals.shape != reconstructions.shape or originals.ndim != 4:
            raise ValueError(
                f"expected two batches [B, C, H, W] of one shape, found {originals.shape} and {reconstructions.shape}"
            )
        for name, images in (("originals", originals), ("reconstructions", reconstructions)):
            _check_range(name, images)
        difference = originals.astype(np.float64) - reconstructions
        self._sum += float(np.square(difference).sum())
        self._elements += difference.size
        self.n += len(originals)

    @property
    def mse(self) -> float:
        if not self._elements:
            raise ValueError("expected at least one image, found none")
        return self._sum / self._elements

    @property
    def rmse(self) -> float:
        return self.mse**0.5


def _check_range(name: str, images: np.ndarray) -> None:
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"expected floating-point {name} in [-1, 1], found {images.dtype}")
    if not np.isfinite(images).all():
        raise ValueError(f"expected finite {name}, found {int((~np.isfinite(images)).sum())} elements that are not")
    if images.size and np.abs(images).max() > 1.0 + 1e-3:
        raise ValueError(f"expected {name} in [-1, 1], found {images.min():.4g}..{images.max():.4g}")


def mean_image_mse(images: np.ndarray, train: np.ndarray | None = None) -> float:
    """MSE in [-1, 1] where the mean image (of `train`, else of `images`) replaces every image.

    Both are uint8 [N, C, H, W]. Every model must beat this trivial baseline, which ignores the image.
    """
    source = images if train is None else train
    _check_stored(images)
    _check_stored(source)
    total = sum(source[i : i + ROWS].sum(axis=0, dtype=np.float64) for i in range(0, len(source), ROWS))
    mean = total / len(source)
    squares = sum(float(np.square(images[i : i + ROWS] - mean).sum()) for i in range(0, len(images), ROWS))
    return squares / images.size * GREY_LEVEL**2


def random_pairs_mse(images: np.ndarray, seed: int) -> float:
    """MSE in [-1, 1] between unrelated images, uint8 [N, C, H, W]; `seed` draws the partner of each image."""
    _check_stored(images)
    if len(images) < 2:
        raise ValueError(f"expected at least 2 images to pair, found {len(images)}")
    order = np.random.default_rng(seed).permutation(len(images))
    partner = np.roll(order, 1)  # no image is its own partner
    squares = 0.0
    for i in range(0, len(images), ROWS):
        difference = images[order[i : i + ROWS]].astype(np.float64) - images[partner[i : i + ROWS]]
        squares += float(np.square(difference).sum())
    return squares / images.size * GREY_LEVEL**2


def _check_stored(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
        raise ValueError(f"expected uint8 images [N, C, H, W] with N > 0, found {images.dtype} {images.shape}")
