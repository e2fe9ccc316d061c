"""How well an energy ranks strange images above familiar ones: AUROC (paper A Table 3), AUPRC (paper A Table 4).

An energy is low on the data a model was trained on, so larger means stranger. This module needs numpy and scikit-learn
only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from dtri.finite import NonFinite

RESAMPLES = 1000
TIES = 0.01  # change of a value by the order of equal scores, above which a warning is given
FEW_IMAGES = 10  # images of a class, below which the interval says little


@dataclass(frozen=True)
class Ranking:
    """One area under a curve, and the numbers needed to read it.

    `ci_low` and `ci_high` bound the 95 % bootstrap interval over images, where each class is resampled by itself; None
    where no interval was asked for. `chance` is the value of a random ranking. `minimum` is the value of the worst
    ranking without ties; a published value below it belongs to another test set. `unique_fraction` is the number of
    distinct scores per image. `tied_low` and `tied_high` are the values if images of equal scores were ranked worst and
    best. A `warning` says that these two differ much, or that a class has few images. An AUPRC, which is a trapezoid,
    has an `average_precision`; for an AUROC it is None.
    """

    value: float
    ci_low: float | None
    ci_high: float | None
    n_positive: int
    n_negative: int
    chance: float
    minimum: float
    unique_fraction: float
    tied_low: float
    tied_high: float
    warning: str = ""
    average_precision: float | None = None


def auroc(id_energy: np.ndarray, ood_energy: np.ndarray, seed: int = 0, interval: bool = True) -> Ranking:
    """P(energy of an in-distribution image < energy of an out-of-distribution one), ties counting half.

    In-distribution images are the positives, and -energy is their score (Hendrycks & Gimpel, 2017; Du & Mordatch,
    2019). Out-of-distribution positives with +energy give the same number.

    Args:
        id_energy: [N], energies of in-distribution images.
        ood_energy: [M], energies of out-of-distribution images.
        seed: seed of the bootstrap.
        interval: whether to bootstrap an interval, which takes most of the time.

    Raises:
        ValueError: a set is empty.
        NonFinite: a score is not finite.
    """
    positive = -_scores("in-distribution energies", id_energy)
    negative = -_scores("out-of-distribution energies", ood_energy)
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return _ranking(
        np.concatenate([positive, negative]), labels, roc_auc_score, _roc_area, 0.5, 0.0, seed if interval else None
    )


def auprc(energy: np.ndarray, labels: np.ndarray, seed: int = 0, interval: bool = True) -> Ranking:
    """Area under precision over recall by trapezoids, as in the code of EGBAD and MEG; anomalies are positive.

    The area is badly optimistic where many scores are equal, so average precision is reported too.

    Args:
        energy: [N], larger = stranger.
        labels: [N], 1 for anomalies and 0 for normal images.
        seed: seed of the bootstrap.
        interval: whether to bootstrap an interval, which takes most of the time.

    Raises:
        ValueError: a class is missing, or a label is neither 0 nor 1.
        NonFinite: a score is not finite.
    """
    scores, labels = _labelled(energy, labels)
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    return _ranking(
        scores,
        labels,
        _trapezoid,
        _precision_recall_area,
        n_positive / len(labels),
        minimum_auprc(n_positive, n_negative),
        seed if interval else None,
        average_precision=float(average_precision_score(labels, scores)),
    )


def minimum_auprc(n_positive: int, n_negative: int) -> float:
    """The AUPRC when every positive ranks below every negative and all scores are distinct.

    For many images it tends to 1 + (1 - p) ln(1 - p) / p at prevalence p (Boyd et al., 2012).
    """
    found = np.arange(n_positive + 1, dtype=np.float64)
    precision = found / (n_negative + found)
    return float((precision[1:] + precision[:-1]).sum() / (2 * n_positive))


def _labelled(energy: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 [N] and labels as int64 [N]; ValueError unless both classes are present."""
    scores, labels = _scores("energies", energy), np.asarray(labels).ravel()
    if labels.shape != scores.shape or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"expected a label 0 or 1 for each of {len(scores)} energies, found {labels.shape} labels")
    n_positive = int(labels.sum())
    if n_positive in (0, len(labels)):
        n_negative = len(labels) - n_positive
        raise ValueError(f"expected both classes, found {n_positive} anomalies and {n_negative} normal images")
    return scores, labels.astype(np.int64)


def _scores(name: str, energy: np.ndarray) -> np.ndarray:
    scores = np.asarray(energy).astype(np.float64).ravel()
    if not len(scores):
        raise ValueError(f"expected at least one of the {name}, found none")
    n_nan, n_infinite = int(np.isnan(scores).sum()), int(np.isinf(scores).sum())
    if n_nan or n_infinite:
        raise NonFinite(f"expected finite {name}, found {n_nan} NaN and {n_infinite} infinite of {len(scores)}")
    return scores


def _trapezoid(labels: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return auc(recall, precision)


def _ranking(
    scores: np.ndarray,
    labels: np.ndarray,
    area: Callable[[np.ndarray, np.ndarray], float],
    area_of_counts: Callable[[np.ndarray, np.ndarray], float],
    chance: float,
    minimum: float,
    seed: int | None,
    average_precision: float | None = None,
) -> Ranking:
    # Levels count from the highest score. Resampling then means counting, and no resample is sorted again.
    values, level = np.unique(-scores, return_inverse=True)
    low = high = None
    if seed is not None:
        low, high = _bootstrap(level[labels == 1], level[labels == 0], len(values), area_of_counts, seed)
    # In the best order of equal scores their positives are a level above their negatives; in the worst, a level below.
    worst, best = ((area_of_counts(*_ordered(level, labels, first, len(values)))) for first in (0, 1))
    n_positive = int(labels.sum())
    n_smaller = min(n_positive, len(labels) - n_positive)
    warnings = []
    if best - worst > TIES:
        warnings.append(
            f"only {len(values)} distinct scores among {len(scores)} images: ties decide this value, between "
            f"{worst:.3f} and {best:.3f}"
        )
    if n_smaller < FEW_IMAGES:
        warnings.append(f"a class of {n_smaller} images")
    return Ranking(
        value=float(area(labels, scores)),
        ci_low=low,
        ci_high=high,
        n_positive=n_positive,
        n_negative=len(labels) - n_positive,
        chance=chance,
        minimum=minimum,
        unique_fraction=len(values) / len(scores),
        tied_low=worst,
        tied_high=best,
        warning="; ".join(warnings),
        average_precision=average_precision,
    )


def _ordered(level: np.ndarray, labels: np.ndarray, first: int, n_levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts per level of positives and negatives, as if equal scores were higher for label `first` than for others."""
    positive, negative = (
        np.bincount(2 * level[labels == label] + (label != first), minlength=2 * n_levels) for label in (1, 0)
    )
    return positive, negative


def _bootstrap(
    positive: np.ndarray,
    negative: np.ndarray,
    n_levels: int,
    area: Callable[[np.ndarray, np.ndarray], float],
    seed: int,
) -> tuple[float, float]:
    """Percentile interval of `area(positives per level, negatives per level)` over resampled images."""
    rng = np.random.default_rng(seed)
    areas = [
        area(
            np.bincount(rng.choice(positive, len(positive)), minlength=n_levels),
            np.bincount(rng.choice(negative, len(negative)), minlength=n_levels),
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(areas, [0.025, 0.975])
    return float(low), float(high)


def _roc_area(positive: np.ndarray, negative: np.ndarray) -> float:
    """AUROC from counts per level, highest score first: a positive wins against every negative on a lower level."""
    above = np.cumsum(positive)
    wins = (negative * (above - 0.5 * positive)).sum()
    return float(wins / (above[-1] * negative.sum()))


def _precision_recall_area(positive: np.ndarray, negative: np.ndarray) -> float:
    """Trapezoid area under precision over recall, starting at (0, 1), from counts per level, highest score first."""
    found = np.cumsum(positive)
    taken = found + np.cumsum(negative)
    precision = np.ones(len(found) + 1)
    np.divide(found, taken, out=precision[1:], where=taken > 0)
    return float((positive * (precision[1:] + precision[:-1])).sum() / (2 * found[-1]))
