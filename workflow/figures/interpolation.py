"""Linear interpolation between the latents of two test images, one row per pair."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dtri.report import grids, style
from dtri.report.cells import Product, Want, first_seeds
from dtri.report.records import read_arrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "interpolation"
TITLE = "Interpolation in the latent space"
PAPER = "B Fig. 9, there on CelebA-HQ"
CAPTION = (
    "Each row walks in a straight line from one latent to another; where the model can infer, the latents are those of "
    "two test images and the first and last column are these images themselves."
)
ROWS = 6
WANTS = tuple(
    Want(dataset, model, "interpolation.npy")
    for model in ("divergence_triangle", "joint_vae_ebm")
    for dataset in ("celebahq", "celeba", "cifar10")
)


def draw(products: Sequence[Product], label: str) -> "Figure":
    title = f"{TITLE} ({PAPER})"
    shown = first_seeds(products)
    if not shown:
        return style.nothing(title, label, CAPTION)
    columns = min(2, len(shown))
    drawn = style.figure(5.2 * columns, 3.4 * -(-len(shown) // columns) + 0.9, title)
    for axes, product in zip(style.panels(drawn, len(shown), columns), shown, strict=True):
        frames = read_arrays(product.path, mapped=True)[:ROWS]
        images = frames.reshape(-1, *frames.shape[2:])
        size = "x".join(str(side) for side in images.shape[2:])
        grids.show(
            axes, images, frames.shape[1], f"{product.model_label}\n{product.place}, {size}, seed {product.seed}"
        )
    style.footer(drawn, label, CAPTION)
    return drawn
