"""Write the landing page of a preset: the status of every cell, cost, and findings, from the records that exist.

python -m workflow.commands.overview --preset demo --out results/demo/overview.html
"""

import argparse
import sys
from pathlib import Path

from dtri.files import write_text
from dtri.report.overview import overview
from workflow import configuration, plan, status
from workflow.commands.cli import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--out", required=True, type=Path, help="the page, .html")
    arguments = parser.parse_args(argv)

    preset = configuration.preset(arguments.preset)
    tables = [plan.preset_table(preset, name) for name in plan.TABLES]
    write_text(arguments.out, overview([(table, status.frame(preset, table)) for table in tables], preset.label))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
