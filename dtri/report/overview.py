"""The landing page of a preset: what was reproduced, what holds, every cell with its two numbers, figures and cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dtri.report.cells import Table
from dtri.report.claims_page import verdict_in_words
from dtri.report.layout import METRICS, Block, cost, counted, hours_in_words, layout, outcomes, trainings
from dtri.report.verdicts import VERDICTS, Judgement
from dtri.report.webpage import fill

TILES = (  # outcomes counted together -> words, what they mean
    (("reproduced",), "reproduced", "within the tolerance that was fixed before any run"),
    (("better", "worse"), "not reproduced", "every seed has a value, and the mean lies outside the tolerance"),
    (("not comparable",), "not comparable", "measured on other data, at another scale or by other features"),
    (("missing",), "missing", "not run"),
    (("stale",), "stale", "made by other code, data or configuration than this checkout's"),
    (("partial",), "partial", "some seeds are missing"),
    (("diverged",), "diverged", "a training, or what its model made, ended in non-finite values"),
)
ALWAYS = 5  # number of first tiles that are shown even where they count nothing
STATES = ("reproduced", "better", "worse", "partial", "diverged", "stale", "not")  # first words below a number
HEADLINE = "abstract"  # word in the `place` of claims that this page shows
FORMATS = ("html", "md", "csv", "tex")
Measured = tuple[Table, pd.DataFrame]

PAGE = """
{% extends "frame" %}

{% macro grid(block) %}
<h3>{{ block.heading }}</h3>
<div class="scroll" tabindex="0" role="region" aria-label="{{ block.heading }}"><table class="overview">
<thead><tr><td></td>{% for column in block.columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in block.rows %}
<tr><th scope="row">{{ row }}</th>
{% for column in block.columns %}
<td>{% if (row, column) in block.cells %}{% set cell = block.cells[row, column] %}
<span class="printed">{{ cell.printed }}</span>
{% if cell.value and cell.system in pages %}
<a class="value {{ kind(cell) }}" href="{{ pages[cell.system] }}">{{ cell.measured }}</a>
{% elif cell.value %}
<span class="value {{ kind(cell) }}">{{ cell.measured }}</span>
{% endif %}
{% for word in states(cell) %}<span class="words">{{ word }}</span>{% endfor %}
{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}

{% block body %}
{% if caveat %}<p class="caveat">{{ caveat }}</p>{% endif %}
<section id="state"><h2>Of {{ n_printed }} numbers that the papers print</h2>
<ul class="tiles">
{% for tile in tiles %}
<li class="tile {{ tile.kind if tile.count else "" }}"><b>{{ tile.count }}</b> {{ tile.words }}
<small>{{ tile.meaning }}</small></li>
{% endfor %}
</ul></section>
<section id="claims"><h2>What the papers claim <a class="file" href="claims.html">all claims</a></h2>
<ul class="tiles small">
{% for verdict, count in verdicts %}
<li class="tile {{ verdict.split(" ")[0] if count else "" }}"><b>{{ count }}</b> {{ verdict }}</li>
{% endfor %}
</ul>
<ul class="headlines">
{% for one, verdict in headlines %}
<li><span class="verdict {{ one.verdict.split(" ")[0] }}">{{ verdict }}</span>
{{ one.claim.statement }} <em>(paper {{ one.claim.paper }}, {{ one.claim.place }})</em></li>
{% endfor %}
</ul></section>
<section id="numbers"><h2>Every cell</h2>
<p>Upper line: the printed number. Lower line: the mean measured here, with the number of seeds; it leads to the run.
<span class="value reproduced">green</span> reproduced
<span class="value worse">orange</span> worse
<span class="value better">blue</span> better
<span class="value other">[dashed]</span> not comparable with the printed number
<span class="value own">grey</span> nothing is printed
<span class="value stale">violet</span> stale or diverged</p></section>
{% for table, page, printed, own in tables %}
<section id="{{ table.name }}"><h2>{{ table.name }}: {{ table.title }}
{% for ending in formats %}<a class="file" href="{{ table.name }}.{{ ending }}">{{ ending }}</a>{% endfor %}</h2>
{% if page.shared %}
<ul class="shared">{% for text in page.shared %}<li>{{ text }}.</li>{% endfor %}</ul>
{% endif %}
<div class="blocks">{% for block in printed %}<div>{{ grid(block) }}</div>{% endfor %}</div>
{% if own %}
<details><summary>Numbers that neither paper prints</summary>
<div class="blocks">{% for block in own %}<div>{{ grid(block) }}</div>{% endfor %}</div></details>
{% endif %}
</section>
{% endfor %}
<section id="figures"><h2>Figures</h2>
{% if figures %}
<ul class="figures">
{% for address, title in figures %}
<li><a href="{{ address }}"><img src="{{ address }}" alt="" loading="lazy" width="320" height="200">{{ title }}</a></li>
{% endfor %}
</ul>
{% else %}
<p>none yet</p>
{% endif %}
</section>
<details id="cost"><summary>Cost of training</summary>
<div class="scroll" tabindex="0" role="region" aria-label="Cost of training">
{% if costs %}
<table><thead><tr><th>system</th><th>trainings</th><th>time</th><th>device</th></tr></thead>
<tbody>{% for texts in costs %}
<tr>{% for text in texts %}<td>{{ text }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{% else %}
<p>nothing yet</p>
{% endif %}
</div></details>
{% for table, noted in findings if table.notes or noted %}
<details><summary>Findings on the printed numbers of {{ table.name }}</summary><ul>
{% for note in table.notes %}<li>{{ note }}</li>
{% endfor %}
{% for note, places in noted.items() %}<li>{{ note }} <em>({{ places|join("; ") }})</em></li>
{% endfor %}
</ul></details>
{% endfor %}
{% endblock %}
"""


def overview(
    tables: Sequence[Measured],
    claims: Sequence[Judgement],
    figures: Sequence[tuple[str, str]],
    pages: Mapping[tuple[str, str], str],
    label: str,
    caveat: str = "",
) -> str:
    """The landing page, for the folder of the preset.

    Args:
        tables: with their tidy frames.
        claims: judged; all are counted, and claims of an abstract are shown.
        figures: address and title of each; a picture that is not there yet shows as its title.
        pages: (dataset, system) -> address of the page of a run.
        label: the preset in words.
        caveat: what the preset's numbers cannot tell, "" for nothing.
    """
    rows = [row for _, frame in tables for row in frame[frame["variant"] == ""].to_dict("records")]
    counts, verdicts = outcomes(rows, published=True), Counter(one.verdict for one in claims)
    others = counted(rows, "numbers that neither paper prints", published=False)
    return fill(
        PAGE,
        "overview",
        "What was reproduced",
        label,
        "; ".join(filter(None, (others, cost(rows)))),
        CSS,
        links=_links(tables),
        caveat=caveat,
        n_printed=counts.total(),
        tiles=_tiles(counts),
        verdicts=[(verdict, verdicts[verdict]) for verdict in VERDICTS],
        headlines=[(one, verdict_in_words(one)) for one in claims if HEADLINE in one.claim.place],
        tables=[_table(table, frame, label) for table, frame in tables],
        formats=FORMATS,
        pages=pages,
        kind=_kind,
        states=_states,
        figures=figures,
        costs=_costs(rows),
        findings=[(table, _findings(table)) for table, _ in tables],
    )


def _links(tables: Sequence[Measured]) -> list[tuple[str, str]]:
    parts = [("Claims", "#claims"), *((table.name, f"#{table.name}") for table, _ in tables), ("Figures", "#figures")]
    return [*parts, ("Cost", "#cost"), ("All runs", "runs/index.html")]


def _tiles(counts: Counter[str]) -> list[dict[str, Any]]:
    """How many printed numbers have each outcome; tiles after the first ALWAYS are left out where empty."""
    found = []
    for i, (together, words, meaning) in enumerate(TILES):
        count = sum(counts[outcome] for outcome in together)
        if count or i < ALWAYS:
            kind = "worse" if words == "not reproduced" else "other" if words == "not comparable" else words
            found.append({"count": count, "words": words, "meaning": meaning, "kind": kind})
    return found


def _table(table: Table, frame: pd.DataFrame, label: str) -> tuple[Any, ...]:
    """The table, its layout, the blocks in which a paper prints a number, and the other blocks."""
    page = layout(table, frame, label)
    printed = [block for block in page.blocks if _is_printed(block)]
    return table, page, printed, [block for block in page.blocks if block not in printed]


def _is_printed(block: Block) -> bool:
    return any(cell.printed not in ("·", "-") for cell in block.cells.values())


def _states(cell: Any) -> list[str]:
    """The words below a number that say what became of it, without its other spreads."""
    return [word for word in cell.words if word.split()[0] in STATES]


def _kind(cell: Any) -> str:
    """The colour of a number: stale comes before not comparable."""
    return "stale" if "stale" in cell.words else cell.kind


def _costs(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """(system, trainings, time, devices) as texts, the costliest system first.

    A training that several cells show counts once.
    """
    systems: dict[str, list[dict[str, Any]]] = {}
    for (_, model), row in trainings(rows).items():
        systems.setdefault(model, []).append(row)
    lines = []
    for model, known in sorted(systems.items(), key=lambda item: -sum(row["train_seconds"] for row in item[1])):
        runs = sum(row["n_trained"] for row in known)
        hours = sum(row["train_seconds"] for row in known) / 3600
        devices = ", ".join(dict.fromkeys(row["train_device"] for row in known))
        lines.append((model, str(runs), hours_in_words(hours), devices))
    return lines


def _findings(table: Table) -> dict[str, list[str]]:
    """The notes of a table's cells, with the places of the cells."""
    noted: dict[str, list[str]] = {}
    for cell in table.cells:
        if cell.published_text not in ("", "-") and cell.note:
            place = f"paper {cell.paper}, {METRICS.get(cell.metric, cell.metric)}, {cell.row}, {cell.column}"
            noted.setdefault(cell.note, []).append(f"{place}: {cell.published_text}")
    return noted


CSS = """
.caveat{margin:0 0 16px;font-weight:600}
.tiles{list-style:none;padding:0;display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px}
.tile{margin:0;padding:10px 12px;border-radius:8px;background:var(--plain);color:var(--plain-ink);font-size:.95rem}
.tile b{display:block;font-size:1.9rem;line-height:1.1}
.tile small{display:block;margin-top:2px;line-height:1.35}
.tiles.small b{display:inline;font-size:1.3rem}
.tile.reproduced,.holds{background:var(--good);color:var(--good-ink)}
.tile.worse,.fails{background:var(--worse);color:var(--worse-ink)}
.tile.other,.undecided{background:var(--other);color:var(--other-ink)}
.tile.other{outline:1px dashed var(--other-edge)}
.tile.stale,.tile.diverged{background:var(--stale);color:var(--stale-ink)}
.tile.partial{background:var(--partial);color:var(--partial-ink)}
.headlines{list-style:none;padding:0;margin-top:12px}
.verdict{display:inline-block;padding:1px 8px;border-radius:5px;font-size:.8rem}
.verdict.not{background:var(--plain);color:var(--plain-ink)}
.file{margin-left:8px;font-size:.85rem;font-weight:400}
#numbers p{margin:0;font-size:.9rem}
#numbers .value{display:inline-block;margin:0 0 0 10px}
.blocks{display:flex;flex-wrap:wrap;gap:20px 32px}
.blocks>div{max-width:100%}
.blocks h3{width:0;min-width:100%}
.blocks table{min-width:0}
.overview th,.overview td{padding:4px 6px}
@media(max-width:600px){.overview th[scope=row]{white-space:normal;max-width:30vw}}
.overview .printed{font-size:.85rem;color:var(--soft)}
.overview .words{display:block}
a.value{text-decoration:underline;text-underline-offset:2px}
.figures{list-style:none;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,200px),1fr));gap:14px}
.figures img{display:block;width:100%;height:150px;object-fit:cover;object-position:top;background:#fff}
.figures img{border:1px solid var(--line);border-radius:6px;margin-bottom:4px}
"""
