"""Render one table from the records that exist.

    dtri table table1 --preset paper --partial     to the terminal, at any moment
    dtri table table1 --preset demo --out results/demo

Without --partial every record that the configuration can make must be there.
"""

import argparse
import sys
from pathlib import Path

from dtri.files import write_text
from dtri.report.render import render
from workflow import configuration, left_out, plan, status
from workflow.commands.cli import run

FORMATS = ("csv", "md", "tex", "html")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help=f"one of {', '.join(plan.TABLES)}")
    parser.add_argument("--preset", required=True)
    parser.add_argument("--partial", action="store_true", help="render what exists, missing and stale cells marked")
    parser.add_argument("--out", type=Path, help="folder for csv, md, tex and html; default: markdown to the terminal")
    left_out.add_option(parser)
    arguments = parser.parse_args(argv)
    configuration.check_known("table", arguments.table, plan.TABLES)

    preset = configuration.preset(arguments.preset)
    missing = [path for path in plan.table_records(preset, arguments.table) if not Path(path).exists()]
    if missing and not arguments.partial:
        raise FileNotFoundError(
            f"expected {len(missing)} more records, found none at {missing[0]} "
            f"(run `snakemake results/{arguments.preset}/{arguments.table}.csv`, or render with --partial)"
        )
    table = plan.preset_table(preset, arguments.table)
    frame = status.frame(preset, table, left_out.read(arguments.left_out))
    if arguments.out is None:
        print(render(table, frame, preset.label, "md"))
        return 0
    for fmt in FORMATS:
        write_text(arguments.out / f"{arguments.table}.{fmt}", render(table, frame, preset.label, fmt))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
