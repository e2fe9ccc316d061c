"""Layer-wise growth: real images and samples at the end of every level, from the same latents throughout."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dtri.arrays import read_arrays
from dtri.report import grids, style
from dtri.report.cells import FigureInput, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Layer-wise growth"
PAPER = "B section 4.1.3, no such figure there"
CAPTION = (
    "One row per level, at its end, enlarged to the full size: left test images as the level shows them (means over "
    "squares), right samples of the averaged weights, from the same latents in all rows; not selected. A row's samples "
    "come from the weights of that moment, not from inner layers of the last ones."
)
INPUTS = (FigureInput("celeba_hq", "divergence_triangle_progressive", "growth.npz"),)


def draw(products: Sequence[Product]) -> "Figure":
    shown = first_seeds(products)
    product = shown[0]
    made = read_arrays(product.path)
    images, sides, seen = made["images"], made["sides"], made["seen"]
    if not len(sides):
        return style.nothing(f"{product.model_label}, {product.place}: diverged")
    fig = style.figure(8.2, 0.75 * len(sides) + 1.5)
    axes = fig.subplots(len(sides), 2, squeeze=False)
    for row, pair, side, count in zip(axes, images, sides, seen, strict=True):
        for place, tiles in zip(row, pair, strict=True):
            grids.show(place, tiles, len(tiles))
        row[0].set_title(f"{side}x{side}, {count / 1000:.4g} thousand images seen", fontsize=8)
    axes[0][1].set_title(f"{product.model_label}: {product.place}, seed {product.seed}", fontsize=8)
    return fig
