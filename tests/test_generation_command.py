"""The command that measures samples: where it computes, what it says of samples that are missing or too few."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from dtri import device
from dtri.data import saving
from dtri.metrics import classifier, features
from dtri.report.records import Record
from tests.toys import noise_images
from workflow.commands import generation

SHAPE = (1, 28, 28)
WAYS = [
    {"n_samples": 40, "reference": "train", "n_reference": 50},
    {"n_samples": 40, "reference": "test", "n_reference": None},
]
SUMMARY = {"status": "done", "preset": "p", "dataset": "noise", "model": "m", "seed": 0, "spec_hash": "s", "code": "t"}
SUMMARY |= {"data": {"noise": "d"}, "gpu_hours": None, "seconds": 1.0, "device": "cpu"}


@pytest.fixture(autouse=True)
def _process_unchanged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DTRI_DEVICE", raising=False)
    monkeypatch.setattr("dtri.device.set_numerics", lambda *_: None)  # changes the whole process


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, an untrained feature network, samples of both kinds, a training summary."""
    folder = tmp_path_factory.mktemp("room")
    splits = {"train": noise_images(60, SHAPE), "test": noise_images(50, SHAPE, seed=1)}
    indices = {name: np.arange(len(images)) for name, images in splits.items()}
    saving.save(saving.Arrays(splits, indices, {}, None, "noise"), folder / "noise", "noise")
    torch.manual_seed(0)
    classifier.save(classifier.Classifier(SHAPE, 10), folder / "classifier.safetensors", {})
    np.save(folder / "samples.npy", noise_images(40, SHAPE, seed=2))
    np.savez(folder / "variants.npz", batch=noise_images(40, SHAPE, seed=3))
    (folder / "train.json").write_text(json.dumps(SUMMARY))
    return folder


def measured(
    room: Path, out: Path, *options: str, samples: str = "samples", variants: str = "variants"
) -> dict[str, Record]:
    paths = {"samples": f"{samples}.npy", "variants": f"{variants}.npz", "train": "train.json", "data": "noise"}
    paths |= {"weights": "classifier.safetensors"}
    given = [text for name, path in paths.items() for text in (f"--{name}", str(room / path))]
    spec = json.dumps({"comparisons": WAYS, "sampler": {"steps": 3}})
    more = ["--spec", spec, "--code", "c", "--extractor", "domain", "--cache", str(out / "cache"), "--out", str(out)]
    assert generation.main([*given, *more, *options]) == 0
    return {name: Record.read(out / f"{name}_domain.json") for name in ("fid", "is", "kid", "prc")}


def test_records(room: Path, tmp_path: Path) -> None:
    found = measured(room, tmp_path, "--device", "cpu")
    assert {record.status for record in found.values()} == {"done"}
    assert {record.device for record in found.values()} == {device.describe_device(torch.device("cpu"))}
    assert len(found["fid"].extra["variants"]) == 2
    assert "40 images for a covariance of 64 dimensions" in found["fid"].extra["warning"]
    assert found["is"].extra["variants"]["one split"]["warning"] == found["is"].extra["warning"]
    assert found["is"].extra["warning"] == "only 4 images in a split, for 10 outputs"


def test_it_computes_on_the_device_that_it_holds(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with GPUs that are all taken, too: `--device` decides, and the record says what was used."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    used, held = set(), []
    extract = features.Extractor.features
    monkeypatch.setattr(
        features.Extractor, "features", lambda self, *given: used.add((self.device, len(held))) or extract(self, *given)
    )

    @contextmanager
    def slot(wanted: torch.device):
        held.append(wanted.type)
        yield torch.device("cpu")
        held.pop()

    monkeypatch.setattr(device, "hold_gpu", slot)
    for name, kind in (("cpu", "cpu"), ("gpu", "cuda"), ("auto", "cuda")):
        asked = []
        monkeypatch.setattr(device, "hold_gpu", lambda wanted, asked=asked: asked.append(wanted.type) or slot(wanted))
        measured(room, tmp_path / name, "--device", name)
        assert asked == [kind]
    assert used == {(torch.device("cpu"), 1)}


def test_samples_that_are_not_finite_are_a_diverged_run(room: Path, tmp_path: Path) -> None:
    np.save(room / "fewer.npy", noise_images(37, SHAPE))
    for record in measured(room, tmp_path, samples="fewer").values():
        assert (record.value, record.status) == (None, "diverged")
        assert record.extra["diverged"] == "3 of 40 samples are not finite"
        assert record.extra["comparisons"] == WAYS
        assert record.extra["sampler"] == {"steps": 3}


@pytest.mark.parametrize("n", [0, 39])
def test_too_few_samples_of_the_other_kind_cost_their_row_alone(n: int, room: Path, tmp_path: Path) -> None:
    np.savez(room / "other.npz", batch=noise_images(n, SHAPE))
    found = measured(room, tmp_path, variants="other")
    for record in found.values():
        other = record.extra["variants"]["BN batch statistics"]
        assert record.status == "done"
        assert (other["value"], other["diverged"]) == (None, f"{40 - n} of 40 samples are not finite")
    assert len(found["fid"].extra["variants"]) == 2
