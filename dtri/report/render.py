"""A tidy frame as csv, md, tex or html."""

import pandas as pd

from dtri.report import latex, markdown, webpage
from dtri.report.cells import Table
from dtri.report.layout import layout

WRITERS = {"md": markdown.write, "tex": latex.write, "html": webpage.write}


def render(table: Table, frame: pd.DataFrame, label: str, fmt: str) -> str:
    """The text of a table's file.

    Args:
        table: what the papers print.
        frame: what was measured, from `tidy`.
        label: the preset in words; shown on top.
        fmt: csv, md, tex or html.

    Raises:
        ValueError: the frame is not this table's, or the format is unknown.
    """
    if fmt == "csv":
        return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    if fmt not in WRITERS:
        raise ValueError(f"expected a format of csv, {', '.join(WRITERS)}, found {fmt!r}")
    return WRITERS[fmt](layout(table, frame, label))
