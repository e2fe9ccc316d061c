"""The commands that draw images from weights: with and without Markov chains, the same again, straight lines."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dtri import evaluation, experiment, trained
from dtri.data import saving
from dtri.evaluation import to_uint8
from dtri.experiment import TrainSpec
from dtri.finite import NonFinite
from dtri.report.records import Record
from dtri.seeding import derive
from dtri.trained import load_model, load_weights
from dtri.weights import save_weights
from tests.toys import noise_images
from workflow.commands import growth, interpolate, pairs, reconstruct, sample

SHAPE = (1, 28, 28)
ENTRIES = {
    "vae": "baselines.vae:VAE",
    "coopnet": "baselines.coopnet:CoopNet",
    "igebm": "baselines.igebm:IGEBM",
}


@pytest.fixture(autouse=True)
def _process_unchanged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DTRI_DEVICE", "cpu")
    monkeypatch.setattr("dtri.numerics.set_numerics", lambda *_: None)  # changes the whole process


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights of each system, and images."""
    folder = tmp_path_factory.mktemp("room")
    for name, entry in ENTRIES.items():
        spec = TrainSpec("noise", name, entry, SHAPE, {"width": 0.05}, 1, 8, 4)
        torch.manual_seed(0)
        model = experiment.build(spec.entry, spec.image_shape, spec.hparams)
        # So that images differ by their latents, and few steps of the chains show.
        loud = {"vae": "generator", "coopnet": "descriptor"}.get(name)
        with torch.no_grad():
            for p in getattr(model, loud).parameters() if loud else ():
                p.mul_(100)
        save_weights(folder / f"{name}.safetensors", model.state_dict(), spec)
    images = {"train": noise_images(20, SHAPE), "test": noise_images(20, SHAPE, seed=1)}
    indices = {name: np.arange(20) for name in images}
    saving.save(saving.Arrays(images, indices, {}, None, "noise"), folder / "noise", "noise")
    return folder


def draw(room: Path, out: Path, name: str, *options: str) -> np.ndarray:
    path = out / "samples.npy"
    assert sample.main(["--model", str(room / f"{name}.safetensors"), "--n", "5", "--out", str(path), *options]) == 0
    return np.load(path)


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("batch_size", [7, 250])
def test_the_first_of_many_are_those_of_few(
    name: str, batch_size: int, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latents and the noise of chains depend neither on the number of samples nor on their batches."""
    model, spec = load_model(room / f"{name}.safetensors")
    experiment.set_sampler(model, spec.entry, {} if name == "vae" else {"steps": 4})
    for n in (1, 5):
        few = evaluation.sample(model, n, 3)
        with monkeypatch.context() as context:
            context.setattr(evaluation, "eval_batch_size", lambda _: batch_size)
            many = evaluation.sample(model, 70, 3)
        assert np.abs(few.astype(int) - many[:n]).max() <= 1
        assert (few != many[:n]).mean() < 1e-3
    assert len({image.tobytes() for image in many}) == 70


@pytest.mark.parametrize("d", [0, 1, 3, 100])
def test_latents_do_not_depend_on_their_number(d: int) -> None:
    many = evaluation.latents(200, d, 5)
    assert many.shape == (200, d)
    for n in (0, 1, 5, 64, 65):
        assert torch.equal(evaluation.latents(n, d, 5), many[:n])
    if d == 100:
        assert many.mean().item() == pytest.approx(0, abs=0.03)
        assert many.std().item() == pytest.approx(1, abs=0.03)
        assert not torch.equal(many[:64], many[64:128])
        assert not torch.equal(many, evaluation.latents(200, d, 6))


@pytest.fixture
def broken(room: Path, tmp_path: Path) -> Path:
    """Weights of a VAE whose samples are not finite where the first latent is large, and posterior means never."""
    weights, spec = load_weights(room / "vae.safetensors")
    path = tmp_path / "broken.safetensors"
    first = next(name for name in weights if name.startswith("generator") and name.endswith("weight"))
    weights[first] = weights[first].clone()
    weights[first].view(-1)[0] = torch.inf
    weights["encoder.mu.bias"] = torch.full_like(weights["encoder.mu.bias"], torch.nan)
    save_weights(path, weights, spec)
    return path


def test_what_is_not_finite_is_no_picture(broken: Path, room: Path, tmp_path: Path, capsys) -> None:
    """A .npy has the finite samples alone, the grid then none; a .png is refused; lines and records say so."""
    out, grid = tmp_path / "samples.npy", tmp_path / "grid.npy"
    given = ["--model", str(broken), "--n", "5"]
    assert sample.main([*given, "--out", str(out)]) == 0
    assert "diverged in sampling: expected finite images, found" in capsys.readouterr().out
    assert len(np.load(out)) < 5
    assert sample.main([*given, "--grid", "--out", str(grid)]) == 0
    assert np.load(grid).shape == (0, *SHAPE)
    with pytest.raises(NonFinite, match=r"expected finite images, found \d+ NaN and \d+ infinite values in \d of 5"):
        sample.main([*given, "--out", str(tmp_path / "grid.png")])
    assert not (tmp_path / "grid.png").exists()

    lines = [str(tmp_path / name) for name in ("interpolation.npy", "prior.npy")]
    data = ["--model", str(broken), "--data", str(room / "noise")]
    assert interpolate.main([*data, "--out", lines[0], "--prior", lines[1]]) == 0
    assert [np.load(path).shape for path in lines] == [(0, 10, *SHAPE)] * 2

    summary = {"status": "done", "preset": "p", "dataset": "noise", "model": "vae", "seed": 4, "spec_hash": "s"}
    summary |= {"code": "c", "data": {}, "gpu_hours": None, "seconds": 1.0, "device": "cpu"}
    (tmp_path / "train.json").write_text(json.dumps(summary))
    files = {name: str(tmp_path / name) for name in ("rmse.json", "mse.json", "pairs.npy")}
    options = [text for name, path in files.items() for text in (f"--{name.split('.')[0]}", path)]
    assert reconstruct.main([*data, "--train", str(tmp_path / "train.json"), "--code", "c", *options]) == 0
    record = Record.read(tmp_path / "rmse.json")
    assert (record.value, record.status) == (None, "diverged")
    assert record.extra["diverged"] == "20 of 20 reconstructions are not finite"
    assert np.load(files["pairs.npy"]).shape == (2, 0, *SHAPE)


@pytest.mark.parametrize("name", ENTRIES)
def test_samples(name: str, room: Path, tmp_path: Path) -> None:
    options = () if name == "vae" else ("--sampler", '{"steps": 4}')
    samples = draw(room, tmp_path, name, *options)
    assert samples.shape == (5, *SHAPE)
    assert samples.dtype == np.uint8
    assert np.array_equal(draw(room, tmp_path, name, *options), samples)
    assert not np.array_equal(draw(room, tmp_path, name, *options, "--seed", "5"), samples)


def test_variants_are_by_the_other_rules_of_batch_norm(room: Path, tmp_path: Path) -> None:
    """The same latents by running averages and in batches of 100; nothing where the generator has no batch norm."""
    path = tmp_path / "variants.npz"
    draw(room, tmp_path, "igebm", "--sampler", '{"steps": 1}', "--variants", str(path))
    assert np.load(path).files == []
    samples = draw(room, tmp_path, "vae", "--n", "130", "--variants", str(path))
    found = dict(np.load(path))
    assert found.keys() == {"running", "batch"}

    model, spec = load_model(room / "vae.safetensors")
    z = evaluation.latents(200, model.z_dim, derive("sample", "noise", "vae", spec.seed))  # no batch is short
    assert np.array_equal(found["running"], evaluation.decode(model, z[:130]))
    model.generator.train()
    with torch.no_grad():
        expected = torch.cat([to_uint8(model.generate(part)) for part in z.split(100)]).numpy()
    assert np.array_equal(found["batch"], expected[:130])
    assert len({images.tobytes() for images in (samples, *found.values())}) == 3


def test_arguments_of_the_chains_matter(room: Path, tmp_path: Path) -> None:
    plain = draw(room, tmp_path, "coopnet", "--sampler", '{"steps": 0}')
    model, spec = trained.load(room / "coopnet.safetensors", "cpu", "standing")
    z = evaluation.latents(5, model.z_dim, derive("sample", "noise", "coopnet", spec.seed))
    assert np.array_equal(plain, evaluation.decode(model, z))
    assert not np.array_equal(draw(room, tmp_path, "coopnet"), plain)
    ten = draw(room, tmp_path, "coopnet", "--sampler", '{"steps": 10}')
    assert np.array_equal(draw(room, tmp_path, "coopnet"), ten)  # what the model file says


def test_straight_lines_between_test_images(room: Path, tmp_path: Path) -> None:
    out = tmp_path / "interpolation.npy"
    given = ["--model", str(room / "vae.safetensors"), "--data", str(room / "noise"), "--out", str(out)]
    assert interpolate.main([*given, "--prior", str(tmp_path / "prior.npy")]) == 0
    frames, prior = np.load(out), np.load(tmp_path / "prior.npy")
    assert frames.shape == prior.shape == (8, 10, *SHAPE)
    ends = noise_images(20, SHAPE, seed=1)[:16]
    assert np.array_equal(frames[:, [0, -1]], np.stack([ends[:8], ends[8:]], 1))
    running, spec = trained.load(room / "vae.safetensors", "cpu", "running")
    standing, _ = trained.load(room / "vae.safetensors", "cpu", "standing")
    mu = evaluation.encode(running, ends)
    z = evaluation.latents(16, running.z_dim, derive("sample", "noise", "vae", spec.seed))
    for shown, ends, columns, model in ((frames[:, 1:-1], mu, 8, running), (prior, z, 10, standing)):
        for column, weight in enumerate(torch.linspace(0, 1, columns)):
            between = evaluation.decode(model, (1 - weight) * ends[:8] + weight * ends[8:])
            assert np.abs(shown[:, column].astype(int) - between).max() <= 1, column


GROWN = "dtri.models.divergence_triangle_progressive:ProgressiveTriangle"


def test_growth_shows_the_end_of_every_level(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real images and samples of 7, 14 and 28 pixels, enlarged; a level that was not reached is no row."""
    hparams = {"width": 0.02, "z_dim": 5, "fade_kimg": 0.01, "stable_kimg": 0.02, "batch_sizes": [2] * 9}
    spec = TrainSpec("noise", "grown", GROWN, SHAPE, hparams, 50, 2, 4)
    torch.manual_seed(0)
    model = experiment.build(GROWN, SHAPE, hparams)
    (tmp_path / "snapshots").mkdir()
    for t, path in ((10, "snapshots/10"), (25, "snapshots/25"), (50, "model")):
        model.begin(t - 1)
        save_weights(tmp_path / f"{path}.safetensors", model.state_dict(), spec)
    assert model.milestones(50) == [10, 25]
    given = ["--model", str(tmp_path / "model.safetensors"), "--data", str(room / "noise"), "--out"]
    assert growth.main([*given, str(tmp_path / "growth.npz")]) == 0
    made = np.load(tmp_path / "growth.npz")
    assert made["images"].shape == (3, 2, 6, *SHAPE)
    assert made["sides"].tolist() == [7, 14, 28]
    assert made["seen"].tolist() == [20, 50, 100]
    for row, factor in zip(made["images"], (4, 2, 1), strict=True):
        assert np.array_equal(row, row[..., ::factor, ::factor].repeat(factor, 3).repeat(factor, 4))
    assert np.array_equal(made["images"][2, 0], noise_images(20, SHAPE, seed=1)[:6])
    with monkeypatch.context() as patched:  # more than there are test images
        patched.setattr(growth, "SHOWN", 30)
        assert growth.main([*given, str(tmp_path / "all.npz")]) == 0
    assert np.load(tmp_path / "all.npz")["images"].shape == (3, 2, 20, *SHAPE)

    (tmp_path / "snapshots/25.safetensors").rename(tmp_path / "early.safetensors")
    with pytest.raises(FileNotFoundError, match=r"snapshots/25\.safetensors, found no such file"):
        growth.main([*given, str(tmp_path / "none.npz")])
    (tmp_path / "early.safetensors").replace(tmp_path / "model.safetensors")  # a run that diverged at 14 pixels
    assert growth.main([*given, str(tmp_path / "early.npz")]) == 0
    assert np.array_equal(np.load(tmp_path / "early.npz")["images"], made["images"][:2])
    with pytest.raises(ValueError, match=r"expected a system that grows, found baselines\.vae:VAE"):
        growth.main(["--model", str(room / "vae.safetensors"), *given[2:], str(tmp_path / "none.npz")])
    assert not (tmp_path / "none.npz").exists()


def test_pairs_are_images_and_their_reconstructions(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """In rows, each image above its own; n is as many as there are at most."""
    words = ["--model", str(room / "vae.safetensors"), "--data", str(room / "noise"), "--n", "7"]
    assert pairs.main([*words, "--out", str(tmp_path / "new" / "pairs.npy")]) == 0
    found = np.load(tmp_path / "new" / "pairs.npy")
    images = noise_images(20, SHAPE, seed=1)[:7]
    model, _ = trained.load(room / "vae.safetensors", torch.device("cpu"), "running")
    assert np.array_equal(found[0], images)
    assert np.array_equal(found[1], evaluation.decode(model, evaluation.encode(model, images)))
    assert pairs.main([*words, "--out", str(tmp_path / "pairs.png")]) == 0
    with Image.open(tmp_path / "pairs.png") as picture:
        sheet = np.asarray(picture)
    assert sheet.shape == (6 * 30 + 2, 3 * 30 + 2, 3)  # 7 images in rows of 3: three rows, and three of reconstructions
    assert np.array_equal(sheet[32 : 32 + 28, 2:30, 0], found[1, 0, 0])
    assert np.array_equal(sheet[4 * 30 + 2 : 5 * 30, 2:30, 0], found[0, 6, 0])


@pytest.mark.parametrize(
    "change, message",
    [
        (["--model", "igebm.safetensors"], "expected a model with the map 'infer'"),
        (["--out", "pairs.jpg"], "expected a .png or .npy file for --out, found pairs.jpg"),
        (["--n", "0"], "expected a positive number of images for --n, found 0"),
    ],
)
def test_pairs_are_refused(change: list[str], message: str, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(room)
    with pytest.raises(ValueError, match=message):
        pairs.main(["--model", "vae.safetensors", "--data", "noise", "--out", "pairs.png", *change])
