"""A tidy frame as csv, md, tex or html, in the papers' layout: the printed number, below it what was measured.

A measurement that cannot be compared with the printed number (another preset, a stand-in dataset, other features)
stands in square brackets, carries its reason as a footnote and never gets a verdict.
"""

import html
import string
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pandas as pd

from dtri.report.cells import LABEL_FREE, Cell, Table

DECIMALS = {"fid": 2, LABEL_FREE: 2, "is": 2, "rmse": 4, "mse": 4, "auroc": 3, "auprc": 3, "auprc_leaky": 3}
METRICS = {
    "fid": "FID",
    LABEL_FREE: "FID (ImageNet lite)",
    "is": "Inception Score",
    "rmse": "RMSE",
    "mse": "MSE",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "auprc_leaky": "AUPRC (leaky split)",
}
LEGEND = (
    "Upper line: the number printed in the paper, with its precision; bold as printed; '-' is the paper's own dash; "
    "'·' means that the paper has no such cell.",
    "Lower line: measured here, mean ± standard deviation (ddof = 1) over seeds, the number of seeds in parentheses; "
    "below a reference level, the same level of the data measured on.",
    "[ ]: measured, but not comparable with the printed number, for the numbered reason.",
    "AP: average precision beside a trapezoid, which equal scores flatter. doubtful: the numbered reason says what the "
    "value hangs on.",
    "reproduced, better, worse: against the tolerance below, which was fixed before any run.",
    "partial: some seeds are missing. diverged k/n: k of n trainings, or what their models made, ended in non-finite "
    "values; the mean is over the others. "
    "stale: made by other code, data or configuration than this checkout's. not run: no measurement.",
)


@dataclass(frozen=True)
class Face:
    """One cell as shown. `refs` are footnotes of the printed number, `reasons` of the measured one."""

    printed: str
    bold: bool
    refs: tuple[str, ...]
    value: str
    n_seeds: int
    comparable: bool
    words: tuple[str, ...]
    reasons: tuple[str, ...]
    kind: str  # reproduced, better, worse, other, stale, diverged or missing: the colour in html

    @property
    def measured(self) -> str:
        """As "30.12 ± 0.45 (3)", in brackets where it is not comparable, "" where nothing was measured."""
        text = f"{self.value} ({self.n_seeds})" if self.value else ""
        return text if self.comparable or not text else f"[{text}]"


@dataclass(frozen=True)
class Block:
    """The cells of one paper and metric; `asides` holds per reference level (heading, {row: (printed, measured)})."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    faces: dict[tuple[str, str], Face]
    asides: tuple[tuple[str, dict[str, tuple[str, str]]], ...]
    methods: tuple[str, ...]


@dataclass
class Footnotes:
    """Texts with short marks, in order of first use; the same text keeps its mark."""

    marks: Callable[[int], str]
    texts: dict[str, str] = field(default_factory=dict)

    def mark(self, text: str) -> str:
        return self.texts.setdefault(text, self.marks(len(self.texts)))

    def items(self) -> list[tuple[str, str]]:
        return [(mark, text) for text, mark in self.texts.items()]


@dataclass(frozen=True)
class Layout:
    table: Table
    label: str
    summary: str
    blocks: tuple[Block, ...]
    notes: list[tuple[str, str]]
    reasons: list[tuple[str, str]]


def render(table: Table, frame: pd.DataFrame, label: str, fmt: str) -> str:
    """`frame` (of `tidy`) as text in `fmt`: csv, md, tex or html. `label` names the preset and is shown on top.

    ValueError when the frame is not this table's or the format is unknown.
    """
    writers = {"md": _markdown, "tex": _tex, "html": _html}
    if fmt not in ("csv", *writers):
        raise ValueError(f"expected a format of csv, {', '.join(writers)}, found {fmt!r}")
    if fmt == "csv":
        return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return writers[fmt](layout(table, frame, label))


def layout(table: Table, frame: pd.DataFrame, label: str) -> Layout:
    """Arrange the rows of `frame` as the papers print them."""
    rows = frame[frame["variant"] == ""].to_dict("records")
    found = [tuple(row[key] for key in ("paper", "metric", "dataset", "model", "against", "score")) for row in rows]
    expected = [(c.paper, c.metric, c.dataset, c.model, c.against, c.score) for c in table.cells]
    if found != expected:
        raise ValueError(f"expected the {len(expected)} rows of {table.name} in its order, found {len(found)} others")
    notes = Footnotes(lambda i: string.ascii_lowercase[i] if i < 26 else f"a{string.ascii_lowercase[i - 26]}")
    reasons = Footnotes(lambda i: str(i + 1))
    keys = dict.fromkeys((cell.paper, cell.metric) for cell in table.cells)
    blocks = tuple(
        _block(table, key, [(c, r) for c, r in zip(table.cells, rows) if (c.paper, c.metric) == key], notes, reasons)
        for key in keys
    )
    return Layout(table, label, _summary(rows), blocks, notes.items(), reasons.items())


def _block(
    table: Table, key: tuple[str, str], pairs: list[tuple[Cell, dict]], notes: Footnotes, reasons: Footnotes
) -> Block:
    paper, metric = key
    headings = {(p, m): heading for p, m, heading in table.headings}
    heading = headings.get(key, f"Paper {paper}: {METRICS.get(metric, metric)}")
    rows = tuple(dict.fromkeys(cell.row for cell, _ in pairs))
    asides = tuple(
        (aside.heading, {row: (dict(aside.values).get(row, ""), _level(pairs, row, aside.measure)) for row in rows})
        for aside in table.asides
        if aside.metric == metric
    )
    return Block(
        heading=f"{heading} ({pairs[0][0].direction} is better)",
        columns=tuple(dict.fromkeys(cell.column for cell, _ in pairs)),
        rows=rows,
        faces={(cell.row, cell.column): _face(cell, row, notes, reasons) for cell, row in pairs},
        asides=asides,
        methods=_methods(pairs),
    )


def _face(cell: Cell, row: dict, notes: Footnotes, reasons: Footnotes) -> Face:
    known = cell.published_text not in ("", "-") and cell.note
    status, verdict = row["status"], row["verdict"]
    words = [] if status in ("measured", "missing") else [status]
    words += [verdict] if verdict not in ("", "not comparable") else []
    place = cell.against or cell.dataset
    if row["measured_on"] and row["measured_on"] not in (cell.dataset, place):
        words.append(f"on {row['measured_on']}")
    if status == "missing":
        words.append("not run")
    if not pd.isna(row["average_precision"]):
        words.append(f"AP {_number(row['average_precision'], cell.metric)}")
    if row["warning"]:
        words.append("doubtful")
    return Face(
        printed=cell.published_text or "·",
        bold=cell.bold,
        refs=(notes.mark(cell.note),) if known else (),
        value=_value(row, cell.metric),
        n_seeds=row["n_seeds"],
        comparable=row["comparable"] != "no",
        words=tuple(words),
        reasons=tuple(reasons.mark(text) for text in (row["reason"], row["warning"]) if text not in ("", "not run")),
        kind=verdict if verdict in ("reproduced", "better", "worse") else status.split()[0],
    )


def _value(row: dict, metric: str) -> str:
    """As "30.12 ± 0.45", without ± for one seed, "" where nothing was measured."""
    if pd.isna(row["mean"]):
        return ""
    spread = "" if pd.isna(row["std"]) else f" ± {_number(row['std'], metric)}"
    return f"{_number(row['mean'], metric)}{spread}"


def _number(value: float, metric: str) -> str:
    """Fixed decimals per metric; three significant digits where those would show nothing."""
    decimals = DECIMALS.get(metric, 3)
    tiny = 0 < abs(value) < 10.0**-decimals
    return format(value, ".2g") if tiny else format(value, f".{decimals}f")


def _level(pairs: list[tuple[Cell, dict]], row: str, measure: str) -> str:
    levels = dict.fromkeys(
        format(r[measure], ".3f") for cell, r in pairs if cell.row == row and not pd.isna(r[measure])
    )
    return " / ".join(levels)


def _methods(pairs: list[tuple[Cell, dict]]) -> tuple[str, ...]:
    """How the block was measured: each distinct protocol with its extractor and counts, and the sets it was used on."""
    used: dict[str, dict[str, None]] = {}
    for cell, row in pairs:
        if row["status"] == "missing":
            continue
        counts = f"{row['n_samples']} samples, {row['n_reference']} reference"
        parts = [row["protocol"], f"extractor {row['extractor']}" if row["extractor"] else "", counts]
        place = row["measured_on"] or cell.against or cell.dataset
        used.setdefault("; ".join(part for part in parts if part), {})[place] = None
    return tuple(f"{', '.join(places)}: {text}" for text, places in used.items())


def _summary(rows: list[dict]) -> str:
    """As "12 of 49 cells measured: 3 reproduced; 2.5 h of training on cpu (...)"."""
    measured = [row for row in rows if not pd.isna(row["mean"])]
    words = [row["verdict"] for row in measured if row["verdict"]]
    words += [row["status"].split()[0] for row in rows if row["status"] not in ("measured", "missing")]
    order = ("reproduced", "better", "worse", "not comparable", "partial", "diverged", "stale")
    counts = [f"{words.count(word)} {word}" for word in order if word in words]
    text = f"{len(measured)} of {len(rows)} cells measured" + (f": {', '.join(counts)}" if counts else "")
    return "; ".join(part for part in (text, cost(rows)) if part)


def cost(rows: list[dict]) -> str:
    """As "0.31 h of training on cpu (...)"; a training that several rows show counts once."""
    known = {(row["measured_on"], row["model"]): row for row in rows if not pd.isna(row["train_seconds"])}
    hours = sum(row["train_seconds"] for row in known.values()) / 3600
    devices = dict.fromkeys(row["train_device"] for row in known.values())
    return f"{hours:.2g} h of training on {', '.join(devices)}" if known else ""


def _markdown(page: Layout) -> str:
    lines = [f"# {page.table.name}: {page.table.title}", "", f"**{_md(page.label)}**", "", f"{page.summary}.", ""]
    for block in page.blocks:
        heads = [*block.columns, *(heading for heading, _ in block.asides)]
        lines += [f"## {_md(block.heading)}", "", "| | " + " | ".join(_md(head) for head in heads) + " |"]
        lines.append("|:-|" + ":-:|" * len(heads))
        for row in block.rows:
            cells = [_md_face(block.faces.get((row, column))) for column in block.columns]
            cells += ["<br>".join(filter(None, values[row])) for _, values in block.asides]
            lines.append(f"| **{_md(row)}** | " + " | ".join(cells) + " |")
        lines.append("")
        lines += [f"* How measured, {_md(method)}" for method in block.methods] or ["* Nothing measured yet."]
        lines.append("")
    for title, items in _sections(page):
        lines += [f"**{title}**", ""]
        lines += [f"* {f'<sup>{mark}</sup> ' if mark else ''}{_md(text)}" for mark, text in items] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _md_face(face: Face | None) -> str:
    if face is None:
        return ""
    top = f"**{face.printed}**" if face.bold else face.printed
    words = f"*{', '.join(_md(word) for word in face.words)}*" if face.words else ""
    reasons = "".join(f"<sup>{mark}</sup>" for mark in face.reasons)
    refs = "".join(f"<sup>{mark}</sup>" for mark in face.refs)
    lines = [top + refs, face.measured, words]
    last = max(i for i, line in enumerate(lines) if line)
    lines[last if last else 1] += reasons
    return "<br>".join(line for line in lines if line)


def _md(text: str) -> str:
    for character in "\\*_|<>[]`":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")


def _sections(page: Layout) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """The texts below a table: (title, [(mark, text)]), empty ones left out."""
    sections = (
        ("How to read it", [("", text) for text in LEGEND]),
        ("Why not comparable, doubtful, or not run", page.reasons),
        ("Notes on printed numbers", page.notes),
        ("Notes", [("", text) for text in page.table.notes]),
    )
    return [section for section in sections if section[1]]


def _tex(page: Layout) -> str:
    """A fragment to \\input; needs booktabs and no other package."""
    lines = ["% needs \\usepackage{booktabs}"]
    for index, block in enumerate(page.blocks):
        heads = [*block.columns, *(heading for heading, _ in block.asides)]
        lines += [
            "\\begin{table}[htbp]",
            "\\centering",
            "\\tiny" if len(heads) > 7 else "\\footnotesize",
            f"\\setlength{{\\tabcolsep}}{{{2 if len(heads) > 7 else 4}pt}}",
            f"\\caption{{{_tx(page.table.title)}. {_tx(block.heading)}. \\textbf{{{_tx(page.label)}}}. "
            f"{_tx(page.summary)}.}}",
            f"\\label{{tab:{page.table.name}-{index + 1}}}",
            f"\\begin{{tabular}}{{@{{}}l{'c' * len(heads)}@{{}}}}",
            "\\toprule",
            " & ".join(["", *(_tex_stack(head.split(" ")) for head in heads)]) + " \\\\",
            "\\midrule",
        ]
        for i, row in enumerate(block.rows):
            cells = [_tex_face(block.faces.get((row, column)), wide=len(heads) > 7) for column in block.columns]
            cells += [_tex_stack(filter(None, values[row])) for _, values in block.asides]
            lines += ["\\addlinespace"] * bool(i) + [" & ".join([_tx(row), *cells]) + " \\\\"]
        methods = [f"How measured, {method}." for method in block.methods] or ["Nothing measured yet."]
        lines += ["\\bottomrule", "\\end{tabular}", "\\par\\smallskip", "\\begin{minipage}{\\linewidth}\\scriptsize"]
        lines += [_tx(method) + "\\par" for method in methods]
        lines += ["\\end{minipage}", "\\end{table}"]
    for title, items in _sections(page):
        lines += ["", f"\\paragraph{{{_tx(title)}.}}"]
        lines += [f"{f'$^{{{mark}}}$' if mark else ''}{_tx(text)}\\par" for mark, text in items]
    return "\n".join(lines) + "\n"


def _tex_face(face: Face | None, wide: bool) -> str:
    """Stacked lines; in a wide block the spread has a line of its own, so that ten columns fit a page."""
    if face is None:
        return ""
    top = f"\\textbf{{{_tx(face.printed)}}}" if face.bold else _tx(face.printed)
    words = [f"\\emph{{{_tx(word)}}}" for word in face.words]
    measured = face.measured.replace(" ±", "\n±").split("\n") if wide else [face.measured]
    lines = [top + _tex_marks(face.refs), *(_tx(line) for line in measured if line), *words]
    lines[-1] += _tex_marks(face.reasons)
    return _tex_stack(lines, escaped=True)


def _tex_marks(marks: tuple[str, ...]) -> str:
    return f"$^{{{','.join(marks)}}}$" if marks else ""


def _tex_stack(lines: Iterable[str], escaped: bool = False) -> str:
    # The braces keep a leading "[" from being read as the optional argument of the line break before it.
    texts = [f"{{{line if escaped else _tx(line)}}}" for line in lines]
    return "\\begin{tabular}[t]{@{}c@{}}" + " \\\\ ".join(texts) + "\\end{tabular}" if texts else ""


_TEX = {
    "\\": "\\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "±": "$\\pm$",
    "×": "$\\times$",
    "·": "$\\cdot$",
    "σ": "$\\sigma$",
    "μ": "$\\mu$",
    "≤": "$\\leq$",
    "≥": "$\\geq$",
    "≠": "$\\neq$",
    "→": "$\\to$",
    "–": "--",
    "—": "---",
    "’": "'",
    "…": "...",
}


def _tx(text: str) -> str:
    """Escaped for LaTeX; a character that neither ASCII nor the list above has loses its accent or becomes "?"."""
    plain = (unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() or "?" for c in text)
    return "".join(_TEX.get(c, p) for c, p in zip(text, plain)).replace("\n", " ")


def _html(page: Layout) -> str:
    name, title = html.escape(page.table.name), html.escape(page.table.title)
    banner = "" if page.label.startswith("paper") else " loud"
    body = [
        f"<h1><small>{name}</small>{title}</h1>",
        f'<p class="label{banner}">{html.escape(page.label)}</p>',
        f'<p class="summary">{html.escape(page.summary)}.</p>',
    ]
    titles = dict(page.notes + page.reasons)
    for block in page.blocks:
        body += [f"<section><h2>{html.escape(block.heading)}</h2>", '<div class="scroll"><table>']
        heads = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in block.columns)
        heads += "".join(f'<th scope="col" class="aside">{html.escape(h)}</th>' for h, _ in block.asides)
        body.append(f"<thead><tr><td></td>{heads}</tr></thead><tbody>")
        for row in block.rows:
            faces = [block.faces.get((row, column)) for column in block.columns]
            cells = "".join(_html_face(face, titles, wide=len(block.columns) > 7) for face in faces)
            cells += "".join(_html_aside(*values[row]) for _, values in block.asides)
            body.append(f'<tr><th scope="row">{html.escape(row)}</th>{cells}</tr>')
        body.append("</tbody></table></div>")
        methods = block.methods or ("nothing yet",)
        body.append('<ul class="methods">' + "".join(f"<li>{html.escape(m)}</li>" for m in methods) + "</ul></section>")
    for heading, items in _sections(page):
        body.append(f"<section><h3>{html.escape(heading)}</h3><ul>")
        for mark, text in items:
            head = f'<sup id="n{mark}">{mark}</sup> ' if mark else ""
            body.append(f"<li>{head}{html.escape(text)}</li>")
        body.append("</ul></section>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: {title} ({html.escape(page.label)})</title>\n<style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _html_face(face: Face | None, titles: dict[str, str], wide: bool) -> str:
    if face is None:
        return '<td class="none"></td>'

    def marks(refs: tuple[str, ...]) -> str:
        return "".join(f'<sup><a href="#n{m}" title="{html.escape(titles[m])}">{m}</a></sup>' for m in refs)

    tag = "b" if face.bold else "span"
    parts = [f'<{tag} class="printed">{html.escape(face.printed)}</{tag}>{marks(face.refs)}']
    if face.value:
        kind = face.kind if face.comparable else "other"
        measured = html.escape(face.measured).replace(" ±", "<br>±" if wide else " ±")
        parts.append(f'<div class="value {kind}">{measured}</div>')
    words = "<br>".join(html.escape(word) for word in face.words)
    if words or face.reasons:
        parts.append(f'<div class="words">{words}{marks(face.reasons)}</div>')
    return f"<td>{''.join(parts)}</td>"


def _html_aside(printed: str, measured: str) -> str:
    lower = f'<div class="value">{html.escape(measured)}</div>' if measured else ""
    return f'<td class="aside"><span class="printed">{html.escape(printed)}</span>{lower}</td>'


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
section{background:#fff;border:1px solid #e1e5ea;border-radius:10px;padding:16px;margin:0 0 16px}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:separate;border-spacing:0;min-width:100%;font-variant-numeric:tabular-nums}
th,td{padding:8px 4px;text-align:center;vertical-align:top;border-bottom:1px solid #e8ebef;white-space:nowrap}
thead th,thead td{border-bottom:2px solid #1d2530;font-size:.86rem;vertical-align:bottom;white-space:normal}
tbody tr:last-child>*{border-bottom:0}
th[scope=row],thead td{position:sticky;left:0;z-index:1;background:#fff;text-align:left;border-right:1px solid #e8ebef}
td.aside,th.aside{background:#f8f9fb;color:#4d5966}
.printed{font-size:1rem}
b.printed{font-weight:700}
.value{display:table;margin:3px auto 0;padding:1px 4px;border-radius:5px;font-size:.8rem}
.value{background:#eef1f4;color:#333d49}
td.aside .value{background:none;padding:0}
.value.reproduced{background:#d9f0e0;color:#125232}
.value.better{background:#dbe9fb;color:#153f79}
.value.worse{background:#fbe0d6;color:#7c2c0c}
.value.stale,.value.diverged{background:#f3e3f3;color:#642062}
.value.other{background:#fff6e2;color:#6d4600;border:1px dashed #d9ae5b}
.words{margin:2px auto 0;max-width:8em;font-size:.75rem;line-height:1.3;color:#5d6977;white-space:normal}
sup{font-size:.68em;line-height:0}
sup a{color:#2a62b8;text-decoration:none;padding:0 1px}
ul{margin:0;padding-left:18px}
li{margin:3px 0;font-size:.88rem;overflow-wrap:anywhere}
.methods{list-style:none;padding:0;margin-top:10px;color:#4d5966}
.methods li::before{content:"How measured: ";font-weight:600}
li:target,li:has(:target){background:#fff3c4}
@media(max-width:600px){main{padding:14px 8px 32px}section{padding:12px 10px}th,td{padding:7px 7px}}
@media print{body{background:#fff}section{border:0;padding:0;break-inside:avoid}.scroll{overflow:visible}}
"""
