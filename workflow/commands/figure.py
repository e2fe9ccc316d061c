"""Draw one figure from the products that exist.

dtri figure samples --preset demo --out results/demo/figures                a PDF and a PNG
dtri figure samples --preset demo --paper --width 3.25 --out samples.pdf    for a paper: serif letters of 8 points,
                                                                            without title, label and caption
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtri.files import digest
from dtri.report import for_paper, style
from dtri.report.cells import Missing, Product
from workflow import configuration, jobcode, plan
from workflow.commands.cli import run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(name: str, products: Sequence[Product], missing: Sequence[Missing]) -> "Figure":
    """The figure without title, label and caption; one that says so where there is nothing to draw.

    Args:
        name: of a module in workflow/figures, which only draws.
        products: inputs that exist.
        missing: the other inputs; a module with `SHOWS_MISSING` draws a panel for each.
    """
    module = importlib.import_module(f"workflow.figures.{name}")
    if getattr(module, "SHOWS_MISSING", False):
        return module.draw(products, missing) if products or missing else style.nothing()
    return module.draw(products) if products or getattr(module, "SHOWS_PRINTED", False) else style.nothing()


def compose(name: str, products: Sequence[Product], missing: Sequence[Missing], label: str) -> "Figure":
    """The figure of `draw` with title and caption.

    Args:
        name, products, missing: as in `draw`.
        label: the preset in words.
    """
    module = importlib.import_module(f"workflow.figures.{name}")
    fig = draw(name, products, missing)
    return style.frame(fig, f"{module.TITLE} ({module.PAPER})", label, module.CAPTION)


def origin(name: str, preset: configuration.Preset, products: Sequence[Product]) -> dict[str, Any]:
    """What decides how a figure looks: its code, its labels, and the sha256 of every product that it draws."""
    return {
        "code": jobcode.code("figure", f"workflow.figures.{name}"),
        "labels": [preset.label, *(product.model_label for product in products)],
        "products": {str(product.path): digest(product.path, "sha256") for product in products},
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", help=f"one of {', '.join(plan.FIGURES)}")
    parser.add_argument("--preset", required=True)
    parser.add_argument("--out", required=True, type=Path, help="folder; with --paper a file, .pdf or .png")
    parser.add_argument("--paper", action="store_true", help="for a paper, which has its own caption")
    parser.add_argument("--width", type=float, help="of a figure for a paper, in inches: 3.25 for a column")
    arguments = parser.parse_args(argv)
    configuration.check_known("figure", arguments.figure, plan.FIGURES)
    _check(arguments)

    preset = configuration.preset(arguments.preset)
    products = [p for p in plan.figure_products(preset, arguments.figure) if Path(p.path).exists()]
    missing = plan.figure_missing(preset, arguments.figure)
    if arguments.paper:
        fig = for_paper.fit(draw(arguments.figure, products, missing), arguments.width)
        for_paper.save(fig, arguments.out)
    else:
        fig = compose(arguments.figure, products, missing, preset.label)
        style.save(fig, arguments.out / arguments.figure, origin(arguments.figure, preset, products))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """ValueError where the options do not fit each other."""
    if arguments.paper != (arguments.width is not None):
        raise ValueError("expected --paper and --width together, found one of them")
    if arguments.paper and not 1 <= arguments.width <= 20:
        raise ValueError(f"expected a width of 1 to 20 inches, found {arguments.width:g}")
    if arguments.paper and arguments.out.suffix not in for_paper.ENDINGS:
        raise ValueError(f"expected a .pdf or .png file for --out with --paper, found {arguments.out}")


if __name__ == "__main__":
    sys.exit(run(main))
