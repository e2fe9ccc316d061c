"""The study of extractors on damaged images: what its ladders do, what its rule selects, and the command."""

import numpy as np
import pandas as pd
import pytest

from bench import extractors
from dtri.data import saving, store
from dtri.metrics import imagenet_lite
from tests.toys import noise_images


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory):
    """Two sets of smooth images with labels, as the study names them."""
    folder = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("mnist", "cifar10_jpeg")):
        shape = (1, 28, 28) if name == "mnist" else (3, 32, 32)
        images = extractors.each(noise_images(240, shape, seed), lambda image: extractors.blur(1, image))
        splits = {"train": images, "test": images[:20]}
        indices = {split: np.arange(len(part)) for split, part in splits.items()}
        labels = {split: np.arange(len(part)) % 10 for split, part in splits.items()}
        saving.save(saving.Arrays(splits, indices, labels, 10, name), folder / name, name)
    return folder


@pytest.fixture(scope="module")
def sets(data):
    return extractors.damaged(store.load(data / "mnist"), store.load(data / "cifar10_jpeg"), 60, 0)


def test_every_step_is_there_and_farther_from_the_clean_images(sets):
    assert set(sets) == {"reference", *extractors.STEPS}
    assert {(images.shape, images.dtype.name) for images in sets.values()} == {((60, 1, 28, 28), "uint8")}
    for ladder in ("noise", "blur", "JPEG", "foreign", "warp", "parts"):
        moved = [np.abs(sets[step].astype(int) - sets["clean"]).mean() for step in extractors.LADDERS[ladder]]
        assert 0 < moved[0] < moved[1] < moved[2], ladder


def test_reference_and_clean_images_share_none(sets):
    both = np.concatenate([sets["reference"], sets["clean"]])
    assert len(np.unique(both.reshape(len(both), -1), axis=0)) == 120


def test_classes_are_left_out_and_the_reference_too(data):
    dataset = store.load(data / "mnist")
    found = extractors.damaged(dataset, store.load(data / "cifar10_jpeg"), 60, 1)
    label_of = dict(zip([image.tobytes() for image in dataset.images("train")], dataset.labels("train").tolist()))
    for step, n in zip(extractors.LADDERS["classes"], (9, 7, 4)):
        assert len({label_of[image.tobytes()] for image in found[step]}) == n
        assert not {image.tobytes() for image in found[step]} & {image.tobytes() for image in found["reference"]}


def test_too_few_images_are_refused(data):
    with pytest.raises(ValueError, match="at least 400 training images of mnist, found 240"):
        extractors.damaged(store.load(data / "mnist"), store.load(data / "cifar10_jpeg"), 200, 0)


def test_a_warp_of_nothing_moves_nothing_and_a_shift_is_a_shift():
    images = noise_images(2, (3, 32, 32), 0)
    field = np.zeros((2, 2, extractors.GRID, extractors.GRID), np.float32)
    assert (extractors.warped(images, field) == images).all()
    field[:, 0] = 2 / 32  # of half a side: one pixel
    assert (extractors.warped(images, field)[..., :-1] == images[..., 1:]).all()


def planted(distances: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Rows of one split: layers of imagenet_lite by the distances of their steps."""
    key = {"dataset": "mnist", "n": 60, "split": 0, "network": "imagenet_lite", "d": 2, "seconds_per_1000": 1.0}
    return pd.DataFrame(
        [key | {"layer": k, "step": s, "distance": v} for k, steps in distances.items() for s, v in steps.items()]
    )


def test_the_rule_takes_the_most_sensitive_of_those_in_order():
    """block4 is more sensitive than block10, and block2 more so but out of order at one step."""
    rising = {step: 2.0 + k for k, step in enumerate(extractors.STEPS[1:])}
    table = {"block10": {"clean": 1.0} | rising, "block4": {"clean": 0.5} | rising, "block2": {"clean": 0.1} | rising}
    table["block2"]["blur .6"] = 0.2
    page = extractors.page(planted(table))
    assert page.endswith("By the rule: block4.\n")
    assert "| imagenet_lite, block2 | 2 | 0.1 |" in page
    (line,) = (line for line in page.splitlines() if line.startswith("| imagenet_lite, block2"))
    assert "| blur |" in line


def test_command(data, tmp_path, monkeypatch):
    """A second run measures nothing again; every network has a row per layer and step."""
    if why := imagenet_lite.problem():
        pytest.skip(why)
    monkeypatch.setattr(extractors, "LAYERS", {"block0": 16, "block10": 112})
    monkeypatch.setattr(extractors, "PIXELS", 4)
    given = ["--data", str(data), "--to", str(tmp_path), "--datasets", "mnist", "--images", "30", "--splits", "1"]
    assert extractors.main([*given, "--classifier-steps", "2"]) == 0
    table = (tmp_path / "extractors.csv").read_text()
    rows = pd.read_csv(tmp_path / "extractors.csv")
    assert set(rows["network"]) == {"imagenet_lite", "random weights", "pixels", "domain"}
    assert len(rows) == (len(extractors.LAYERS) + 3) * len(extractors.STEPS)
    assert (rows["distance"] > 0).all()
    assert extractors.main([*given, "--classifier-steps", "2"]) == 0
    assert (tmp_path / "extractors.csv").read_text() == table
    assert "## mnist, 30 images against 30" in (tmp_path / "extractors.md").read_text()
