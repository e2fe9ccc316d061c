"""The look of every figure, its preset stamp, and saving with identical bytes on identical input.

Matplotlib and seaborn are imported where they are used: figure files are read while Snakemake parses.
"""

import hashlib
import io
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtri.files import write_bytes
from dtri.messages import AGAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PNG_LIMIT = 500_000  # bytes
NOTE = "dtri"  # name of the text in a PNG that says what it was drawn from
DPI, LEAST_DPI = 140, 110  # of a PNG; below the least, fewer colours do less harm than unreadable letters
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


def figure(width: float, height: float, subtitle: str = "", remarks: str = "") -> "Figure":
    """An empty figure in the common style, drawn without a display.

    Args:
        width, height: in inches.
        subtitle: line below the title that `frame` puts on top.
        remarks: sentences behind the caption that `frame` puts at the bottom.
    """
    import matplotlib

    matplotlib.use("Agg")
    import seaborn
    from matplotlib.figure import Figure

    seaborn.set_theme(context="paper", style="whitegrid", palette="deep")
    matplotlib.rcParams.update(SETTINGS)
    fig = Figure(figsize=(width, height), layout="constrained")
    fig.suptitle(subtitle)
    fig.supxlabel(remarks)
    return fig


def frame(fig: "Figure", title: str, label: str, caption: str) -> "Figure":
    """Put the title on top of a figure, the preset's label and the caption at its bottom."""
    fig.suptitle(f"{title}\n{fig.get_suptitle()}".strip(), fontsize=11, fontweight="bold")
    width = fig.get_figwidth()
    sentences = f"{caption} {fig.get_supxlabel()}".strip()
    lines = [*textwrap.wrap(label, int(width * 15)), *textwrap.wrap(sentences, int(width * 17))]
    fig.supxlabel("\n".join(lines), fontsize=7.5, color="#4a5561")
    return fig


def palette(n: int) -> list[Any]:
    """`n` distinct colours."""
    import seaborn

    return list(seaborn.color_palette("deep" if n <= 10 else "husl", n))


def nothing(subtitle: str = "", remarks: str = "") -> "Figure":
    """A figure that says that no product exists yet, so that a partial report has a page for it."""
    fig = figure(6, 2, subtitle, remarks)
    axes = fig.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, "nothing measured yet", ha="center", va="center", fontsize=10)
    return fig


def panels(fig: "Figure", n: int, columns: int, **options: Any) -> "list[Axes]":
    """`n` axes in rows of `columns`; the rest of the last row stays empty."""
    rows = -(-n // columns)
    axes = fig.subplots(rows, columns, squeeze=False, **options).ravel()
    for spare in axes[n:]:
        spare.remove()
    return list(axes[:n])


def save(fig: "Figure", stem: Path, origin: dict[str, Any] | None = None) -> tuple[Path, Path]:
    """Write `stem`.pdf and `stem`.png atomically, without dates; the PNG stays below `PNG_LIMIT`.

    `origin` says what the figure was drawn from. The PNG keeps it as text, with the PDF's sha256: see `origin_of`.

    Returns:
        Paths of the PDF and the PNG.
    """
    pdf, png = (Path(f"{stem}.{ending}") for ending in ("pdf", "png"))
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # the layout is settled; solving it again for every file takes seconds
    document = _encoded(fig, "pdf", 150, {"CreationDate": None})
    write_bytes(pdf, document)
    noted = {} if origin is None else {NOTE: json.dumps(origin | {"pdf": hashlib.sha256(document).hexdigest()})}
    write_bytes(png, _small_png(fig, noted))
    return pdf, png


def origin_of(png: Path) -> dict[str, Any]:
    """What `save` noted in a PNG: {} where it noted nothing, ValueError where the file is damaged."""
    from PIL import Image

    try:
        with Image.open(png) as picture:
            picture.verify()  # the checksum of every chunk
        with Image.open(png) as picture:
            return json.loads(getattr(picture, "text", {}).get(NOTE, "{}"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"expected a figure in {png}, found this: {error}; {AGAIN}") from error


def _small_png(fig: "Figure", text: dict[str, str]) -> bytes:
    """A PNG below `PNG_LIMIT`: in all colours where that fits at `LEAST_DPI` or more, else in 256 colours.

    With 256 colours it has the highest resolution that fits.
    """
    metadata = {"Software": None, **text}
    picture = _encoded(fig, "png", DPI, metadata)
    if len(picture) < PNG_LIMIT:
        return picture
    fewer = int(DPI * (0.9 * PNG_LIMIT / len(picture)) ** 0.5)  # bytes grow as the area
    if fewer >= LEAST_DPI:
        picture = _encoded(fig, "png", fewer, metadata)
    for dpi in range(DPI, 20, -15):
        if len(picture) < PNG_LIMIT:
            break
        picture = _palette_png(_encoded(fig, "png", dpi, metadata), text)
    return picture


def _palette_png(picture: bytes, text: dict[str, str]) -> bytes:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    buffer, kept = io.BytesIO(), PngInfo()
    for name, value in text.items():
        kept.add_text(name, value)
    whole = Image.open(io.BytesIO(picture)).convert("RGB")
    # The default, median cut, merges rare colours: the green of a dot became the grey of the next one.
    whole.quantize(256, method=Image.Quantize.FASTOCTREE).save(buffer, "png", optimize=True, pnginfo=kept)
    return buffer.getvalue()


def _encoded(fig: "Figure", ending: str, dpi: int, metadata: dict[str, str | None]) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format=ending, dpi=dpi, metadata=metadata)
    return buffer.getvalue()
