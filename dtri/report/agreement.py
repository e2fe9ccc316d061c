"""How far printed and measured numbers of a table agree: rank correlations within its rows, and CV* of single cells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gamma, sqrt
from statistics import mean, stdev

import numpy as np
from scipy.stats import rankdata

from dtri.report.intervals import LEVEL

DRAWS = 2000
LOWEST = {"is": 1.0}  # where the scale of a metric starts, other than at 0
Measure = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Correlation:
    """A rank correlation and the bounds of its 95 % bootstrap interval over seeds.

    Both bounds are None where a system has one seed.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class RankedRow:
    """Systems that may be ranked against each other: the printed number of each, and its values per seed."""

    printed: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]


def kendall(rows: Sequence[RankedRow]) -> Correlation | None:
    """Kendall's tau-b over all pairs within the rows.

    None where the printed numbers order no pair, or the means over seeds order none. Pairs across rows are left out,
    since numbers of two datasets are not ranked against each other. For one row it equals scipy.stats.kendalltau.

    Source: Kendall (1945).
    """
    return _correlation(rows, _tau)


def spearman(rows: Sequence[RankedRow]) -> Correlation | None:
    """Pearson's correlation of the ranks, each taken within its row and about the row's mean.

    For one row it is Spearman's rho. None where the printed numbers are all equal, or the means over seeds are.
    """
    return _correlation(rows, _rho)


def _correlation(rows: Sequence[RankedRow], measure: Measure) -> Correlation | None:
    """The correlation `measure` with its bootstrap interval over seeds; None where it is not defined.

    Each draw takes as many seeds of a system as it has, with replacement. Deviations from the mean are stretched by
    sqrt(n / (n - 1)). Otherwise the spread of a mean of three seeds would come out almost a fifth too small.
    """
    printed = [np.array([row.printed]) for row in rows]
    value = measure(printed, [np.array([[mean(values) for values in row.values]]) for row in rows])[0]
    if np.isnan(value):
        return None
    if any(len(values) < 2 for row in rows for values in row.values):
        return Correlation(float(value), None, None)
    draw = np.random.RandomState(np.random.MT19937(0))
    drawn = measure(printed, [np.stack([_drawn(values, draw) for values in row.values], 1) for row in rows])
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(float(value), float(low), float(high))


def _drawn(values: Sequence[float], draw: np.random.RandomState) -> np.ndarray:
    """[DRAWS] means of as many values, drawn with replacement, with the deviations stretched."""
    n, centre = len(values), mean(values)
    means = np.array(values)[draw.randint(n, size=(DRAWS, n))].mean(1)
    return (centre + sqrt(n / (n - 1)) * (means - centre)).round(12)  # equal values stay equal whatever n is


def _tau(printed: Sequence[np.ndarray], means: Sequence[np.ndarray]) -> np.ndarray:
    """tau-b of every draw, [draws]; NaN where the printed numbers or the means order no pair.

    Each row of `printed` is [1, systems], each row of `means` [draws, systems].
    """
    return _cosine(*(np.concatenate([_signs(x) for x in part], 1) for part in (printed, means)))


def _rho(printed: Sequence[np.ndarray], means: Sequence[np.ndarray]) -> np.ndarray:
    """Pearson's correlation of ranks for every draw; shapes as in `_tau`."""
    return _cosine(*(np.concatenate([_ranks(x) for x in part], 1) for part in (printed, means)))


def _signs(x: np.ndarray) -> np.ndarray:
    """[draws, systems] -> [draws, pairs]: 1 where the first of a pair is larger, -1 where it is smaller, else 0."""
    first, second = np.triu_indices(x.shape[1], 1)
    return np.sign(x[:, first] - x[:, second])


def _ranks(x: np.ndarray) -> np.ndarray:
    """[draws, systems] -> ranks in each draw, less their mean."""
    return rankdata(x, axis=1) - (x.shape[1] + 1) / 2


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def coefficient_of_variation(values: Sequence[float], lowest: float = 0.0) -> float:
    """CV* in per cent: the coefficient of variation of few repetitions of one measurement, 0 where all agree.

        CV*   = (1 + 1 / 4n) * 100 s* / m
        m     = mean of the n values, less `lowest`
        s*    = s / c4(n), the standard deviation without bias
        c4(n) = sqrt(2 / (n - 1)) * Gamma(n / 2) / Gamma((n - 1) / 2)

    Args:
        values: the original number and its repetitions, two at least.
        lowest: where the scale starts, 1 for an Inception Score; values are shifted to start at 0.

    Raises:
        ValueError: a single value, or a mean that does not lie above the start of the scale.

    Source: Belz, Popović & Mille (ACL 2022), section 3; their Table 4 is reproduced in tests/test_claims.py.
    """
    n = len(values)
    if n < 2 or mean(values) <= lowest:
        raise ValueError(f"expected two values at least with a mean above {lowest:g}, found {list(values)}")
    c4 = sqrt(2 / (n - 1)) * gamma(n / 2) / gamma((n - 1) / 2)
    return (1 + 1 / (4 * n)) * 100 * stdev(values) / c4 / (mean(values) - lowest)
