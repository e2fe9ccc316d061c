"""The notes of all tables on one page: what a reader of the papers should know before comparing with their numbers.

python -m workflow.commands.findings > docs/findings.md
"""

import argparse
import sys

from dtri.report.cells import DASH_IN_PAPER, NOT_IN_PAPER, PAPER_NAMES, Cell, Table
from workflow import configuration, plan
from workflow.commands.cli import run

HEAD = """\
# What the printed numbers are, and are not

Written by `python -m workflow.commands.findings` from the notes in `workflow/tables/`; they also stand below every
rendered table.
"""


def page() -> str:
    """The page as markdown."""
    return "\n".join([HEAD, *(_section(plan.table(name)) for name in plan.TABLES)])


def _section(table: Table) -> str:
    lines = [f"## {table.name}: {table.title}", "", *(f"* {note}" for note in table.notes), ""]
    noted: dict[str, list[Cell]] = {}
    for cell in table.cells:
        if cell.note not in ("", NOT_IN_PAPER, DASH_IN_PAPER):
            noted.setdefault(cell.note, []).append(cell)
    if noted:
        lines += ["| printed | what is known |", "|-|-|"]
        lines += [f"| {'<br>'.join(_printed(cell) for cell in cells)} | {note} |" for note, cells in noted.items()]
        lines.append("")
    return "\n".join(lines)


def _printed(cell: Cell) -> str:
    """A cell's place and number, as "A, RMSE, CIFAR-10, VAE: 0.192".

    The second set of an AUROC, or the digit held out, is part of the place.
    """
    place = PAPER_NAMES.get(cell.dataset, cell.dataset)
    if cell.against:
        place += f" against {PAPER_NAMES.get(cell.against, cell.against)}"
    return (
        f"{cell.paper}, {cell.metric.upper()}, {place}, {configuration.model(cell.model).label}: {cell.published_text}"
    )


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    print(page(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
