"""A table's layout as a LaTeX fragment to \\input, which needs booktabs and no other package."""

import unicodedata
from collections.abc import Iterable

from dtri.report.layout import Layout, RenderedCell, sections


def write(page: Layout) -> str:
    lines = ["% needs \\usepackage{booktabs}"]
    for index, block in enumerate(page.blocks):
        heads = [*block.columns, *(heading for heading, _ in block.references)]
        lines += [
            "\\begin{table}[htbp]",
            "\\centering",
            "\\tiny" if len(heads) > 7 else "\\footnotesize",
            f"\\setlength{{\\tabcolsep}}{{{2 if len(heads) > 7 else 4}pt}}",
            f"\\caption{{{escape_latex(f'{page.table.title}. {block.heading}.')} "
            f"\\textbf{{{escape_latex(page.label)}}}. {escape_latex(page.summary)}.}}",
            f"\\label{{tab:{page.table.name}-{index + 1}}}",
            f"\\begin{{tabular}}{{@{{}}l{'c' * len(heads)}@{{}}}}",
            "\\toprule",
            " & ".join(["", *(_stack(head.split(" ")) for head in heads)]) + " \\\\",
            "\\midrule",
        ]
        for i, row in enumerate(block.rows):
            cells = [_cell(block.cells.get((row, column)), wide=len(heads) > 7) for column in block.columns]
            cells += [_stack(filter(None, levels[row])) for _, levels in block.references]
            lines += ["\\addlinespace"] * bool(i) + [" & ".join([escape_latex(row), *cells]) + " \\\\"]
        methods = [f"How measured, {method}." for method in block.methods] or ["Nothing measured yet."]
        lines += ["\\bottomrule", "\\end{tabular}", "\\par\\smallskip", "\\begin{minipage}{\\linewidth}\\scriptsize"]
        lines += [escape_latex(method) + "\\par" for method in methods]
        lines += ["\\end{minipage}", "\\end{table}"]
    for title, items in sections(page):
        lines += ["", f"\\paragraph{{{escape_latex(title)}.}}"]
        lines += [f"{f'$^{{{mark}}}$' if mark else ''}{escape_latex(text)}\\par" for mark, text in items]
    return "\n".join(lines) + "\n"


def _cell(cell: RenderedCell | None, wide: bool) -> str:
    """Stacked lines; in a wide block the spread has a line of its own, so that ten columns fit a page."""
    if cell is None:
        return ""
    top = f"\\textbf{{{escape_latex(cell.printed)}}}" if cell.bold else escape_latex(cell.printed)
    words = [f"\\emph{{{escape_latex(word)}}}" for word in cell.words]
    measured = cell.measured.replace(" ±", "\n±").split("\n") if wide else [cell.measured]
    lines = [top + _superscript(cell.refs), *(escape_latex(line) for line in measured if line), *words]
    lines[-1] += _superscript(cell.reasons)
    return _stack(lines, escaped=True)


def _superscript(marks: tuple[str, ...]) -> str:
    return f"$^{{{','.join(marks)}}}$" if marks else ""


def _stack(lines: Iterable[str], escaped: bool = False) -> str:
    # The braces keep a leading "[" from being read as the optional argument of the line break before it.
    texts = [f"{{{line if escaped else escape_latex(line)}}}" for line in lines]
    return "\\begin{tabular}[t]{@{}c@{}}" + " \\\\ ".join(texts) + "\\end{tabular}" if texts else ""


_CHARACTERS = {
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


def escape_latex(text: str) -> str:
    """Escaped for LaTeX; a character that neither ASCII nor the list above has loses its accent or becomes "?"."""
    plain = (unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() or "?" for c in text)
    return "".join(_CHARACTERS.get(c, p) for c, p in zip(text, plain)).replace("\n", " ")
