"""Numbers of the configuration that follow from others: epochs, snapshots, schedules, weights, chains, protocols."""

from typing import Any

import pytest

from dtri.experiment import N_SNAPSHOTS, hparam_defaults
from workflow import configuration, plan, specs

BATCHES_PER_EPOCH = {"cifar10": 500, "mnist": 600, "celeba": 90}  # of 100 images; of hold-outs about 50,000: 500
EPOCHS = {  # passes over the training images, as published or as docs/deviations.md says, by system
    "divergence_triangle": {"cifar10": 1500, "celeba": 1500, "mnist": 50, "mnist_holdout1": 50},
    "joint_vae_ebm": {"cifar10": 1000, "celeba": 1000, "mnist": 50, "mnist_holdout1": 50},
    "joint_vae_ebm_plus": {"cifar10": 1000, "celeba": 1000, "mnist": 50, "mnist_holdout1": 50},
    "vae": {"cifar10": 500, "celeba": 1000, "mnist": 50, "mnist_holdout1": 50},
    "wake_sleep": {"cifar10": 500, "celeba": 1000},
    "coopnet": {"cifar10": 1000, "celeba": 1000},
}


def trained(model: str, dataset: str, preset: str = "paper") -> dict[str, Any]:
    """The hyperparameters of a run, defaults included, beside its steps and batch size."""
    spec = specs.train_spec(specs.Run(preset, dataset, model, 0))
    defaults = {name: default for name, (_, default) in hparam_defaults(spec.entry).items()}
    return {**defaults, **spec.hparams, "steps": spec.steps, "batch_size": spec.batch_size}


PAPER_RUNS = sorted({(run.model, run.dataset) for run in plan.runs(configuration.preset("paper"))})


@pytest.mark.parametrize("model, dataset", PAPER_RUNS)
def test_learning_rates_fall_once_per_epoch(model: str, dataset: str) -> None:
    """Of the dataset at hand: its number of images by the batch size."""
    h = trained(model, dataset)
    if "gamma_every" in h and (dataset in BATCHES_PER_EPOCH or "holdout" in dataset):
        assert h["gamma_every"] == BATCHES_PER_EPOCH.get(dataset, 500)
        assert h["batch_size"] == 100


@pytest.mark.parametrize("model, dataset", [(model, dataset) for model in EPOCHS for dataset in EPOCHS[model]])
def test_steps_are_epochs(model: str, dataset: str) -> None:
    per_epoch = BATCHES_PER_EPOCH.get(dataset, 500)
    assert trained(model, dataset)["steps"] == EPOCHS[model][dataset] * per_epoch


def test_hold_outs_keep_the_weights_of_ten_epochs() -> None:
    """The last ten of fifty; no other run keeps any, and one that is too short for ten keeps none."""
    assert N_SNAPSHOTS == 10
    for preset, steps in (("paper", 25_000), ("lite", 500), ("demo", 200)):
        spec = specs.train_spec(
            specs.Run(preset, "mnist_holdout1" if preset != "demo" else "digits_holdout1", "vae", 0)
        )
        assert (spec.steps, spec.late_every) == (steps, steps // 50)
        assert spec.final_snapshots == [steps - k * (steps // 50) for k in range(9, 0, -1)]
    for dataset in ("mnist", "cifar10"):
        spec = specs.train_spec(specs.Run("paper", dataset, "vae", 0))
        assert (spec.late_every, spec.final_snapshots) == (0, [])


@pytest.mark.parametrize("dataset", ["cifar10", "celeba"])
def test_cegan_ends_where_its_learning_rates_do(dataset: str) -> None:
    """They fall over the second half."""
    h = trained("cegan", dataset)
    assert h["steps"] == h["decay_until"] == 2 * h["decay_from"]


@pytest.mark.parametrize("dataset", ["cifar10", "celeba", "lsun_bedroom", "mnist", "mnist_holdout1", "digits"])
def test_weights_of_the_joint_models(dataset: str) -> None:
    """Of "Ours" p is a hundredth of r; of "Ours(+)" e is 2 p, and z settle at |z| = sqrt(d): a = p sqrt(d), about."""
    ours, plus = trained("joint_vae_ebm", dataset), trained("joint_vae_ebm_plus", dataset)
    assert ours["prior_weight"] == pytest.approx(ours["rec_weight"] / 100)
    assert plus["entropy_weight"] == pytest.approx(2 * plus["prior_weight"])
    assert plus["rec_weight"] == ours["rec_weight"]
    assert (ours["kl_sign"], plus["kl_sign"]) == ("minus", "plus")
    assert (ours["spectral_norm_last"], plus["spectral_norm_last"]) == (False, True)


@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
def test_chains_of_igebm_are_as_long_as_those_of_its_buffer(dataset: str) -> None:
    """A chain lives for 1 / reinit iterations on average."""
    h = trained("igebm", dataset)
    defaults = {"steps": 1200, "step_size": 10.0, "noise": 0.005, "gradient_clip": 0.01}
    sampler = {**defaults, **specs.sampler(specs.Run("paper", dataset, "igebm", 0))}
    assert sampler["steps"] == h["langevin_steps"] / h["reinit"]
    assert [sampler[name] for name in ("step_size", "noise", "gradient_clip")] == [
        h[name] for name in ("step_size", "noise", "gradient_clip")
    ]


@pytest.mark.parametrize("dataset", ["celeba", "celeba_hq", "digits"])
def test_growth_begins_with_the_batches_of_its_first_level(dataset: str) -> None:
    h = trained("divergence_triangle_progressive", dataset)
    assert h["batch_size"] == h["batch_sizes"][0]
    assert h["lr_encoder"] == h["lr_generator"] >= 2 * h["lr_energy"]


PROTOCOLS = {  # the tables' samples and reference images: (samples, split, images of it)
    "cifar10": (50_000, "train", None),
    "celeba": (10_000, "train", None),
    "lsun_bedroom": (10_000, "train", 10_000),
    "imagenet32": (50_000, "train", None),
    "mnist": (10_000, "test", None),
    "fashion_mnist": (10_000, "test", None),
    "cifar10_jpeg": (10_000, "train", None),
    "celeba10k": (9_000, "train", None),
}


@pytest.mark.parametrize("dataset", PROTOCOLS)
def test_samples_are_compared_as_published(dataset: str) -> None:
    first, *others = specs.comparisons(specs.Run("paper", dataset, "vae", 0))
    assert (first.n_samples, first.reference, first.n_reference) == PROTOCOLS[dataset]
    if dataset == "cifar10":
        assert [(one.n_samples, one.reference) for one in others] == [(10_000, "train"), (10_000, "test")]


def test_presets_shorten_to_what_they_say() -> None:
    """Widths multiply, steps and samples are capped, seeds are counted."""
    widths = {name: configuration.preset(name).width for name in ("demo", "lite", "lite_jpeg", "paper")}
    assert widths == {"demo": 0.125, "lite": 0.125, "lite_jpeg": 0.125, "paper": 1.0}
    for model, steps in (("joint_vae_ebm", 500), ("meg", 852), ("bigan", 1_000)):
        assert trained(model, "mnist_holdout4", "lite")["steps"] == steps
    assert trained("divergence_triangle", "imagenet32")["width"] == 2.0
    assert trained("divergence_triangle_landscape", "mnist", "lite")["width"] == 0.125
    assert trained("divergence_triangle", "cifar10", "lite")["steps"] == 5000
    assert trained("divergence_triangle_landscape", "mnist", "lite")["steps"] == 2000
    assert trained("dcgan", "digits", "demo")["width"] == 0.125
    assert specs.comparisons(specs.Run("lite", "cifar10", "vae", 0))[0].n_samples == 10_000
    assert configuration.preset("paper").seeds == (0, 1, 2)
