"""Batch norm at evaluation: standing statistics against closed forms, what they depend on, and what stays."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import batch_norm as bench
from dtri import anomaly, evaluation, experiment, trained
from dtri.data import saving
from dtri.evaluation import to_uint8
from dtri.experiment import TrainSpec
from dtri.model import Model
from dtri.networks import batch_norm
from dtri.trained import load_model
from dtri.weights import save_weights
from tests.toys import image_batch, noise_images
from workflow import configuration, plan
from workflow.commands import reconstruct

SHAPE = (1, 28, 28)
D, HIDDEN = 16, 8
N = trained.BATCHES * evaluation.BATCH  # latents behind the statistics
SPREAD = 0.2  # standard deviation of every pixel of `TwoLayers`, in [-1, 1]


@dataclass(frozen=True)
class Hparams:
    z_dim: int = D


class TwoLayers(Model):
    """Orthogonal rows times 3, batch norm, ReLU, four times the hidden layer's sum for every pixel, batch norm.

    The first layer's inputs are independent N(1, 9); those of the second have the moments of a rectified normal.
    """

    image_shape, z_dim, optimizers = SHAPE, D, {}

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(D, HIDDEN)
        self.norm1, self.norm2 = nn.BatchNorm1d(HIDDEN), nn.BatchNorm1d(math.prod(SHAPE))
        nn.init.orthogonal_(self.first.weight, 3.0)
        nn.init.ones_(self.first.bias)
        nn.init.constant_(self.norm2.weight, SPREAD)
        self.unused = nn.BatchNorm1d(3)

    def generate(self, z: Tensor) -> Tensor:
        hidden = self.norm1(self.first(z)).relu()
        pixels = 4.0 * hidden.sum(1, keepdim=True).expand(-1, math.prod(SHAPE))
        return self.norm2(pixels).view(-1, *SHAPE)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        raise AssertionError("this model is loaded, never trained")


@pytest.fixture
def model() -> TwoLayers:
    model = TwoLayers().requires_grad_(False)
    for layer in batch_norm.layers(model):  # averages of training that are far off
        layer.running_mean.fill_(-2.0)
        layer.running_var.fill_(400.0)
        layer.num_batches_tracked.fill_(500)
    return model.eval()


def test_statistics_are_those_of_the_prior(model: TwoLayers) -> None:
    """Within four standard errors of 2,000 draws, in both layers; the layer that is not passed stays."""
    trained.take_standing_statistics(model, seed=1)
    mean, var = 1 / math.sqrt(2 * math.pi), 0.5 - 0.5 / math.pi  # of a rectified standard normal
    for layer, m, v in ((model.norm1, 1.0, 9.0), (model.norm2, 4 * HIDDEN * mean, 16 * HIDDEN * var)):
        assert (layer.running_mean - m).abs().max() < 4 * math.sqrt(v / N)
        assert (layer.running_var / v - 1).abs().max() < 4 * math.sqrt(2.5 / N)  # kurtosis of the sum: 3.5 at most
        assert not layer.training
    assert (model.unused.running_mean == -2.0).all()
    assert (model.unused.running_var == 400.0).all()


def test_samples_have_their_true_spread(model: TwoLayers) -> None:
    def spread() -> float:
        return evaluation.sample(model, 4000, seed=3)[:, 0, 0, 0].std() / 127.5

    assert spread() < SPREAD / 2  # by averages that are off
    trained.take_standing_statistics(model, seed=1)
    assert spread() == pytest.approx(SPREAD, rel=0.05)


def test_an_image_depends_on_its_latent_alone(model: TwoLayers, monkeypatch: pytest.MonkeyPatch) -> None:
    """On no batch size, order or neighbour; by batch statistics it depends on all of them."""
    trained.take_standing_statistics(model, seed=1)
    z = evaluation.latents(50, D, seed=4)

    def by_ten() -> np.ndarray:
        with monkeypatch.context() as context:
            context.setattr(evaluation, "eval_batch_size", lambda _: 10)
            return evaluation.decode(model, z)

    images = evaluation.decode(model, z)
    order = torch.randperm(50)
    for other in (by_ten(), evaluation.decode(model, z[order])[order.argsort()]):
        assert np.abs(images.astype(int) - other).max() <= 1  # sums of float32 in another order
    for layer in batch_norm.layers(model):
        layer.train()
    assert np.abs(evaluation.decode(model, z).astype(int) - by_ten()).max() > 5


def test_same_seed_same_statistics(model: TwoLayers) -> None:
    def statistics(seed: int) -> dict[str, Tensor]:
        trained.take_standing_statistics(model, seed)
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}

    first, again, other = statistics(1), statistics(1), statistics(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["norm1.running_mean"], other["norm1.running_mean"])
    assert torch.equal(first["first.weight"], other["first.weight"])


# Real systems


def saved(name: str, folder: Path) -> Path:
    """Weights of a system after a few iterations."""
    chosen = configuration.model(name)
    hparams = {**chosen.hparams, "width": 0.05}
    spec = TrainSpec("noise", name, chosen.entry, SHAPE, hparams, 3, 8, 4)
    torch.manual_seed(0)
    model = experiment.build(spec.entry, SHAPE, hparams).train()
    for t in range(3):
        model.step(image_batch(8, SHAPE), t)
    path = folder / f"{name}.safetensors"
    save_weights(path, model.state_dict(), spec)
    return path


WITHOUT = {"igebm", "divergence_triangle_progressive", "divergence_triangle_ungrown"}  # batch norm


@pytest.mark.parametrize("name", configuration.models())
def test_generators_of_all_systems(name: str) -> None:
    """All batch norm of the generator, and no other; which of the papers' systems have none is known."""
    torch.manual_seed(0)
    model = experiment.build(
        configuration.model(name).entry, SHAPE, {**configuration.model(name).hparams, "width": 0.05}
    ).eval()
    found = trained.passed_layers(model, "generate")
    if name in {run.model for run in plan.runs(configuration.preset("demo"))}:
        assert bool(found) == (name not in WITHOUT)
    if found and hasattr(model, "generator"):
        assert found == batch_norm.layers(model.generator)


def test_loading_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = saved("joint_vae_ebm", tmp_path)
    first, again = (trained.load(path, "cpu", "standing")[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert np.array_equal(evaluation.sample(first, 30, 5), evaluation.sample(again, 30, 5))


def test_rules_differ_in_the_generator_alone(tmp_path: Path) -> None:
    """Encoder and critic keep the averages of training by the standing rule; batches of 100 by that of the batch."""
    path = saved("alice", tmp_path)
    standing, running, batch = (trained.load(path, "cpu", rule)[0] for rule in trained.RULES)
    kept = running.state_dict()
    for name, tensor in standing.state_dict().items():
        statistics = name.startswith("generator.") and "running" in name
        assert torch.equal(tensor, kept[name]) != statistics or "num_batches" in name, name
    assert not any(module.training for model in (standing, running) for module in model.modules())
    assert [evaluation.eval_batch_size(model) for model in (standing, running, batch)] == [250, 250, 100]

    z, x = evaluation.latents(130, batch.z_dim, 1), noise_images(130, SHAPE)
    images, mu = evaluation.decode(batch, z), evaluation.encode(batch, x)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in batch.state_dict().items() if "running" in name)
    fresh = load_model(path)[0].train()
    with torch.no_grad():
        assert np.array_equal(images[100:], to_uint8(fresh.generate(z[100:])).numpy())
        whole = np.concatenate([x[100:], x[:70]])
        assert torch.equal(mu[100:], fresh.infer(torch.from_numpy(whole).float() / 127.5 - 1)[:30])
    assert [rule for rule, _ in trained.by_other_rules(path, "cpu", "running")] == ["standing", "batch"]


@pytest.mark.parametrize("n", [101, 360])
def test_images_from_the_front_fill_the_last_batch(n: int, tmp_path: Path) -> None:
    """By batch statistics every image shares a batch of 100; the results of those that fill it do not count."""
    model, x = trained.load(saved("alice", tmp_path), "cpu", "batch")[0], noise_images(n, SHAPE)
    filled = np.concatenate([x, x[: -n % 100]])
    found, expected = anomaly.scores(model, x), anomaly.scores(model, filled)
    for name, values in found.items():
        assert np.array_equal(values, expected[name][:n]), name

    error, count, shown = reconstruct._reconstructed(model, x)
    each = expected["sse"][:n]
    assert error.mse == pytest.approx(each.mean() / math.prod(SHAPE), rel=1e-5)
    assert (count.rows, len(shown)) == (n, reconstruct.SHOWN)


LARGE = {"divergence_triangle": {"batch_norm": True}}


@pytest.mark.parametrize("name", ["alice", "svae", "ali", "bigan", "joint_vae_ebm", "divergence_triangle"])
def test_averages_of_encoders_are_of_real_images(name: str) -> None:
    """All images are white and no weight moves: averages that are those of white stay, whatever is generated."""
    torch.manual_seed(0)
    chosen = configuration.model(name)
    model = experiment.build(chosen.entry, SHAPE, {**chosen.hparams, "width": 0.05, **LARGE.get(name, {})}).train()
    for optimizer in model.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    x = torch.ones(8, *SHAPE)
    inputs: list[Tensor] = []
    first = batch_norm.layers(model.encoder)[0]
    first.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().clone()))
    model.step(x, 0)
    white = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))
    first.running_mean.copy_(white[0])
    first.running_var.copy_(white[1])
    for t in (1, 2):
        model.step(x, t)
    assert len(inputs) > 2
    assert torch.allclose(first.running_mean, white[0], rtol=1e-4, atol=0)
    assert torch.allclose(first.running_var, white[1], rtol=1e-4, atol=0)


def test_the_comparison_of_rules_goes_on_where_it_stopped(tmp_path: Path, monkeypatch) -> None:
    """A row per rule; a system whose encoder has batch norm one more. What is known is not trained again."""
    monkeypatch.setattr(bench, "N", 30)
    monkeypatch.setattr(bench, "distance", lambda *_: 0.0)  # of 784 dimensions, slow
    monkeypatch.setattr("dtri.numerics.set_numerics", lambda *_: None)  # changes the whole process
    arrays = {"train": noise_images(2000, SHAPE), "test": noise_images(40, SHAPE, seed=1)}
    indices = {name: np.arange(len(array)) for name, array in arrays.items()}
    saving.save(saving.Arrays(arrays, indices, {}, None, "mnist"), tmp_path / "mnist", "mnist")
    out = tmp_path / "rows.csv"
    given = ["--data", str(tmp_path / "mnist"), "--out", str(out), "--steps", "1", "--width", "0.02", "--seeds", "0"]
    assert bench.main(["dcgan", *given]) == 0
    assert bench.main(["dcgan", "joint_vae_ebm", *given]) == 0
    rows = [line.split(",") for line in out.read_text().splitlines()[1:]]
    rules = ["standing", "running", "batch", "latents", "latents"]
    assert [row[3] for row in rows] == ["data", *rules, *rules, "encoder anew"]
    assert [bool(row[7]) for row in rows] == [False] * 6 + [True] * 6
