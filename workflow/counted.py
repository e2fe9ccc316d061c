"""The counted work of every configured training run, as data (counted.json, made by `python -m bench.counted`).

Planning and a machine without Snakemake read it: it needs neither PyTorch nor the configuration.
"""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from dtri.costs import Work
from dtri.experiment import TrainSpec, canonical_json, hparam_defaults

FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Planned:
    """The runs of a preset on one dataset by one system: the number of `seeds`, and the tables that show them."""

    preset: str
    spec: TrainSpec
    seeds: int
    tables: tuple[str, ...]


def key(spec: TrainSpec) -> str:
    """What the work of an iteration depends on; the length of a run counts only for a system that grows."""
    grows = "batch_sizes" in hparam_defaults(spec.entry)
    values = [spec.entry, spec.image_shape, spec.hparams, spec.batch_size, *([spec.steps] if grows else [])]
    return canonical_json(values)


def work(spec: TrainSpec) -> Work | None:
    """The counted work of an iteration; None where it was not counted, as for an uncommitted configuration."""
    found = _read()["work"].get(key(spec))
    return None if found is None else Work(*found)


def planned(preset: str) -> list[Planned]:
    """Every dataset and system of a preset, as committed."""
    return [
        Planned(row["preset"], TrainSpec.from_json(json.dumps(row["spec"])), row["seeds"], tuple(row["tables"]))
        for row in _read()["planned"]
        if row["preset"] == preset
    ]


@cache
def _read() -> dict:
    return json.loads(FILE.read_text("utf-8"))


def text(rows: list[Planned], works: dict[str, Work]) -> str:
    """The text of the file, one line per entry, so that changes can be read."""
    planned = ",\n".join(canonical_json(asdict(row)) for row in rows)
    counted = ",\n".join(f"{canonical_json(name)}: {canonical_json(list(one))}" for name, one in sorted(works.items()))
    return f'{{"planned": [\n{planned}\n],\n"work": {{\n{counted}\n}}}}\n'
