"""Disconnectivity graph of the learned energy: basins as leaves, joined at the lowest known barriers."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dtri.arrays import read_arrays
from dtri.report import style
from dtri.report.cells import FigureInput, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Disconnectivity graph of the energy"
PAPER = "B Fig. 11"
CAPTION = (
    "Each column shows members of one basin, the lowest in energy on top; the area of the circle is the number of "
    "minima in the basin (below it), its height the lowest energy. A horizontal line is the lowest known barrier at "
    "which two basins join: a longer search may find lower ones, and between the points of a path it may be higher. "
    "Energies are in standard deviations of the energy of test images, 0 at their mean."
)
INPUTS = (FigureInput("fashion_mnist", "divergence_triangle_landscape", "landscape.npz"),)
LARGEST_CIRCLE = 300.0  # square points
TREE, ROW, TEXT = 2.6, 0.45, 2.0  # heights in inches: of the tree, of a row of images, of title and caption


def draw(products: Sequence[Product]) -> "Figure":
    shown = first_seeds(products)
    product = shown[0]
    with read_arrays(product.path) as arrays:
        data = dict(arrays)
    counts = json.loads(str(data["found"]))
    where = f"{product.model_label}, {product.place}, seed {product.seed}"
    if "diverged" in counts:
        return style.nothing(f"{where}: diverged", f"Diverged: {counts['diverged']}.")
    numbers = _counts(counts, data)
    if not len(data["members"]):
        return style.nothing(f"{where}: no basin is large enough to draw", numbers)
    width, rows = max(8.0, 0.62 * len(data["members"]) + 1.2), int(np.isfinite(data["energies"]).sum(1).max())
    fig = style.figure(width, TREE + ROW * rows + TEXT, where, numbers)
    tree, columns = fig.subplots(2, 1, sharex=True, height_ratios=(TREE, ROW * rows))
    _tree(tree, data)
    _columns(columns, data, share=min(1.0, ROW * len(data["members"]) / (width - 0.8)))
    return fig


def _counts(counts: dict[str, float], data: dict[str, np.ndarray]) -> str:
    """What was found, left out and chosen, in words."""
    pairs = np.triu_indices(len(data["members"]), 1)
    path, line = data["path_barrier"][pairs], data["line_barrier"][pairs]
    return (
        f"{counts['starts']} descents, {counts['descended_again']} repeated after a failed check, "
        f"{counts['not_converged']} not converged; {counts['minima']} minima, {counts['on_edge']:.0%} of them on the "
        f"edge of the region {counts['region']}, in {counts['basins']} basins; not drawn: "
        f"{counts['basins_too_small']} basins too small "
        f"and {counts['basins_not_drawn']} others, with {counts['minima_not_drawn']} minima. Threshold "
        f"{counts['threshold']:g}, temperature {counts['temperature']:g}, magnetisation {counts['alpha']:.3g}, which "
        f"connects {counts['connected']:.0%} of random pairs, and {counts['connected_flat']:.0%} on a flat energy. "
        f"Of {len(path)} barriers {int(np.isfinite(path).sum())} were met by attraction-diffusion and "
        f"{int((line < path).sum())} are lower on a straight line. Chains without magnetisation ended "
        f"{counts['strayed_over_reach']:.2g} times the distance of arrival from their minima, and their energy changed "
        f"by {counts['thermal_rise']:+.2f}."
    )


def _tree(axes: "Axes", data: dict[str, np.ndarray]) -> None:
    order, members, joins = data["order"].tolist(), data["members"], data["merges"]
    lowest, n = data["energies"][:, 0], len(data["members"])
    places = {leaf: float(x) for x, leaf in enumerate(order)}
    bottoms = {leaf: float(lowest[leaf]) for leaf in range(n)}
    highest = max([*joins[:, 0].tolist(), *bottoms.values()])
    top = highest + 0.06 * max(highest - min(bottoms.values()), 1e-6)
    line = {"color": "#374151", "linewidth": 1.1, "solid_capstyle": "projecting", "zorder": 1}
    for k, (height, left, right) in enumerate(joins.tolist()):
        for node in (int(left), int(right)):
            axes.plot([places[node]] * 2, [bottoms.pop(node), height], **line)
        axes.plot([places[int(left)], places[int(right)]], [height] * 2, **line)
        places[n + k], bottoms[n + k] = (places[int(left)] + places[int(right)]) / 2, height
    for node, bottom in bottoms.items():
        axes.plot([places[node]] * 2, [bottom, top], **line)  # up to the top, since no barrier is known
    sizes = LARGEST_CIRCLE * members / members.max()
    axes.scatter([places[leaf] for leaf in range(n)], lowest, sizes, color=style.ID_COLOUR, zorder=2, linewidth=0)
    for leaf in range(n):
        text = {"xytext": (0, -4 - (sizes[leaf] / np.pi) ** 0.5), "textcoords": "offset points"}
        axes.annotate(str(members[leaf]), (places[leaf], lowest[leaf]), ha="center", va="top", fontsize=7, **text)
    axes.margins(y=0.14)
    axes.set_ylabel("energy (standard deviations)")
    axes.grid(axis="x", visible=False)
    axes.tick_params(labelbottom=False)


def _columns(axes: "Axes", data: dict[str, np.ndarray], share: float) -> None:
    """Draw the images below the leaves; each fills a `share` of its column's width and is then nearly square."""
    pictures, energies = data["images"], data["energies"]
    for x, leaf in enumerate(data["order"].tolist()):
        for y in range(int(np.isfinite(energies[leaf]).sum())):
            picture = np.broadcast_to(pictures[leaf, y].transpose(1, 2, 0), (*pictures.shape[-2:], 3))
            sides = (x - 0.46 * share, x + 0.46 * share)
            axes.imshow(picture, extent=(*sides, y + 0.96, y + 0.04), interpolation="antialiased")
    axes.set_xlim(-0.6, len(energies) - 0.4)
    axes.set_ylim(int(np.isfinite(energies).sum(1).max()), 0)
    axes.set_aspect("auto")
    axes.set_axis_off()
