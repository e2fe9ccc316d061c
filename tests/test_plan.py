"""The plan: configuration and tables -> runs, their specifications and the paths of their products."""

import fcntl
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from dtri.experiment import TrainSpec, build, hparam_defaults
from dtri.metrics import imagenet_lite
from dtri.report.cells import LABEL_FREE, Cell
from dtri.report.records import Record
from dtri.sealed import write_json, write_sealed
from workflow import configuration, jobcode, params, plan, session, specs, status
from workflow.commands import explain
from workflow.fingerprint import closure, fingerprint

ROOT = Path(__file__).resolve().parents[1]
PRESETS = tuple(configuration.presets())
RUNS = [run for preset in PRESETS for run in plan.runs(configuration.preset(preset))]
CELLS = [(preset, cell) for preset in PRESETS for name in plan.TABLES for cell in plan.table(name).cells]
YAML = {
    file: yaml.safe_load((configuration.CONFIG / f"{file}.yaml").read_text())
    for file in ("datasets", "models", "presets")
}


LARGE = ("imagenet32", "lsun_bedroom")  # in tables; twice the channels, as paper B says


def wildcards(run: specs.Run, **more: str) -> SimpleNamespace:
    return SimpleNamespace(**{**asdict(run), "seed": str(run.seed), **more})


def written(run: specs.Run) -> dict:
    """Steps, batch size and hyperparameters as models.yaml spells them, overrides of dataset or base applied."""
    entry, family = YAML["models"][run.model], specs.dataset(run.dataset).family
    base = YAML["datasets"][family].get("variant_of", family)
    overrides = entry.get("datasets", {})
    override = overrides.get(family, overrides.get(base, {}))
    merged = {key: override.get(key, entry[key]) for key in ("steps", "batch_size")}
    return {**merged, "hparams": {**entry.get("hparams", {}), **override.get("hparams", {})}}


# Presets


def test_every_preset_asks_for_runs() -> None:
    assert {run.preset for run in RUNS} == set(PRESETS)
    assert len(RUNS) == len(set(RUNS))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_changes_no_hyperparameter_but_width_and_what_it_names(preset: str) -> None:
    chosen = configuration.preset(preset)
    assert chosen.hparams == ({"bigan": {"lr": 1e-4}} if preset == "lite" else {})
    for run in plan.runs(chosen):
        spec, expected = specs.train_spec(run), written(run)
        expected["hparams"] |= chosen.hparams.get(run.model, {})
        for hparams in (spec.hparams, expected["hparams"]):
            hparams.pop("width", None)
        assert spec.hparams == expected["hparams"], run
        assert spec.batch_size == expected["batch_size"], run
        assert spec.precision == "fp32", run


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_only_shortens(preset: str) -> None:
    caps = configuration.preset(preset).max_steps
    for run in plan.runs(configuration.preset(preset)):
        most = written(run)["steps"]
        if caps and specs.dataset(run.dataset).config.holdout_of:
            most = min(round(caps.holdout_share * most), caps.holdout)
        elif caps:
            most = min(most, caps.models.get(run.model, caps.default))
        assert specs.train_spec(run).steps == most, run


def test_the_paper_preset_runs_as_published() -> None:
    for run in plan.runs(configuration.preset("paper")):
        spec = specs.train_spec(run)
        assert spec.hparams.get("width") == written(run)["hparams"].get("width")
        assert hparam_defaults(spec.entry)["width"] == ("float", 1.0)
        assert spec.steps == written(run)["steps"]
        assert specs.measured_on(configuration.preset("paper"), run.dataset) == run.dataset
    assert configuration.preset("paper").extractor == "inception"
    assert specs.n_samples(specs.Run("paper", "cifar10", "vae", 0)) == 50_000


def test_a_set_may_be_left_out_or_lack_labels() -> None:
    """A cell that cannot be measured says why, and nothing is planned for it."""
    for name, kind, reason in (
        ("table3", "svhn", "dataset svhn is not in the configuration"),
        ("table4", "mnist_holdout4", "dataset mnist_holdout4 is not in the configuration"),
        ("table1", "celeba", "celeba10k has no labels to train a domain extractor on"),
    ):
        cells = [cell for cell in plan.table(name).cells if kind in (cell.dataset, cell.against)]
        assert cells
        for cell in cells:
            assert plan.target(configuration.preset("lite_jpeg"), cell, 0).path is None
            found = status.lookup(configuration.preset("lite_jpeg"), cell, 0)
            assert (found.record, found.expected, found.reason) == (None, False, reason)
    assert "celeba10k" in {
        run.dataset for run in plan.runs(configuration.preset("lite_jpeg"))
    }  # reconstruction needs no features


@pytest.fixture(params=["", "expected the package, found none"])
def problem(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What speaks against ImageNet's weights on this machine; "" where they are here."""
    monkeypatch.setattr("dtri.metrics.imagenet_lite.problem", lambda: request.param)
    return request.param


def label_free(preset: str) -> list[Cell]:
    return [
        cell for cell in plan.preset_table(configuration.preset(preset), "table1").cells if cell.metric == LABEL_FREE
    ]


def test_features_without_labels_are_asked_for_where_a_preset_says_so(problem: str) -> None:
    """For every dataset and system of the FID, once; where the weights are not here, nothing is asked for."""
    assert label_free("paper") == label_free("demo") == []
    for preset in ("lite", "lite_jpeg"):
        asked = {(cell.dataset, cell.model) for cell in plan.table("table1").cells if cell.metric == "fid"}
        assert [(cell.dataset, cell.model) for cell in label_free(preset)].count(("celeba", "vae")) == 1
        assert {(cell.dataset, cell.model) for cell in label_free(preset)} == asked
        records = [
            path for path in plan.table_records(configuration.preset(preset), "table1") if "imagenet_lite" in path
        ]
        chosen = configuration.preset(preset)
        expected = [plan.target(chosen, cell, seed).path for cell in label_free(preset) for seed in chosen.seeds]
        assert records == ([] if problem else [str(path) for path in expected if path is not None])
    assert str(plan.target(configuration.preset("lite_jpeg"), label_free("lite_jpeg")[0], 0).path) == (
        "results/lite_jpeg/cifar10_jpeg/vae/seed0/metrics/fid_imagenet_lite.json"
    )


def test_a_cell_says_that_weights_are_not_here(problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cell = next(cell for cell in label_free("lite_jpeg") if (cell.dataset, cell.model) == ("celeba", "vae"))
    found = status.lookup(configuration.preset("lite_jpeg"), cell, 0)
    assert (found.record, found.expected, found.comparable) == (None, not problem, False)
    assert found.reason == problem or "EfficientNet-Lite0, not of the 2015 Inception network" in found.reason
    target = str(plan.target(configuration.preset("lite_jpeg"), cell, 0).path)
    if problem:
        with pytest.raises(ValueError, match=f"fid_imagenet_lite.json: {problem}"):
            plan.check_target(target)
    else:
        plan.check_target(target)


def test_a_record_is_shown_where_its_network_is_not_here(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is stale where it was measured by other weights."""
    monkeypatch.chdir(tmp_path)
    cell = next(cell for cell in label_free("lite_jpeg") if (cell.dataset, cell.model) == ("celeba", "vae"))
    target = plan.target(configuration.preset("lite_jpeg"), cell, 0)
    run, path = target.run, target.path
    extra = {
        "comparisons": [one.model_dump() for one in specs.comparisons(run)],
        "extractor_sha256": imagenet_lite.HASH,
    }
    hashes = {"train_code": jobcode.model_code("train", "vae"), "code": jobcode.measure_code("fid", "vae")}
    sizes = {"n_samples": 9, "n_reference": 9, "value": 1.0, "seconds": 1.0}
    texts = {"metric": "fid", "status": "done", "protocol": "", "device": "cpu"}
    texts |= {"extractor": f"imagenet_lite:{imagenet_lite.HASH[:12]}", "spec": specs.train_spec(run).hash}
    record = Record(**asdict(run), **hashes, **sizes, **texts, data={}, extra=extra)
    for sha256, stale in ((imagenet_lite.HASH, ()), ("other", ("extractor",))):
        replace(record, extra={**extra, "extractor_sha256": sha256}).write(path)
        found = status.lookup(configuration.preset("lite_jpeg"), cell, 0)
        assert (found.record.value, found.stale) == (1.0, stale)


def test_comparisons_are_capped_and_each_is_made_once() -> None:
    def ways(preset: str) -> list[tuple]:
        found = specs.comparisons(specs.Run(preset, "cifar10", "vae", 0))
        return [(one.n_samples, one.reference) for one in found]

    assert ways("paper") == [(50_000, "train"), (10_000, "train"), (10_000, "test")]
    assert ways("lite") == [(10_000, "train"), (10_000, "test")]
    assert specs.n_samples(specs.Run("lite", "cifar10", "vae", 0)) == 10_000


def test_the_demo_is_narrow_and_capped() -> None:
    run, caps = specs.Run("demo", "digits", "vae", 0), configuration.preset("demo").max_steps
    assert specs.train_spec(run).hparams == {"width": YAML["presets"]["demo"]["width"], "z_dim": 10}
    assert specs.train_spec(run).steps == caps.default < YAML["models"]["vae"]["steps"]
    assert specs.train_spec(specs.Run("demo", "digits_holdout4", "vae", 0)).steps == caps.holdout
    proposed = "divergence_triangle"
    assert specs.train_spec(specs.Run("demo", "digits", proposed, 0)).steps == caps.models[proposed] > caps.default
    assert specs.train_spec(specs.Run("demo", "digits_holdout4", proposed, 0)).steps == caps.holdout
    assert specs.n_samples(run) == 1000


@pytest.mark.parametrize(
    "preset, published, like, found",
    [
        ("demo", "cifar10", None, "digits"),
        ("demo", "mnist_holdout4", None, "digits_holdout4"),
        ("demo", "mnist_holdout5", None, None),
        ("demo", "svhn", "digits", "photos_1x28x28"),
        ("demo", "uniform", "digits", "uniform_1x28x28"),
        ("demo", "imagenet32", None, "digits"),
        ("demo", "places", None, None),
        ("paper", "cifar10", None, "cifar10"),
        ("paper", "mnist_holdout4", None, "mnist_holdout4"),
        ("paper", "lsun_bedroom", None, "lsun_bedroom"),
        ("paper", "uniform", "cifar10", "uniform_3x32x32"),
        ("paper", "imagenet32", None, "imagenet32"),
        ("paper", "svhn", "cifar10", "svhn"),
        ("paper", "svhn", "mnist", None),
        ("paper", "celeba32", "cifar10", "celeba32"),
        ("paper", "celeba32", "celeba", None),
        ("paper", "dtd", "cifar10", "dtd_3x32x32"),
        ("paper", "places", None, None),
    ],
)
def test_what_stands_for_a_published_dataset(preset: str, published: str, like: str | None, found: str | None) -> None:
    assert specs.measured_on(configuration.preset(preset), published, specs.dataset(like) if like else None) == found


def test_stand_ins_never_reach_the_other_presets() -> None:
    datasets = {preset: {run.dataset for run in plan.runs(configuration.preset(preset))} for preset in PRESETS}
    assert all(name.startswith("digits") for name in datasets["demo"])
    assert not any(name.startswith("digits") for preset in ("lite", "paper") for name in datasets[preset])


# Names and specifications


@pytest.mark.parametrize(
    "ask, said",
    [
        (lambda: configuration.preset("fast"), r"unknown preset 'fast' \(known: demo, "),
        (lambda: configuration.model("stylegan"), r"unknown model 'stylegan' \(known: divergence_triangle, .*dcgan"),
        (lambda: specs.dataset("imagenet"), r"unknown dataset 'imagenet' \(known: .*mnist_holdout<digit>, cifar10, .*"),
        (lambda: specs.dataset("mnist_holdout"), "unknown dataset 'mnist_holdout'"),
        (lambda: specs.dataset("mnist_holdout12"), "unknown dataset 'mnist_holdout12'"),
        (lambda: specs.dataset("uniform"), r"unknown dataset 'uniform' \(known: .*uniform_<C>x<H>x<W>"),
        (lambda: specs.dataset("cifar10_3x32x32"), "unknown dataset 'cifar10_3x32x32'"),
        (lambda: specs.train_spec(specs.Run("demo", "uniform_1x28x28", "vae", 0)), "has no training images"),
        (lambda: specs.train_spec(specs.Run("paper", "svhn", "vae", 0)), "has no training images"),
        (lambda: plan.classes_folder("celeba"), "'celeba' has no labels .* use inception"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(ask, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ask()


def test_specifications_survive_the_command_line() -> None:
    for run in RUNS:
        spec = specs.train_spec(run)
        assert TrainSpec.from_json(params.train_spec(wildcards(run))) == spec
        assert TrainSpec.from_json(spec.to_json()).hash == spec.hash
    texts = [specs.train_spec(run).to_json() for run in RUNS]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("preset", PRESETS)
def test_seeds(preset: str) -> None:
    seeds = configuration.preset(preset).seeds
    for name in plan.TABLES:
        records = plan.table_records(configuration.preset(preset), name)
        assert len(records) == len(set(records))
        by_seed = {seed: {r.replace(f"/seed{seed}/", "/") for r in records if f"/seed{seed}/" in r} for seed in seeds}
        assert sum(map(len, by_seed.values())) == len(records)
        assert len(set(map(frozenset, by_seed.values()))) == 1
    assert {run.seed for run in plan.runs(configuration.preset(preset))} == set(seeds)
    assert {specs.train_spec(run).seed for run in plan.runs(configuration.preset(preset))} == set(seeds)


def test_the_paper_preset_has_several_seeds() -> None:
    assert len(configuration.preset("paper").seeds) >= 3


@pytest.mark.parametrize("kind", ["trainable", "ood", "holdout"])
def test_dataset_patterns_part_the_names(kind: str) -> None:
    names = {
        "trainable": [
            "digits",
            "mnist",
            "cifar10",
            "celeba",
            "celeba_crop178",
            "imagenet32",
            "lsun_tower",
            "celeba_hq_4",
        ],
        "ood": ["uniform_1x28x28", "photos_3x32x32", "svhn", "celeba32", "dtd_3x32x32", "dtd_crop_3x32x32"],
        "holdout": ["mnist_holdout4", "digits_holdout9"],
    }
    found = [name for group in names.values() for name in group if re.fullmatch(params.dataset_pattern(kind), name)]
    assert found == names[kind]
    assert not re.fullmatch(params.dataset_pattern(kind), "mnist_holdout44")


def test_a_variant_shares_the_raw_files_and_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in {
        "celeba_crop178": "celeba",
        "celeba32": "celeba",
        "dtd_crop_3x32x32": "dtd",
        "celeba_hq_4": "celeba_hq",
    }.items():
        given = SimpleNamespace(dataset=name)
        assert f'--raw "$DTRI_DOWNLOADS/{source}"' in params.fetch_arguments(given)
        assert params.raw(given, []) == source
    spec, variant = (
        json.loads(specs.train_spec(specs.Run("paper", name, "vae", 0)).to_json())
        for name in ("celeba", "celeba_crop178")
    )
    assert variant == spec | {"dataset": "celeba_crop178"}
    entry = configuration.models()["vae"]
    own = {**entry.datasets, "celeba_crop178": configuration.ModelOverride(steps=7)}
    monkeypatch.setitem(configuration.models(), "vae", entry.model_copy(update={"datasets": own}))
    assert specs.train_spec(specs.Run("paper", "celeba_crop178", "vae", 0)).steps == 7


# Samplers


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch):
    """Puts other sampler arguments in the place of those in models.yaml."""

    def configure(sampler: dict, on_digits: dict) -> None:
        entry = configuration.models()["coopnet"]
        digits = configuration.ModelOverride(**{**entry.datasets["digits"].model_dump(), "sampler": on_digits})
        update = {"sampler": sampler, "datasets": {**entry.datasets, "digits": digits}}
        monkeypatch.setitem(configuration.models(), "coopnet", entry.model_copy(update=update))

    return configure


COOPNET = specs.Run("demo", "digits", "coopnet", 0)


def test_a_sampler_reaches_sampling_and_its_measurements_alone(configured) -> None:
    texts = {}
    for steps in (3, 4):
        configured({"steps": steps}, {})
        given = wildcards(COOPNET, extractor="domain")
        assert (
            json.loads(params.sampler(given))
            == json.loads(params.generation_spec(given))["sampler"]
            == {"steps": steps}
        )
        texts[steps] = params.train_spec(given), params.train_code(given), params.code_of("score")(given)
    assert texts[3] == texts[4]
    assert "sampler" not in params.train_spec(wildcards(COOPNET))


def test_a_dataset_overrides_sampler_arguments_one_by_one(configured) -> None:
    configured({"steps": 3, "scale": 0.1}, {"steps": 7})
    assert specs.sampler(COOPNET) == {"steps": 7, "scale": 0.1}
    assert specs.sampler(specs.Run("paper", "cifar10", "coopnet", 0)) == {"steps": 3, "scale": 0.1}


def test_samples_of_another_sampler_are_stale(configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A diverged run has no samples, and so none of another sampler."""
    monkeypatch.chdir(tmp_path)
    cell = next(
        c for c in plan.table("table1").cells if (c.model, c.dataset, c.metric) == ("coopnet", "cifar10", "fid")
    )
    hashes = {"train_code": jobcode.model_code("train", "coopnet"), "code": jobcode.measure_code("fid", "coopnet")}
    sizes = {"n_samples": 9, "n_reference": 9, "value": 1.0, "seconds": 1.0}
    texts = {"metric": "fid", "status": "done", "protocol": "", "extractor": "", "device": "cpu"}
    spec = specs.train_spec(COOPNET).hash
    ways = [one.model_dump() for one in specs.comparisons(COOPNET)]
    extra = {"sampler": {"steps": 3}, "comparisons": ways, "extractor_sha256": "e"}
    record = Record(**asdict(COOPNET), **hashes, **sizes, **texts, spec=spec, data={}, extra=extra)
    path = plan.target(configuration.preset("demo"), cell, 0).path
    for sampler, ended, stale in (
        ({"steps": 3}, "done", ()),
        ({"steps": 4}, "done", ("sampler",)),
        ({}, "done", ("sampler",)),
        ({"steps": 4}, "diverged", ()),
    ):
        configured(sampler, {})
        replace(record, status=ended).write(path)
        assert status.lookup(configuration.preset("demo"), cell, 0).stale == stale


def test_records_of_other_runs_comparisons_and_networks_are_stale(tmp_path: Path, monkeypatch) -> None:
    """A copied record is judged by what it says of itself."""
    monkeypatch.chdir(tmp_path)
    cell = next(c for c in plan.table("table1").cells if (c.model, c.dataset, c.metric) == ("vae", "cifar10", "fid"))
    run = specs.Run("demo", "digits", "vae", 0)
    ways = [one.model_dump() for one in specs.comparisons(run)]
    record = Record(
        **asdict(run),
        metric="fid",
        value=1.0,
        status="done",
        n_samples=9,
        n_reference=9,
        protocol="",
        extractor="",
        spec=specs.train_spec(run).hash,
        train_code=jobcode.model_code("train", "vae"),
        code=jobcode.measure_code("fid", "vae"),
        data={"digits": "d"},
        device="cpu",
        seconds=1.0,
        extra={"comparisons": ways, "extractor_sha256": "e"},
    )
    path = plan.target(configuration.preset("demo"), cell, 0).path
    for folder, content in (("classifier", {"sha256": "e"}), ("meta", {"content": "d"})):
        write_json(Path(f"results/data/digits/{folder}.json"), content)

    def stale(**changes) -> tuple[str, ...]:
        replace(record, **changes).write(path)
        return status.lookup(configuration.preset("demo"), cell, 0).stale

    assert stale() == ()
    assert stale(seed=1) == ("record of demo/digits/vae/seed1 fid",)
    assert stale(preset="lite") == ("record of lite/digits/vae/seed0 fid",)
    assert stale(metric="kid") == ("record of demo/digits/vae/seed0 kid",)
    assert stale(extra={"comparisons": [{**ways[0], "n_samples": 5}], "extractor_sha256": "e"}) == ("comparisons",)
    assert stale(extra={"extractor_sha256": "e"}) == ("comparisons",)  # of a version that did not say
    assert stale(extra={"comparisons": ways, "extractor_sha256": "f"}) == ("extractor",)
    assert stale(data={"digits": "other"}) == ("data digits",)
    assert stale(code="0") == ("measuring code",)
    assert stale(spec="0") == ("training specification",)
    assert stale(train_code="0") == ("training code",)
    assert stale(status="diverged", value=None, extra={}) == ()


def test_a_record_carries_the_code_before_it() -> None:
    """That of the scores behind an AUROC, and of the samples behind an FID."""
    assert "dtri.anomaly" in closure(jobcode.modules("auroc", "vae"))
    assert "workflow.commands.sample" in closure(jobcode.modules("generation", "vae"))
    assert "baselines.vae" in closure(jobcode.modules("auprc", "vae"))


# Tables and figures


@pytest.mark.parametrize("name", plan.TABLES)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_cell_resolves_or_is_reported_missing(
    preset: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no results
    pairs = [(cell, seed) for cell in plan.table(name).cells for seed in configuration.preset(preset).seeds]
    assert pairs
    for cell, seed in pairs:
        found = status.lookup(configuration.preset(preset), cell, seed)
        path = plan.target(configuration.preset(preset), cell, seed).path
        assert found.record is None, cell
        if path is None:
            assert not found.expected, cell
            on = specs.measured_on(configuration.preset(preset), cell.dataset)
            names = (f"system {cell.model}", f"dataset {cell.against or cell.dataset}")
            reasons = [f"{name} is not in the configuration" for name in names]
            assert found.reason in (*reasons, f"{on} has no labels to train a domain extractor on"), cell
        else:
            run = plan.target(configuration.preset(preset), cell, seed).run
            assert found.expected, cell
            assert str(path).startswith(f"{run.folder}/metrics/{cell.metric}"), cell
            assert (run.seed, run.model) == (seed, cell.model)
            assert run.dataset == found.measured_on


def test_images_seen_in_training_are_counted_beside_a_measurement(tmp_path: Path, monkeypatch) -> None:
    """By the description of the dataset: shared images, and of the leaky split those that training has seen."""
    monkeypatch.chdir(tmp_path)
    cells = [next(c for c in plan.table("table4").cells if c.metric == metric) for metric in ("auprc", "auprc_leaky")]
    folder = Path("results/data/mnist_holdout1")
    for n, fraction, texts in ((0, 0.8, ("", "80% of the normal test images")), (3, 0.5, ("3 of the 9", "50% of the"))):
        meta = {"n_test_in_train": n, "sizes": {"test": 9}, "source": {"leaked_fraction": fraction}, "content": "c"}
        write_sealed(folder / "meta.json", meta)
        found = []
        for cell in cells:
            run = plan.target(configuration.preset("paper"), cell, 0).run
            sizes = {"n_samples": 9, "n_reference": 3, "value": 0.5, "seconds": 1.0}
            words = {"metric": cell.metric, "status": "done", "protocol": "", "extractor": "", "device": "cpu"}
            made = Record(**asdict(run), **sizes, **words, spec="", train_code="", code="", data={})
            made.write(plan.target(configuration.preset("paper"), cell, 0).path)
            found.append(status.lookup(configuration.preset("paper"), cell, 0).seen_in_training)
        for text, start in zip(found, texts, strict=True):
            assert text.startswith(start)
            assert bool(text) == bool(start)


def test_a_cell_of_another_dataset_or_preset_is_never_comparable() -> None:
    for preset, cell in CELLS:
        found = status.lookup(configuration.preset(preset), cell, 0)
        same = preset == "paper" and found.measured_on == cell.dataset
        assert found.comparable == (found.expected and same), (preset, cell)
        assert bool(found.reason) != found.comparable


@pytest.mark.parametrize("preset", PRESETS)
def test_figures_ask_for_what_some_rule_makes(preset: str) -> None:
    made = re.compile(
        r"results/(data/\w+/(train|test)\.npy|\w+/\w+/\w+/seed\d+/(train\.csv|train\.json|landscape\.(npz|csv)|growth\.npz|"
        r"(grid|interpolation(_prior)?|reconstructions)\.npy|scores/\w+__(train|test|test_leaky)\.npz|metrics/\w+\.json))"
    )
    for name in plan.FIGURES:
        for product in plan.figure_products(configuration.preset(preset), name):
            assert made.fullmatch(str(product.path)), (name, product)


def test_gaps_of_a_figure_have_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reasons(preset: str) -> list[str]:
        return [gap.reason for gap in plan.figure_missing(configuration.preset(preset), "large_scale")]

    monkeypatch.chdir(tmp_path)
    assert reasons("lite") == ["left out of preset lite"] * 4
    assert reasons("demo") == reasons("paper") == ["not made yet"] * 4
    made = Path(plan.figure_products(configuration.preset("demo"), "large_scale")[0].path)
    made.parent.mkdir(parents=True)
    made.touch()
    assert reasons("demo") == ["digits stands in, shown for ImageNet"] * 3


@pytest.mark.parametrize("preset", PRESETS)
def test_growth_is_complete_in_every_preset(preset: str) -> None:
    """Else the figures would show a level that was still fading in, or no level of the full size at all."""
    (product,) = plan.figure_products(configuration.preset(preset), "high_resolution")
    spec = specs.train_spec(specs.Run(preset, product.measured_on, product.model, 0))
    with torch.device("meta"):
        model = build(spec.entry, spec.image_shape, spec.hparams)
    assert model.phase(spec.steps - 1) == (spec.image_shape[1], False)
    assert model.span(spec.steps, spec.batch_size)[0] >= 1.1 * model.span(model.phases[-1].start, spec.batch_size)[0]
    assert [spec.image_shape[1], len(model.milestones(spec.steps))] in ([32, 3], [64, 4], [1024, 8])


@pytest.mark.parametrize("preset", PRESETS)
def test_the_control_of_growth_does_not_grow(preset: str) -> None:
    """And differs from what does in nothing else: the same settings, and as many images."""
    products = [
        p for p in plan.figure_products(configuration.preset(preset), "growth_compared") if p.file == "grid.npy"
    ]
    grown, control = (specs.train_spec(specs.Run(preset, p.measured_on, p.model, 0)) for p in products)
    with torch.device("meta"):
        models = [build(spec.entry, spec.image_shape, spec.hparams) for spec in (grown, control)]
    assert [phase.level for phase in models[1].phases] == [len(models[1].sides) - 1]
    assert {**control.hparams, "start_side": None} == {**grown.hparams, "start_side": None}
    seen = [model.span(spec.steps, spec.batch_size)[0] for model, spec in zip(models, (grown, control), strict=True)]
    assert seen[0] == seen[1]


def test_large_datasets_double_the_channels() -> None:
    """Paper B section 4.1.2; a preset's width is a factor on what a dataset asks for."""
    for name in ("imagenet32", "lsun_bedroom", "lsun_tower", "lsun_church_outdoor"):
        for preset, width in (("paper", 2.0), ("lite", 0.25)):
            hparams = specs.train_spec(specs.Run(preset, name, "divergence_triangle", 0)).hparams
            assert hparams == {"width": width, "batch_norm": True}


def test_targets_of_a_preset() -> None:
    assert plan.preset_products(configuration.preset("demo"))[0] == "results/demo/table1.csv"
    n_tables, n_figures, n_claims = 4 * len(plan.TABLES), 2 * len(plan.FIGURES), len(plan.CLAIM_FORMATS)
    assert len(plan.preset_products(configuration.preset("demo"))) == n_tables + n_figures + n_claims + 2
    rules = (ROOT / "workflow" / "rules" / "report.smk").read_text()
    for made in re.findall(r'"(results/{preset}/.*?)"', rules):
        names = {"table": plan.TABLES[0], "figure": plan.FIGURES[0]}
        if "/logs/" not in made and "--" not in made and not made.endswith("/all.csv"):  # asked for by itself
            assert made.format(preset="demo", **names) in plan.preset_products(configuration.preset("demo"))


def test_a_dataset_that_was_deleted_is_made_anew_with_all_its_files() -> None:
    """What preparing writes lies behind every product; the domain classifier behind a landscape in every preset."""
    rules = (ROOT / "workflow" / "rules" / "data.smk").read_text()
    made = re.findall(r"rule prepare.*?output:\n(.*?)    (?:log|wildcard_constraints):", rules, re.S)
    for outputs, name in zip(made, ("digits", "uniform_1x28x28", "mnist_holdout4"), strict=True):
        written = [path.format(dataset=name) for path in re.findall(r'"(.*?)"', outputs)]
        assert specs.dataset(name).files == written
    run = specs.Run("paper", "mnist_holdout4", "vae", 0)
    behind = set(plan.record_sources(Path(run.folder, "metrics", "auprc.json")))
    assert behind >= {f"results/data/mnist_holdout4/{name}" for name in ("train.npy", "test_leaky.npy", "index.npz")}
    mapped = specs.Run("paper", "fashion_mnist", "divergence_triangle_landscape", 0)
    behind = set(plan.record_sources(Path(mapped.folder, "metrics", "landscape_purity.json")))
    assert behind >= {f"results/data/fashion_mnist/classifier.{ending}" for ending in ("safetensors", "json")}


# Code


@pytest.mark.parametrize("model", configuration.models())
@pytest.mark.parametrize("kind", jobcode.BUILDS_MODEL)
def test_jobs_that_build_a_model_carry_its_code(model: str, kind: str) -> None:
    module = configuration.model(model).entry.partition(":")[0]
    assert jobcode.model_code(kind, model) == fingerprint((jobcode.COMMAND[kind], module))
    assert module in closure([jobcode.COMMAND[kind], module])


def test_explain_and_the_plan_agree_on_code() -> None:
    for model in configuration.models():
        for metric in ("fid", *jobcode.WRITERS):
            assert fingerprint(jobcode.measure_modules(metric, model)) == jobcode.measure_code(metric, model)


def test_every_kind_of_job_has_a_command() -> None:
    for kind, module in jobcode.COMMAND.items():
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), kind


# Around the jobs


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "_settings", session.Settings())
    return session.configure


@pytest.mark.parametrize("device, expected", [("cpu", 0), ("gpu", 1)])
def test_the_device_setting_overrides_the_preset(settings, device: str, expected: int) -> None:
    settings({"device": device})
    assert [params.gpus(SimpleNamespace(preset=preset)) for preset in PRESETS] == [expected] * len(PRESETS)
    assert f"export DTRI_DEVICE={device};" in session.shell_prefix("/bin/python")


def test_the_paper_preset_asks_for_a_gpu(settings) -> None:
    assert params.gpus(SimpleNamespace(preset="paper")) == 1


@pytest.mark.parametrize("downloads", ["downloads", "my data", 'a "quoted" $HOME `x` folder', "it's"])
def test_settings_reach_the_shell_unchanged(settings, downloads: str) -> None:
    settings({"downloads": downloads, "offline": True})
    script = (
        session.shell_prefix("/opt/some where/bin/python")
        + 'printf "%s|%s|%s" "$DTRI_DOWNLOADS" "$DTRI_OFFLINE" "$PATH"'
    )
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("|")
    assert found[:2] == [downloads, "1"]
    assert found[2].startswith("/opt/some where/bin:")
    assert found[2].endswith("/bin")


def test_two_runs_never_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "_lock", None)
    (tmp_path / ".snakemake").mkdir()
    with open(tmp_path / ".snakemake" / "run.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another snakemake is working on this directory"):
            session.lock_run()
    session.lock_run()  # the other is gone


# The whole


@pytest.fixture(scope="module")
def table1(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A dry run of `snakemake --cores 8 results/table1.csv` where nothing has been made yet."""
    options = ["--dry-run", "--printshellcmds", "--cores", "8", "--snakefile", str(ROOT / "Snakefile")]
    folder = tmp_path_factory.mktemp("empty")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *options, "--directory", str(folder), "results/table1.csv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"text": done.stdout + done.stderr, "cpu": cpu}


def test_the_paper_table_plans_quickly(table1: dict) -> None:
    """Aim: 5 s; twice that of CPU time, since wall clocks measure what else the machine does."""
    assert table1["cpu"] < 10


def test_the_paper_table_trains_at_full_width(table1: dict) -> None:
    jobs = {str(job.run.folder): job for job in explain.parse(table1["text"]) if job.rule == "train"}
    for model in ("vae", "dcgan", "divergence_triangle", "joint_vae_ebm"):
        for seed in configuration.preset("paper").seeds:
            assert f"results/paper/cifar10/{model}/seed{seed}" in jobs
    asked = [json.loads(text) for text in re.findall(r"forkserver train --spec '(.*?)' ", table1["text"])]
    assert len(asked) == len(jobs)
    for spec in asked:
        doubled = spec["model"] == "divergence_triangle" and spec["dataset"] in LARGE
        assert spec["hparams"].get("width", 1.0) == (2.0 if doubled else 1.0)
    assert {spec["steps"] for spec in asked if spec["dataset"] == "cifar10" and spec["model"] == "dcgan"} == {200_000}


def test_the_paper_table_asks_for_each_job_once(table1: dict) -> None:
    outputs = [path for job in explain.parse(table1["text"]) for path in job.output]
    assert len(outputs) == len(set(outputs))
    assert {"results/table1.csv", "results/paper/table1.csv", "results/data/cifar10/train.npy"} <= set(outputs)
    assert not any(path.startswith(("results/demo", "results/lite", "results/data/digits")) for path in outputs)


@pytest.mark.parametrize(
    "kind",
    [
        configuration.PresetConfig,
        configuration.MaxSteps,
        configuration.ModelConfig,
        configuration.Sweep,
        configuration.DatasetConfig,
        configuration.GenerationProtocol,
        session.Settings,
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_key_is_documented(kind: type) -> None:
    text = (configuration.CONFIG / "README.md").read_text()
    cells = {cell for line in text.splitlines() if line.startswith("| ") for cell in re.findall(r"\w+", line)}
    assert set(kind.model_fields) - cells == set()


def test_every_landscape_setting_is_documented_with_its_default() -> None:
    text = (configuration.CONFIG / "README.md").read_text()
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    documented = {}
    for names, defaults in rows:
        keys = re.findall(r"`(\w+)`", names)
        values = re.findall(r"`\w+`$|\[[^]]*\]|\d[\d.]*", defaults.strip())
        documented |= dict(zip(keys, values)) if len(keys) == len(values) else {}
    for name, value in asdict(configuration.LandscapeSettings()).items():
        shown = "[" + ", ".join(f"{v:g}" for v in value) + "]" if isinstance(value, tuple) else f"{value}"
        assert documented[name].strip("`") == shown, name


@pytest.mark.parametrize("name", ["default", "slurm"])
def test_every_option_of_a_profile_is_documented(name: str) -> None:
    folder = ROOT / "profiles"
    keys = yaml.safe_load((folder / name / "profile.yaml").read_text())
    documented = re.findall(r"^\| `([\w-]+)", (folder / "README.md").read_text(), re.M)
    assert set(keys) - set(documented) == set()


def test_a_run_of_several_processes_asks_for_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    wildcards = SimpleNamespace(preset="paper", dataset="cifar10", model="vae", seed="0")
    asked = params.train_gpus(wildcards), params.train_threads(wildcards), params.train_memory_mb(wildcards)
    assert params.train_launcher(wildcards, []) == "python -m workflow.forkserver train"
    vae = configuration.models()["vae"].model_copy(update={"processes": 2, "sync_batch_norm": False})
    monkeypatch.setattr(configuration, "models", lambda: {"vae": vae})
    spec = specs.train_spec(params.run_of(wildcards))
    assert (spec.processes, spec.sync_batch_norm) == (2, False)
    doubled = params.train_gpus(wildcards), params.train_threads(wildcards), params.train_memory_mb(wildcards)
    assert doubled == tuple(2 * number for number in asked) == (2, 8, 20_000)
    launcher = "python -m torch.distributed.run --standalone --nproc-per-node 2 -m workflow.commands.train"
    assert params.train_launcher(wildcards, []) == launcher


def test_dataset_overrides_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    override = configuration.ModelOverride(processes=4, sync_batch_norm=False)
    dcgan = configuration.models()["dcgan"].model_copy(update={"datasets": {"celeba": override}})
    monkeypatch.setattr(configuration, "models", lambda: {"dcgan": dcgan})
    found = [specs.train_spec(specs.Run("paper", name, "dcgan", 0)) for name in ("celeba", "cifar10")]
    assert [(spec.processes, spec.sync_batch_norm) for spec in found] == [(4, False), (1, True)]


@pytest.mark.parametrize("job", ["", "7"])
def test_only_jobs_of_slurm_ignore_its_warning(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", job) if job else monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    before = signal.getsignal(signal.SIGUSR1)
    try:
        session.ignore_sigusr1_under_slurm()
        assert (signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN) == bool(job)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_runs_per_gpu_reach_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "DTRI_RUNS_PER_GPU" not in session.shell_prefix(sys.executable)
    monkeypatch.setattr(session, "_settings", session.Settings(runs_per_gpu=3))
    assert "export DTRI_RUNS_PER_GPU=3; " in session.shell_prefix(sys.executable)


def test_the_slurm_profile_keeps_what_is_right_everywhere() -> None:
    default, slurm = (
        yaml.safe_load((ROOT / "profiles" / name / "profile.yaml").read_text()) for name in ("default", "slurm")
    )
    assert {key: slurm[key] for key in default if key != "resources"} == {
        key: value for key, value in default.items() if key != "resources"
    }


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("results/fast/table1.csv", r"unknown preset 'fast' \(known: demo, "),
        ("results/fast/figures/samples.png", "unknown preset 'fast'"),
        ("results/demo/table9.csv", r"unknown table 'table9' \(known: table1"),
        ("results/table9.csv", "unknown table 'table9'"),
        ("results/demo/figures/nope.png", r"unknown figure 'nope' \(known: systems"),
        ("results/figures/nope.pdf", "unknown figure 'nope'"),
        ("results/demo/nope/vae/seed0/train.json", r"unknown dataset 'nope' \(known: digits"),
        ("results/demo/digits/nope/seed0/train.json", r"unknown model 'nope' \(known: divergence_triangle"),
        ("results/data/nope/meta.json", "unknown dataset 'nope'"),
    ],
)
def test_a_target_that_cannot_be_made_is_named(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan.check_target(target)


@pytest.mark.parametrize(
    "word",
    ["demo", "8", "--report", "results/demo/report.html", "results/demo/table1.csv", "results/table4.tex"]
    + [
        "results/figures/samples.png",
        "results/lite/mnist_holdout4/vae/seed0/train.json",
        "results/data/inception.json",
    ],
)
def test_other_words_of_the_command_line_pass(word: str) -> None:
    plan.check_target(word)


COMPARED = ("table1", "table2", "table4")


def asked(preset: str, model: str) -> list[specs.Run]:
    """The runs of the first seed that tables 1, 2 and 4 ask for."""
    cells = [cell for name in COMPARED for cell in plan.table(name).cells if cell.model == model]
    return list(dict.fromkeys(run for cell in cells if (run := plan.target(configuration.preset(preset), cell, 0).run)))


@pytest.mark.parametrize("preset", ["demo", "lite", "paper"])
def test_the_control_differs_from_ours_plus_by_the_equation_alone(preset: str) -> None:
    runs = asked(preset, "joint_vae_ebm_control")
    assert runs
    for run in runs:
        control, plus = specs.train_spec(run), specs.train_spec(replace(run, model="joint_vae_ebm_plus"))
        assert control.hparams == {**plus.hparams, "kl_sign": "minus"}
        assert replace(control, model=plus.model, hparams=plus.hparams) == plus
    cells = [cell for name in COMPARED for cell in plan.table(name).cells]
    assert all(cell.published is None for cell in cells if cell.model == "joint_vae_ebm_control")


@pytest.mark.parametrize("model", ["joint_vae_ebm", "joint_vae_ebm_plus"])
def test_weights_of_the_joint_models_go_by_the_number_of_pixel_values(model: str) -> None:
    """r = 0.05 at 3x32x32 is 0.0125 at 3x64x64, for LSUN-bedroom as for CelebA; a, p and e fall with it."""
    weights = {}
    for run in asked("paper", model):
        spec = specs.train_spec(run)
        defaults = {name: default for name, (_, default) in hparam_defaults(spec.entry).items()}
        named = {**defaults, **spec.hparams}
        names = ("rec_weight", "prior_weight") + (
            ("energy_weight", "entropy_weight") if model != "joint_vae_ebm" else ()
        )
        weights[spec.dataset] = [named[name] for name in names]
    assert weights["cifar10"] == pytest.approx([4 * w for w in weights["celeba"]])
    assert weights["lsun_bedroom"] == weights["celeba"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "kl_sign: plus",
            "kl_sgn: plus",
            "joint_vae_ebm_plus.hparams.kl_sgn: unknown hyperparameter 'kl_sgn'.*known: kl_sign",
        ),
        ("gamma_every: 90}", "gamma_every: -90}", "celeba.hparams.gamma_every: expected a positive int"),
        ("mnist_holdout: {", "minst_holdout: {", "divergence_triangle.datasets.minst_holdout: unknown dataset"),
    ],
)
def test_a_mistake_in_the_models_is_named(
    before: str, after: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (configuration.CONFIG / "models.yaml").read_text()
    assert before in text
    for file in ("presets.yaml", "datasets.yaml"):
        shutil.copy(configuration.CONFIG / file, tmp_path)
    (tmp_path / "models.yaml").write_text(text.replace(before, after, 1))
    monkeypatch.setattr(configuration, "CONFIG", tmp_path)
    configuration.models.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"models.yaml, line \d+: .*" + message):
            plan.check_configuration()
    finally:
        configuration.models.cache_clear()


MODULE = """
from dtri.data import image_folder, store
KNOWN{type} = {known}
def prepare(raw, image_shape, options, seed):
    {checked}
    return {returned}
"""
FOLDER = configuration.known_options("dtri.data.image_folder")
CHECKED = 'checks.check_options(options, KNOWN, "mine")'


@pytest.mark.parametrize(
    "type, known, checked, returned, expected",
    [
        ("", "('a', 'b')", CHECKED, "1", ("a", "b")),
        (": tuple[str, ...]", "('a',)", CHECKED, "1", ("a",)),
        ("", "tuple('a' + 'b')", CHECKED, "1", None),
        ("", "1", "image_folder.open_image", "1", None),
        ("", "1", "pass", "image_folder.prepare(raw, image_shape, options, seed)", FOLDER),
    ],
)
def test_options_of_a_users_module(type, known, checked, returned, expected, tmp_path: Path, monkeypatch) -> None:
    """Its own, or those of the module to which it leaves the work, and not of one from which it borrows."""
    (tmp_path / "mine.py").write_text(MODULE.format(type=type, known=known, checked=checked, returned=returned))
    path_of = configuration.path_of
    monkeypatch.setattr(
        configuration, "path_of", lambda name: tmp_path / "mine.py" if name == "mine" else path_of(name)
    )
    monkeypatch.setattr(configuration, "imports", lambda name: frozenset({"dtri.data.image_folder", "dtri.data.store"}))
    configuration.known_options.cache_clear()
    assert configuration.known_options("mine") == expected
    configuration.known_options.cache_clear()


# The energy landscape


@pytest.mark.parametrize("preset", PRESETS)
def test_landscapes_are_mapped_by_the_presets_settings(preset: str) -> None:
    run = SimpleNamespace(preset=preset)
    assert json.loads(params.landscape_spec(run))["thresholds"] == list(
        configuration.preset(preset).landscape.thresholds
    )
    assert (
        configuration.preset("demo").landscape.starts
        < configuration.preset("lite").landscape.starts
        < configuration.preset("paper").landscape.starts
    )


def test_only_figures_ask_for_the_landscape_model() -> None:
    found = {
        preset: [run.dataset for run in plan.runs(configuration.preset(preset)) if "landscape" in run.model]
        for preset in ("demo", "lite", "lite_jpeg", "paper")
    }
    assert found == {"demo": ["digits"], "lite": ["mnist"], "lite_jpeg": [], "paper": ["fashion_mnist"]}


@pytest.mark.parametrize(
    "edit, message",
    [
        ("from_sample: 20", r"presets.yaml, line \d+: demo.landscape.from_sample: .*found 20"),
        (
            "from_samples: -20",
            r"presets.yaml, line \d+: demo.landscape: .*expected two starts or more, none of a kind below 0",
        ),
        ("from_samples: many", r"presets.yaml, line \d+: demo.landscape.from_samples: .*found 'many'"),
    ],
)
def test_a_mistake_in_the_settings_names_file_and_key(edit: str, message: str, tmp_path, monkeypatch) -> None:
    text = (configuration.CONFIG / "presets.yaml").read_text()
    (tmp_path / "presets.yaml").write_text(text.replace("from_samples: 8", edit))
    monkeypatch.setattr(configuration, "CONFIG", tmp_path)
    with pytest.raises(ValueError, match=message):
        configuration._load("presets.yaml", configuration.PresetConfig)
