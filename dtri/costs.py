"""The work of a training iteration, and the time a device takes for it, estimated before any measurement.

    seconds = operations / (share of the peak x peak) + bytes / (share of the bandwidth x bandwidth) + kernels x launch

A narrow network has small kernels: the first term alone would be hundreds of times too low for it. Peaks are the
makers' numbers for dense products. Shares and launch times are guesses for GPUs (dtri has not been measured on one) and
are fitted for the CPU. Once a run was measured on a device, only ratios of the estimated times are used there.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Work(NamedTuple):
    """Work of one iteration, averaged over a run, as dtri/counting.py counts it."""

    operations: float  # of matrix products and convolutions; one multiply-add counts as two
    bytes: float  # read and written by all kernels, as if no cache held anything
    kernels: float


@dataclass(frozen=True)
class Card:
    """A class of devices: peaks in operations/s by precision, bandwidth in bytes/s, launch in s per kernel."""

    name: str
    peaks: dict[str, float]
    bandwidth: float
    launch: float
    share: float  # fraction of the peak that products and convolutions of these sizes reach
    bandwidth_share: float = 0.6

    def seconds(self, work: Work, precision: str = "fp32", threads: int = 1) -> float:
        """Seconds of an iteration; `threads` matter on the CPU alone. ValueError where the card lacks the precision."""
        if precision not in self.peaks:
            raise ValueError(f"expected a precision among {', '.join(self.peaks)} on {self.name}, found {precision}")
        cores = threads if self is CPU else 1
        product = work.operations / (self.share * self.peaks[precision] * cores)
        memory = work.bytes / (self.bandwidth_share * self.bandwidth * cores)
        return product + memory + work.kernels * self.launch


def _gpu(name: str, bandwidth: float, **peaks: float) -> Card:
    """A GPU. Its launch time is for a recorded iteration, whose kernels follow each other without the host."""
    return Card(name, {precision: 1e12 * peak for precision, peak in peaks.items()}, bandwidth, 2e-6, 0.35)


# A core with AVX-512: peaks are measured, the rest is fitted to results/reference/bench/systems-cpu.csv (two threads).
CPU = Card("CPU core", {"fp32": 2.5e11, "tf32": 2.5e11, "bf16": 5e11}, 6.5e9, 1e-5, 0.8, 1.0)
WITHOUT_AVX512 = 2.0  # times as long on other cores: their vectors are half as long
CARDS = (  # the first name that is part of a device's name counts, so more telling names come first
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
    """The class of a device, by its name in records (dtri.device.describe_device); None for an unknown device."""
    if device.startswith("cpu"):
        return CPU
    return next((card for card in CARDS if card.name in device), None)
