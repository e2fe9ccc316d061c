"""Draw one figure from the products that exist: a PDF and a PNG."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dtri.report import style
from dtri.report.cells import Missing, Product
from workflow import configuration, plan
from workflow.commands.cli import run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compose(name: str, products: Sequence[Product], missing: Sequence[Missing], label: str) -> "Figure":
    """The figure with title, label and caption; one that says so where there is nothing to draw.

    Args:
        name: of a module in workflow/figures, which only draws.
        products: those of its inputs that exist.
        missing: the others; a module with `SHOWS_MISSING` draws a panel for each.
        label: the preset in words.
    """
    module = importlib.import_module(f"workflow.figures.{name}")
    if getattr(module, "SHOWS_MISSING", False):
        fig = module.draw(products, missing) if products or missing else style.nothing()
    else:
        fig = module.draw(products) if products or getattr(module, "SHOWS_PRINTED", False) else style.nothing()
    return style.frame(fig, f"{module.TITLE} ({module.PAPER})", label, module.CAPTION)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figure", help=f"one of {', '.join(plan.FIGURES)}")
    parser.add_argument("--preset", required=True)
    parser.add_argument("--out", required=True, type=Path, help="folder")
    arguments = parser.parse_args(argv)
    configuration.check_known("figure", arguments.figure, plan.FIGURES)

    preset = configuration.preset(arguments.preset)
    products = [p for p in plan.figure_products(preset, arguments.figure) if Path(p.path).exists()]
    missing = plan.figure_missing(preset, arguments.figure)
    fig = compose(arguments.figure, products, missing, preset.label)
    style.save(fig, arguments.out / arguments.figure)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
