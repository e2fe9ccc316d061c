"""Judge what the papers claim by the records that exist.

    dtri claims --preset paper --partial     to the terminal, at any moment
    dtri claims --preset demo --out results/demo

Without --partial every record that the configuration can make must be there.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from dtri.files import write_text
from dtri.report import forest, style
from dtri.report.cells import Cell
from dtri.report.claims_page import Judged, render
from dtri.report.tidy import scored
from dtri.report.verdicts import Measurements, judge, measured
from workflow import configuration, left_out, plan, specs, status
from workflow.claims import paper_a, paper_b, printed
from workflow.commands.cli import run
from workflow.configuration import Preset
from workflow.left_out import LeftOut

FORMATS = ("csv", "md", "tex", "html")


def judged(preset: Preset, left_out: Sequence[LeftOut] = ()) -> Judged:
    """Verdicts on both papers' claims, overlays' claims and printed orders, by the records that are not stale.

    Args:
        preset: whose records are read.
        left_out: why measurements are missing.
    """
    known, found = plan.claim_book(), measurements(preset, left_out)
    return Judged(
        claims=tuple(judge(claim, known, found) for claim in (*paper_a.CLAIMS, *paper_b.CLAIMS, *plan.own_claims())),
        orders=tuple(judge(claim, known, found) for claim in printed.CLAIMS),
        known=known,
        found=found,
        tables=printed.TABLES,
        mixed=printed.mixed,
        label=preset.label,
        caveat=preset.caveat,
    )


def measurements(preset: Preset, left_out: Sequence[LeftOut] = ()) -> Measurements:
    """Values per seed of everything that a claim is about; `left_out` says why measurements are missing."""
    found = {}
    for quantity, published in plan.claim_book().items():
        cell = plan.claim_cell(preset, published.cell)
        results = [scored(status.lookup(preset, cell, seed, left_out), cell.score) for seed in preset.seeds]
        found[quantity] = measured(results, quantity.above, scale(preset, cell))
    return found


def scale(preset: Preset, cell: Cell) -> str:
    """How long, how wide, on which data and by which features a system was measured; "" for the papers' own scale."""
    run = plan.target(preset, cell, preset.seeds[0]).run
    if run is None or preset.name == "paper":
        return ""
    spec = specs.train_spec(run)
    on = f", on {run.dataset}" if run.dataset != cell.dataset else ""
    against = specs.measured_on(preset, cell.against, specs.dataset(run.dataset)) if cell.against else None
    own = against is None or re.fullmatch(rf"{cell.against}(_\d+x\d+x\d+)?", against)
    other = "" if own else f", against {against}"
    features = f", features of {network}" if (network := plan.own_network(preset, cell)) else ""
    return f"{spec.steps:,} iterations, width {spec.hparams.get('width', 1.0):g}{on}{other}{features}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--partial", action="store_true", help="judge by what exists; the rest is not measured")
    parser.add_argument(
        "--out", type=Path, help="folder for the page and the figure; default: markdown to the terminal"
    )
    left_out.add_option(parser)
    arguments = parser.parse_args(argv)

    preset = configuration.preset(arguments.preset)
    missing = [path for path in plan.claim_records(preset) if not Path(path).exists()]
    if missing and not arguments.partial:
        raise FileNotFoundError(
            f"expected {len(missing)} more records, found none at {missing[0]} "
            f"(run `snakemake results/{arguments.preset}/claims.html`, or judge with --partial)"
        )
    found = judged(preset, left_out.read(arguments.left_out))
    if arguments.out is None:
        print(render(found, "md"))
        return 0
    for fmt in FORMATS:
        write_text(arguments.out / f"claims.{fmt}", render(found, fmt))
    fig = style.frame(forest.draw(found.claims, found.known), forest.TITLE, preset.label, forest.CAPTION)
    style.save(fig, arguments.out / "claims")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
