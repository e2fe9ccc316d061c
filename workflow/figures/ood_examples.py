"""Examples of the in-distribution test set and of the sets it is told apart from, after preprocessing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dtri.report import grids, style
from dtri.report.cells import FigureInput, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Test images of each set"
PAPER = "A Fig. 4"
CAPTION = "The first 36 test images of each set, exactly as the models score them."
INPUTS = tuple(
    FigureInput(dataset, "", "data:test.npy") for dataset in ("cifar10", "svhn", "uniform", "dtd", "celeba32")
)


def draw(products: Sequence[Product]) -> "Figure":
    shown = first_seeds(products)
    fig = style.figure(2.4 * len(shown) + 0.3, 3.4)
    for axes, product in zip(style.panels(fig, len(shown), len(shown)), shown, strict=True):
        role = "in-distribution" if product.dataset == INPUTS[0].dataset else "out-of-distribution"
        grids.show(axes, grids.load(product.path, 36), 6, f"{product.place}\n{role}")
    return fig
