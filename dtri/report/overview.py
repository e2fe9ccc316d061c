"""One page over all tables: the status of every cell, the cost of training, what is known of the printed numbers.

Self-contained html: no script, no address, no other file.
"""

import html
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from dtri.report.cells import Cell, Table
from dtri.report.render import CSS, METRICS, cost

STATUSES = ("measured", "partial", "diverged", "stale", "missing")
MEANING = {
    "measured": "all seeds, by this checkout's code, data and configuration",
    "partial": "some seeds are missing",
    "diverged": "a training, or what its model made, ended in non-finite values",
    "stale": "made by other code, data or configuration than this checkout's",
    "missing": "not measured",
}
Measured = tuple[Table, pd.DataFrame]


def overview(tables: Sequence[Measured], label: str) -> str:
    """The page; `tables` with their tidy frames, `label` names the preset."""
    rows = [row for _, frame in tables for row in _cells(frame)]
    banner = "" if label.startswith("paper") else " loud"
    body = [
        "<h1><small>overview</small>Status of every cell, cost and findings</h1>",
        f'<p class="label{banner}">{html.escape(label)}</p>',
        f'<p class="summary">{html.escape(_summary(rows))}.</p>',
        _legend(),
        *(_grid(table, frame) for table, frame in tables),
        _costs(rows),
        *(_findings(table) for table, _ in tables),
    ]
    head = f"<title>overview ({html.escape(label)})</title>\n<style>{CSS}{COLOURS}</style>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{head}</head>\n<body><main>\n'
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _cells(frame: pd.DataFrame) -> list[dict]:
    return frame[frame["variant"] == ""].to_dict("records")


def _status(row: dict) -> str:
    return row["status"].split()[0]


def _summary(rows: list[dict]) -> str:
    """As "3 measured, 2 stale, 44 missing of 49 cells; 2 h of training on cpu (...)"."""
    counts = Counter(_status(row) for row in rows)
    text = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return "; ".join(part for part in (f"{text} of {len(rows)} cells", cost(rows)) if part)


def _legend() -> str:
    items = (f'<li><span class="cell {status}">{status}</span> {MEANING[status]}</li>' for status in STATUSES)
    other = '<li><span class="cell other">dashed</span> measured, but not comparable with the printed number</li>'
    return f'<section><ul class="legend">{"".join(items)}{other}</ul></section>'


def _grid(table: Table, frame: pd.DataFrame) -> str:
    """A small cell per published or own number; its title says what is known of it."""
    pairs = list(zip(table.cells, _cells(frame), strict=True))
    parts = [f"<section><h2>{html.escape(f'{table.name}: {table.title}')}</h2>"]
    for paper, metric in dict.fromkeys((cell.paper, cell.metric) for cell, _ in pairs):
        block = [(cell, row) for cell, row in pairs if (cell.paper, cell.metric) == (paper, metric)]
        columns = list(dict.fromkeys(cell.column for cell, _ in block))
        parts.append(f"<h3>Paper {paper}: {html.escape(METRICS.get(metric, metric))}</h3>")
        heads = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
        parts.append(f'<div class="scroll"><table class="overview"><thead><tr><td></td>{heads}</tr></thead><tbody>')
        for name in dict.fromkeys(cell.row for cell, _ in block):
            found = {cell.column: _cell(cell, row) for cell, row in block if cell.row == name}
            cells = "".join(f"<td>{found.get(column, '')}</td>" for column in columns)
            parts.append(f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>')
        parts.append("</tbody></table></div>")
    return "".join([*parts, "</section>"])


def _cell(cell: Cell, row: dict) -> str:
    words = [row["status"], row["verdict"]]
    if not pd.isna(row["mean"]):
        words.append(f"{row['mean']:.4g} measured, {cell.published_text or 'nothing'} printed, {row['n_seeds']} seeds")
    words += [row["reason"], row["warning"]]
    title = html.escape("; ".join(word for word in words if word))
    kind = _status(row) + (" other" if row["comparable"] == "no" else "")
    return f'<span class="cell {kind}" title="{title}">{html.escape(row["status"])}</span>'


def _costs(rows: list[dict]) -> str:
    """Per system, the costliest first; a training that several cells show counts once."""
    trained = {(row["model"], row["measured_on"]): row for row in rows if not pd.isna(row["train_seconds"])}
    systems: dict[str, list[dict]] = {}
    for (model, _), row in trained.items():
        systems.setdefault(model, []).append(row)
    lines = []
    for model, known in sorted(systems.items(), key=lambda item: -sum(row["train_seconds"] for row in item[1])):
        runs = sum(row["n_seeds"] for row in known)
        hours = sum(row["train_seconds"] for row in known) / 3600
        devices = ", ".join(dict.fromkeys(row["train_device"] for row in known))
        cells = (model, str(runs), f"{hours:.3g}", devices)
        lines.append("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in cells) + "</tr>")
    heads = "<tr><th>system</th><th>trainings</th><th>hours</th><th>device</th></tr>"
    table = f"<table><thead>{heads}</thead><tbody>{''.join(lines)}</tbody></table>" if lines else "<p>nothing yet</p>"
    return f'<section><h2>Cost of training</h2><div class="scroll">{table}</div></section>'


def _findings(table: Table) -> str:
    """The notes of a table, and those of its cells with the cells they are of."""
    noted: dict[str, list[str]] = {}
    for cell in table.cells:
        if cell.published_text not in ("", "-") and cell.note:
            place = f"paper {cell.paper}, {METRICS.get(cell.metric, cell.metric)}, {cell.row}, {cell.column}"
            noted.setdefault(cell.note, []).append(f"{place}: {cell.published_text}")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    for note, places in noted.items():
        notes += f"<li>{html.escape(note)} <em>({html.escape('; '.join(places))})</em></li>"
    return (
        f"<section><h2>Findings on the printed numbers of {table.name}</h2><ul>{notes}</ul></section>" if notes else ""
    )


COLOURS = """
.cell{display:inline-block;min-width:5.5em;padding:2px 6px;border-radius:5px;font-size:.78rem;color:#1d2530}
.cell.measured{background:#bfe5cb}.cell.partial{background:#fdebb3}.cell.diverged{background:#f6c7b6}
.cell.stale{background:#e3cbe8}.cell.missing{background:#e8ebef;color:#5d6977}
.cell.other{outline:1px dashed #6d4600}
.legend{list-style:none;padding:0}.overview th,.overview td{padding:3px 4px}
h3{margin-top:12px}
"""
