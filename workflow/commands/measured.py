"""Everything that was measured in a preset, whether a table has a cell for it or not: one row per quantity.

    dtri measured --preset demo                              to the terminal
    dtri run results/demo/all.csv                            the same as a product

Both work at any moment, whatever is measured by then.

A quantity is a metric of a system on a dataset. The mean is over seeds with a value; `low` and `high` bound Student's
95 % interval of the mean, from two seeds on. Stale records are left out where a quantity has others. Where it has none,
`stale` says why they are. `warning` says why a value may mean little, such as ties; a table shows no verdict on it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import pandas as pd

from dtri.files import write_text
from dtri.report.intervals import over_seeds
from dtri.report.records import Record
from workflow import configuration, status
from workflow.commands.cli import run

COLUMNS = (
    *("dataset", "model", "metric", "mean", "low", "high", "n_seeds", "seeds", "diverged", "n_samples"),
    *("warning", "stale", "protocol"),
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--out", type=Path, help=".csv; default: markdown to the terminal")
    arguments = parser.parse_args(argv)
    if arguments.out is not None and arguments.out.suffix != ".csv":
        raise ValueError(f"expected a .csv file for --out, found {arguments.out}")

    preset = configuration.preset(arguments.preset).name
    frame = measured(preset)
    if arguments.out is None:
        if frame.empty:
            raise FileNotFoundError(f"expected records below results/{preset}, found none")
        print(frame.drop(columns="protocol").to_markdown(index=False, floatfmt=".4g", missingval=""))
    else:
        write_text(arguments.out, frame.to_csv(index=False))
    return 0


Judged = tuple[Record, tuple[str, ...]]  # a record, and why it is stale


def measured(preset: str) -> pd.DataFrame:
    """One row per dataset, system and metric of the records of a preset."""
    groups = quantities(Path("results", preset))
    return pd.DataFrame([_row(*key, found) for key, found in groups.items()], columns=COLUMNS)


def quantities(folder: Path) -> dict[tuple[str, str, str], list[Judged]]:
    """The records of a preset's folder by dataset, system and metric, as their folders and files are named."""
    groups: dict[tuple[str, str, str], list[Judged]] = {}
    for path in status.records(folder):
        stale, _ = status.judged(path)
        groups.setdefault((*path.parts[-5:-3], path.stem), []).append((Record.read(path), stale))
    return groups


def valid(found: Sequence[Judged]) -> tuple[list[Record], str]:
    """Current records by seed, and ""; where there are none, stale records and why they are stale."""
    current = [record for record, stale in found if not stale]
    records = sorted(current or [record for record, _ in found], key=lambda record: record.seed)
    return records, "" if current else "; ".join(dict.fromkeys(why for _, stale in found for why in stale))


def _row(dataset: str, model: str, metric: str, found: Sequence[Judged]) -> dict[str, str | int | float | None]:
    records, stale = valid(found)
    valued = [record for record in records if record.value is not None]
    values = [record.value for record in valued]
    low, high = over_seeds(values) or (None, None)
    return {
        "dataset": dataset,
        "model": model,
        "metric": metric,
        "mean": mean(values) if values else None,
        "low": low,
        "high": high,
        "n_seeds": len(values),
        "seeds": " ".join(str(record.seed) for record in valued),
        "diverged": len(records) - len(valued),
        "n_samples": " ".join(dict.fromkeys(str(record.n_samples) for record in records)),
        "warning": "; ".join(dict.fromkeys(filter(None, (record.extra.get("warning") for record in valued)))),
        "stale": stale,
        "protocol": "; ".join(dict.fromkeys(record.protocol for record in records)),
    }


if __name__ == "__main__":
    sys.exit(run(main))
