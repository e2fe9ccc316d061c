"""What measuring commands write, recomputed from their inputs: reconstruction errors, accuracies, records."""

import copy
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from dtri import evaluation, experiment, trained
from dtri.data import saving, store
from dtri.experiment import TrainSpec
from dtri.metrics import classifier as domain
from dtri.report.records import Record
from dtri.weights import save_weights
from tests.toys import bright, noise_images
from workflow.commands import classifier, interpolate, reconstruct
from workflow.commands.measuring import Measurement

SHAPE = (1, 28, 28)
SUMMARY = {"status": "done", "preset": "p", "dataset": "noise", "model": "m", "seed": 3, "spec_hash": "s", "code": "t"}
SUMMARY |= {"data": {"noise": "d"}, "gpu_hours": 0.5, "seconds": 7.0, "device": "gpu"}


@pytest.fixture(autouse=True)
def _process_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTRI_DEVICE", "cpu")
    monkeypatch.setattr("dtri.numerics.set_numerics", lambda *_: None)  # changes the whole process


def prepared(folder: Path, labelled: bool = False, n_test: int = 45) -> store.Dataset:
    """Bright images to train on, images of noise to test on."""
    splits = {"train": bright(60), "test": noise_images(n_test, SHAPE, seed=1)}
    indices = {name: np.arange(len(images)) for name, images in splits.items()}
    draw = np.random.default_rng(0)
    labels = {name: draw.integers(0, 3, len(images)) for name, images in splits.items()} if labelled else {}
    saving.save(saving.Arrays(splits, indices, labels, 3 if labelled else None, "noise"), folder, "noise")
    return store.load(folder)


# Reconstruction


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Weights of a VAE, whose batch norm has averages that are not those of a batch."""
    spec = TrainSpec("noise", "m", "baselines.vae:VAE", SHAPE, {"width": 0.05, "z_dim": 5}, 3, 8, 4)
    torch.manual_seed(0)
    vae = experiment.build(spec.entry, SHAPE, spec.hparams).train()
    for t in range(3):
        vae.step(torch.from_numpy(bright(8)).float() / 127.5 - 1, t)
    save_weights(tmp_path / "model.safetensors", vae.state_dict(), spec)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("n_test, rows", [(16, 8), (15, 7), (9, 4), (2, 1), (1, 0)])
def test_lines_between_few_test_images(n_test: int, rows: int, model: Path, tmp_path: Path) -> None:
    """Both ends of a row are test images: as many rows as there are pairs."""
    test = prepared(tmp_path / "noise", n_test=n_test).images("test")
    out, prior = tmp_path / "out.npy", tmp_path / "prior.npy"
    given = ["--model", str(model), "--data", str(tmp_path / "noise"), "--out", str(out), "--prior", str(prior)]
    if not rows:
        with pytest.raises(ValueError, match="expected two test images or more for a line, found 1 "):
            interpolate.main(given)
        return
    assert interpolate.main(given) == 0
    frames = np.load(out)
    assert frames.shape == (rows, interpolate.COLUMNS, *SHAPE)
    assert np.load(prior).shape == (interpolate.ROWS, interpolate.COLUMNS, *SHAPE)
    assert np.array_equal(frames[:, 0], test[:rows])
    assert np.array_equal(frames[:, -1], test[rows : 2 * rows])


def test_reconstruction_errors_are_those_of_the_test_images(model: Path, tmp_path: Path) -> None:
    """Value, anchors and other rules of batch norm: means over all elements, of [-1, 1]."""
    dataset = prepared(tmp_path / "noise")
    (tmp_path / "train.json").write_text(json.dumps(SUMMARY))
    given = {"model": model, "train": tmp_path / "train.json", "data": tmp_path / "noise", "code": "c"}
    given |= {name: tmp_path / f"{name}.out" for name in ("rmse", "mse", "pairs")}
    assert reconstruct.main([text for name, value in given.items() for text in (f"--{name}", str(value))]) == 0

    test, train = (dataset.images(split).astype(np.float64) / 127.5 - 1 for split in ("test", "train"))
    errors, shown = {}, {}
    for rule in ("running", "standing", "batch"):
        vae, _ = trained.load(model, "cpu", rule)
        filled = np.concatenate([test, test, test])[:100] if rule == "batch" else test  # batches of 100
        with torch.no_grad():
            mu = vae.encoder(torch.from_numpy(filled).float())[0]
            made = vae.generator(mu)[: len(test)].numpy().astype(np.float64)
        errors[rule], shown[rule] = np.square(test - made).mean(), made
    assert len({round(error, 4) for error in errors.values()}) == 3
    mse, rmse = (Record.read(tmp_path / f"{name}.out") for name in ("mse", "rmse"))
    order = np.random.default_rng(reconstruct.derive("pairs", "noise")).permutation(45)
    levels = {
        "mean image": np.square(test - train.mean(0)).mean(),
        "random pairs": np.square(test[order] - test[np.roll(order, 1)]).mean(),
        "range [0, 1]": np.square((test - shown["running"]) / 2).mean(),
        "BN standing statistics": errors["standing"],
        "BN batch statistics": errors["batch"],
    }
    for record, power in ((mse, 1.0), (rmse, 0.5)):
        assert record.value == pytest.approx(errors["running"] ** power, rel=1e-5)
        found = {name: row["value"] for name, row in record.extra["variants"].items()}
        assert found == pytest.approx({name: level**power for name, level in levels.items()}, rel=1e-5)
        assert (record.n_samples, record.n_reference, record.metric) == (45, 45, "mse" if record is mse else "rmse")
        assert record.protocol.endswith("z = posterior mean; BN running averages")
    pairs = np.load(tmp_path / "pairs.out")
    assert np.array_equal(pairs[0], dataset.images("test"))
    assert np.abs(pairs[1] - np.round((shown["running"] + 1) * 127.5)).max() <= 1


# The domain classifier


def test_the_classifier_is_trained_on_one_split_and_judged_on_the_other(tmp_path: Path, monkeypatch) -> None:
    """Weights of a plain loop over fresh permutations, by AdamW and one cycle; accuracy of the test split."""
    monkeypatch.setattr(classifier, "EPOCHS", 3)
    monkeypatch.setattr(classifier, "BATCH", 25)
    dataset = prepared(tmp_path / "noise", labelled=True)
    out, summary = tmp_path / "weights.safetensors", tmp_path / "summary.json"
    given = ["--data", str(tmp_path / "noise"), "--code", "c", "--out", str(out), "--summary", str(summary)]
    assert classifier.main(given) == 0
    made, written = domain.load(out), json.loads(summary.read_text())

    images, labels = (torch.from_numpy(dataset.images("train").copy()), torch.as_tensor(dataset.labels("train")))
    seed, steps = classifier.derive("domain", "noise"), math.ceil(3 * 60 / 25)
    torch.manual_seed(domain.derive("classifier", "initialisation", seed))
    network = domain.Classifier(SHAPE, 3).to(memory_format=torch.channels_last).train()
    first = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(domain.derive("classifier", "batches", seed))
    stream = torch.cat([torch.randperm(60, generator=generator) for _ in range(4)])
    for batch in stream[: 25 * steps].split(25):
        optimizer.zero_grad()
        cross_entropy(network(images[batch])[1], labels[batch]).backward()
        optimizer.step()
        cycle.step()
    for name, tensor in network.state_dict().items():
        assert torch.allclose(made.state_dict()[name].float(), tensor.float(), rtol=1e-3, atol=1e-4), name
        assert "num" in name or not torch.equal(tensor, first[name])

    def accuracy(split: str) -> float:
        with torch.no_grad():
            logits = made(torch.from_numpy(dataset.images(split).copy()))[1].numpy()
        return float((logits.argmax(1) == dataset.labels(split)).mean())

    assert accuracy("test") != accuracy("train")
    assert written["test_accuracy"] == accuracy("test")
    assert (written["n_train"], written["n_test"], written["steps"]) == (60, 45, steps)
    assert written["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert written["data"] == dataset.content


# Records


def measurement(folder: Path, **changes) -> Measurement:
    (folder / "train.json").write_text(json.dumps({**SUMMARY, **changes}))
    return Measurement(folder / "train.json", "mine", {"other": "e"}, "cpu", "numpy")


def test_a_record_says_whose_value_it_is(tmp_path: Path) -> None:
    job = measurement(tmp_path)
    job.record(
        tmp_path / "r.json", "fid", 2.5, n_samples=7, n_reference=9, protocol="by hand", extractor="x", extra={"a": 1}
    )
    record = Record.read(tmp_path / "r.json")
    identity = (record.preset, record.dataset, record.model, record.seed, record.metric, record.spec)
    assert identity == ("p", "noise", "m", 3, "fid", "s")
    assert (record.value, record.status, record.n_samples, record.n_reference) == (2.5, "done", 7, 9)
    assert (record.protocol, record.extractor, record.extra) == ("by hand", "x", {"a": 1})
    assert (record.code, record.train_code, record.data) == ("mine", "t", {"noise": "d", "other": "e"})
    assert (record.device, record.train_device) == ("cpu", "gpu")
    assert (record.gpu_hours, record.train_seconds) == (0.5, 7.0)


def test_a_diverged_run_has_no_value_whatever_is_measured(tmp_path: Path) -> None:
    """Of the training, or of what was to be measured; the reason stands beside."""
    sizes = {"n_samples": 1, "n_reference": 1, "protocol": ""}
    job = measurement(tmp_path, status="diverged")
    job.record(tmp_path / "r.json", "fid", 2.5, extra={"a": 1}, **sizes)
    record = Record.read(tmp_path / "r.json")
    assert (record.value, record.status, record.extra) == (None, "diverged", {})
    job = measurement(tmp_path)
    job.diverge("all is black")
    job.diverge("later")
    job.record(tmp_path / "r.json", "fid", 2.5, extra={"a": 1}, **sizes)
    record = Record.read(tmp_path / "r.json")
    assert (record.value, record.status) == (None, "diverged")
    assert record.extra == {"a": 1, "diverged": "all is black"}
    with pytest.raises(ValueError, match=r"expected a finite fid for .*r\.json, found nan"):
        measurement(tmp_path).record(tmp_path / "r.json", "fid", math.nan, **sizes)


def test_batches_of_an_evaluation_are_what_the_protocols_say() -> None:
    assert evaluation.BATCH == 100
    assert reconstruct.BATCH_NORM["batch"][0] == "BN statistics of each batch of 100"
