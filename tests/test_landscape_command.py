"""The command that maps a trained model: labels of starts, what it writes, kills, and purity against chance."""

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from dtri import checkpoint, evaluation, experiment, images
from dtri.data import saving, store
from dtri.experiment import TrainSpec
from dtri.finite import NonFinite
from dtri.landscape import mapping
from dtri.landscape.settings import Settings
from dtri.landscape.tree import is_ultrametric
from dtri.metrics import classifier
from dtri.metrics.purity import purity
from dtri.report.records import Record
from dtri.seeding import derive
from dtri.trained import load_model, load_weights
from dtri.weights import save_weights
from workflow.commands import landscape
from workflow.commands.measuring import Measurement

SHAPE = (1, 28, 28)
SETTINGS = Settings(
    from_samples=4,
    from_images=3,
    from_reconstructions=3,
    gradient_samples=4,
    smallest_radius=0.02,
    descent_tolerance=0.03,
    descent_steps=25,
    descents=2,
    check_rounds=3,
    check_points=4,
    same_energy=0.05,
    walk_steps=15,
    patience=10,
    trials=1,
    calibration_pairs=3,
    min_members=1,
    alpha_factors=(1.0,),
    thresholds=(0.4,),  # the threshold of the map itself
    alpha_factor=0.5,
    alpha_max_increases=1,
    alpha_max_decreases=2,
)


def prepare(patched: pytest.MonkeyPatch) -> None:
    patched.setenv("DTRI_DEVICE", "cpu")
    patched.setattr("dtri.numerics.set_numerics", lambda *_: None)  # changes the whole process
    patched.setattr(mapping, "STRAY_STEPS", 20)  # else a third of the time of each map


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)


def spots(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes: bright above or bright below, with noise."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, n)
    drawn = draw.integers(0, 60, (n, *SHAPE)).astype(np.uint8)
    for image, label in zip(drawn, labels):
        image[:, 14 * label : 14 * label + 14] += 150
    return drawn, labels


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose images differ by their latents, two classes of images, and a classifier of them."""
    folder = tmp_path_factory.mktemp("room")
    spec = TrainSpec(
        "spots",
        "triangle",
        "dtri.models.divergence_triangle:DivergenceTriangle",
        SHAPE,
        {"width": 0.05, "z_dim": 3},
        1,
        8,
        4,
    )
    torch.manual_seed(0)
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams)
    with torch.no_grad():
        for p in [*model.generator.parameters(), *model.energy_net.parameters(), *model.encoder.parameters()]:
            p.mul_(8)
    save_weights(folder / "model.safetensors", model.state_dict(), spec)
    (train, labels), (test, test_labels) = spots(30, 0), spots(20, 1)
    arrays = saving.Arrays(
        {"train": train, "test": test},
        {"train": np.arange(30), "test": np.arange(20)},
        {"train": labels, "test": test_labels},
        2,
        "spots",
    )
    saving.save(arrays, folder / "spots", "spots")
    labeller = classifier.train_classifier(train, labels, 2, 0, steps=10, batch_size=10)
    classifier.save(labeller, folder / "classifier.safetensors", {})
    summary = {
        "preset": "demo",
        "dataset": "spots",
        "model": "triangle",
        "seed": 4,
        "status": "done",
        "gpu_hours": None,
        "seconds": 1.0,
        "device": "cpu",
        "spec_hash": spec.hash,
        "code": "c",
        "data": {},
    }
    (folder / "train.json").write_text(json.dumps(summary))
    return folder


def arguments(room: Path, out: Path, settings: Settings = SETTINGS) -> list[str]:
    paths = {
        "model": "model.safetensors",
        "train": "train.json",
        "data": "spots",
        "classifier": "classifier.safetensors",
    }
    made = {"state": "state.pt", "out": "landscape.npz", "sensitivity": "landscape.csv", "record": "purity.json"}
    options = {name: room / file for name, file in paths.items()} | {name: out / file for name, file in made.items()}
    options |= {"spec": json.dumps(asdict(settings)), "code": "code"}
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def made(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patched:
        prepare(patched)
        assert landscape.main(arguments(room, folder)) == 0
    return folder


def test_what_it_writes(made: Path) -> None:
    with np.load(made / "landscape.npz") as arrays:
        data = dict(arrays)
    counts = json.loads(str(data["found"]))
    assert counts["starts"] == 10
    assert data["members"].sum() + counts["minima_not_drawn"] == counts["minima"] == len(data["labels"])
    assert data["starts"].sum() + counts["not_converged"] == 10  # every basin is kept here
    assert data["images"].shape[1:] == (landscape.SHOWN, *SHAPE)
    lowest = data["energies"][:, 0]
    assert np.all(data["heights"] >= np.maximum.outer(lowest, lowest))
    assert is_ultrametric(data["heights"])
    with open(made / "landscape.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert int(row["basins"]) == counts["basins"]
    record = Record.read(made / "purity.json")
    assert (record.metric, record.n_samples, record.n_reference) == (
        "landscape_purity",
        data["starts"].sum(),
        len(data["members"]),
    )
    assert record.value == record.extra["purity"]["value"]
    assert record.extra["settings"]["noise"] == SETTINGS.noise


def test_the_unit_is_the_spread_of_test_images(room: Path, made: Path) -> None:
    model, _ = load_model(room / "model.safetensors")
    dataset = store.load(room / "spots")
    with torch.no_grad():
        values, others = (
            model.energy(images.to_float(torch.from_numpy(dataset.images(s).copy()))) for s in ("test", "train")
        )
    extra = Record.read(made / "purity.json").extra
    assert extra["energy_mean"] == pytest.approx(values.mean().item(), rel=1e-5)
    assert extra["energy_std"] == pytest.approx(values.double().std().item(), rel=1e-5)
    assert values.mean().item() != pytest.approx(others.mean().item(), rel=1e-3)


def test_the_region_holds_the_latents_of_training_images(room: Path, made: Path) -> None:
    """Balls of 1.5 times the .99 quantile of |mu(x)| and doubled; the record names the one that was mapped."""
    model, _ = load_model(room / "model.safetensors")
    train = store.load(room / "spots").images("train")
    regions, norms = landscape.candidate_regions(model, train, SETTINGS)
    expected = np.quantile(np.linalg.norm(evaluation.encode(model, train).numpy(), axis=1), 0.99)
    assert norms["0.99"] == pytest.approx(expected, rel=1e-4)
    radii = [region.project(torch.full((1, 3), 1e9)).norm().item() for region in regions]
    assert radii == pytest.approx([1.5 * expected * 2**k for k in range(4)], rel=1e-4)
    extra = Record.read(made / "purity.json").extra
    assert extra["region"] in [region.name for region in regions]
    assert extra["latent_norms"] == norms
    assert extra["on_edge"] <= SETTINGS.max_on_edge
    small = Settings(**{**asdict(SETTINGS), "region_margin": 0.01, "region_doublings": 1})
    (narrow, _), _ = landscape.candidate_regions(model, train, small)
    assert narrow.project(torch.full((1, 3), 1e9)).norm().item() == pytest.approx(0.01 * expected, rel=1e-3)


def test_killed_and_continued_it_writes_the_same_bytes(room: Path, made: Path, tmp_path: Path, monkeypatch) -> None:
    class Killed(BaseException):
        pass

    save, saved = checkpoint.save_state, []

    def killing(path: Path, state: dict) -> None:
        save(path, state)
        saved.append(state["t"])
        if len(saved) % 3 == 0:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_state", killing)
        for _ in range(4):
            with pytest.raises(Killed):
                landscape.main(arguments(room, tmp_path))
    assert saved == list(range(1, 13)), "no unit is done twice"
    assert not (tmp_path / "landscape.npz").exists()
    assert landscape.main(arguments(room, tmp_path)) == 0
    for name in ("landscape.npz", "landscape.csv"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


def test_a_state_of_other_settings_is_left_alone(room: Path, made: Path, tmp_path: Path, capsys) -> None:
    shutil.copy(made / "state.pt", tmp_path / "state.pt")
    assert landscape.main(arguments(room, tmp_path)) == 0
    assert "continuing" in capsys.readouterr().out
    others = Settings(**{**asdict(SETTINGS), "noise": 0.02})
    assert landscape.main(arguments(room, tmp_path, others)) == 0
    assert "belongs to another specification" in capsys.readouterr().out


def test_walks_are_remembered_where_only_the_grouping_changes(room: Path, made: Path, tmp_path: Path, capsys) -> None:
    """The same bytes as a mapping from nothing, and the walks of the old threshold are still there."""
    others = Settings(**{**asdict(SETTINGS), "threshold": 0.05, "thresholds": (0.05, 2.0), "max_basins": 2})
    (tmp_path / "fresh").mkdir()
    assert landscape.main(arguments(room, tmp_path / "fresh", others)) == 0
    shutil.copy(made / "state.pt", tmp_path / "state.pt")
    capsys.readouterr()
    assert landscape.main(arguments(room, tmp_path, others)) == 0
    assert "continuing" in capsys.readouterr().out
    assert (tmp_path / "landscape.npz").read_bytes() == (tmp_path / "fresh" / "landscape.npz").read_bytes()
    assert (tmp_path / "landscape.csv").read_bytes() == (tmp_path / "fresh" / "landscape.csv").read_bytes()


def test_image_space(room: Path, tmp_path: Path) -> None:
    settings = Settings(**{**asdict(SETTINGS), "space": "image"})
    assert landscape.main(arguments(room, tmp_path, settings)) == 0
    with np.load(tmp_path / "landscape.npz") as arrays:
        assert arrays["images"].shape[2:] == SHAPE


@pytest.mark.parametrize("space", ["latent", "image"])
def test_starts_carry_the_labels_of_their_images(space: str, room: Path) -> None:
    model, _ = load_model(room / "model.safetensors")
    dataset, labeller = store.load(room / "spots"), classifier.load(room / "classifier.safetensors")
    settings = Settings(**{**asdict(SETTINGS), "space": space, "from_images": 25})
    points, labels = landscape.starts(model, dataset, settings, 3, labeller)
    assert len(points) == len(labels) == 32
    if space == "image":
        train = dataset.images("train")
        shown = ((points[4:29] + 1) * 127.5).round().numpy().astype(np.uint8)
        places = [int(np.flatnonzero((train == image).all((1, 2, 3)))[0]) for image in shown]
        assert labels[4:29].tolist() == dataset.labels("train")[places].tolist()
        above = (points[:, 0, :14].mean((1, 2)) < points[:, 0, 14:].mean((1, 2))).long()
        assert labels[4:29].tolist() == above[4:29].tolist()


def test_a_model_without_an_energy_is_refused(room: Path, tmp_path: Path) -> None:
    spec = TrainSpec("spots", "dcgan", "baselines.dcgan:DCGAN", SHAPE, {"width": 0.05}, 1, 8, 4)
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams)
    save_weights(tmp_path / "model.safetensors", model.state_dict(), spec)
    given = arguments(room, tmp_path)
    given[given.index("--model") + 1] = str(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="expected a model with the map 'energy', found DCGAN"):
        landscape.main(given)


@pytest.mark.parametrize("broken", ["energy_net", "encoder", "generator"])
def test_what_is_not_finite_is_a_diverged_run(broken: str, room: Path, tmp_path: Path) -> None:
    """Products that a figure can read, and a record that says why there are no basins."""
    weights, spec = load_weights(room / "model.safetensors")
    spoiled = {n: v / 0 if n.startswith(broken) and v.is_floating_point() else v for n, v in weights.items()}
    save_weights(tmp_path / "model.safetensors", spoiled, spec)
    given = arguments(room, tmp_path)
    given[given.index("--model") + 1] = str(tmp_path / "model.safetensors")
    assert landscape.main(given) == 0
    record = Record.read(tmp_path / "purity.json")
    assert (record.value, record.status) == (None, "diverged")
    assert record.extra["diverged"].startswith("expected finite ")
    assert (tmp_path / "landscape.csv").read_text() == ""
    with np.load(tmp_path / "landscape.npz") as arrays:
        assert json.loads(str(arrays["found"])) == {"diverged": record.extra["diverged"]}


def test_the_purity_is_that_of_the_starts(room: Path, tmp_path: Path) -> None:
    """Starts in minima of kept basins by their own labels; what did not converge or fell elsewhere is left out."""
    minimum_of_start, labels = np.array([0, 1, -1, 2, 3, 1, 0, 4]), np.array([5, 5, 7, 6, 6, 8, 5, 7])
    barriers = np.array([[0.0, 1.0, 4.0], [1.0, 0.5, np.inf], [4.0, np.inf, 1.0]])
    found = mapping.Landscape(
        minima=np.zeros((5, 3)),
        energies=np.arange(5.0),
        minimum_of_start=minimum_of_start,
        basins=[[0, 1], [2], [3], [4]],
        kept=[[0, 1], [2], [3]],
        path_barrier=barriers,
        line_barrier=np.full((3, 3), 3.0),
        heights=barriers,
        sensitivity=[],
        found={},
    )
    job = Measurement(room / "train.json", "c", {}, "cpu")
    landscape._record(job, tmp_path / "r.json", found, labels, 4, {"kind": 1})
    record = Record.read(tmp_path / "r.json")
    assert record.value == pytest.approx(5 / 6)  # 5, 5, 8, 5 and 6 and 6
    assert (record.n_samples, record.n_reference, record.extra["kind"]) == (6, 3, 1)
    assert (record.extra["pairs"], record.extra["pairs_with_a_path"], record.extra["pairs_lower_on_a_line"]) == (
        3,
        2,
        2,
    )
    assert record.extra["variants"]["one basin"]["value"] == pytest.approx(3 / 6)


def test_noise_is_the_runs(room: Path, tmp_path: Path, monkeypatch) -> None:
    """The seed of all units of work, by dataset, system and seed of the run."""
    seeds = []
    monkeypatch.setattr(mapping, "Memory", lambda seed, *_: seeds.append(seed))
    monkeypatch.setattr(mapping, "map_energy", lambda *_: (_ for _ in ()).throw(NonFinite("here")))
    assert landscape.main(arguments(room, tmp_path)) == 0
    assert seeds == [derive("landscape", "spots", "triangle", 4)]


# Purity


def test_purity_of_perfect_and_of_random_groups() -> None:
    labels = np.repeat([3, 5, 7], 40)
    perfect = purity(labels, labels, seed=0)
    assert perfect.value == 1.0
    assert perfect.largest_class == pytest.approx(1 / 3)
    assert 1 / 3 < perfect.chance < perfect.chance_high < 0.55
    random = purity(np.tile([0, 1, 2], 40), labels, seed=0)
    assert random.value == pytest.approx(14 / 40)  # 40 = 14 + 13 + 13 of each
    assert random.value <= random.chance_high


def test_purity_of_single_members_is_their_chance() -> None:
    """A group of one is pure whatever it holds."""
    alone = purity(np.arange(9), np.arange(9) % 2, seed=0)
    assert (alone.value, alone.chance, alone.chance_high) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="expected as many labels as members"):
        purity(np.arange(3), np.arange(2), seed=0)
