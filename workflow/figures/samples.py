"""Generated samples: one grid per proposed model and dataset, from fixed latents."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dtri.report import grids, style
from dtri.report.cells import FigureInput, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Generated samples"
PAPER = "A Fig. 1, B Fig. 6"
CAPTION = "The first 64 samples of one training run each, not selected; pixels as generated, no contrast stretching."
INPUTS = (
    *(FigureInput(dataset, "joint_vae_ebm", "grid.npy") for dataset in ("cifar10", "celeba", "lsun_bedroom")),
    *(FigureInput(dataset, "divergence_triangle", "grid.npy") for dataset in ("cifar10", "celeba")),
)


def draw(products: Sequence[Product]) -> "Figure":
    shown = first_seeds(products)
    columns = min(3, len(shown))
    fig = style.figure(3.3 * columns + 0.4, 3.7 * -(-len(shown) // columns) + 0.8)
    for axes, product in zip(style.panels(fig, len(shown), columns), shown, strict=True):
        images = grids.load(product.path, 64)
        grids.show(axes, images, 8, grids.heading(product, images))
    return fig
