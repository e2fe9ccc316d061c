"""What the columns of a table's CSV mean.

python -m workflow.commands.columns > docs/columns.md
"""

import argparse
import sys
from dataclasses import fields

from dtri.report.tidy import Row
from workflow.commands.cli import run

HEAD = """\
# Columns of a table's CSV

Written by `python -m workflow.commands.columns` from `dtri/report/tidy.py`. A CSV has one row per cell of its table, in
the table's order. Behind them stand the same quantities by other protocols (`variant`). An empty field: no such number.

| column | kind | meaning |
|-|-|-|
"""
KINDS = {str: "text", int: "whole number", float | None: "number"}


def page() -> str:
    """The page as markdown."""
    return HEAD + "".join(f"| `{one.name}` | {KINDS[one.type]} | {one.metadata['meaning']} |\n" for one in fields(Row))


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    print(page(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
