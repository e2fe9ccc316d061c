"""Orientation of every critic of one image: fixed by its training, high on data, and followed by the generator."""

import pytest
import torch
from torch import Tensor

from baselines import cegan, meg, sngan, wgan
from dtri import anomaly
from dtri.model import Model, has
from tests.toys import bright, still

SHAPE = (1, 28, 28)
SYSTEMS = {
    "wgan": (wgan.WGAN, wgan.Hparams, {"n_critic": 1}, "critic"),
    "wgan_gp": (wgan.WGAN, wgan.Hparams, {"n_critic": 1, "lipschitz": "penalty"}, "critic"),
    "sngan": (sngan.SNGAN, sngan.Hparams, {}, "discriminator"),
    "cegan": (cegan.CEGAN, cegan.Hparams, {"entropy_weight": 0.0}, "critic"),
    "cegan_unbounded": (cegan.CEGAN, cegan.Hparams, {"entropy_weight": 0.0, "bounded": False}, "critic"),
    "meg": (meg.MEG, meg.Hparams, {"n_energy": 1}, "energy"),
}
every_system = pytest.mark.parametrize("name", SYSTEMS)
with_energy = pytest.mark.parametrize("name", ["cegan", "cegan_unbounded", "meg"])


def build(name: str) -> Model:
    """A small system whose players all learn quickly."""
    torch.manual_seed(1)
    kind, hparams, overrides, _ = SYSTEMS[name]
    model = kind(SHAPE, hparams(**{"width": 0.05, "z_dim": 10, **overrides})).train()
    for optimizer in model.optimizers.values():
        optimizer.param_groups[0]["lr"] = 2e-3
    return model


def data(n: int = 8) -> Tensor:
    return torch.from_numpy(bright(n)).float() / 127.5 - 1


def score(model: Model, name: str, x: Tensor) -> float:
    """Mean of what should be high on data: the critic's value, or the negative energy."""
    with torch.no_grad():
        value = -model.energy(x) if has(model, "energy") else getattr(model, SYSTEMS[name][3])(x)
    return value.mean().item()


def train(model: Model, monkeypatch, player: str, steps: int) -> None:
    with monkeypatch.context() as patched:
        still(model, patched, keep=player)
        for t in range(steps):
            model.step(data(), t)


@every_system
def test_critic_rates_data_above_the_generators_images(name, monkeypatch):
    """Only the critic moves; judged in evaluation mode."""
    model = build(name)
    fakes = model.generate(torch.randn(8, model.z_dim)).detach()

    def gap() -> float:
        model.eval()
        value = score(model, name, data()) - score(model, name, fakes)
        model.train()
        return value

    before = gap()
    train(model, monkeypatch, SYSTEMS[name][3], 20)
    assert gap() > max(before, 0.0)


@every_system
def test_generator_climbs_its_critic(name, monkeypatch):
    """Against a critic at rest; judged batch by batch as in training, where batch norm may remove all but details."""
    model = build(name)
    train(model, monkeypatch, SYSTEMS[name][3], 20)
    z = torch.randn(32, model.z_dim)
    before = score(model, name, model.generate(z))
    train(model, monkeypatch, "generator", 20)
    assert score(model, name, model.generate(z)) > before


@with_energy
def test_strange_images_score_higher(name, monkeypatch):
    """The anomaly score of stored images, larger = stranger, against the generator's own."""
    model = build(name)
    train(model, monkeypatch, SYSTEMS[name][3], 40)  # running averages lag behind the weights
    model.eval()
    with torch.no_grad():
        fakes = ((model.generate(torch.randn(8, model.z_dim)) + 1) * 127.5).round().to(torch.uint8).numpy()
    assert anomaly.scores(model, fakes)["energy"].mean() > anomaly.scores(model, bright(8))["energy"].mean()
