"""bench.last_layer: what it counts, and a short run."""

import re
from pathlib import Path

import pytest
import torch

from bench import last_layer
from dtri import experiment
from dtri.experiment import TrainSpec
from dtri.weights import save_weights
from tests import training


def test_channels_are_counted_by_the_sign_of_their_sum() -> None:
    model = experiment.build("baselines.vae:VAE", (1, 28, 28), {"width": 0.125})
    layers = [layer for layer in model.generator.modules() if isinstance(layer, torch.nn.ConvTranspose2d)]
    with torch.no_grad():
        layers[-1].weight.fill_(-1.0)
        layers[-1].weight[2:5] = 1.0
        layers[-1].bias.fill_(0.25)
    assert last_layer.last_layer(model) == (8, 3, 0.25)


def test_a_line_for_each_seed_and_length(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("bench.last_layer.set_numerics", lambda *_: None)  # changes the whole process
    data = training.prepare_digits(tmp_path)
    argv = ["--data", str(data.parent), "--dataset", data.name, "--width", "0.05", "--steps", "1", "2", "--seeds", "0"]
    assert last_layer.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [int(re.search(r"(\d) iterations", line)[1]) for line in lines] == [1, 2]
    assert all(
        re.search(r"seed 0, .*\d of \d+ channels positive, bias -?\d\.\d\d, squared error \d+", x) for x in lines
    )


def test_trained_weights_are_looked_at_without_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = TrainSpec("digits", "vae", "baselines.vae:VAE", (1, 28, 28), {"width": 0.125}, 1, 8, 4)
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams)
    with torch.no_grad():
        layer = [one for one in model.generator.modules() if isinstance(one, torch.nn.ConvTranspose2d)][-1]
        layer.weight.fill_(-1.0)
        layer.weight[2:5] = 1.0
        layer.bias.fill_(0.25)
    save_weights(tmp_path / "model.safetensors", model.state_dict(), spec)
    assert last_layer.main(["--trained", str(tmp_path / "model.safetensors")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: 3 of 8 channels positive, bias 0.25\n"
