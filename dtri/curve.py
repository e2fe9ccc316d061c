"""The training curve as text."""

import csv
import io


def to_csv(curve: list[dict[str, float]]) -> str:
    """Rows {"step": last iteration of the interval, term: mean over the interval, ...} as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(curve[0]) if curve else ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    return text.getvalue()
