"""Why a set of results has no number where this configuration could make one: a file that somebody writes for them.

igebm:
  systems: [igebm]
  datasets: [cifar10_jpeg]
  metrics: [auroc]
  why: three trainings take 23 hours of this CPU
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from dtri.report.cells import Cell, CellResult
from workflow import configuration, settings_file
from workflow.configuration import Label, Strict, check_known


def _one_reason(text: str) -> str:
    if "; " in text:
        raise ValueError("expected one reason without '; ', which parts reasons")
    return text


class LeftOut(Strict):
    """An entry: measurements that nobody made, and why.

    `datasets` are those really used, as stand-ins are. No datasets, metrics or seeds: all of them.
    """

    systems: tuple[str, ...] = Field(min_length=1)
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
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
        ValueError: an entry is impossible, or names an unknown system or dataset; the message names file and line.
        OSError: there is no such file.
    """
    if path is None:
        return ()
    source = settings_file.read(path)
    entries = {name: configuration.parsed(source, name, entry, LeftOut) for name, entry in source.entries.items()}
    for name, entry in entries.items():
        try:
            for kind, some, known in (
                ("model", entry.systems, configuration.models()),
                ("dataset", entry.datasets, configuration.datasets()),
            ):
                for one in some:
                    check_known(kind, one, known)
        except ValueError as error:
            raise ValueError(f"{source.where(name)}: {error}") from error
    return tuple(entries.values())


def explained(found: CellResult, cell: Cell, seed: int, left_out: Sequence[LeftOut]) -> CellResult:
    """`found` with the reason of the first entry that covers it; unchanged where it was measured or cannot be."""
    if found.record is not None or not found.expected:
        return found
    why = next((one.why for one in left_out if one.covers(cell, found.measured_on, seed)), None)
    return found if why is None else replace(found, expected=False, reason=why)
