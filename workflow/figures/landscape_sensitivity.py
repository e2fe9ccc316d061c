"""Number of basins by the two choices that a mapping rests on: magnetisation and threshold."""

import csv
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dtri.report import style
from dtri.report.cells import FigureInput, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Basins by magnetisation and threshold"
PAPER = "beside B Fig. 11, not in the paper"
CAPTION = (
    "Minima join a basin when attraction-diffusion of magnetisation alpha, or the straight line, meets a barrier at "
    "most the threshold above the higher minimum (in standard deviations of the energy of test images). Solid: all "
    "basins. Dashed: those with enough minima to be drawn. In brackets: random pairs of minima that alpha connects, on "
    "this energy and on a flat one with the same minima; where the shares are alike, the pull alone groups, not the "
    "energy. A number that holds over a range is a property of the energy, another follows from the choice."
)
INPUTS = (FigureInput("fashion_mnist", "divergence_triangle_landscape", "landscape.csv"),)


def draw(products: Sequence[Product]) -> "Figure":
    shown = first_seeds(products)
    product = shown[0]
    with open(product.path, newline="", encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    if not rows:
        return style.nothing(f"{product.model_label}, {product.place}: diverged")
    fig = style.figure(7.2, 4.6, f"{product.model_label}, {product.place}, seed {product.seed}")
    axes = fig.subplots()
    factors = sorted({row["alpha_factor"] for row in rows})
    for factor, colour in zip(factors, style.palette(len(factors)), strict=True):
        mine = sorted((row for row in rows if row["alpha_factor"] == factor), key=lambda row: row["threshold"])
        x = [row["threshold"] for row in mine]
        shares = f"{mine[0]['connected']:.0%}, flat {mine[0]['connected_flat']:.0%}"
        name = f"alpha = {mine[0]['alpha']:.3g}, {factor:g} of the chosen one ({shares})"
        axes.plot(x, [row["basins"] for row in mine], "o-", color=colour, label=name, markersize=4)
        axes.plot(x, [row["large_basins"] for row in mine], "o--", color=colour, markersize=3)
    axes.set_xscale("log")
    axes.set_xticks(
        sorted({row["threshold"] for row in rows}), [f"{x:g}" for x in sorted({r["threshold"] for r in rows})]
    )
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("threshold (standard deviations of the energy)")
    axes.set_ylabel("number of basins")
    axes.legend(frameon=False)
    return fig
