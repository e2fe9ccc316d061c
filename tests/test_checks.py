"""What is refused while planning is what a job would refuse, and nothing else. Messages: tests/bad_inputs.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dtri.experiment import build, hparam_defaults
from dtri.metrics import classifier
from tests import bad_inputs
from tests.test_architecture import HEAVY, loaded
from workflow import checks, configuration

ENTRIES = {name: entry.entry for name, entry in configuration.models().items()}
LOSSES = {"divergence_triangle_progressive", "divergence_triangle_ungrown"}


def test_the_configuration_passes_and_needs_nothing_heavy() -> None:
    """But PIL, which takes 40 ms."""
    assert loaded("from workflow import checks\nchecks.check_configuration()") & HEAVY <= {"PIL"}


def test_the_smallest_side_is_the_classifiers() -> None:
    assert checks.SMALLEST_SIDE == classifier.SMALLEST_SIDE


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in LOSSES])
def test_systems_are_built_at_the_sides_that_pass_and_at_no_other(name: str) -> None:
    sides = checks.network_sides(ENTRIES[name].partition(":")[0])
    assert sides == (28, 32, 64)
    with torch.device("meta"):
        build(ENTRIES[name], (3, 28, 28), {"width": 0.05})
        with pytest.raises(ValueError, match="side"):
            build(ENTRIES[name], (3, 48, 48), {"width": 0.05})


def test_a_system_with_networks_of_its_own_is_not_asked_for_a_side() -> None:
    assert checks.network_sides("dtri.models.divergence_triangle_progressive") == ()


def test_a_value_beyond_the_range_is_refused_by_the_job_too() -> None:
    weights = [torch.zeros(1, requires_grad=True)]
    for betas in ((checks.RANGES["beta1"][1], 0.9), (0.5, checks.RANGES["beta2"][1])):
        with pytest.raises(ValueError, match="Invalid beta"):
            torch.optim.Adam(weights, betas=betas)
    with pytest.raises(ValueError, match="probability"):
        build("baselines.igebm:IGEBM", (3, 32, 32), {"width": 0.05, "reinit": checks.RANGES["reinit"][1] + 0.01})


def test_every_range_is_one_of_a_hyperparameter_whose_defaults_lie_in_it() -> None:
    found = {(name, d) for entry in ENTRIES.values() for name, (_, d) in hparam_defaults(entry).items()}
    assert {name for name, _ in found} >= set(checks.RANGES)
    for name, default in found:
        checks._check_range(name, default)


@pytest.fixture
def edited(tmp_path: Path) -> Iterator[None]:
    """A configuration with digits of 16 pixels, which no preset uses."""
    name = "digits of 16 pixels that no preset uses"
    entry = "\ntiny:\n  label: tiny\n  module: dtri.data.digits\n  image_shape: [1, 16, 16]\n  classes: true\n"
    text = (configuration.CONFIG / "datasets.yaml").read_text("utf-8")
    bad_inputs.CONFIGURATIONS[name] = ("datasets", None, text + entry, ())
    try:
        with bad_inputs.spoiled(name, tmp_path):
            yield
    finally:
        del bad_inputs.CONFIGURATIONS[name]


@pytest.mark.parametrize(
    "target, message",
    [
        ("results/data/tiny/classifier.json", "at least 28 pixels"),
        ("results/demo/tiny/vae/seed0/train.json", "side 28 or 32 or 64 for baselines.vae:VAE"),
        ("results/demo/digits/vae/seed0/scores/photos_1x400x400__test.npz", "at most 213x320"),
        ("results/demo/digits/vae/seed0/metrics/auroc_photos_1x400x400.json", "at most 213x320"),
        ("results/data/photos_3x400x400/test.npy", "photos: expected patches of at most 213x320"),
        ("results/data/uniform_2x8x8/test.npy", "with C 1 or 3"),
        ("results/data/tiny/test.npy", None),
    ],
)
def test_targets_beyond_the_tables_are_checked_too(edited: None, target: str, message: str | None) -> None:
    checks.check_configuration()
    if message is None:
        checks.check_target(target)
    else:
        with pytest.raises(ValueError, match=message):
            checks.check_target(target)


def test_a_module_without_a_check_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    import dtri.data.digits

    monkeypatch.delattr(dtri.data.digits, "check")
    checks.check_configuration()
