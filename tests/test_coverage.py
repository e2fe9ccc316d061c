"""The exploration of growth: numbers of a model that draws its training images, and of the command."""

from pathlib import Path

import pytest
import torch

from bench import coverage
from dtri.data import digits, saving


class Perfect:
    """Draws and infers so that the posterior is the prior and every image its own reconstruction."""

    z_dim, sides = 3 * 8 * 8, [4, 8]

    class now:
        level = 1

    def draw(self, z):
        return z.unflatten(1, (3, 8, 8))

    def encoder(self, x, level):
        return x.flatten(1), torch.full((len(x), self.z_dim), -30.0)


def test_a_perfect_model_has_no_distance():
    x = torch.randn(20_000, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    line = coverage.coverage(Perfect(), x)
    values = [float(word.strip(",")) for word in line.split() if word.strip(",").replace(".", "").isdigit()]
    side, prior, posterior, rmse, least, median, most = values
    assert (side, rmse) == (8, 0)
    assert max(prior, posterior) < 5  # of a variance of 192 in all: what comparing 4,000 leaves
    assert 0.5 < least < median < most < 1.6


def test_the_command(tmp_path: Path, capsys):
    saving.save(digits.prepare(tmp_path, (1, 32, 32), {}, 0), tmp_path / "digits", "digits")
    small = '{"z_dim": 4, "width": 0.05, "fade_kimg": 0.05, "stable_kimg": 0.1}'
    assert coverage.main([small, "--data", str(tmp_path / "digits"), "--at", "2", "4"]) == 0
    out = capsys.readouterr().out
    assert "iteration 2: side 4, Frechet prior" in out
    assert "iteration 4: side 8, Frechet prior" in out


def test_images_of_another_size_are_refused(tmp_path: Path):
    saving.save(digits.prepare(tmp_path, (1, 28, 28), {}, 0), tmp_path / "digits", "digits")
    with pytest.raises(ValueError, match="a side that 8 divides"):
        coverage.main(["{}", "--data", str(tmp_path / "digits")])
