"""bench.entropy: chance where images ignore latents, less where they show them, and a short run."""

import math
import re
from pathlib import Path

import pytest
import torch

from baselines.meg import MEG
from bench import entropy
from dtri import experiment
from dtri.experiment import TrainSpec
from dtri.weights import save_weights

HPARAMS = {"width": 0.05, "z_dim": 2, "lr": 1e-3}


def blind(model: MEG) -> MEG:
    """The model with a generator that draws the same image for every latent."""
    with torch.no_grad():
        model.generator.expand.weight.zero_()
    return model


def build() -> MEG:
    torch.manual_seed(0)
    return experiment.build("baselines.meg:MEG", (1, 28, 28), HPARAMS).train()


def test_latents_that_images_do_not_show_stay_unknown() -> None:
    assert entropy.alone(blind(build()), 300, 1.0) == pytest.approx(math.log(2), abs=0.002)


def test_latents_that_images_show_are_found() -> None:
    """Batch norm makes images of two latents differ from the first weights on; stronger ones by a scale."""
    assert entropy.alone(build(), 300, 30.0) < 0.6


def test_a_generator_that_ignores_latents_has_no_spread_and_a_loss_near_chance() -> None:
    loss, energy, _, spread = entropy.terms(blind(build()))
    assert loss == pytest.approx(math.log(2), abs=0.02)
    assert spread == pytest.approx(0.0, abs=1e-6)
    assert energy > 0


def test_a_line_for_each_run_and_way(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("bench.entropy.set_numerics", lambda *_: None)  # changes the whole process
    spec = TrainSpec("digits", "meg", "baselines.meg:MEG", (1, 28, 28), HPARAMS, 1, 8, 4)
    save_weights(tmp_path / "model.safetensors", build().state_dict(), spec)
    argv = [str(tmp_path / "model.safetensors"), "--steps", "2", "--scale", "1", "10"]
    assert entropy.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "log 2 = 0.6931"
    assert re.search(r"J 0\.69\d\d, gradient norms \S+ \(energy\), \S+ \(J\), deviation 0\.\d{3}$", lines[1])
    assert [re.search(r"scale (\S+), 2 updates: J 0\.\d{4}$", line)[1] for line in lines[2:]] == ["1", "10"]


def test_weights_of_another_system_are_refused(tmp_path: Path) -> None:
    spec = TrainSpec("digits", "vae", "baselines.vae:VAE", (1, 28, 28), {"width": 0.05}, 1, 8, 4)
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams)
    save_weights(tmp_path / "model.safetensors", model.state_dict(), spec)
    with pytest.raises(ValueError, match="expected weights of MEG"):
        entropy.loaded(tmp_path / "model.safetensors")
