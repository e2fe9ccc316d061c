"""The command that measures samples: where it computes, what it says of samples that are missing or too few."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from dtri import device, numerics
from dtri.data import saving, store
from dtri.metrics import classifier, features, imagenet_lite
from dtri.report.records import Record
from tests.toys import bright, noise_images
from workflow.commands import generation

SHAPE = (1, 28, 28)
COMPARISONS = [
    {"n_samples": 40, "reference": "train", "n_reference": 50},
    {"n_samples": 40, "reference": "test", "n_reference": None},
]
SUMMARY = {"status": "done", "preset": "p", "dataset": "noise", "model": "m", "seed": 0, "spec_hash": "s", "code": "t"}
SUMMARY |= {"data": {"noise": "d"}, "gpu_hours": None, "seconds": 1.0, "device": "cpu"}


@pytest.fixture(autouse=True)
def _process_unchanged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DTRI_DEVICE", raising=False)
    monkeypatch.setattr("dtri.numerics.set_numerics", lambda *_: None)  # changes the whole process


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a feature network that is untrained and sure of itself, samples of both kinds, a training summary."""
    folder = tmp_path_factory.mktemp("room")
    splits = {"train": noise_images(60, SHAPE), "test": noise_images(50, SHAPE, seed=1)}
    indices = {name: np.arange(len(images)) for name, images in splits.items()}
    saving.save(saving.Arrays(splits, indices, {}, None, "noise"), folder / "noise", "noise")
    torch.manual_seed(0)
    network = classifier.Classifier(SHAPE, 10)
    network.last.weight.data.mul_(300)  # so that Inception Scores differ
    classifier.save(network, folder / "classifier.safetensors", {})
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
    spec = json.dumps({"comparisons": COMPARISONS, "sampler": {"steps": 3}})
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


def test_records_of_the_lite_network_say_what_made_them(room: Path, tmp_path: Path) -> None:
    """Weights from their package, no file of weights asked for; other records are where they were."""
    if why := imagenet_lite.problem():
        pytest.skip(why)
    measured(room, tmp_path)
    paths = {"samples": "samples.npy", "variants": "variants.npz", "train": "train.json", "data": "noise"}
    given = [text for name, path in paths.items() for text in (f"--{name}", str(room / path))]
    given += ["--spec", json.dumps({"comparisons": COMPARISONS, "sampler": {}}), "--code", "c", "--out", str(tmp_path)]
    assert generation.main([*given, "--extractor", "imagenet_lite", "--cache", str(tmp_path / "cache")]) == 0
    found = Record.read(tmp_path / "fid_imagenet_lite.json")
    assert (found.metric, found.extractor) == ("fid", f"imagenet_lite:{imagenet_lite.HASH[:12]}")
    assert found.extra["extractor_sha256"] == imagenet_lite.HASH
    assert {name: found.versions[name] for name in imagenet_lite.PACKAGES} == dict.fromkeys(
        imagenet_lite.PACKAGES, "0.1.0"
    )
    assert "Frechet distance of 112-d features" in found.protocol
    assert len(list(tmp_path.glob("*_imagenet_lite.json"))) == len(list(tmp_path.glob("*_domain.json"))) == 4
    assert Record.read(tmp_path / "fid_domain.json").value != found.value
    assert not set(imagenet_lite.PACKAGES) & set(Record.read(tmp_path / "fid_domain.json").versions)


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

    monkeypatch.setattr(numerics, "hold_gpu", slot)
    for name, kind in (("cpu", "cpu"), ("gpu", "cuda"), ("auto", "cuda")):
        asked = []
        monkeypatch.setattr(numerics, "hold_gpu", lambda wanted, asked=asked: asked.append(wanted.type) or slot(wanted))
        measured(room, tmp_path / name, "--device", name)
        assert asked == [kind]
    assert used == {(torch.device("cpu"), 1)}


def test_samples_that_are_not_finite_are_a_diverged_run(room: Path, tmp_path: Path) -> None:
    np.save(room / "fewer.npy", noise_images(37, SHAPE))
    for record in measured(room, tmp_path, samples="fewer").values():
        assert (record.value, record.status) == (None, "diverged")
        assert record.extra["diverged"] == "3 of 40 samples are not finite"
        assert record.extra["comparisons"] == COMPARISONS
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


# Values, recomputed from the files


def outputs(room: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits [n, *] of uint8 images, in float64."""
    network = classifier.load(room / "classifier.safetensors")
    with torch.no_grad():
        features, logits = network(torch.from_numpy(images.copy()))
    return features.double().numpy(), logits.double().numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    covariances = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).real.sum()
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root


def inception(logits: np.ndarray) -> float:
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.exp((p * np.log(p / p.mean(0))).sum(1).mean())


def squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased, of one pair of sets of equal size."""
    n = len(a)
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3  # noqa: E731
    off = ~np.eye(n, dtype=bool)
    return kernel(a, a)[off].mean() + kernel(b, b)[off].mean() - 2 * kernel(a, b).mean()


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Over 100 subsets of half of the smaller set, as torch-fidelity draws them."""
    draw, size = np.random.RandomState(2020), min(len(a), len(b)) // 2
    return np.mean([squared_mmd(*(x[draw.choice(len(x), size, replace=False)] for x in (a, b))) for _ in range(100)])


def covered(points: np.ndarray, manifold: np.ndarray) -> float:
    """Share of points within the distance of some manifold point to its third neighbour."""
    between = lambda x, y: np.linalg.norm(x[:, None] - y, axis=2)  # noqa: E731
    radii = np.sort(between(manifold, manifold), axis=1)[:, 3]
    return (between(points, manifold) <= radii).any(1).mean()


@pytest.fixture(scope="module")
def uneven(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of which no two are alike: bright training images, dark test images, samples of both kinds between."""
    folder = tmp_path_factory.mktemp("uneven")
    splits = {"train": bright(60), "test": 255 - bright(45)}
    indices = {name: np.arange(len(images)) for name, images in splits.items()}
    saving.save(saving.Arrays(splits, indices, {}, None, "noise"), folder / "noise", "noise")
    for name in ("classifier.safetensors", "train.json"):
        shutil.copy(room / name, folder / name)
    np.save(folder / "samples.npy", noise_images(40, SHAPE, seed=2))
    np.savez(folder / "variants.npz", batch=noise_images(40, SHAPE, seed=3) // 2, running=noise_images(40, SHAPE) // 4)
    return folder


def test_values_are_those_of_the_samples_and_the_references_named(uneven: Path, tmp_path: Path) -> None:
    """Every metric by its definition: the tables' samples against both references, the others against the first."""
    found = measured(uneven, tmp_path)
    dataset, variants = store.load(uneven / "noise"), dict(np.load(uneven / "variants.npz"))
    train, test = (outputs(uneven, images)[0] for images in (dataset.images("train")[:50], dataset.images("test")))
    of = {rule: outputs(uneven, samples) for rule, samples in variants.items()}
    features, logits = outputs(uneven, np.load(uneven / "samples.npy"))

    expected = {"fid": frechet, "kid": kernel_distance, "prc": covered}
    for name, distance in expected.items():
        record = found[name]
        assert record.value == pytest.approx(distance(features, train), rel=1e-4, abs=1e-6), name
        assert (record.n_samples, record.n_reference) == (40, 50)
        assert "(train images of noise); BN standing statistics" in record.protocol
        values = {label: row["value"] for label, row in record.extra["variants"].items()}
        assert values == pytest.approx(
            {
                "40 samples against 45 test images": distance(features, test),
                "BN batch statistics": distance(of["batch"][0], train),
                "BN running averages": distance(of["running"][0], train),
            },
            rel=1e-4,
            abs=1e-6,
        ), name
        assert "(test images of noise)" in record.extra["variants"]["40 samples against 45 test images"]["protocol"]
    assert found["prc"].extra["recall"] == pytest.approx(covered(train, features))
    noise = outputs(uneven, np.random.default_rng(2020).integers(0, 256, (40, *SHAPE), dtype=np.uint8))[0]
    assert found["fid"].extra["noise"] == pytest.approx(frechet(noise, train), rel=1e-4)

    shuffled = logits[np.random.RandomState(2020).permutation(40)]
    assert found["is"].value == pytest.approx(np.mean([inception(part) for part in np.split(shuffled, 10)]), rel=1e-5)
    one_split = {label: row["value"] for label, row in found["is"].extra["variants"].items() if "one split" in label}
    assert one_split == pytest.approx(
        {
            "one split": inception(logits),
            "BN batch statistics, one split": inception(of["batch"][1]),
            "BN running averages, one split": inception(of["running"][1]),
        },
        rel=1e-5,
    )
