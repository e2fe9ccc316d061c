"""Overlays for tests: files below a folder, and the configuration read with them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workflow import configuration, overlay, plan, specs

MODELS = """\
own_vae:
  label: own VAE
  entry: baselines.vae:VAE
  steps: 1000
  batch_size: 10
  datasets:
    own_images: {batch_size: 20}
"""
DATASETS = """\
own_images:
  label: own images
  module: dtri.data.image_folder
  image_shape: [3, 32, 32]
  options: {archive: own.zip, split: {train: train, test: test}}
  generation: {n_samples: 20, reference: test}
"""
PRESETS = """\
own:
  label: own preset
  seeds: [0, 1]
  width: 0.0625
  max_steps: {default: 4, holdout: 4}
  max_samples: 20
  extractor: domain
"""
TABLE = """\
from dtri.report.cells import Cell, Table

TABLE = Table(
    "another",
    "Another paper",
    (
        Cell("C", "rmse", "digits", "vae", "VAE", "digits", 0.25, "lower", 0.01, published_text="0.25"),
        Cell("C", "rmse", "digits", "own_vae", "own", "digits", 0.2, "lower", 0.01, published_text="0.20"),
    ),
    headings=(("C", "rmse", "Another paper, Table 1: error of reconstruction"),),
)
"""
CLAIMS = """\
from dtri.report.claims import Claim, Condition, Quantity

OWN = Quantity("C", "rmse", "digits", "own_vae")
VAE = Quantity("C", "rmse", "digits", "vae")
CLAIMS = (Claim("C.own", "C", "another", "The own VAE reconstructs better.", "order", (Condition(OWN, VAE),)),)
"""


def written(folder: Path, **texts: str) -> Path:
    """Files of an overlay, by their names without endings: `models` is models.yaml, `tables_x` is tables/x.py."""
    for name, text in texts.items():
        kind, _, module = name.partition("_")
        path = folder / kind / f"{module}.py" if module else folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


@contextmanager
def used(folder: Path) -> Iterator[None]:
    """The configuration with an overlay, in this process."""
    caches = (configuration.datasets, configuration.models, configuration.presets, specs.dataset, plan.table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(overlay.VARIABLE, str(folder))
        patch.setenv("PYTHONPATH", "")
        patch.setattr(sys, "path", list(sys.path))
        for cached in caches:
            cached.cache_clear()
        try:
            yield
        finally:
            for cached in caches:
                cached.cache_clear()
