"""The study of noise on generated images: its corruptions, its measure of power, its statistics and its command."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import noise
from tests.toys import noise_images

SHAPE = (3, noise.SIDE, noise.SIDE)


@pytest.mark.parametrize("name", noise.CORRUPTIONS)
def test_a_corruption_changes_every_image_in_the_same_way_at_every_call(name):
    x = noise_images(6, SHAPE)
    first, again = (noise.CORRUPTIONS[name](x, np.random.default_rng(0)) for _ in range(2))
    assert (first.shape, first.dtype) == (x.shape, np.uint8)
    assert np.array_equal(first, again)
    assert (first != x).any((1, 2, 3)).all()


@pytest.mark.parametrize("name, side", [("pixels", 1), ("patches", 7)])
def test_shuffled_images_keep_their_parts(name, side):
    x = noise_images(4, SHAPE)
    mixed = noise.CORRUPTIONS[name](x, np.random.default_rng(0))

    def parts(image: np.ndarray) -> list[bytes]:
        places = range(0, noise.SIDE, side)
        return sorted(image[:, i : i + side, j : j + side].tobytes() for i in places for j in places)

    assert [parts(image) for image in mixed] == [parts(image) for image in x]


def test_blur_and_contrast():
    flat = np.full((2, *SHAPE), 90, np.uint8)
    rng = np.random.default_rng(0)
    assert np.array_equal(noise.blur(flat, rng), flat)
    assert np.array_equal(noise.contrast(flat, rng), flat)
    x = noise_images(8, SHAPE)
    assert noise.contrast(x, rng).std() == pytest.approx(x.std() / 2, rel=0.01)
    assert noise.blur(x, rng)[..., 1:-1, 1:-1].std() == pytest.approx(x.std() / 3, rel=0.05)  # means of nine


def test_power_of_known_images():
    assert noise.high_frequency_power(np.ones((2, *SHAPE))) == pytest.approx(0)
    white = 0.3 * np.random.default_rng(0).standard_normal((200, *SHAPE))
    assert noise.high_frequency_power(white) == pytest.approx(0.09 * noise.high_frequency_share(noise.SIDE), rel=0.01)
    slow, fast = (np.cos(2 * np.pi * k / noise.SIDE * np.arange(noise.SIDE)) * np.ones((1, *SHAPE)) for k in (4, 12))
    assert noise.high_frequency_power(slow) == pytest.approx(0)
    assert noise.high_frequency_power(slow + fast) == pytest.approx(0.5)  # the variance of a cosine


def rows(score: dict[tuple[float, int], float]) -> pd.DataFrame:
    """Two checkpoints of runs by (noise, seed): the first, before half of the time, at .5, the second as given."""
    names = [f"auroc_{name}" for name in (*noise.CORRUPTIONS, *noise.REPORTED)]
    return pd.DataFrame(
        {"width": 0.0625, "noise": sigma, "lr_critic": 1e-4, "seed": seed, "t": t}
        | dict.fromkeys(names, value if t == noise.STEPS else 0.5)
        | {"rmse": 0.3, "use_of_z": 0.1, "at_bound": 0.2, "power_samples": 0.01, "power_data": 0.02}
        for (sigma, seed), value in score.items()
        for t in (noise.STEPS // 2, noise.STEPS)
    )


def test_differences_are_paired_by_seed(tmp_path):
    """Runs that differ by .1, .2 and .3 from the default of their seed: .2, and 4.303 * .1 / sqrt(3) about it."""
    score = {(0.0, 0): 0.2, (0.0, 1): 0.4, (0.0, 2): 0.6, (0.1, 2): 0.7, (0.1, 1): 0.6, (0.1, 0): 0.5}
    table = noise.summarised(noise.tidied(rows(score))).set_index("noise")
    assert table.loc["0.1", "difference"] == "+0.200 [-0.048, +0.448]"
    assert table.loc["0.1", "score"] == "0.600 ± 0.100"
    power = 0.5 + 0.01 * noise.high_frequency_share(noise.SIDE) / 0.02
    assert table.loc["0.1", "power"] == f"{power:.3f} ± 0.000"
    assert set(noise.by_corruption(noise.tidied(rows(score))).set_index("noise").loc["0.1", "blur":]) == {
        "0.600 ± 0.100"
    }
    rows(score).to_csv(tmp_path / "study.csv", index=False)
    noise.report(tmp_path / "study.csv")
    assert "| 1/16" in (tmp_path / "study.md").read_text()
    assert (tmp_path / "study.png").stat().st_size < 500_000


def test_the_command_measures_what_is_not_yet_there(tmp_path: Path, monkeypatch):
    for name in ("cifar10_jpeg", *noise.REPORTED.values()):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "train.npy", noise_images(60, (3, 32, 32)))
        np.save(tmp_path / name / "test.npy", noise_images(20, (3, 32, 32), 1))
    for name, value in {"BATCH": 4, "STEPS": 2, "EVERY": 1, "COMPARED": 10}.items():
        monkeypatch.setattr(noise, name, value)
    call = ["--data", str(tmp_path), "--to", str(tmp_path / "study"), "--seeds", "0", "--noise", "0", "0.1"]
    assert noise.main(call) == 0
    before = (tmp_path / "study/study.csv").read_text()
    table = pd.read_csv(tmp_path / "study/study.csv")
    assert list(table.noise) == [0, 0, 0.1, 0.1]
    assert np.isfinite(table).all(axis=None)
    monkeypatch.setattr(noise, "train", lambda *run: pytest.fail(f"measured again: {run[:-1]}"))
    assert noise.main(call) == 0
    assert (tmp_path / "study/study.csv").read_text() == before
