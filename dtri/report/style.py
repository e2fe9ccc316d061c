"""The look of every figure, its preset stamp, and saving with identical bytes on identical input.

Matplotlib and seaborn are imported where they are used: figure files are read while Snakemake parses.
"""

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtri.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PNG_LIMIT = 500_000  # bytes
DPI, LEAST_DPI = 140, 110  # of a PNG; below the least, small letters suffer more than colours do
ID_COLOUR, OTHER_COLOUR = "#2b6cb0", "#dd6b20"  # blue: in-distribution; orange: the other set
SETTINGS = {
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same letters
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,
    "path.simplify": True,
}


def figure(width: float, height: float, title: str = "") -> "Figure":
    """An empty figure of `width` x `height` inches in the common style; drawn without a display."""
    import matplotlib

    matplotlib.use("Agg")
    import seaborn
    from matplotlib.figure import Figure

    seaborn.set_theme(context="paper", style="whitegrid", palette="deep")
    matplotlib.rcParams.update(SETTINGS)
    drawn = Figure(figsize=(width, height), layout="constrained")
    if title:
        drawn.suptitle(title, fontsize=11, fontweight="bold")
    return drawn


def palette(n: int) -> list[Any]:
    """`n` distinct colours."""
    import seaborn

    return list(seaborn.color_palette("deep" if n <= 10 else "husl", n))


def footer(drawn: "Figure", label: str, caption: str) -> None:
    """Stamp the preset's label and the caption below a figure."""
    lines = textwrap.wrap(label, int(drawn.get_figwidth() * 15)) + textwrap.wrap(
        caption, int(drawn.get_figwidth() * 17)
    )
    drawn.supxlabel("\n".join(lines), fontsize=7.5, color="#4a5561")


def nothing(title: str, label: str, caption: str) -> "Figure":
    """A figure that says that no product exists yet; a partial report still has a page for it."""
    drawn = figure(6, 2, title)
    axes = drawn.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, "nothing measured yet", ha="center", va="center", fontsize=10)
    footer(drawn, label, caption)
    return drawn


def panels(drawn: "Figure", n: int, columns: int, **options: Any) -> "list[Axes]":
    """`n` axes in rows of `columns`; the rest of the last row stays empty."""
    rows = -(-n // columns)
    axes = drawn.subplots(rows, columns, squeeze=False, **options).ravel()
    for spare in axes[n:]:
        spare.remove()
    return list(axes[:n])


def save(drawn: "Figure", stem: Path) -> tuple[Path, Path]:
    """Write `stem`.pdf and `stem`.png atomically, without dates; the PNG stays below `PNG_LIMIT`."""
    pdf, png = (Path(f"{stem}.{ending}") for ending in ("pdf", "png"))
    drawn.draw_without_rendering()
    drawn.set_layout_engine("none")  # the layout is settled; solving it again for every file takes seconds
    write_bytes(pdf, _encoded(drawn, "pdf", 150, {"CreationDate": None}))
    write_bytes(png, _small_png(drawn))
    return pdf, png


def _small_png(drawn: "Figure") -> bytes:
    """Somewhat fewer dots where that is enough, else 256 colours and as many dots as fit."""
    picture = _encoded(drawn, "png", DPI, {"Software": None})
    if len(picture) < PNG_LIMIT:
        return picture
    fewer = int(DPI * (0.9 * PNG_LIMIT / len(picture)) ** 0.5)  # bytes grow as the area
    if fewer >= LEAST_DPI:
        picture = _encoded(drawn, "png", fewer, {"Software": None})
    for dpi in range(DPI, 20, -15):
        if len(picture) < PNG_LIMIT:
            break
        picture = _palette_png(_encoded(drawn, "png", dpi, {"Software": None}))
    return picture


def _palette_png(picture: bytes) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _encoded(drawn: "Figure", ending: str, dpi: int, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format=ending, dpi=dpi, metadata=metadata)
    return buffer.getvalue()
