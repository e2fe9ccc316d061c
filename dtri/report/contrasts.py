"""Intervals over seeds: a mean, or a difference of two means, and how many seeds would decide on which side it lies.

Seeds of two systems are not paired. They share the order of the images, and the first weights where the architectures
are equal. Welch's interval is valid without pairs, and too wide rather than too narrow where seeds correlate. A paired
interval of three seeds has 2 degrees of freedom against about 4. So it is narrower only where seeds correlate by more
than 1 - (2.78 / 4.30)^2 = 0.58. No pair of systems here is known to reach that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import mean, variance

from scipy.special import stdtrit  # Student's quantile, far faster than scipy.stats.t.ppf

from dtri.report.intervals import LEVEL


@dataclass(frozen=True)
class Estimate:
    """A mean or difference of means with its standard error and degrees of freedom (Student's t)."""

    value: float
    error: float
    df: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The two-sided interval; its width is 0 where all seeds agree exactly."""
        half = self.half_width(level)
        return self.value - half, self.value + half

    def half_width(self, level: float = LEVEL) -> float:
        return float(stdtrit(self.df, (1 + level) / 2)) * self.error


def estimate(first: Sequence[float], second: Sequence[float] = (), factor: float = 1.0) -> Estimate:
    """mean(first) - factor * mean(second), or mean(first) alone.

    Args:
        first: one value per seed, two at least.
        second: as many or others; none for a mean alone.
        factor: of the second mean; 0.5 asks whether the first is at most half of the second.

    Raises:
        ValueError: a mean of a single seed.

    Source: Welch (1947); degrees of freedom by Satterthwaite (1946).
    """
    if len(first) < 2 or len(second) == 1:
        raise ValueError(f"expected two seeds at least, found {len(first)} and {len(second)}")
    value = mean(first) - (factor * mean(second) if second else 0.0)
    parts = [(variance(first) / len(first), len(first) - 1)]
    if second:
        parts.append((factor**2 * variance(second) / len(second), len(second) - 1))
    return _combined(value, parts)


def _combined(value: float, parts: list[tuple[float, float]]) -> Estimate:
    """The estimate from (squared standard error, degrees of freedom) per mean; all errors may be 0."""
    total = sum(squared for squared, _ in parts)
    below = sum(squared**2 / df for squared, df in parts)
    return Estimate(value, sqrt(total), total**2 / below if below else inf)


def seeds_to_decide(
    first: Sequence[float],
    second: Sequence[float],
    distance: float,
    factor: float = 1.0,
    level: float = LEVEL,
    most: int = 100,
) -> int | None:
    """The fewest seeds per system whose interval would be narrower than `distance` on each side.

    The spread is taken as seen and the mean as final. So half of such repetitions would still be undecided.

    Args:
        first, second: as in `estimate`, two seeds at least.
        distance: between the mean and the nearest value that would change the verdict.
        factor: as in `estimate`.
        level: of the interval.
        most: the largest number of seeds tried.

    Returns:
        The number of seeds, where a system keeps the seeds that it has. None where `most` are too few, as for
        `distance` 0.
    """
    squares = [(variance(first), len(first))] + ([(factor**2 * variance(second), len(second))] if second else [])
    for n in range(min(k for _, k in squares), most + 1):
        counts = [(squared, max(n, k)) for squared, k in squares]
        if _combined(0.0, [(squared / k, k - 1) for squared, k in counts]).half_width(level) < distance:
            return n
    return None
