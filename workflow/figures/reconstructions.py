"""Reconstruction of test images: originals beside generate(infer(x)), the same indices left and right."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dtri.arrays import read_arrays
from dtri.report import grids, style
from dtri.report.cells import FigureInput, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Reconstruction of test images"
PAPER = "A Fig. 2, B Fig. 10"
CAPTION = (
    "Left: test images. Right: their reconstructions from the posterior mean, in the same order. "
    "The RMSE is over the images shown, in the pixel range [-1, 1]."
)
SHOWN = 32
INPUTS = tuple(
    FigureInput(dataset, model, "reconstructions.npy")
    for model in ("joint_vae_ebm", "divergence_triangle")
    for dataset in ("cifar10", "celeba")
)


def draw(products: Sequence[Product]) -> "Figure":
    shown = first_seeds(products)
    fig = style.figure(8.2, 2.35 * len(shown) + 0.9)
    axes = style.panels(fig, 2 * len(shown), 2)
    for i, product in enumerate(shown):
        originals, reconstructions = read_arrays(product.path, mapped=True)[:, :SHOWN]
        grids.show(axes[2 * i], originals, 8, f"{product.place}: test images")
        error = grids.rmse(originals, reconstructions)
        grids.show(axes[2 * i + 1], reconstructions, 8, f"{product.model_label}, seed {product.seed}: {error}")
    return fig
