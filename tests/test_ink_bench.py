"""bench.ink: images are ranked by the sum of their pixels, and a score that is this sum is told."""

import re
from pathlib import Path

import numpy as np
import pytest

from bench import ink
from dtri.data import saving

N = 400


def test_ink_is_the_sum_of_all_pixels() -> None:
    images = np.zeros((3, 2, 2, 2), np.uint8)
    images[1], images[2, 0, 0, 1] = 255, 7
    assert ink.ink(images).tolist() == [0.0, 8 * 255.0, 7.0]


def test_a_score_that_is_ink_is_told_from_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Anomalies are dark: their sum ranks them last, so its AUPRC is the lowest there is, and its reverse's is 1."""
    draw, labels = np.random.default_rng(0), np.arange(N) % 2
    images = draw.integers(0, 256, (N, 1, 4, 4)).astype(np.uint8)
    images[labels == 1] //= 8
    splits, index = dict.fromkeys(("train", "test"), images), dict.fromkeys(("train", "test"), np.arange(N))
    saving.save(saving.Arrays(splits, index, {"test": labels}, None, "noise"), tmp_path / "set", "set")
    for seed, scores in enumerate((3 * ink.ink(images) + 1, -ink.ink(images), draw.normal(size=N))):
        folder = tmp_path / "runs" / "set" / "toy" / f"seed{seed}" / "scores"
        folder.mkdir(parents=True)
        np.savez(folder / "set__test.npz", energy=scores)
    argv = ["--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--model", "toy", "--sets", "set"]
    assert ink.main(argv) == 0
    first, *runs = capsys.readouterr().out.splitlines()
    level, reverse, chance = (float(text) for text in re.findall(r"0\.\d{3}|1\.000", first))
    assert (reverse, chance) == (1.0, 0.5)
    assert level < 0.35
    found = [re.search(r"toy seed(\d): (\S+), correlation (\S+)", line).groups() for line in runs]
    assert [(seed, float(area)) for seed, area, _ in found[:2]] == [("0", level), ("1", 1.0)]
    assert [float(correlation) for *_, correlation in found[:2]] == [1.0, -1.0]
    assert abs(float(found[2][2])) < 0.15
