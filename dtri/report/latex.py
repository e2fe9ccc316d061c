"""A table's layout as a LaTeX fragment to \\input, which needs booktabs and graphicx."""

import unicodedata
from collections.abc import Iterable

from dtri.report.layout import Layout, RenderedCell, sections


def write(page: Layout) -> str:
    """The fragment: one float per block; what holds for all blocks stands once, in front and behind."""
    lines = ["% needs \\usepackage{booktabs,graphicx}", "{\\footnotesize\\sloppy"]
    lines += [escape_latex(f"{text}.") + "\\par" for text in (page.summary, *page.shared)] + ["}"]
    for index, block in enumerate(page.blocks):
        heads = [*block.columns, *(level.heading for level in block.references)]
        caption = f"{page.table.title}. {block.heading}."
        lines += [
            "\\begin{table}[htbp]",
            "\\centering",
            "\\footnotesize",
            f"\\setlength{{\\tabcolsep}}{{{3 if len(heads) > 3 else 6}pt}}",
            f"\\caption{{{escape_latex(caption)} \\textbf{{{escape_latex(page.label)}}}.}}",
            f"\\label{{tab:{page.table.name}-{index + 1}}}",
            # Its natural width, at most the width of the text.
            "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
            f"\\begin{{tabular}}{{@{{}}l{'c' * len(heads)}@{{}}}}",
            "\\toprule",
            " & ".join(["", *(_stack(head.split(" ")) for head in heads)]) + " \\\\",
            "\\midrule",
        ]
        rows = []
        for row in block.rows:
            cells = [_cell(block.cells.get((row, column)), narrow=len(heads) > 3) for column in block.columns]
            rows.append([escape_latex(row), *cells, *(_level(level.texts[row]) for level in block.references)])
        for level in block.turned_references:
            rows.append([escape_latex(level.heading), *(_level(level.texts[column]) for column in block.columns)])
        lines.append(" \\\\\n\\addlinespace\n".join(" & ".join(cells) for cells in rows) + " \\\\")
        lines += ["\\bottomrule", "\\end{tabular}}", "\\end{table}"]
    lines += ["", "\\begingroup\\footnotesize\\sloppy"]
    measured = ("How measured", [("", f"{method}.") for method in page.methods] or [("", "Nothing yet.")])
    for title, items in (measured, *sections(page)):
        lines += ["", f"\\paragraph{{{escape_latex(title)}.}}"]
        lines += [f"{f'$^{{{mark}}}$' if mark else ''}{escape_latex(text)}\\par" for mark, text in items]
    return "\n".join([*lines, "\\endgroup"]) + "\n"


def _cell(cell: RenderedCell | None, narrow: bool) -> str:
    """The lines of a cell, stacked; in a narrow column the spread has a separate line."""
    if cell is None:
        return ""
    top = f"\\textbf{{{escape_latex(cell.printed)}}}" if cell.bold else escape_latex(cell.printed)
    words = [f"\\emph{{{escape_latex(word)}}}" for word in cell.words]
    measured = cell.measured.replace(" ±", "\n±").split("\n") if narrow else [cell.measured]
    lines = [top + _superscript(cell.refs), *(escape_latex(line) for line in measured if line), *words]
    lines[-1] += _superscript(cell.reasons)
    return _stack(lines, escaped=True)


def _level(texts: tuple[str, str]) -> str:
    return _stack(filter(None, texts))


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
    """Text escaped for LaTeX; characters outside ASCII and the list above lose their accent or become "?"."""
    plain = (unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() or "?" for c in text)
    return "".join(_CHARACTERS.get(c, p) for c, p in zip(text, plain)).replace("\n", " ")
