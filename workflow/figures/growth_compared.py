"""Growth beside its control: the same networks and objective, grown layer by layer and at full size throughout."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dtri.arrays import read_arrays
from dtri.report import grids, style
from dtri.report.cells import FigureInput, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "With and without growth"
PAPER = "B section 4.1.3, no such figure there"
CAPTION = (
    "One training run each, with equally many images seen: networks grown layer by layer, and the same networks with "
    "the same settings at full size from the first image on. Left: the first 32 samples, not selected. Right: test "
    "images, each row above its reconstructions; the RMSE is over the images shown, in the pixel range [-1, 1]."
)
SAMPLES, RECONSTRUCTIONS = "grid.npy", "reconstructions.npy"
SHOWN, COLUMNS = 32, 8
INPUTS = tuple(
    FigureInput("celeba", model, file)
    for model in ("divergence_triangle_progressive", "divergence_triangle_ungrown")
    for file in (SAMPLES, RECONSTRUCTIONS)
)


def draw(products: Sequence[Product]) -> "Figure":
    shown = first_seeds(products)
    fig = style.figure(8.2, 2.3 * -(-len(shown) // 2) + 1.1)
    for axes, product in zip(style.panels(fig, len(shown), 2), shown, strict=True):
        if product.file == SAMPLES:
            made = grids.load(product.path, SHOWN)
            grids.show(axes, made, COLUMNS, grids.heading(product, made))
        else:
            originals, rebuilt = read_arrays(product.path, mapped=True)[:, : SHOWN // 2]
            rows = [
                row for k in range(0, len(rebuilt), COLUMNS) for row in (originals[k:][:COLUMNS], rebuilt[k:][:COLUMNS])
            ]
            heading = f"test images and reconstructions\n{grids.rmse(originals, rebuilt)}"
            grids.show(axes, np.concatenate([rebuilt[:0], *rows]), COLUMNS, heading)
    return fig
