"""Image grids from stored arrays. Pixels are shown as they are: no min-max stretching, no per-image contrast."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dtri.arrays import read_arrays
from dtri.report.cells import Missing, Product

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 1  # pixels between tiles
DIVERGED = "diverged: not finite"  # in the place of images that a model could not make


def load(path: Path, count: int | None = None) -> np.ndarray:
    """The first `count` images of a stored uint8 array, read without loading the rest."""
    images = read_arrays(path, mapped=True)
    return np.ascontiguousarray(images[:count])


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """images: uint8 [N, C, H, W] -> uint8 [rows * (H + 1) - 1, columns * (W + 1) - 1, 3].

    Gaps between images, and places after the last one, are white.

    Raises:
        ValueError: the array is empty, is not uint8 with four dimensions, or has other than one or three channels.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"expected uint8 [N, 1 or 3, H, W] with N >= 1, found {images.dtype} {list(images.shape)}")
    n, _, height, width = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + GAP), (i % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)  # one channel fills three
    return sheet


def heading(product: Product, images: np.ndarray, what: str = "") -> str:
    """Title of a panel: the system and `what`; below, the dataset, image size and seed.

    Args:
        product: that the panel shows.
        images: of the panel, [N, C, H, W].
        what: text behind the system's name, such as ", between prior samples".
    """
    size = "x".join(str(side) for side in images.shape[-2:])
    return f"{product.model_label}{what}\n{product.place}, {size}, seed {product.seed}"


def rmse(originals: np.ndarray, rebuilt: np.ndarray) -> str:
    """RMSE of uint8 images in the range [-1, 1], in words; `DIVERGED` where there are no images."""
    if not len(rebuilt):
        return DIVERGED
    return f"RMSE {np.sqrt(np.mean(((originals.astype(np.float64) - rebuilt) / 127.5) ** 2)):.3f}"


def show(axes: "Axes", images: np.ndarray, columns: int, title: str = "") -> None:
    """Draw a grid of uint8 images [N, C, H, W] with a title; where N = 0, the axes say that the run diverged."""
    if len(images):
        axes.imshow(tile(images, columns), interpolation="antialiased")
    else:
        axes.text(0.5, 0.5, DIVERGED, ha="center", va="center", transform=axes.transAxes)
    axes.set_title(title)
    axes.set_axis_off()


def missing(axes: "Axes", gap: Missing) -> None:
    """An empty panel that says what is missing, and why."""
    axes.set_title(f"{gap.model_label}\n{gap.place}")
    axes.set_axis_off()
    axes.text(0.5, 0.5, f"missing:\n{gap.reason}", ha="center", va="center", wrap=True, transform=axes.transAxes)
