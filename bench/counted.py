"""Count the work of an iteration of every configured run: workflow/counted.json, which `explain` and bench.gpu read.

python -m bench.counted             counts what the file lacks, and drops what no configuration has
python -m bench.counted --anew      counts everything, after a change of a model or network; about three minutes
"""

import argparse
import sys

from dtri import counting
from dtri.costs import Work
from dtri.experiment import TrainSpec
from dtri.files import write_text
from workflow import configuration, counted, plan, specs
from workflow.commands.cli import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anew", action="store_true")
    arguments = parser.parse_args(argv)
    rows = planned()
    works = {}
    for row in rows:
        name = counted.key(row.spec)
        if name not in works:
            known = None if arguments.anew or not counted.FILE.exists() else counted.work(row.spec)
            works[name] = known or count(row.spec)
            print(f"{row.preset} {row.spec.dataset} {row.spec.model}: {works[name]}", flush=True)
    write_text(counted.FILE, counted.text(rows, works))
    return 0


def count(spec: TrainSpec) -> Work:
    return counting.iteration(spec.entry, spec.image_shape, spec.hparams, spec.batch_size, spec.steps)


def planned() -> list[counted.Planned]:
    """The runs of the present configuration."""
    rows = []
    for name, preset in configuration.presets().items():
        tables: dict[specs.Run, list[str]] = {}
        for table in plan.TABLES:
            for one in plan.targets(preset, table):
                if one.run is not None and table not in tables.setdefault(one.run, []):
                    tables[one.run].append(table)
        for one in plan.runs(preset):
            if one.seed == preset.seeds[0]:
                spec, shown = specs.train_spec(one), tables.get(one, ())
                rows.append(counted.Planned(name, spec, len(preset.seeds), tuple(shown)))
    return rows


if __name__ == "__main__":
    sys.exit(run(main))
