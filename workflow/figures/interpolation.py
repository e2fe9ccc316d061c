"""Linear interpolation in the latent space, one row per pair: between inferred latents, and between prior samples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dtri.arrays import read_arrays
from dtri.report import grids, style
from dtri.report.cells import FigureInput, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Interpolation in the latent space"
PAPER = "B Fig. 9, there on CelebA-HQ"
CAPTION = (
    "Each row walks in a straight line from one latent to another. Left: between the posterior means of two test "
    "images, which are themselves the first and the last column (the script of paper B). Right: between two samples of "
    "the prior; halfway these lines are nearer to the origin than samples are."
)
ROWS = 6
INFERRED, PRIOR = "interpolation.npy", "interpolation_prior.npy"
SYSTEMS = (
    ("divergence_triangle_progressive", ("celeba_hq",)),
    ("divergence_triangle", ("celeba", "cifar10")),
    ("joint_vae_ebm", ("celeba", "cifar10")),
)
INPUTS = tuple(
    FigureInput(dataset, model, file)
    for model, datasets in SYSTEMS
    for dataset in datasets
    for file in (INFERRED, PRIOR)
)


def draw(products: Sequence[Product]) -> "Figure":
    shown = first_seeds(products)
    fig = style.figure(10.4, 3.4 * -(-len(shown) // 2) + 0.9)
    for axes, product in zip(style.panels(fig, len(shown), 2), shown, strict=True):
        frames = read_arrays(product.path, mapped=True)[:ROWS]
        images = frames.reshape(-1, *frames.shape[2:])
        between = ", between test images" if product.file == INFERRED else ", between prior samples"
        grids.show(axes, images, frames.shape[1], grids.heading(product, images, between))
    return fig
