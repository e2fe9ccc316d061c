"""Pages in html: one frame and look for tables and the overview.

A page is self-contained: no script, no address, no other file. Templates are texts of these modules, so that a change
of one changes the code hash of the tables.
"""

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
<h1><small>{{ name }}</small>{{ title }}</h1>
<p class="label{{ "" if label.startswith("paper") else " loud" }}">{{ label }}</p>
<p class="summary">{{ summary }}.</p>
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
<div class="scroll"><table>
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
</tbody></table></div>
<ul class="methods">{% for method in block.methods or ["nothing yet"] %}<li>{{ method }}</li>{% endfor %}</ul></section>
{% endfor %}
{% for heading, items in sections %}
<details{{ " open" if items[0][0] }}><summary>{{ heading }}</summary><ul>
{% for mark, text in items %}
<li>{% if mark %}<sup id="n{{ mark }}">{{ mark }}</sup> {% endif %}{{ text }}</li>
{% endfor %}
</ul></details>
{% endfor %}
{% endblock %}
"""

CSS = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:#f6f7f9;color:#1d2530;font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1400px;margin:0 auto;padding:20px 16px 48px}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 12px}
h1 small{display:block;font-size:.8rem;font-weight:600;color:#6a7685;text-transform:uppercase;letter-spacing:.08em}
h2{font-size:1.05rem;margin:0 0 10px}
h3{font-size:.95rem;margin:0 0 6px}
.label{display:inline-block;margin:0;padding:4px 12px;border-radius:16px;font-weight:600}
.label{background:#e3f1e8;color:#17583a}
.label.loud{background:#ffe9c7;color:#7a4700}
.summary{margin:8px 0 20px;color:#4d5966}
section,details{background:#fff;border:1px solid #e1e5ea;border-radius:10px;padding:16px;margin:0 0 16px}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:separate;border-spacing:0;min-width:100%;font-variant-numeric:tabular-nums}
th,td{padding:8px 4px;text-align:center;vertical-align:top;border-bottom:1px solid #e8ebef;white-space:nowrap}
thead th,thead td{border-bottom:2px solid #1d2530;font-size:.86rem;vertical-align:bottom;white-space:normal}
tbody tr:last-child>*{border-bottom:0}
th[scope=row],thead td{position:sticky;left:0;z-index:1;background:#fff;text-align:left;border-right:1px solid #e8ebef}
td.reference,th.reference{background:#f8f9fb;color:#4d5966}
.printed{font-size:1rem}
b.printed{font-weight:700}
.value{display:table;margin:3px auto 0;padding:1px 4px;border-radius:5px;font-size:.8rem}
.value{background:#eef1f4;color:#333d49}
td.reference .value{background:none;padding:0}
.value.reproduced{background:#d9f0e0;color:#125232}
.value.better{background:#dbe9fb;color:#153f79}
.value.worse{background:#fbe0d6;color:#7c2c0c}
.value.stale,.value.diverged{background:#f3e3f3;color:#642062}
.value.partial{background:#fdebb3;color:#5c4500}
.value.other{background:#fff6e2;color:#6d4600;border:1px dashed #d9ae5b}
.words{margin:2px auto 0;max-width:8em;font-size:.75rem;line-height:1.3;color:#5d6977;white-space:normal}
sup{font-size:.68em;line-height:0}
sup a{color:#2a62b8;text-decoration:none;padding:0 1px}
ul{margin:0;padding-left:18px}
li{margin:3px 0;font-size:.88rem;overflow-wrap:anywhere}
summary{cursor:pointer;font-weight:600}
details ul{margin-top:8px}
.shared{margin:0 0 16px}
.methods{list-style:none;padding:0;margin-top:10px;color:#4d5966}
.methods li::before{content:"How measured: ";font-weight:600}
li:target,li:has(:target){background:#fff3c4}
@media(max-width:600px){main{padding:14px 8px 32px}section,details{padding:12px 10px}th,td{padding:7px 7px}}
@media print{body{background:#fff}section{border:0;padding:0;break-inside:avoid}.scroll{overflow:visible}}
"""


def write(page: Layout) -> str:
    values = {"page": page, "texts": dict(page.notes + page.reasons), "sections": sections(page)}
    return fill(TABLE, page.table.name, page.table.title, page.label, page.summary, **values)


def fill(template: str, name: str, title: str, label: str, summary: str, css: str = "", **values: Any) -> str:
    """A page of `template`, which extends "frame".

    Args:
        template: jinja2 text with a block `body`; values are escaped.
        name: of the page, above its title.
        title: of the page.
        label: the preset in words; loud for every preset but "paper".
        summary: one sentence without its full stop.
        css: style beside that of all pages.
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
    shared = {"name": name, "title": title, "label": label, "summary": summary}
    return page.render(**shared, css=jinja2.utils.markupsafe.Markup(CSS + css), **values)
