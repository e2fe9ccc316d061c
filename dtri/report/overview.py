"""One page over all tables: the status of every cell, the cost of training, what is known of the printed numbers."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from dtri.report.cells import Cell, Table
from dtri.report.layout import METRICS, cost, heading
from dtri.report.webpage import fill

STATUSES = ("measured", "partial", "diverged", "stale", "missing")
MEANING = {
    "measured": "all seeds, by this checkout's code, data and configuration",
    "partial": "some seeds are missing",
    "diverged": "a training, or what its model made, ended in non-finite values",
    "stale": "made by other code, data or configuration than this checkout's",
    "missing": "not measured",
}
Measured = tuple[Table, pd.DataFrame]

PAGE = """
{% extends "frame" %}
{% block body %}
<section><ul class="legend">
{% for status, meaning in meaning.items() %}<li><span class="cell {{ status }}">{{ status }}</span> {{ meaning }}</li>
{% endfor %}
<li><span class="cell other">dashed</span> measured, but not comparable with the printed number</li></ul></section>
{% for table, blocks in grids %}
<section><h2>{{ table.name }}: {{ table.title }}</h2>
{% for block in blocks %}
<h3>{{ block.heading }}</h3>
<div class="scroll"><table class="overview">
<thead><tr><td></td>{% for column in block.columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in block.rows %}
<tr><th scope="row">{{ row }}</th>
{% for column in block.columns %}
<td>{% if (row, column) in block.cells %}{% set cell = block.cells[row, column] %}
<span class="cell {{ cell.kind }}" title="{{ cell.title }}">{{ cell.status }}</span>{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
</section>
{% endfor %}
<section><h2>Cost of training</h2><div class="scroll">
{% if costs %}
<table><thead><tr><th>system</th><th>trainings</th><th>hours</th><th>device</th></tr></thead>
<tbody>{% for texts in costs %}
<tr>{% for text in texts %}<td>{{ text }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{% else %}
<p>nothing yet</p>
{% endif %}
</div></section>
{% for table, noted in findings if table.notes or noted %}
<section><h2>Findings on the printed numbers of {{ table.name }}</h2><ul>
{% for note in table.notes %}<li>{{ note }}</li>
{% endfor %}
{% for note, places in noted.items() %}<li>{{ note }} <em>({{ places|join("; ") }})</em></li>
{% endfor %}
</ul></section>
{% endfor %}
{% endblock %}
"""


def overview(tables: Sequence[Measured], label: str) -> str:
    """The page; `tables` with their tidy frames, `label` names the preset."""
    rows = [row for _, frame in tables for row in _cells(frame)]
    return fill(
        PAGE,
        "overview",
        "Status of every cell, cost and findings",
        label,
        _summary(rows),
        COLOURS,
        meaning=MEANING,
        grids=[(table, _grid(table, frame)) for table, frame in tables],
        costs=_costs(rows),
        findings=[(table, _findings(table)) for table, _ in tables],
    )


def _cells(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame[frame["variant"] == ""].to_dict("records")


def _status(row: dict[str, Any]) -> str:
    return row["status"].split()[0]


def _summary(rows: list[dict[str, Any]]) -> str:
    """As "3 measured, 2 stale, 44 missing of 49 cells; 2 h of training on cpu (...)"."""
    counts = Counter(_status(row) for row in rows)
    text = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return "; ".join(part for part in (f"{text} of {len(rows)} cells", cost(rows)) if part)


def _grid(table: Table, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Per paper and metric its heading, columns, rows, and the cells of the page by row and column."""
    pairs = list(zip(table.cells, _cells(frame), strict=True))
    blocks = []
    for paper, metric in dict.fromkeys((cell.paper, cell.metric) for cell, _ in pairs):
        block = [(cell, row) for cell, row in pairs if (cell.paper, cell.metric) == (paper, metric)]
        blocks.append(
            {
                "heading": heading(table, paper, metric),
                "columns": list(dict.fromkeys(cell.column for cell, _ in block)),
                "rows": list(dict.fromkeys(cell.row for cell, _ in block)),
                "cells": {(cell.row, cell.column): _cell(cell, row) for cell, row in block},
            }
        )
    return blocks


def _cell(cell: Cell, row: dict[str, Any]) -> dict[str, str]:
    """Status, class names and, as its title, what is known of a cell."""
    words = [row["status"], row["verdict"]]
    if not pd.isna(row["mean"]):
        words.append(f"{row['mean']:.4g} measured, {cell.published_text or 'nothing'} printed, {row['n_seeds']} seeds")
    words += [row["reason"], row["warning"]]
    kind = _status(row) + (" other" if row["comparable"] == "no" else "")
    return {"status": row["status"], "kind": kind, "title": "; ".join(word for word in words if word)}


def _costs(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Per system, the costliest first; a training that several cells show counts once."""
    trained = {(row["model"], row["measured_on"]): row for row in rows if not pd.isna(row["train_seconds"])}
    systems: dict[str, list[dict[str, Any]]] = {}
    for (model, _), row in trained.items():
        systems.setdefault(model, []).append(row)
    lines = []
    for model, known in sorted(systems.items(), key=lambda item: -sum(row["train_seconds"] for row in item[1])):
        runs = sum(row["n_seeds"] for row in known)
        hours = sum(row["train_seconds"] for row in known) / 3600
        lines.append((model, str(runs), f"{hours:.3g}", ", ".join(dict.fromkeys(row["train_device"] for row in known))))
    return lines


def _findings(table: Table) -> dict[str, list[str]]:
    """The notes of a table's cells, with the places of the cells."""
    noted: dict[str, list[str]] = {}
    for cell in table.cells:
        if cell.published_text not in ("", "-") and cell.note:
            place = f"paper {cell.paper}, {METRICS.get(cell.metric, cell.metric)}, {cell.row}, {cell.column}"
            noted.setdefault(cell.note, []).append(f"{place}: {cell.published_text}")
    return noted


COLOURS = """
.cell{display:inline-block;min-width:5.5em;padding:2px 6px;border-radius:5px;font-size:.78rem;color:#1d2530}
.cell.measured{background:#bfe5cb}.cell.partial{background:#fdebb3}.cell.diverged{background:#f6c7b6}
.cell.stale{background:#e3cbe8}.cell.missing{background:#e8ebef;color:#5d6977}
.cell.other{outline:1px dashed #6d4600}
.legend{list-style:none;padding:0}.overview th,.overview td{padding:3px 4px}
h3{margin-top:12px}
"""
