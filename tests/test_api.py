"""The ten lines of docs/api.md, run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest

from dtri import evaluation, experiment
from dtri.data import saving
from dtri.experiment import TrainSpec
from dtri.metrics import classifier
from dtri.weights import save_weights
from tests.toys import noise_images

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (1, 28, 28)
(LINES,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text("utf-8"), re.S)


def test_the_lines_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run, data = Path("results/demo/digits/vae/seed0"), Path("results/data/digits")
    spec = TrainSpec("digits", "vae", "baselines.vae:VAE", SHAPE, {"width": 0.05}, 1, 8, 0)
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams)
    run.mkdir(parents=True)
    save_weights(run / "model.safetensors", model.state_dict(), spec)
    images = {"train": noise_images(100, SHAPE), "test": noise_images(100, SHAPE, seed=1)}
    saving.save(saving.Arrays(images, {name: np.arange(100) for name in images}, {}, None, "noise"), data, "digits")
    classifier.save(classifier.Classifier(SHAPE, 10).eval(), data / "classifier.safetensors", {})

    found: dict = {}
    exec(LINES, found)
    assert len([line for line in LINES.splitlines() if line and not line.startswith(("from", "import"))]) == 10
    for name in ("samples", "reconstructions"):
        assert (found[name].dtype, found[name].shape) == (np.uint8, (100, *SHAPE))
    assert found["energies"].shape == (100,)
    assert found["fid"] > 0


def test_a_map_that_is_lacking_is_named() -> None:
    model = experiment.build("baselines.dcgan:DCGAN", SHAPE, {"width": 0.05}).eval()
    with pytest.raises(ValueError, match="expected a model with the map 'infer', found DCGAN with \\['generate'\\]"):
        evaluation.require(model, "infer")
