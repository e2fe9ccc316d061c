"""Draw one figure from the products there are: a PDF and a PNG."""

import argparse
import importlib
import sys
from pathlib import Path

from dtri.report import style
from workflow import configuration, plan
from workflow.commands.cli import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figure", choices=plan.FIGURES)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--out", required=True, type=Path, help="folder")
    arguments = parser.parse_args(argv)

    preset = configuration.preset(arguments.preset)
    products = [p for p in plan.figure_products(preset, arguments.figure) if Path(p.path).exists()]
    module = importlib.import_module(f"workflow.figures.{arguments.figure}")
    gaps = {}
    if getattr(module, "SHOWS_MISSING", False):
        gaps = {"missing": plan.figure_missing(preset, arguments.figure)}
    drawn = module.draw(products, preset.label, **gaps)
    style.save(drawn, arguments.out / arguments.figure)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
