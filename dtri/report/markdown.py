"""A table's layout as markdown."""

from dtri.report.layout import Layout, RenderedCell, sections


def write(page: Layout) -> str:
    title = f"# {page.table.name}: {page.table.title}"
    lines = [title, "", f"**{escape_markdown(page.label)}**", "", f"{page.summary}.", ""]
    for block in page.blocks:
        heads = [*block.columns, *(heading for heading, _ in block.references)]
        lines += [f"## {escape_markdown(block.heading)}", ""]
        lines += ["| | " + " | ".join(escape_markdown(head) for head in heads) + " |", "|:-|" + ":-:|" * len(heads)]
        for row in block.rows:
            cells = [_cell(block.cells.get((row, column))) for column in block.columns]
            cells += ["<br>".join(filter(None, levels[row])) for _, levels in block.references]
            lines.append(f"| **{escape_markdown(row)}** | " + " | ".join(cells) + " |")
        methods = [f"* How measured, {escape_markdown(method)}" for method in block.methods]
        lines += ["", *(methods or ["* Nothing measured yet."]), ""]
    for heading, items in sections(page):
        lines += [f"**{heading}**", ""]
        lines += [f"* {f'<sup>{mark}</sup> ' if mark else ''}{escape_markdown(text)}" for mark, text in items] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _cell(cell: RenderedCell | None) -> str:
    if cell is None:
        return ""
    top = f"**{cell.printed}**" if cell.bold else cell.printed
    words = f"*{', '.join(escape_markdown(word) for word in cell.words)}*" if cell.words else ""
    lines = [top + _superscript(cell.refs), cell.measured, words]
    last = max(i for i, line in enumerate(lines) if line)
    lines[last if last else 1] += _superscript(cell.reasons)
    return "<br>".join(line for line in lines if line)


def _superscript(marks: tuple[str, ...]) -> str:
    return "".join(f"<sup>{mark}</sup>" for mark in marks)


def escape_markdown(text: str) -> str:
    for character in "\\*_|<>[]`":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
