"""What a training iteration asks of a device, and how long a device takes for it, before any measurement.

    seconds = operations / (share of the peak x peak) + bytes / (share of the bandwidth x bandwidth) + kernels x launch

The first term alone would put a narrow network, whose kernels are small, hundreds of times too fast. Peaks are the
makers', of dense products; shares and launches are guesses for GPUs (dtri has not been measured on one) and fitted for
the CPU. Once a run was measured on a device, only ratios of the model's times count there.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Work(NamedTuple):
    """One iteration, on average over a run, counted (dtri/counting.py)."""

    operations: float  # of matrix products and convolutions; a multiplication and an addition count two
    bytes: float  # read and written by all kernels, as if nothing stayed in a cache
    kernels: float


@dataclass(frozen=True)
class Card:
    """A class of devices: peaks in operations/s by precision, bandwidth in bytes/s, seconds from kernel to kernel."""

    name: str
    peaks: dict[str, float]
    bandwidth: float
    launch: float
    share: float  # of the peak that products and convolutions of these sizes reach
    bandwidth_share: float = 0.6

    def seconds(self, work: Work, precision: str = "fp32", threads: int = 1) -> float:
        """Of an iteration. Threads count on the CPU alone. ValueError where the card lacks the precision."""
        if precision not in self.peaks:
            raise ValueError(f"expected a precision among {', '.join(self.peaks)} on {self.name}, found {precision}")
        cores = threads if self is CPU else 1
        product = work.operations / (self.share * self.peaks[precision] * cores)
        memory = work.bytes / (self.bandwidth_share * self.bandwidth * cores)
        return product + memory + work.kernels * self.launch


def _gpu(name: str, bandwidth: float, **peaks: float) -> Card:
    """Launches as of a recorded iteration: kernels follow each other without the host."""
    return Card(name, {precision: 1e12 * peak for precision, peak in peaks.items()}, bandwidth, 2e-6, 0.35)


# A core with AVX-512: peaks as measured, the rest fitted to results/reference/bench/systems-cpu.csv (two threads).
CPU = Card("CPU core", {"fp32": 2.5e11, "tf32": 2.5e11, "bf16": 5e11}, 6.5e9, 1e-5, 0.8, 1.0)
CARDS = (  # more telling names first
    _gpu("H200", 4.8e12, fp32=67, tf32=495, bf16=989),
    _gpu("H100", 3.35e12, fp32=67, tf32=495, bf16=989),
    _gpu("A100", 1.56e12, fp32=19.5, tf32=156, bf16=312),
    _gpu("L40S", 0.86e12, fp32=92, tf32=183, bf16=362),
    _gpu("RTX 4090", 1.01e12, fp32=83, tf32=83, bf16=165),
    _gpu("RTX 3090", 0.94e12, fp32=36, tf32=36, bf16=71),
    _gpu("V100", 0.9e12, fp32=15.7),
    _gpu("T4", 0.32e12, fp32=8.1),
    CPU,
)


def card_of(device: str) -> Card | None:
    """The class of a device by its name, as records have it (dtri.device.describe); None where it is not known."""
    if device.startswith("cpu"):
        return CPU
    return next((card for card in CARDS if card.name in device), None)
