"""A forest plot of judged claims: every effect with its interval, the printed effect beside it, a panel per block."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dtri.report import style
from dtri.report.cells import PAPER_NAMES
from dtri.report.claims import LEVELS, Book
from dtri.report.layout import METRICS
from dtri.report.verdicts import Effect, Judgement, by_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "What the papers claim: effects printed and measured"
CAPTION = (
    "As claimed: right of the line or of a dotted edge; where there are two edges, between them. Diamonds: by the "
    "printed numbers. Dots: mean over seeds with its 95 % interval (none from one seed). Green: the interval lies in "
    "the range claimed; orange: outside; grey: neither, or too few seeds. An effect is what the first system is better "
    "by, in units of the metric; features other than the papers' have other units."
)
COLOURS = {"holds": "#2f855a", "fails": "#c05621", "undecided": "#4a5568", "not measured": "#a0aec0"}
ROW, PANEL, COLUMNS = 0.19, 0.75, 2  # heights in inches: of an effect, of a panel's title and axis
NAME = 44  # characters of a line of an effect's name
Panel = tuple[str, list[tuple[str, Effect]]]


def draw(judgements: Sequence[Judgement], known: Book) -> "Figure":
    """The figure: all effects of `judgements`, each once, grouped by table, paper and metric."""
    columns = _columns(_panels(judgements, known))
    height = max(sum(PANEL + ROW * len(rows) for _, rows in panels) for panels in columns)
    fig = style.figure(11.5, height + 1.4)
    for sub, panels in zip(fig.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
        ratios = [PANEL + ROW * len(rows) for _, rows in panels]
        for axes, panel in zip(sub.subplots(len(panels), 1, height_ratios=ratios, squeeze=False)[:, 0], panels):
            _panel(axes, *panel)
    return fig


def _panels(judgements: Sequence[Judgement], known: Book) -> list[Panel]:
    effects = dict.fromkeys(effect for one in judgements for effect in one.effects)
    once = {effect.condition: effect for effect in reversed(effects)}
    panels: dict[str, list[tuple[str, Effect]]] = {}
    for effect in (one for one in effects if once[one.condition] is one):
        first = known[effect.condition.quantity]
        table = f"{first.table}, " if first.table else ""
        heading = f"{table}paper {first.cell.paper}: {METRICS.get(first.cell.metric, first.cell.metric)}"
        panels.setdefault(heading, []).append((_name(effect, known), effect))
    return sorted(panels.items())


def _name(effect: Effect, known: Book) -> str:
    condition, first = effect.condition, known[effect.condition.quantity]
    place = PAPER_NAMES.get(first.cell.against or first.cell.dataset, first.cell.dataset)
    if condition.than is None:
        return " above ".join(filter(None, (f"{place}: {first.system}", LEVELS.get(condition.quantity.above))))
    factor = f"{condition.factor:g} × " * (condition.factor != 1)
    return f"{place}: {first.system} against {factor}{known[condition.than].system}"


def _columns(panels: Sequence[Panel]) -> list[list[Panel]]:
    """One or two columns of panels in order; the first has about half of the height."""
    heights = [PANEL + ROW * len(rows) for _, rows in panels]
    breaks = [abs(2 * sum(heights[:i]) - sum(heights)) for i in range(1, len(panels) + 1)]
    first = breaks.index(min(breaks)) + 1
    return [column for column in (list(panels[:first]), list(panels[first:])) if column]


def _by_interval(effect: Effect) -> str:
    """The verdict by the interval that is drawn; claims of several parts decide by wider ones."""
    if effect.value is None or effect.lacks_seeds:
        return effect.verdict
    return by_interval(effect.condition, effect.low, effect.high)


def _panel(axes: "Axes", heading: str, rows: list[tuple[str, Effect]]) -> None:
    for y, (_, effect) in enumerate(rows):
        colour = COLOURS[_by_interval(effect)]
        edges = [one for one in (effect.condition.low, effect.condition.high) if abs(one) < float("inf")]
        if edges != [0.0]:
            axes.vlines(edges, y - 0.4, y + 0.4, colors="#1a202c", linestyles=":", linewidth=1)
        if effect.printed is not None:
            axes.plot(effect.printed, y, marker="D", markersize=4.5, color="none", markeredgecolor="#2b6cb0")
        if effect.low is not None:
            axes.hlines(y, effect.low, effect.high, colors=colour, linewidth=1.4)
        if effect.value is not None:
            axes.plot(effect.value, y, marker="o", markersize=4, color=colour)
    if any(effect.condition.low == 0 for _, effect in rows):
        axes.axvline(0, color="#1a202c", linewidth=0.8)
    axes.set_title(heading, loc="left")
    axes.locator_params(axis="x", nbins=6)
    axes.set_yticks(range(len(rows)), [textwrap.fill(name, NAME) for name, _ in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
