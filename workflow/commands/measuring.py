"""What every measuring command shares: the training summary it starts from, and the record it ends with."""

import math
import time
from pathlib import Path
from typing import Any

from dtri.report.records import Record
from dtri.sealed import read_sealed
from workflow.commands.provenance import provenance, versions

BATCH_NORM = {  # rule of dtri/trained.py -> words of a protocol, and a variant's name
    "standing": ("BN standing statistics in the generator, running averages elsewhere", "BN standing statistics"),
    "running": ("BN running averages", "BN running averages"),
    "batch": ("BN statistics of each batch of 100", "BN batch statistics"),
}


class Measurement:
    """One measuring job on one run; the seconds of its records count from the making of this object."""

    def __init__(self, train: Path, code: str, data: dict[str, str], device: str, *packages: str):
        self.summary: dict[str, Any] = read_sealed(train, "a training summary")
        self.code, self.data, self.device = code, data, device
        self.started = time.monotonic()
        self.why = ""
        self.shared = {"versions": versions(*packages), "provenance": provenance()}

    @property
    def diverged(self) -> bool:
        return bool(self.why) or self.summary["status"] == "diverged"

    def diverge(self, why: str) -> None:
        """Note that what was to be measured is not finite: later records have no value, and say why."""
        self.why = self.why or why

    def record(
        self,
        path: Path,
        metric: str,
        value: float | None,
        *,
        n_samples: int,
        n_reference: int,
        protocol: str,
        extractor: str = "",
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Write the record of one measurement; it has no value where the run or the measurement diverged.

        Args:
            path: of the record.
            metric, value, n_samples, n_reference, protocol, extractor, extra: as in `Record`. `extra` is dropped for a
                run whose training diverged.

        Raises:
            ValueError: `value` is not finite, though nothing diverged.
        """
        train = self.summary
        if value is not None and not self.diverged and not math.isfinite(value):
            raise ValueError(f"expected a finite {metric} for {path}, found {value}")
        if self.why:
            extra = {"diverged": self.why, **(extra or {})}
        elif self.diverged:
            extra = {}
        Record(
            preset=train["preset"],
            dataset=train["dataset"],
            model=train["model"],
            seed=train["seed"],
            metric=metric,
            value=None if self.diverged else value,
            status="diverged" if self.diverged else train["status"],
            n_samples=n_samples,
            n_reference=n_reference,
            protocol=protocol,
            extractor=extractor,
            spec=train["spec_hash"],
            train_code=train["code"],
            code=self.code,
            data={**train["data"], **self.data},
            device=self.device,
            seconds=round(time.monotonic() - self.started, 3),
            gpu_hours=train["gpu_hours"],
            train_seconds=train["seconds"],
            train_device=train["device"],
            extra=extra or {},
            **self.shared,
        ).write(path)


def variant(
    value: float | None, n_samples: int, n_reference: int, protocol: str, warning: str = "", diverged: str = ""
) -> dict[str, Any]:
    """One of a record's extra["variants"]: the same quantity by another protocol, a further row of the tidy CSV.

    Args:
        value: None where it is not finite.
        n_samples, n_reference, protocol: as in `Record`.
        warning: why the value may mean little.
        diverged: why there is no value.
    """
    sizes = {"n_samples": n_samples, "n_reference": n_reference}
    return {"value": value, "protocol": protocol, "warning": warning, "diverged": diverged, **sizes}
