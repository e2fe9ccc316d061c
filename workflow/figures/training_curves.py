"""Loss terms of every system over training, one panel per system."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dtri.report import style
from dtri.report.cells import FigureInput, Product

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Training curves"
PAPER = "not in the papers"
CAPTION = (
    "Logged loss terms, averaged over at most 100 equal stretches of training; one line per seed. Terms differ between "
    "systems and are not comparable across panels; the legend gives the last value of the first seed."
)
BINS = 100
SCALE = 8
CIFAR10_MODELS = (
    *("joint_vae_ebm", "joint_vae_ebm_plus", "divergence_triangle", "vae", "dcgan", "wgan", "sngan", "ali", "alice"),
    *("svae", "wake_sleep", "coopnet", "cegan", "igebm"),
)
INPUTS = (
    *(FigureInput("cifar10", model, "train.csv") for model in CIFAR10_MODELS),
    *(FigureInput("mnist_holdout4", model, "train.csv") for model in ("joint_vae_ebm", "vae", "meg", "bigan")),
)


def draw(products: Sequence[Product]) -> "Figure":
    groups: dict[tuple[str, str], list[Product]] = {}
    for product in products:
        groups.setdefault((product.dataset, product.model), []).append(product)
    columns = min(3, len(groups))
    fig = style.figure(max(6.0, 3.6 * columns), 2.9 * -(-len(groups) // columns) + 1.0)
    for axes, runs in zip(style.panels(fig, len(groups), columns), groups.values(), strict=True):
        _panel(axes, sorted(runs, key=lambda run: run.seed))
    return fig


def _panel(axes: "Axes", runs: Sequence[Product]) -> None:
    """Plot the terms of the runs of one system.

    Terms whose range is below 1 / SCALE of the largest get the right axis. So no term is a flat line.
    """
    import pandas as pd

    frames = [pd.read_csv(run.path) for run in runs]
    terms = list(dict.fromkeys(name for frame in frames for name in frame.columns if name != "step"))
    curves = {term: _curves(frames, term) for term in terms}
    ranges = {term: max((np.ptp(value) for _, value in lines), default=0.0) for term, lines in curves.items()}
    small = {term for term in terms if ranges[term] * SCALE < max(ranges.values()) and curves[term]}
    right = axes.twinx() if small else None
    handles = []
    for term, colour in zip(terms, style.palette(len(terms))):
        own, dash = (right, "--") if term in small else (axes, "-")
        for step, value in curves[term]:
            (line,) = own.plot(step, value, dash, color=colour, alpha=0.8, linewidth=0.9)
        if curves[term]:
            last = next(
                frame[term].dropna().iloc[-1] for frame in frames if term in frame and frame[term].notna().any()
            )
            handles.append((line, f"{term} ({last:.3g})"))
    axes.set_title(f"{runs[0].model_label}\n{runs[0].place}")
    axes.set_xlabel("iteration")
    axes.set_ylabel("loss term")
    if right is not None:
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
        right.set_ylabel("dashed terms")
    if handles:
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.3), "ncol": 2, "frameon": False}
        axes.legend(*zip(*handles), fontsize=6.5, handlelength=1.6, columnspacing=1.2, **below)


def _curves(frames: "Sequence[pd.DataFrame]", term: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(step, value) per run that logged `term`; steps that did not log it are left out."""
    parts = [frame[["step", term]].dropna() for frame in frames if term in frame]
    return [binned(part["step"].to_numpy(float), part[term].to_numpy(float)) for part in parts if len(part)]


def binned(step: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of steps and values over at most `BINS` stretches of equal count."""
    groups = min(BINS, len(step))
    means = [[part.mean() for part in np.array_split(array, groups)] for array in (step, value)]
    return np.array(means[0]), np.array(means[1])
