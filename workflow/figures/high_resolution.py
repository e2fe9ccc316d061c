"""Samples of the model that was grown layer by layer, at the size that it reached."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dtri.report import grids, style
from dtri.report.cells import FigureInput, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "High-resolution samples"
PAPER = "B Fig. 8, there CelebA-HQ at 1024x1024"
CAPTION = (
    "The first 24 samples of one training run, not selected; pixels as generated, no contrast stretching. The size in "
    "the title is that of the samples: those of more than some hundred pixels are reduced for this page."
)
SHOWN, COLUMNS = 24, 8
INPUTS = (FigureInput("celeba_hq", "divergence_triangle_progressive", "grid.npy"),)


def draw(products: Sequence[Product]) -> "Figure":
    shown = first_seeds(products)
    fig = style.figure(8.2, 3.4 * len(shown) + 0.9)
    for axes, product in zip(style.panels(fig, len(shown), 1), shown, strict=True):
        images = grids.load(product.path, SHOWN)
        grids.show(axes, images, COLUMNS, grids.heading(product, images))
    return fig
