"""A table's layout as markdown that GitHub shows without scrolling; notes are folded behind the tables."""

from dtri.report.layout import Layout, RenderedCell, sections


def write(page: Layout) -> str:
    title = f"# {page.table.name}: {page.table.title}"
    lines = [title, "", f"**{escape_markdown(page.label)}**", "", f"{escape_markdown(page.summary)}.", ""]
    lines += [f"* {escape_markdown(text)}." for text in page.shared] + [""] * bool(page.shared)
    for block in page.blocks:
        heads = [*block.columns, *(level.heading for level in block.references)]
        lines += [f"## {escape_markdown(block.heading)}", "", _row("", heads), "|:-|" + ":-:|" * len(heads)]
        for row in block.rows:
            cells = [_cell(block.cells.get((row, column))) for column in block.columns]
            lines.append(_row(row, [*cells, *(_level(level.texts[row]) for level in block.references)], escape=False))
        for level in block.turned_references:
            lines.append(_row(level.heading, [_level(level.texts[column]) for column in block.columns], escape=False))
        lines.append("")
    methods = [f"* {escape_markdown(method)}" for method in page.methods] or ["Nothing yet."]
    lines += ["## How measured", "", *methods, ""]
    for heading, items in sections(page):
        lines += ["<details>", f"<summary>{heading}</summary>", ""]
        lines += [f"* {f'<sup>{mark}</sup> ' if mark else ''}{escape_markdown(text)}" for mark, text in items]
        lines += ["", "</details>", ""]
    return "\n".join(lines).rstrip() + "\n"


def _row(head: str, cells: list[str], escape: bool = True) -> str:
    texts = [escape_markdown(cell) if escape else cell for cell in cells]
    return f"| {f'**{escape_markdown(head)}**' if head else ''} | " + " | ".join(texts) + " |"


def _level(texts: tuple[str, str]) -> str:
    return "<br>".join(filter(None, texts))


def _cell(cell: RenderedCell | None) -> str:
    if cell is None:
        return ""
    top = f"**{cell.printed}**" if cell.bold else cell.printed
    words = [f"*{escape_markdown(word)}*" for word in cell.words]
    lines = [top + _superscript(cell.refs), *filter(None, [escape_markdown(cell.measured)]), *words]
    lines[-1] += _superscript(cell.reasons)
    return "<br>".join(lines)


def _superscript(marks: tuple[str, ...]) -> str:
    return f"<sup>{','.join(marks)}</sup>" if marks else ""


def escape_markdown(text: str) -> str:
    for character in "\\*_|<>[]`":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
