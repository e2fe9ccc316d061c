"""Why a set of results has no number where this configuration could make one: a file that somebody writes for them.

igebm:
  systems: [igebm]
  datasets: [cifar10_jpeg]
  metrics: [auroc]
  why: three trainings take 23 hours of this CPU
"""

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from dtri.report.cells import LABEL_FREE, Cell, CellResult
from workflow import settings_file
from workflow.configuration import Label, Strict, check_known, datasets, measurable, models, parsed


def _known(kind: str, names: Callable[[], Iterable[str]]) -> AfterValidator:
    """A check that a name is one of `names`."""

    def check(name: str) -> str:
        check_known(kind, name, names())
        return name

    return AfterValidator(check)


def _metrics() -> list[str]:
    return sorted({LABEL_FREE}.union(*(measurable(model.entry) for model in models().values())))


def _one_reason(text: str) -> str:
    if "; " in text:
        raise ValueError("expected one reason without '; ', which parts reasons")
    return text


System = Annotated[str, _known("model", models)]
Dataset = Annotated[str, _known("dataset", datasets)]
Metric = Annotated[str, _known("metric", _metrics)]


class LeftOut(Strict):
    """An entry: measurements that nobody made, and why.

    `datasets` are those really used, as stand-ins are. No datasets, metrics or seeds: all of them.
    """

    systems: tuple[System, ...] = Field(min_length=1)
    datasets: tuple[Dataset, ...] = ()
    metrics: tuple[Metric, ...] = ()
    seeds: tuple[int, ...] = ()
    why: Annotated[Label, AfterValidator(_one_reason)]

    def covers(self, cell: Cell, measured_on: str, seed: int) -> bool:
        return cell.model in self.systems and all(
            not some or one in some
            for one, some in ((measured_on, self.datasets), (cell.metric, self.metrics), (seed, self.seeds))
        )


def add_option(parser: ArgumentParser) -> None:
    """The option of commands that show missing measurements; `read` takes its value."""
    text = "file that says why measurements are missing, shown beside them"
    parser.add_argument("--left-out", type=Path, metavar="YAML", help=text)


def read(path: Path | None) -> tuple[LeftOut, ...]:
    """The entries of a file; of none, nothing.

    Raises:
        ValueError: an entry is impossible, or names an unknown system, dataset or metric; the message names the line.
        OSError: there is no such file.
    """
    if path is None:
        return ()
    source = settings_file.read(path)
    return tuple(parsed(source, name, entry, LeftOut) for name, entry in source.entries.items())


def explained(found: CellResult, cell: Cell, seed: int, left_out: Sequence[LeftOut]) -> CellResult:
    """`found` with the reason of the first entry that covers it; unchanged where it was measured or cannot be."""
    if found.record is not None or not found.expected:
        return found
    why = next((one.why for one in left_out if one.covers(cell, found.measured_on, seed)), None)
    return found if why is None else replace(found, expected=False, reason=why)
