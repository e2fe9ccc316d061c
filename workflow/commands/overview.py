"""Write the landing page of a preset and the pages of its runs, from what there is at this moment.

python -m workflow.commands.overview --preset demo --out results/demo/overview.html
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from dtri.files import write_text
from dtri.report import run_page
from dtri.report.overview import overview
from dtri.report.records import Record
from dtri.report.run_page import Judged, Run
from dtri.sealed import read_sealed
from workflow import configuration, plan, status
from workflow.commands.claims import judged
from workflow.commands.cli import run


def runs(preset: str) -> list[Run]:
    """Every finished training of a preset, by dataset, system and seed, whether a table asks for it or not."""
    found = [_run(path) for path in Path("results", preset).glob("*/*/seed*/train.json")]
    return sorted(found, key=lambda one: (*one.system, one.training.made["seed"]))


def _run(path: Path) -> Run:
    made = read_sealed(path, "a training summary")
    entry = configuration.models().get(made["model"])
    records = tuple(_judged(one, Record.read(one)) for one in sorted(path.parent.glob("metrics/*.json")))
    return Run(path.parent, entry.label if entry else made["model"], _judged(path, made), records)


def _judged(path: Path, made: Any) -> Judged:
    return Judged(made, *status.judged(path))


def figures() -> list[tuple[str, str]]:
    """(address, title) of every figure of a preset; the page may be written before they are drawn."""
    return [(f"figures/{name}.png", plan.figure_title(name)) for name in plan.FIGURES]


def write_runs(folder: Path, known: list[Run], label: str) -> None:
    """Write the page of every run and the list of them; pages of runs that no longer exist are removed."""
    for one in known:
        siblings = [other for other in known if other.system == one.system]
        write_text(folder / f"{one.name}.html", run_page.page(one, label, siblings))
    write_text(folder / "index.html", run_page.index(known, label))
    names = {f"{one.name}.html" for one in known}
    for old in folder.glob("*.seed*.html"):
        if old.name not in names:
            old.unlink()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--out", required=True, type=Path, help="the page, .html; pages of runs go to runs/ beside it")
    arguments = parser.parse_args(argv)

    preset, folder = configuration.preset(arguments.preset), arguments.out.parent
    tables = [plan.preset_table(preset, name) for name in plan.TABLES]
    known = runs(preset.name)
    write_runs(folder / "runs", known, preset.label)
    page = overview(
        [(table, status.frame(preset, table)) for table in tables],
        judged(preset).claims,
        figures(),
        {one.system: f"runs/{one.name}.html" for one in reversed(known)},
        preset.label,
        preset.caveat,
    )
    write_text(arguments.out, page)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
