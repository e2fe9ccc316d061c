"""Reconstruction errors and rankings against closed forms; orientation tests that fail if a sign flips."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score

from dtri.metrics import ranking
from dtri.metrics.ranking import auprc, auroc, minimum_auprc
from dtri.metrics.reconstruction import SquaredError, mean_image_mse, random_pairs_mse


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_reconstruction_and_ranking_import_no_torch():
    code = "import sys, dtri.metrics.ranking, dtri.metrics.reconstruction; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Reconstruction


def test_mse_is_global_over_unequal_batches(rng):
    x, y = rng.uniform(-1, 1, (2, 7, 3, 4, 4)).astype(np.float32)
    y[:5] = x[:5]  # all the error sits in the short last batch
    error = SquaredError()
    error.add(x[:5], y[:5])
    error.add(x[5:], y[5:])
    expected = np.mean((x.astype(np.float64) - y) ** 2)
    assert error.mse == pytest.approx(expected, rel=1e-12)
    assert error.rmse == pytest.approx(np.sqrt(expected), rel=1e-12)
    assert error.n == 7


def test_rmse_is_not_the_mean_of_roots():
    error = SquaredError()
    x = np.zeros((1, 1, 2, 2))
    error.add(x, x)
    error.add(x, x + 1.0)
    assert error.rmse == pytest.approx(np.sqrt(0.5))


def test_black_for_white_is_the_largest_error():
    error = SquaredError()
    error.add(np.full((2, 1, 4, 4), 1.0), np.full((2, 1, 4, 4), -1.0))
    assert error.mse == 4.0


def test_reconstruction_refuses_other_ranges_and_shapes():
    error = SquaredError()
    ones = np.ones((1, 1, 2, 2))
    with pytest.raises(ValueError, match="found none"):
        _ = error.mse
    with pytest.raises(TypeError, match="floating-point originals"):
        error.add(ones.astype(np.uint8), ones)
    with pytest.raises(ValueError, match=r"reconstructions in \[-1, 1\], found 255"):
        error.add(ones, 255 * ones)
    with pytest.raises(ValueError, match="one shape"):
        error.add(ones, ones[:, :, :1])
    with pytest.raises(ValueError, match="finite reconstructions, found 4"):
        error.add(ones, np.nan * ones)


def test_mean_image_anchor_is_the_variance_around_the_mean(rng):
    images = rng.integers(0, 256, (2000, 1, 3, 3), dtype=np.uint8)
    scaled = images / 127.5 - 1.0
    assert mean_image_mse(images) == pytest.approx(scaled.var(axis=0).mean(), rel=1e-12)
    train = rng.integers(0, 50, (1500, 1, 3, 3), dtype=np.uint8)
    offset = np.mean((scaled - (train / 127.5 - 1.0).mean(axis=0)) ** 2)
    assert mean_image_mse(images, train) == pytest.approx(offset, rel=1e-12)


def test_random_pairs_anchor_is_twice_the_variance(rng):
    images = rng.integers(0, 256, (3000, 1, 6, 6), dtype=np.uint8)
    found = random_pairs_mse(images, seed=1)
    assert found == pytest.approx(2 * mean_image_mse(images), rel=0.02)
    assert found == random_pairs_mse(images, seed=1) != random_pairs_mse(images, seed=2)
    distinct = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    assert random_pairs_mse(distinct[:2], seed=0) == pytest.approx((1 / 127.5) ** 2)  # never paired with itself


# Out-of-distribution AUROC


def test_auroc_orientation():
    familiar, strange = np.arange(50.0), np.arange(100.0, 130.0)
    right, wrong = auroc(familiar, strange), auroc(strange, familiar)
    assert (right.value, right.ci_low, right.ci_high) == (1.0, 1.0, 1.0)
    assert wrong.value == 0.0
    assert (right.n_positive, right.n_negative) == (50, 30)
    assert auroc(familiar, familiar).value == 0.5


def test_auroc_equals_both_conventions(rng):
    familiar, strange = rng.normal(0, 1, 400), rng.normal(1, 2, 300)
    found = auroc(familiar, strange)
    ood_positive = roc_auc_score(np.repeat([0, 1], [400, 300]), np.concatenate([familiar, strange]))
    assert found.value == pytest.approx(ood_positive, abs=1e-12)
    pairs = (familiar[:, None] < strange).mean() + 0.5 * (familiar[:, None] == strange).mean()
    assert found.value == pytest.approx(pairs, abs=1e-12)


def test_auroc_interval_has_the_width_of_theory_and_repeats(rng):
    n = 2000
    familiar, strange = rng.normal(0, 1, n), rng.normal(1, 1, n)
    found = auroc(familiar, strange, seed=3)
    assert found == auroc(familiar, strange, seed=3)
    a = found.value  # Hanley & McNeil (1982)
    variance = (a * (1 - a) + (n - 1) * (a / (2 - a) - a * a) + (n - 1) * (2 * a * a / (1 + a) - a * a)) / n**2
    assert found.ci_low < a < found.ci_high
    assert found.ci_high - found.ci_low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.15)


def test_large_float32_offset_is_reported():
    energy = np.linspace(0, 1, 1000) + 1e8
    assert auroc(energy[:500], energy[500:]).warning == ""
    rounded = energy.astype(np.float32)
    assert "distinct scores among 1000" in auroc(rounded[:500], rounded[500:]).warning


@pytest.mark.parametrize("metric", [auroc, lambda a, b: auprc(np.concatenate([a, b]), np.repeat([0, 1], [4, 3]))])
def test_scores_that_are_not_finite_are_counted(metric):
    with pytest.raises(ValueError, match="1 NaN and 2 infinite"):
        metric(np.array([0.0, np.nan, np.inf, -np.inf]), np.zeros(3))


def test_empty_sets_are_refused():
    with pytest.raises(ValueError, match="out-of-distribution energies, found none"):
        auroc(np.zeros(3), np.zeros(0))
    with pytest.raises(ValueError, match="0 anomalies and 3 normal"):
        auprc(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="a label 0 or 1"):
        auprc(np.zeros(3), np.array([0, 1, 2]))


# Anomaly AUPRC


def test_auprc_orientation():
    labels = np.repeat([0, 1], [60, 40])
    energy = np.arange(100.0)
    assert auprc(energy, labels).value == 1.0
    worst = auprc(-energy, labels)
    assert worst.value == pytest.approx(worst.minimum, abs=1e-12)
    assert worst.chance == 0.4
    assert (worst.n_positive, worst.n_negative) == (40, 60)


def test_auprc_is_the_trapezoid_of_the_reference_codes(rng):
    labels = rng.integers(0, 2, 500)
    energy = labels + rng.normal(0, 1, 500)
    found = auprc(energy, labels)
    precision, recall, _ = precision_recall_curve(labels, energy)
    assert found.value == auc(recall, precision)
    assert found.value == pytest.approx(found.average_precision, abs=5e-3)
    assert found.ci_low < found.value < found.ci_high


def test_one_score_that_differs():
    """Constant but for one normal image ranked last: the trapezoid says .5, where chance is .01."""
    energy, labels = np.ones(100), np.repeat([1, 0], [1, 99])
    energy[-1] = 0.0
    found = auprc(energy, labels)
    assert found.value == pytest.approx(0.505, abs=1e-3)
    assert found.average_precision == pytest.approx(0.01, abs=2e-3)
    assert found.tied_low < 0.02
    assert found.tied_high == 1.0
    assert "only 2 distinct scores among 100 images: ties decide this value" in found.warning
    assert "a class of 1 images" in found.warning


def test_ties_that_change_nothing_are_not_warned_of(rng):
    """Few scores that separate the classes, and many of which two are equal."""
    assert auroc(np.zeros(50), np.ones(40)).warning == ""
    assert auprc(np.repeat([0.0, 1.0], 50), np.repeat([0, 1], 50)).warning == ""
    energy = rng.normal(size=500)
    energy[1] = energy[0]
    found = auprc(energy, rng.integers(0, 2, 500))
    assert (found.warning, found.tied_low <= found.value <= found.tied_high) == ("", True)


def test_a_constant_energy_is_warned_of():
    found = auroc(np.zeros(50), np.zeros(40))
    assert (found.value, found.tied_low, found.tied_high) == (0.5, 0.0, 1.0)
    assert "between 0.000 and 1.000" in found.warning
    assert "a class of 5 images" in auroc(np.arange(5.0), np.arange(50.0)).warning


def test_values_without_an_interval(rng):
    labels, energy = rng.integers(0, 2, 200), rng.normal(size=200)
    whole, fast = auprc(energy, labels), auprc(energy, labels, interval=False)
    assert (fast.value, fast.warning, fast.ci_low, fast.ci_high) == (whole.value, whole.warning, None, None)


def test_ties_flatter_the_trapezoid():
    labels = np.repeat([1, 0], [7877, 12425])  # digit 1 held out
    found = auprc(np.zeros(len(labels)), labels)
    assert found.value == pytest.approx(0.694, abs=5e-4)
    assert found.average_precision == pytest.approx(0.388, abs=5e-4)
    assert found.chance == pytest.approx(0.388, abs=5e-4)
    assert "only 1 distinct scores" in found.warning


@pytest.mark.parametrize(
    "digit, positive, negative, expected",
    [
        (1, 7877, 12425, 0.2255),
        (4, 6824, 12636, 0.2004),
        (5, 6313, 12738, 0.1878),
        (7, 7293, 12542, 0.2117),
        (9, 6958, 12609, 0.2037),
    ],
)
def test_minimum_auprc_of_the_holdout_digits(digit, positive, negative, expected):
    found = minimum_auprc(positive, negative)
    p = positive / (positive + negative)
    assert found == pytest.approx(expected, abs=5e-5)
    assert found == pytest.approx(1 + (1 - p) * np.log(1 - p) / p, abs=1e-5)


def test_counting_areas_equal_scikit_learn_with_ties(rng):
    labels = rng.integers(0, 2, 300)
    scores = rng.integers(0, 20, 300).astype(float)
    _, level = np.unique(-scores, return_inverse=True)
    counts = [np.bincount(level[labels == k], minlength=level.max() + 1) for k in (1, 0)]
    precision, recall, _ = precision_recall_curve(labels, scores)
    assert ranking._roc_area(*counts) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert ranking._precision_recall_area(*counts) == pytest.approx(auc(recall, precision), abs=1e-12)
