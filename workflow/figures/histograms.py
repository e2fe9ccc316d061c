"""Histograms of the unnormalised log-likelihood f = -energy: in-distribution test images against other sets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dtri.arrays import read_arrays
from dtri.report import grids, style
from dtri.report.cells import FigureInput, Product, first_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Unnormalised log-likelihood of test images"
PAPER = "A Fig. 3"
CAPTION = (
    "Density-normalised, 100 common bins over the 0.5 to 99.5 percentile range of both sets; the end bins hold what "
    "lies beyond. f = -energy, high on data; AUROC with the test images of the training distribution as positives, "
    "0.5 is chance. Against the training images themselves it should be near 0.5: far lower means memorisation."
)
ID = "cifar10"
TEST, TRAIN = "scores/{against}__test.npz", "scores/{against}__train.npz"
INPUTS = tuple(
    FigureInput(ID, model, file, against)
    for model in ("joint_vae_ebm", "divergence_triangle")
    for against, file in (
        *((against, TEST) for against in (ID, "celeba32", "uniform", "svhn", "dtd")),
        (ID, TRAIN),
    )
)


def draw(products: Sequence[Product]) -> "Figure":
    shown = first_seeds(products)
    references = {product.model: product for product in shown if product.against == ID and product.file == TEST}
    pairs = [(references[p.model], p) for p in shown if p not in references.values() and p.model in references]
    if not pairs:
        return style.nothing()
    columns = max(sum(other.model == model for _, other in pairs) for model in references)
    fig = style.figure(max(6.0, 2.6 * columns), 2.5 * len(references) + 1.0)
    grid = fig.subplots(len(references), columns, squeeze=False)
    for row, model in zip(grid, references, strict=True):
        mine = [pair for pair in pairs if pair[1].model == model]
        for axes, (reference, other) in zip(row, mine):
            _panel(axes, reference, other)
        for spare in row[len(mine) :]:
            spare.remove()
        row[0].set_ylabel(f"{references[model].model_label}\ndensity")
    return fig


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """P(positive > negative) + P(tie) / 2."""
    order = np.sort(negative)
    below, upto = np.searchsorted(order, positive, "left"), np.searchsorted(order, positive, "right")
    return float(np.mean(below + upto) / (2 * len(negative)))


def _panel(axes: "Axes", reference: Product, other: Product) -> None:
    f, g = (-read_arrays(product.path)["energy"] for product in (reference, other))
    name = f"{other.against_place}{' train' if other.file == TRAIN else ''}"
    if not (np.isfinite(f).all() and np.isfinite(g).all()):
        axes.set_title(f"{name}\n{grids.DIVERGED}")
        axes.set_axis_off()
        return
    low, high = np.percentile(np.concatenate([f, g]), [0.5, 99.5])
    if low == high:
        low, high = low - 0.5, high + 0.5
    bins = np.linspace(low, high, 101)
    for values, text, colour in (
        (f, f"{reference.against_place} test, n = {len(f)}", style.ID_COLOUR),
        (g, f"{name}, n = {len(g)}", style.OTHER_COLOUR),
    ):
        clipped = np.clip(values, low, high)
        axes.hist(clipped, bins, density=True, histtype="stepfilled", alpha=0.5, color=colour, label=text, linewidth=0)
    axes.set_title(f"{name}\nAUROC {auroc(f, g):.3f}")
    axes.set_xlabel("f, unnormalised log-likelihood")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.3)  # room for the legend
    axes.legend(loc="upper left", frameon=False, fontsize=6, handlelength=1)
