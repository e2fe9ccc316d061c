"""Figures for a paper that captions them: no title, label or caption, serif letters of 8 points, an exact width."""

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from dtri.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT, SIZE = "STIXGeneral", 8  # comes with matplotlib; points
LETTERS = 19  # characters of that font and size per inch
INSIDE = 0.75  # share of a panel's width between the numbers of its axis and the next panel
LINE = 1.2 * SIZE / 72  # height of a line in inches
TICKS = 2.2 * LINE  # height in inches from the bottom of the axes to the axis label
LEAST = 1.2  # least height of a row of plots in inches
ENDINGS = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}  # file ending -> metadata without a date
DPI = 300  # of a PNG


def fit(fig: "Figure", width: float) -> "Figure":
    """Make a drawn figure, not framed, `width` inches wide; its height follows.

    Headings of panels stay. Text that is wider than a panel is broken into lines, and legends move below the panel.
    """
    from matplotlib.text import Text

    for text in (fig.suptitle(""), fig.supxlabel("")):
        text.set_in_layout(False)
    added: dict[int, float] = {}  # row of panels -> inches of text that do not shrink with the figure
    plots: set[int] = set()  # rows of panels with axes
    for axes in fig.axes:
        place = axes.get_subplotspec()
        share = INSIDE if axes.axison else 1.0
        inches = _break(axes, int(share * LETTERS * width / place.get_gridspec().ncols))
        added[place.rowspan.start] = max(inches, added.get(place.rowspan.start, 0.0))
        plots |= {place.rowspan.start} if axes.axison else set()
    for text in fig.findobj(Text):
        text.set(fontsize=SIZE, fontfamily=FONT)
    height = max(fig.get_figheight() * width / fig.get_figwidth(), LEAST * len(plots))
    fig.set_size_inches(width, height + sum(added.values()))
    fig.set_layout_engine("compressed")
    return fig


def _break(axes: "Axes", letters: int) -> float:
    """Break the heading, the x label and the legend of a panel into lines of at most `letters` characters.

    Returns the height of these lines in inches.
    """
    from matplotlib.transforms import ScaledTranslation

    axes.tick_params(which="both", labelsize=SIZE, labelfontfamily=FONT)
    axes.set_title(_lines(axes.get_title(), letters))
    axes.set_xlabel(_lines(axes.get_xlabel(), letters))
    n_lines = len(axes.get_title().splitlines())
    height = TICKS * axes.axison + len(axes.get_xlabel().splitlines()) * LINE
    if legend := axes.get_legend():
        texts = [_lines(text.get_text(), letters - 4) for text in legend.get_texts()]
        below = axes.transAxes + ScaledTranslation(0, -height, axes.figure.dpi_scale_trans)
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "bbox_transform": below}
        axes.legend(legend.legend_handles, texts, **place, frameon=False, handlelength=1.5, borderaxespad=0.0)
        n_lines += sum(len(text.splitlines()) for text in texts)
    return n_lines * LINE + height


def _lines(text: str, letters: int) -> str:
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, letters))


def save(fig: "Figure", path: Path) -> None:
    """Write one file, .pdf or .png, exactly as wide as the figure and as high as what is drawn."""
    from matplotlib.transforms import Bbox

    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    drawn, buffer = fig.get_tightbbox(), io.BytesIO()
    box = Bbox([[0, drawn.y0], [fig.get_figwidth(), drawn.y1]])
    fig.savefig(buffer, format=path.suffix[1:], dpi=DPI, bbox_inches=box, metadata=ENDINGS[path.suffix])
    write_bytes(path, buffer.getvalue())
