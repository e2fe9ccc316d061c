"""Pages in html: one frame and look for tables, claims, the landing page and the pages of runs.

A page has no script and loads nothing from elsewhere. Tables and claims need no other file. The landing page and the
pages of runs link to files below the preset's folder. Templates are texts of these modules, so a change of one changes
the code hash of the pages.
"""

from collections.abc import Sequence
from typing import Any

import jinja2

from dtri.report.layout import Layout, sections

FRAME = """
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}: {{ title }} ({{ label }})</title>
<style>{{ css }}</style></head>
<body><main>
{% if links %}
<nav>{% for text, address in links %}<a href="{{ address }}">{{ text }}</a>{% endfor %}</nav>
{% endif %}
<h1><small>{{ name }}</small>{{ title }}</h1>
<p class="label{{ "" if label.startswith("paper") else " loud" }}">{{ label }}</p>
{% if summary %}<p class="summary">{{ summary }}.</p>{% endif %}
{% block body %}{% endblock %}
</main></body></html>
"""

TABLE = """
{% extends "frame" %}

{% macro superscript(marks) %}
{% if marks %}<sup>{% for mark in marks %}<a href="#n{{ mark }}" title="{{ texts[mark] }}">{{ mark }}</a>
{{- "" if loop.last else "," }}{% endfor %}</sup>{% endif %}
{% endmacro %}

{% macro leveled(texts) %}
<td class="reference"><span class="printed">{{ texts[0] }}</span>
{%- if texts[1] %}<div class="value">{{ texts[1] }}</div>{% endif %}</td>
{% endmacro %}

{% macro rendered(cell, narrow) %}
<td><{{ "b" if cell.bold else "span" }} class="printed">{{ cell.printed }}</{{ "b" if cell.bold else "span" }}>
{{- superscript(cell.refs) -}}
{% if cell.value %}
<div class="value {{ cell.kind if cell.comparable else "other" }}">
{%- for part in cell.measured.split(" ±") %}
{{ ("<br>±" if narrow else " ±")|safe if not loop.first }}{{ part }}
{%- endfor %}</div>
{%- endif %}
{% if cell.words or cell.reasons %}
<div class="words">{% for word in cell.words %}{{ word }}{{ "" if loop.last else "<br>"|safe }}{% endfor %}
{{- superscript(cell.reasons) }}</div>
{%- endif %}
</td>
{% endmacro %}

{% block body %}
{% if page.shared %}
<ul class="shared">{% for text in page.shared %}<li>{{ text }}.</li>{% endfor %}</ul>
{% endif %}
{% for block in page.blocks %}
<section><h2>{{ block.heading }}</h2>
<div class="scroll" tabindex="0" role="region" aria-label="{{ block.heading }}"><table>
<thead><tr><td></td>
{% for column in block.columns %}<th scope="col">{{ column }}</th>{% endfor %}
{% for level in block.references %}<th scope="col" class="reference">{{ level.heading }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in block.rows %}
<tr><th scope="row">{{ row }}</th>
{% for column in block.columns %}
{% if (row, column) in block.cells %}
{{ rendered(block.cells[row, column], block.columns|length > 3) }}
{%- else %}
<td class="none"></td>
{% endif %}
{% endfor %}
{% for level in block.references %}
{{ leveled(level.texts[row]) }}
{%- endfor %}
</tr>
{% endfor %}
{% for level in block.turned_references %}
<tr><th scope="row">{{ level.heading }}</th>
{% for column in block.columns %}
{{ leveled(level.texts[column]) }}
{%- endfor %}
</tr>
{% endfor %}
</tbody></table></div></section>
{% endfor %}
<section><h2>How measured</h2>
<ul>{% for method in page.methods or ["nothing yet"] %}<li>{{ method }}</li>{% endfor %}</ul></section>
{% for heading, items in sections %}
<details{{ " open" if items[0][0] }}><summary>{{ heading }}</summary><ul>
{% for mark, text in items %}
<li>{% if mark %}<sup id="n{{ mark }}">{{ mark }}</sup> {% endif %}{{ text }}</li>
{% endfor %}
</ul></details>
{% endfor %}
{% endblock %}
"""

COLOURS = {  # name -> colour on a light and on a dark screen
    "page": ("#f6f7f9", "#12161b"),
    "card": ("#ffffff", "#1b2128"),
    "ink": ("#1d2530", "#e4e9ef"),
    "soft": ("#4d5966", "#b4bfcb"),
    "line": ("#e1e5ea", "#343d48"),
    "link": ("#1f56a8", "#8ab8ff"),
    "note": ("#f8f9fb", "#212932"),
    "target": ("#fff3c4", "#5a4a12"),
    "paper": ("#e3f1e8", "#173a27"),
    "paper-ink": ("#17583a", "#a5e3bf"),
    "loud": ("#ffe9c7", "#4b3409"),
    "loud-ink": ("#7a4700", "#ffd591"),
    "plain": ("#eef1f4", "#29313b"),
    "plain-ink": ("#333d49", "#d5dce4"),
    "good": ("#d9f0e0", "#17402a"),
    "good-ink": ("#125232", "#a9e8c2"),
    "better": ("#dbe9fb", "#1a365d"),
    "better-ink": ("#153f79", "#b3d4ff"),
    "worse": ("#fbe0d6", "#56250f"),
    "worse-ink": ("#7c2c0c", "#ffc6ab"),
    "stale": ("#f3e3f3", "#46234a"),
    "stale-ink": ("#642062", "#efc3f2"),
    "partial": ("#fdebb3", "#4a3b06"),
    "partial-ink": ("#5c4500", "#ffe08a"),
    "other": ("#fff6e2", "#2d271a"),
    "other-ink": ("#6d4600", "#f0cf96"),
    "other-edge": ("#d9ae5b", "#9c7730"),
}


def _palette(shade: int) -> str:
    return "".join(f"--{name}:{pair[shade]};" for name, pair in COLOURS.items())


CSS = f"""
:root{{color-scheme:light dark;{_palette(0)}}}
@media screen and (prefers-color-scheme:dark){{:root{{{_palette(1)}}}}}
"""
CSS += """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink)}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1400px;margin:0 auto;padding:20px 16px 48px}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:3px}
nav{display:flex;flex-wrap:wrap;gap:2px 16px;margin:0 0 14px;font-size:.9rem}
nav a{padding:4px 0}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 12px}
h1 small{display:block;font-size:.8rem;font-weight:600;color:var(--soft);text-transform:uppercase;letter-spacing:.08em}
h2{font-size:1.05rem;margin:0 0 10px}
h3{font-size:.95rem;margin:0 0 6px}
.label{display:inline-block;margin:0 0 8px;padding:4px 12px;border-radius:16px;font-weight:600}
.label{background:var(--paper);color:var(--paper-ink)}
.label.loud{background:var(--loud);color:var(--loud-ink)}
.summary{margin:0 0 16px;color:var(--soft)}
section,details{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px;margin:0 0 16px}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:separate;border-spacing:0;min-width:100%;font-variant-numeric:tabular-nums}
th,td{padding:8px 4px;text-align:center;vertical-align:top;border-bottom:1px solid var(--line);white-space:nowrap}
thead th,thead td{border-bottom:2px solid var(--ink);font-size:.86rem;vertical-align:bottom;white-space:normal}
tbody tr:last-child>*{border-bottom:0}
th[scope=row],thead td{position:sticky;left:0;z-index:1;background:var(--card);text-align:left}
th[scope=row],thead td{border-right:1px solid var(--line)}
td.reference,th.reference{background:var(--note);color:var(--soft)}
.printed{font-size:1rem}
b.printed{font-weight:700}
.value{display:table;margin:3px auto 0;padding:1px 4px;border-radius:5px;font-size:.8rem}
.value{background:var(--plain);color:var(--plain-ink)}
td.reference .value{background:none;padding:0}
.value.reproduced{background:var(--good);color:var(--good-ink)}
.value.better{background:var(--better);color:var(--better-ink)}
.value.worse{background:var(--worse);color:var(--worse-ink)}
.value.stale,.value.diverged{background:var(--stale);color:var(--stale-ink)}
.value.partial{background:var(--partial);color:var(--partial-ink)}
.value.other{background:var(--other);color:var(--other-ink);border:1px dashed var(--other-edge)}
.words{margin:2px auto 0;max-width:8em;font-size:.75rem;line-height:1.3;color:var(--soft);white-space:normal}
sup{font-size:.68em;line-height:0}
sup a{text-decoration:none;padding:0 1px}
ul{margin:0;padding-left:18px}
li{margin:3px 0;font-size:.88rem;overflow-wrap:anywhere}
summary{cursor:pointer;font-weight:600}
details>*{margin-top:8px}
.shared{margin:0 0 16px}
li:target,li:has(:target){background:var(--target)}
@media(max-width:600px){main{padding:14px 8px 32px}section,details{padding:12px 10px}th,td{padding:7px 7px}}
@media print{body{background:none}section{border:0;padding:0;break-inside:avoid}.scroll{overflow:visible}}
"""


def write(page: Layout) -> str:
    values = {"page": page, "texts": dict(page.notes + page.reasons), "sections": sections(page)}
    return fill(TABLE, page.table.name, page.table.title, page.label, page.summary, **values)


def fill(
    template: str,
    name: str,
    title: str,
    label: str,
    summary: str,
    css: str = "",
    links: Sequence[tuple[str, str]] = (),
    **values: Any,
) -> str:
    """A page of `template`, which extends "frame".

    Args:
        template: jinja2 text with a block `body`; values are escaped.
        name: of the page, above its title.
        title: of the page.
        label: the preset in words; loud for every preset but "paper".
        summary: one sentence without its full stop, "" for none.
        css: style of this page, beside the common style.
        links: (text, address) of the line above the title.
        values: what the body reads.
    """
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"frame": FRAME.lstrip()}),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.from_string(template)
    shared = {"name": name, "title": title, "label": label, "summary": summary, "links": links}
    return page.render(**shared, css=jinja2.utils.markupsafe.Markup(CSS + css), **values)
