"""The judged claims of a preset as csv, md, tex and html: what holds, by how much, and what would decide the rest."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf

from dtri.report.agreement import LOWEST, Correlation, RankedRow, coefficient_of_variation, kendall, spearman
from dtri.report.cells import PAPER_NAMES, Cell, Table
from dtri.report.claims import LEVELS, Book, Condition, quantity
from dtri.report.latex import escape_latex
from dtri.report.layout import METRICS, Footnotes, hours_in_words
from dtri.report.markdown import escape_markdown
from dtri.report.verdicts import FEWEST_SEEDS, MOST_SEEDS, VERDICTS, Effect, Judgement, Measurements
from dtri.report.webpage import fill

RULES = (
    "holds: the 95 % interval over seeds of every effect that is needed lies in the range claimed. fails: so many "
    "intervals lie outside that it cannot hold any more, one where all are needed. undecided: neither, or there are "
    f"fewer than {FEWEST_SEEDS} seeds. not measured: a number is lacking.",
    "Effect: what the first system is better by than the second, positive as claimed, in units of the metric; or a "
    "number alone. Intervals are Welch's (two systems) or Student's (one); seeds are not paired.",
    "Each verdict is taken by itself: of 100 true orders about 2 would be called fails. A claim of k parts that needs "
    "all holds by 95 % intervals and fails by one of 1 - 0.05 / k; one that needs fewer parts takes that for both.",
    "More seeds would decide a claim if means and spreads stay as seen; half of such repetitions would still be "
    "undecided. Hours are those of the records, training and measurement.",
    "Verdicts are about the test images and the extractor used: their sampling error is common to all seeds.",
)
COLUMNS = (
    *("claim", "paper", "place", "statement", "kind", "verdict", "reason", "scale", "meaningless", "part"),
    *(
        "claimed_low",
        "claimed_high",
        "printed",
        "effect",
        "low",
        "high",
        "part_verdict",
        "seeds",
        "more_seeds",
        "hours",
    ),
)


@dataclass(frozen=True)
class Section:
    """A table of texts; a line break parts the lines of a cell.

    A column "verdict" is coloured in html.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """What is rendered: claims and printed orders with their verdicts, and the numbers behind them.

    `mixed` says why a cell may not be ranked against its neighbours, "" for no reason. `label` names the preset.
    `caveat` is shown first and says what the preset's numbers cannot tell, "" for nothing.
    """

    claims: tuple[Judgement, ...]
    orders: tuple[Judgement, ...]
    known: Book
    found: Measurements
    tables: tuple[Table, ...]
    mixed: Callable[[Cell], str]
    label: str
    caveat: str


def render(judged: Judged, fmt: str) -> str:
    """`judged` as text in `fmt`: csv, md, tex or html; ValueError for another."""
    writers = {"csv": _csv, "md": _markdown, "tex": _tex, "html": _html}
    if fmt not in writers:
        raise ValueError(f"expected a format of {', '.join(writers)}, found {fmt!r}")
    return writers[fmt](judged)


def summary(judged: Judged) -> str:
    """Counts of claims by verdict, as "63 claims: 3 holds, 1 fails, 2 undecided, 57 not measured"."""
    counts = Counter(one.verdict for one in judged.claims)
    return f"{len(judged.claims)} claims: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)


def sections(judged: Judged) -> list[Section]:
    """The tables of the page: claims of each paper, agreement by rank, printed orders, CV*."""
    papers = {one.claim.paper: [] for one in judged.claims}
    for one in judged.claims:
        papers[one.claim.paper].append(one)
    return [
        *(_claims(f"Claims of paper {paper}", some, judged.known) for paper, some in papers.items()),
        _agreement(judged),
        _orders(judged.orders, judged.known),
        _variation(judged),
    ]


def _claims(heading: str, judgements: Sequence[Judgement], known: Book) -> Section:
    """The claims of a paper; reasons and scales, which many claims share, are numbered notes below."""
    notes = Footnotes(lambda k: f"[{k + 1}]")

    def noted(one: Judgement) -> str:
        return " ".join(notes.mark(text) for text in (one.reason, *one.scales) if text)

    rows = tuple(
        (
            f"{one.claim.statement}\n{one.claim.place}",
            verdict_in_words(one),
            "\n".join(part(effect.condition, known) for effect in one.effects),
            "\n".join(_number(effect.printed) for effect in one.effects),
            "\n".join(_measured(effect) for effect in one.effects),
            "\n".join(filter(None, (_deciding(one, known), noted(one)))),
        )
        for one in judgements
    )
    columns = ("claim", "verdict", "range claimed", "printed", "measured", "remarks")
    return Section(heading, columns, rows, tuple(map(" ".join, notes.items())))


def verdict_in_words(judgement: Judgement) -> str:
    """The verdict; "holds" and "fails" end in "at this scale" where a system was not measured at the papers' scale."""
    decided = judgement.verdict in ("holds", "fails") and judgement.scales
    return f"{judgement.verdict} at this scale" if decided else judgement.verdict


def part(condition: Condition, known: Book) -> str:
    """The condition in words, as "FID, CelebA: Ours better than 0.5 × VAE"."""
    first = known[condition.quantity]
    place = ", ".join(PAPER_NAMES.get(name, name) for name in (first.cell.dataset, first.cell.against) if name)
    start = f"{METRICS.get(first.cell.metric, first.cell.metric)}, {place}: {first.system}"
    if condition.than is None:
        return f"{start} above {LEVELS.get(condition.quantity.above) or f'{condition.low:g}'}"
    other = f"{condition.factor:g} × " * (condition.factor != 1) + known[condition.than].system
    if condition.high < inf:
        return f"{start} as good as {other}, within {condition.high:g}"
    return f"{start} {f'at most {-condition.low:g} worse' if condition.low < 0 else 'better'} than {other}"


def _measured(effect: Effect) -> str:
    if effect.value is None:
        return "-"
    interval = "" if effect.low is None else f" [{_number(effect.low)}, {_number(effect.high)}]"
    return f"{_number(effect.value)}{interval} ({' and '.join(map(str, effect.seeds))} seeds)"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value + 0.0:+.3g}"  # no "-0"


def _deciding(judgement: Judgement, known: Book) -> str:
    """The further seeds and their cost, as "2 more seeds of each would decide it, 1.5 h"; "" unless undecided.

    Where the numbers differ, each system has one: "2 more seeds of Ours, 4 of VAE". Where seeds are lacking, "2 more
    seeds of each are needed to decide it or not".
    """
    if judgement.verdict != "undecided":
        return ""
    if judgement.more is None:
        return f"no number of seeds up to {MOST_SEEDS} would decide it"
    seeds: dict[str, int] = {}
    for one, n in judgement.more:
        seeds[known[one].system] = max(n, seeds.get(known[one].system, 0))
    if not seeds:
        return ""
    first, *others = seeds.items()
    counts = f"{first[1]} more seed{'s' * (first[1] > 1)} of "
    if others and len(set(seeds.values())) == 1:
        counts += "each"
    else:
        counts += ", ".join([first[0], *(f"{n} of {system}" for system, n in others)])
    hours = "" if judgement.hours is None else f", {hours_in_words(judgement.hours)}"
    if judgement.lacks_seeds:
        return f"{counts} {'is' if max(seeds.values()) == len(seeds) == 1 else 'are'} needed to decide it or not{hours}"
    return f"{counts} would decide it{hours}"


def ranked(judged: Judged, table: Table, paper: str, metric: str) -> list[tuple[str, RankedRow]]:
    """Rows of a block, by name: printed numbers that may be ranked, and the values of their systems.

    A system without a value is left out, and so is a row with fewer than two systems.
    """
    rows: dict[tuple[str, str], list[tuple[float, tuple[float, ...]]]] = {}
    for cell in table.cells:
        wanted = (cell.paper, cell.metric, cell.score) == (paper, metric, "") and cell.published is not None
        found = judged.found.get(quantity(cell))
        if wanted and not judged.mixed(cell) and found is not None and found.n:
            rows.setdefault((cell.dataset, cell.against), []).append((cell.published, found.values))
    return [
        (", ".join(PAPER_NAMES.get(name, name) for name in place if name), RankedRow(*zip(*pairs, strict=True)))
        for place, pairs in rows.items()
        if len(pairs) > 1
    ]


def _agreement(judged: Judged) -> Section:
    lines = []
    for table in judged.tables:
        for paper, metric, heading in table.headings:
            rows = ranked(judged, table, paper, metric)
            for name, chosen in [*((name, [row]) for name, row in rows), ("all rows", [row for _, row in rows])]:
                if chosen and (name != "all rows" or len(rows) > 1):
                    systems = sum(len(row.printed) for row in chosen)
                    seeds = min(len(values) for row in chosen for values in row.values)
                    found = map(_correlation, (kendall(chosen), spearman(chosen)))
                    lines.append((heading, name, str(systems), str(seeds), *found))
    return Section(
        "Agreement of printed and measured numbers, by rank",
        ("block", "data", "systems", "fewest seeds", "Kendall's tau-b", "Spearman's rho"),
        tuple(lines),
        (
            "Of printed numbers that may be ranked against each other. Intervals: 95 %, bootstrap over seeds; none "
            "where a system has one seed. All rows: over pairs within rows alone, and ranks about their row's mean.",
        ),
    )


def _correlation(found: Correlation | None) -> str:
    if found is None:
        return "-"
    return f"{found.value:+.2f}" + ("" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}]")


def _orders(judgements: Sequence[Judgement], known: Book) -> Section:
    """Counts per block. The share upheld is taken of the orders decided, and never pooled over tables."""

    def block(one: Judgement) -> tuple[str, str, str]:
        first = known[one.claim.conditions[0].quantity]
        return first.table, first.cell.paper, first.cell.metric

    lines, notes = [], []
    for (table, paper, metric), some in groupby(judgements, key=block):
        group = list(some)
        counted = [one for one in group if not one.claim.meaningless]
        counts = Counter(one.verdict for one in counted)
        decided = counts["holds"] + counts["fails"]
        share = f"{counts['holds']} of {decided} ({counts['holds'] / decided:.0%})" if decided else "none decided"
        numbers = (len(group), len(counted), *(counts[verdict] for verdict in VERDICTS))
        lines.append((f"{table}, paper {paper}: {METRICS.get(metric, metric)}", *map(str, numbers), share))
        reasons = Counter(_first_reason(one) for one in group if one.claim.meaningless)
        notes += [f"{table}, {METRICS.get(metric, metric)}: {n} not counted: {why}" for why, n in reasons.items()]
        failed = [one.claim.statement for one in counted if one.verdict == "fails"]
        notes += [f"{table}, paper {paper}, fails: {'; '.join(failed)}"] * bool(failed)
    columns = ("block", "printed orders", "counted", *VERDICTS, "upheld of those decided")
    return Section("Printed orders of two systems", columns, tuple(lines), tuple(notes))


def _first_reason(judgement: Judgement) -> str:
    """Why an order is not counted: the first of several reasons."""
    reason = judgement.claim.meaningless.split("; ")[0]
    return "within the printed spreads" if reason.startswith("printed ") else reason


def _variation(judged: Judged) -> Section:
    """CV* of cells that may be compared.

    The printed number and the mean over seeds count as two measurements of one quantity.
    """
    lines = []
    for table in judged.tables:
        for cell in table.cells:
            one = judged.found.get(quantity(cell))
            if one is None or not one.n or not one.comparable or cell.published is None or cell.incomparable:
                continue
            mean = sum(one.values) / one.n
            value = coefficient_of_variation((cell.published, mean), LOWEST.get(cell.metric, 0.0))
            place = ", ".join(PAPER_NAMES.get(name, name) for name in (cell.dataset, cell.against) if name)
            system = judged.known[quantity(cell)].system
            numbers = (cell.published_text, f"{mean:.4g}", str(one.n), f"{value:.1f}")
            lines.append((f"{table.name}, {METRICS.get(cell.metric, cell.metric)}, {place}", system, *numbers))
    return Section(
        "CV*: how far printed and measured numbers lie apart",
        ("cell", "system", "printed", "measured", "seeds", "CV* (%)"),
        tuple(lines),
        (
            "Small-sample coefficient of variation (Belz, Popović & Mille, ACL 2022) of the printed number and the "
            "mean over seeds, 0 where they agree; scales that start elsewhere are shifted to start at 0. Only of cells "
            "whose measurement may be compared with the printed number" + ("." if lines else ": none in this preset."),
        ),
    )


def _csv(judged: Judged) -> str:
    """One line per part of a claim, one for a claim without parts; printed orders follow the claims."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in (*judged.claims, *judged.orders):
        of_claim = {
            "claim": one.claim.id,
            "paper": one.claim.paper,
            "place": one.claim.place,
            "statement": one.claim.statement,
            "kind": one.claim.kind,
            "verdict": one.verdict,
            "reason": one.reason,
            "scale": "; ".join(one.scales),
            "meaningless": one.claim.meaningless,
            "hours": _plain(one.hours),
        }
        writer.writerows([of_claim | _of_part(effect, judged.known) for effect in one.effects] or [of_claim])
    return text.getvalue()


def _of_part(effect: Effect, known: Book) -> dict[str, str]:
    return {
        "part": part(effect.condition, known),
        "claimed_low": _plain(effect.condition.low),
        "claimed_high": _plain(effect.condition.high),
        "printed": _plain(effect.printed),
        "effect": _plain(effect.value),
        "low": _plain(effect.low),
        "high": _plain(effect.high),
        "part_verdict": effect.verdict,
        "seeds": ";".join(map(str, effect.seeds)),
        "more_seeds": "" if effect.more is None else ";".join(map(str, effect.more)),
    }


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _markdown(judged: Judged) -> str:
    lines = ["# claims: What the papers claim, and what holds", "", f"**{escape_markdown(judged.label)}**", ""]
    lines += [f"**{escape_markdown(judged.caveat)}**", ""] * bool(judged.caveat)
    lines += [f"{summary(judged)}.", ""]
    for section in sections(judged):
        lines += [f"## {escape_markdown(section.heading)}", ""]
        if section.rows:
            lines += ["| " + " | ".join(section.columns) + " |", "|" + ":-|" * len(section.columns)]
            cells = ([escape_markdown(line) for line in cell.split("\n")] for row in section.rows for cell in row)
            texts = ["<br>".join(lines_of) for lines_of in cells]
            n = len(section.columns)
            lines += ["| " + " | ".join(texts[i : i + n]) + " |" for i in range(0, len(texts), n)]
            lines.append("")
        lines += [f"* {escape_markdown(note)}" for note in section.notes]
        lines += [""] * bool(section.notes)
    lines += ["**How to read it**", "", *(f"* {escape_markdown(rule)}" for rule in RULES)]
    return "\n".join(lines).rstrip() + "\n"


def _tex(judged: Judged) -> str:
    """A fragment to \\input, which needs booktabs and longtable."""
    lines = ["% needs \\usepackage{booktabs,longtable}"]
    lines += [f"\\paragraph{{{escape_latex(judged.label)}.}} {escape_latex(judged.caveat)} {summary(judged)}."]
    for section in sections(judged):
        lines += ["", f"\\paragraph{{{escape_latex(section.heading)}.}}"]
        if section.rows:
            n = len(section.columns)
            widths = [0.96 / n] * n if section.columns[0] != "claim" else (0.3, 0.09, 0.22, 0.06, 0.16, 0.13)
            wide = "".join(f"p{{{width:.2f}\\linewidth}}" for width in widths)
            heads = " & ".join(map(escape_latex, section.columns))
            lines += ["{\\tiny\\setlength{\\tabcolsep}{1pt}", f"\\begin{{longtable}}{{@{{}}{wide}@{{}}}}"]
            lines += ["\\toprule", f"{heads} \\\\", "\\midrule", "\\endhead"]
            for row in section.rows:
                cells = ("\\newline ".join(map(escape_latex, cell.split("\n"))) for cell in row)
                lines.append(" & ".join(f"{{{cell}}}" for cell in cells) + " \\\\")
            lines += ["\\bottomrule", "\\end{longtable}}"]
        lines += [f"{escape_latex(note)}\\par" for note in section.notes]
    lines += ["", "\\paragraph{How to read it.}", *(f"{escape_latex(rule)}\\par" for rule in RULES)]
    return "\n".join(lines) + "\n"


PAGE = """
{% extends "frame" %}
{% block body %}
{% if caveat %}<p class="label loud">{{ caveat }}</p>{% endif %}
{% for section in sections %}
<section><h2>{{ section.heading }}</h2>
{% if section.rows %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ section.heading }}"><table class="claims">
<thead><tr>{% for column in section.columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in section.rows %}
<tr>{% for cell in row %}
<td{% if section.columns[loop.index0] == "verdict" %} class="{{ cell.split(" ")[0] }}"{% endif %}>
{%- for line in cell.split("\n") %}{{ line }}{{ "" if loop.last else "<br>"|safe }}{% endfor %}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
<ul>{% for note in section.notes %}<li>{{ note }}</li>{% endfor %}</ul></section>
{% endfor %}
<section><h3>How to read it</h3><ul>{% for rule in rules %}<li>{{ rule }}</li>{% endfor %}</ul></section>
{% endblock %}
"""
CSS = """
.claims td{text-align:left;white-space:normal;font-size:.84rem;padding:6px}.claims td:first-child{min-width:20em}
.claims td.holds{background:var(--good);color:var(--good-ink)}
.claims td.fails{background:var(--worse);color:var(--worse-ink)}
.claims td.undecided{background:var(--other);color:var(--other-ink)}.claims td.not{color:var(--soft)}
.claims td:nth-child(n+3){white-space:nowrap}.claims td:last-child{white-space:normal;min-width:16em}
"""


def _html(judged: Judged) -> str:
    values = {"sections": sections(judged), "rules": RULES, "caveat": judged.caveat}
    title = "What the papers claim, and what holds"
    return fill(PAGE, "claims", title, judged.label, summary(judged), CSS, **values)
