"""Samples of the divergence triangle on the large datasets: twice the channels, batch norm in all three networks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dtri.report import grids, style
from dtri.report.cells import FigureInput, Missing, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Samples on large datasets"
PAPER = "B Fig. 7"
CAPTION = (
    "The first 64 samples of one training run each, not selected; pixels as generated, no contrast stretching. Paper B "
    "shows ImageNet and LSUN-bedroom, and trains tower and church outdoor too. Doubled channels and batch norm in all "
    "three networks belong to these datasets: a stand-in has the networks of its own configuration."
)
INPUTS = tuple(
    FigureInput(dataset, "divergence_triangle", "grid.npy")
    for dataset in ("imagenet32", "lsun_bedroom", "lsun_tower", "lsun_church_outdoor")
)
SHOWS_MISSING = True


def draw(products: Sequence[Product], missing: Sequence[Missing]) -> "Figure":
    """One panel per wanted dataset: its samples, or why there are none."""
    shown = first_seeds(products)
    fig = style.figure(7.2, 3.7 * -(-(len(shown) + len(missing)) // 2) + 0.9)
    panels = style.panels(fig, len(shown) + len(missing), 2)
    for axes, product in zip(panels, shown, strict=False):
        images = grids.load(product.path, 64)
        grids.show(axes, images, 8, grids.heading(product, images))
    for axes, gap in zip(panels[len(shown) :], missing, strict=True):
        grids.missing(axes, gap)
    return fig
