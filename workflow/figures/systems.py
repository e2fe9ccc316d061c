"""Samples of every system that a table measures, and reconstructions by systems that infer: what no number shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dtri.arrays import read_arrays
from dtri.report import grids, style
from dtri.report.cells import FigureInput, Missing, Product, first_seeds
from workflow.tables import table1, table2, table3, table4

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Every system"
PAPER = "not in the papers"
CAPTION = (
    "The first 32 samples of one training run each, from as many latents, not selected; pixels as generated, no "
    "contrast stretching. Below them, of systems that infer latents: eight test images above their reconstructions."
)
COLUMNS, ROWS, ACROSS = 8, 4, 4  # of samples in a panel; panels side by side
SAMPLES, RECONSTRUCTIONS = "grid.npy", "reconstructions.npy"
SHOWS_MISSING = True

COMPARED = (cell for t in (table1, table2, table3) for cell in t.TABLE.cells if cell.dataset == "cifar10")
HELD_OUT = table4.TABLE.cells[0].dataset  # the first digit
SYSTEMS = {cell.model: HELD_OUT for cell in table4.TABLE.cells} | {cell.model: "cifar10" for cell in COMPARED}
SYSTEMS = dict(sorted(SYSTEMS.items(), key=lambda item: item[1]))
INFER = {cell.model for cell in table2.TABLE.cells} | {"bigan"}
INPUTS = (
    *(FigureInput(dataset, model, SAMPLES) for model, dataset in SYSTEMS.items()),
    *(FigureInput(dataset, model, RECONSTRUCTIONS) for model, dataset in SYSTEMS.items() if model in INFER),
)


def draw(products: Sequence[Product], missing: Sequence[Missing]) -> "Figure":
    """One panel per system: its images, or why there are none."""
    found = {(product.model, product.file): product for product in first_seeds(products)}
    gaps = {gap.model: gap for gap in missing}
    shown = [model for model in SYSTEMS if (model, SAMPLES) in found or model in gaps]
    fig = style.figure(10.2, 2.35 * -(-len(shown) // ACROSS) + 0.9)
    for axes, model in zip(style.panels(fig, len(shown), ACROSS), shown, strict=True):
        if product := found.get((model, SAMPLES)):
            images = grids.load(product.path, ROWS * COLUMNS)
            heading = grids.heading(product, images).replace(" (for", "\n(for")
            if len(images):
                axes.imshow(_sheet(images, found.get((model, RECONSTRUCTIONS))), interpolation="antialiased")
                axes.set_title(heading)
                axes.set_axis_off()
            else:
                grids.show(axes, images, COLUMNS, heading)
        else:
            grids.missing(axes, gaps[model])
    return fig


def _sheet(samples: np.ndarray, reconstructed: Product | None) -> np.ndarray:
    """Samples above pairs of test images and reconstructions, with a white band between: uint8 [height, width, 3]."""
    sheet = grids.tile(samples, COLUMNS)
    if reconstructed is None:
        return sheet
    pairs = read_arrays(reconstructed.path, mapped=True)[:, :COLUMNS]
    if not pairs.shape[1]:
        return sheet  # diverged in reconstruction
    band = np.full((samples.shape[2] // 4, sheet.shape[1], 3), 255, np.uint8)
    return np.concatenate([sheet, band, grids.tile(np.concatenate(pairs), COLUMNS)])
