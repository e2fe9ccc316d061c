"""Compare what was measured, quantity by quantity: means over seeds, their difference and its 95 % interval.

    dtri compare lite lite_jpeg                              two presets
    dtri compare results/demo ../other/results/demo          two folders of runs, of two checkouts for example
    dtri compare vae dcgan --preset demo                     two systems of a preset
    dtri compare vae_rates --preset demo --metric fid        the values of a sweep, each beside the first

The difference is B - A with Welch's interval over seeds, which needs two seeds on each side. Runs of two presets are
compared on the same dataset. Where another dataset stands in, they are compared by the cells of tables that they
answer. A remark says where protocols or feature networks differ, and where a side is stale. Such a difference decides
nothing.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pandas as pd

from dtri.files import write_text
from dtri.report.cells import Cell
from dtri.report.contrasts import estimate
from workflow import configuration, plan
from workflow.commands.cli import run
from workflow.commands.measured import Judged, quantities, valid

Key = tuple[str, str, str]  # dataset, system ("" where systems are the sides) and metric
FORMATS = (".csv", ".md")
COLUMNS = (
    *("a", "b", "dataset", "model", "metric", "n_a", "mean_a", "n_b", "mean_b"),
    *("difference", "low", "high", "remarks"),
)


@dataclass(frozen=True)
class Side:
    """What is compared: its name, and its records by dataset, system and metric."""

    name: str
    found: dict[Key, list[Judged]]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A", help="a preset, a folder of runs, a system or a sweep")
    parser.add_argument("b", metavar="B", nargs="?", help="another; none for the values of a sweep")
    parser.add_argument("--preset", help="whose systems are compared")
    parser.add_argument("--metric", nargs="+", default=[], help="of these alone; fid is fid of any feature network")
    parser.add_argument("--out", type=Path, help=".csv or .md; default: markdown to the terminal alone")
    arguments = parser.parse_args(argv)
    if arguments.out is not None and arguments.out.suffix not in FORMATS:
        raise ValueError(f"expected a {' or '.join(FORMATS)} file for --out, found {arguments.out}")

    first, *others = sides(arguments.a, arguments.b, arguments.preset)
    rows = [row for other in others for row in compared(first, other, arguments.metric)]
    if not rows:
        names = " and ".join(dict.fromkeys((first.name, *(one.name for one in others))))
        raise LookupError(f"expected a quantity measured in {names}, found none in common")
    frame = pd.DataFrame(rows, columns=COLUMNS)
    shown = frame.to_markdown(index=False, floatfmt=".4g", missingval="")
    print(shown)
    if arguments.out is not None:
        write_text(arguments.out, frame.to_csv(index=False) if arguments.out.suffix == ".csv" else f"{shown}\n")
    return 0


def sides(a: str, b: str | None, preset: str | None) -> list[Side]:
    """The sides to compare; the others are shown beside the first.

    Args:
        a: a preset, a folder of runs, a system or a sweep.
        b: another; None for the values of a sweep.
        preset: whose systems `a` and `b` name; None where they name presets or folders.

    Raises:
        ValueError: a word names no such thing, or there are not two sides.
    """
    words = [a, *([] if b is None else [b])]
    if preset is not None:
        found = quantities(Path("results", configuration.preset(preset).name))
        names = [name for word in words for name in plan.variants(word)]
        chosen = [
            Side(name, {(on, "", metric): some for (on, model, metric), some in found.items() if model == name})
            for name in names
        ]
    else:
        chosen = [Side(word, quantities(_folder(word))) for word in words]
    if len(chosen) < 2:
        raise ValueError(f"expected two sides, or a sweep and --preset, found {a!r} alone")
    return chosen


def _folder(word: str) -> Path:
    """The folder of runs that a word names: a preset's in this directory, or any other folder."""
    folder = Path("results", word) if word in configuration.presets() else Path(word)
    if not folder.is_dir():
        known = ", ".join(configuration.presets())
        raise ValueError(f"expected a preset ({known}), a folder of runs, or --preset with a system, found {word!r}")
    return folder


def compared(a: Side, b: Side, metrics: list[str]) -> Iterator[dict[str, str | int | float | None]]:
    """A row for each quantity that both sides have, in A's order.

    Args:
        a, b: the sides.
        metrics: names to keep, without a feature network for all networks; [] keeps all.
    """
    for left, right in joined(a, b):
        if not metrics or any(f"{left[2]}_".startswith(f"{metric}_") for metric in metrics):
            shown = zip(COLUMNS[2:5], left, right, strict=True)
            names = {column: one if one == other else f"{one} | {other}" for column, one, other in shown}
            yield {"a": a.name, "b": b.name, **names, **_contrast(a.found[left], b.found[right])}


def joined(a: Side, b: Side) -> list[tuple[Key, Key]]:
    """Pairs of a quantity of A and one of B, each pair once.

    Both have the same key or, for two presets, answer the same cell.
    """
    pairs = [(key, key) for key in a.found if key in b.found]
    presets = configuration.presets()
    if a.name in presets and b.name in presets:
        for cell in (cell for name in plan.TABLES for cell in plan.table(name).cells):
            left, right = (_answer(presets[side.name], cell) for side in (a, b))
            if left in a.found and right in b.found:
                pairs.append((left, right))
    return list(dict.fromkeys(pairs))


def _answer(preset: configuration.Preset, cell: Cell) -> Key | None:
    """The key of the record that answers a cell; None where no record can."""
    target = plan.target(preset, cell, preset.seeds[0])
    return (target.run.dataset, target.run.model, target.path.stem) if target.path else None


def _contrast(a: list[Judged], b: list[Judged]) -> dict[str, str | int | float | None]:
    """Means of both sides, the difference B - A with its interval, and remarks."""
    (left, stale_a), (right, stale_b) = valid(a), valid(b)
    of_a, of_b = ([one.value for one in records if one.value is not None] for records in (left, right))
    low, high = estimate(of_b, of_a).interval() if min(len(of_a), len(of_b)) > 1 else (None, None)
    remarks = [f"{name} is stale: {why}" for name, why in (("A", stale_a), ("B", stale_b)) if why]
    lost = (("A", len(left) - len(of_a)), ("B", len(right) - len(of_b)))
    remarks += [f"{n} of {name} diverged" for name, n in lost if n]
    for what, kind in (("protocols", "protocol"), ("feature networks", "extractor")):
        if {getattr(one, kind) for one in left} != {getattr(one, kind) for one in right}:
            remarks.append(f"{what} differ")
    return {
        "n_a": len(of_a),
        "mean_a": mean(of_a) if of_a else None,
        "n_b": len(of_b),
        "mean_b": mean(of_b) if of_b else None,
        "difference": mean(of_b) - mean(of_a) if of_a and of_b else None,
        "low": low,
        "high": high,
        "remarks": "; ".join(remarks),
    }


if __name__ == "__main__":
    sys.exit(run(main))
