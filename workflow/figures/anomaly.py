"""AUPRC per held-out digit: published beside measured, with the chance level and the lowest possible value."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING

from dtri.report import style
from dtri.report.cells import FigureInput, Product
from dtri.report.records import Record
from workflow.tables.table4 import TABLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Anomaly detection on MNIST, one digit held out"
PAPER = "A Table 4 drawn"
CAPTION = (
    "Left: as printed in paper A, with its spread over the last ten epochs. Right: measured here, mean and standard "
    "deviation over seeds. Dashed: chance, the share of anomalies in the test set. Dotted: the lowest possible AUPRC; "
    "printed points below it cannot come from this split."
)
SHOWS_PRINTED = True  # also before anything is measured
CELLS = tuple(cell for cell in TABLE.cells if cell.metric == "auprc" and not cell.score)
ROWS = tuple(dict.fromkeys(cell.row for cell in CELLS))
MODELS = {cell.model: cell.column for cell in CELLS}
INPUTS = tuple(FigureInput(cell.dataset, cell.model, "metrics/auprc.json") for cell in CELLS)

Points = dict[tuple[str, str], tuple[float, float | None]]  # (row, model) -> mean, spread
Levels = dict[str, tuple[float, float]]  # row -> chance, minimum


def draw(products: Sequence[Product]) -> "Figure":
    fig = style.figure(10.5, 4.4)
    left, right = fig.subplots(1, 2, sharey=True)
    published = {(c.row, c.model): (c.published, c.published_std) for c in CELLS if c.published is not None}
    chance, minimum = (dict(column.values) for column in TABLE.references[:2])
    levels = {row: (float(chance[row]), float(minimum[row])) for row in ROWS}
    _panel(left, "Printed in paper A", published, levels)
    places = sorted({product.measured_on for product in products if product.measured_on != product.dataset})
    _panel(right, f"Measured here{f', on {names(places)}' if places else ''}", *measured(products))
    right.set_ylabel("")
    left.legend(*_legend(left, right), loc="upper left", ncols=2, fontsize=7)
    return fig


def names(places: list[str]) -> str:
    """Names of the stand-ins; from three on, the first name and the number of the others."""
    return ", ".join(places) if len(places) < 3 else f"{places[0]} and {len(places) - 1} other stand-ins"


def measured(products: Sequence[Product]) -> tuple[Points, Levels]:
    """Mean and spread (ddof 1) over seeds, and levels of the data measured on; diverged runs give no point."""
    rows = {cell.dataset: cell.row for cell in CELLS}
    values: dict[tuple[str, str], list[float]] = {}
    levels: Levels = {}
    for product in products:
        record, row = Record.read(product.path), rows[product.dataset]
        if record.value is not None:
            values.setdefault((row, product.model), []).append(record.value)
        if {"chance", "minimum"} <= record.extra.keys():
            levels[row] = (record.extra["chance"], record.extra["minimum"])
    return {key: (mean(v), stdev(v) if len(v) > 1 else None) for key, v in values.items()}, levels


def _panel(axes: "Axes", title: str, points: Points, levels: Levels) -> None:
    for row, (chance, minimum) in levels.items():
        i = ROWS.index(row)
        axes.hlines(chance, i - 0.45, i + 0.45, colors="#374151", linestyles="--", linewidth=1.1)
        axes.hlines(minimum, i - 0.45, i + 0.45, colors="#374151", linestyles=":", linewidth=1.1)
    for j, (model, colour) in enumerate(zip(MODELS, style.palette(len(MODELS)), strict=True)):
        mine = [(ROWS.index(row), *point) for (row, other), point in points.items() if other == model]
        if mine:
            x = [i + (j - (len(MODELS) - 1) / 2) * 0.13 for i, _, _ in mine]
            spread = [std or 0.0 for _, _, std in mine]
            y = [value for _, value, _ in mine]
            axes.errorbar(x, y, spread, fmt="o", markersize=5, capsize=2, color=colour, label=MODELS[model])
    if not points:
        axes.text(0.5, 0.5, "nothing measured yet", ha="center", va="center", transform=axes.transAxes)
    axes.set_title(title)
    axes.set_xticks(range(len(ROWS)), ROWS)
    axes.set_xlim(-0.6, len(ROWS) - 0.4)
    axes.set_ylim(0, 1.02)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("held-out digit (the anomaly)")
    axes.set_ylabel("AUPRC")


def _legend(*panels: "Axes") -> tuple[list, list[str]]:
    """The models of all panels, each once, in the order of the table."""
    found = {text: handle for axes in panels for handle, text in zip(*axes.get_legend_handles_labels())}
    ordered = [name for name in MODELS.values() if name in found]
    return [found[name] for name in ordered], ordered
