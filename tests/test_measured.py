"""Everything measured in a preset, and what two of them differ by: own systems, seeds, intervals, what is stale."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import pandas as pd
import pytest

from dtri.report.contrasts import estimate
from dtri.report.intervals import over_seeds
from dtri.report.records import Record
from tests import overlays
from tests.overlays import used, written
from workflow import configuration, jobcode, params, specs
from workflow.commands import compare, measured, status
from workflow.targets import expand

SWEEP = "rates:\n  variants_of: vae\n  hparams: {lr: [1.0e-4, 3.0e-4, 0.001]}\n"


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    entries = {"models": overlays.MODELS + SWEEP, "datasets": overlays.DATASETS, "presets": overlays.PRESETS}
    return written(tmp_path / "own", **entries)


def record(folder: str, metric: str, value: float | None, **changes: object) -> None:
    """A current record in a run's folder, but for `changes`."""
    _, preset, data, system, seed = Path(folder).parts[-5:]
    run = specs.Run(preset, data, system, int(seed.removeprefix("seed")))
    name = metric.partition("_")[0]
    values = {
        "preset": preset,
        "dataset": data,
        "model": system,
        "seed": run.seed,
        "metric": name,
        "value": value,
        "status": "diverged" if value is None else "done",
        "n_samples": 20,
        "n_reference": 20,
        "protocol": "a way",
        "extractor": "",
        "spec": specs.train_spec(run).hash,
        "train_code": jobcode.training_code(run),
        "data": {},
        "code": jobcode.measure_code(name, system),
        "device": "cpu",
        "seconds": 1.0,
        "extra": {"comparisons": [one.model_dump() for one in specs.comparisons(run)], "sampler": specs.sampler(run)},
    }
    Record(**values | changes).write(Path(folder) / "metrics" / f"{metric}.json")


def frame(*words: str, command: Callable[[list[str]], int] = measured.main) -> pd.DataFrame:
    assert command([*words, "--out", "found.csv"]) == 0
    return pd.read_csv("found.csv", keep_default_na=False, na_values={"mean": "", "low": "", "high": ""})


def test_own_systems_and_datasets_are_listed_without_a_cell(own: Path) -> None:
    with used(own):
        for seed, value in enumerate((0.25, 0.5, 1.0)):
            record(f"results/own/own_images/own_vae/seed{seed}", "rmse", value)
        record("results/own/digits/vae/seed0", "fid_domain", 7.5)
        record("results/own/digits/vae/seed1", "fid_domain", None)
        found = frame("--preset", "own")
    assert list(found.columns) == list(measured.COLUMNS)
    fid, rmse = (row for _, row in found.iterrows())
    assert tuple(rmse[["dataset", "model", "metric"]]) == ("own_images", "own_vae", "rmse")
    assert (rmse["mean"], rmse.low, rmse.high) == pytest.approx((mean((0.25, 0.5, 1)), *over_seeds((0.25, 0.5, 1.0))))
    assert (rmse.n_seeds, rmse.seeds, rmse.diverged, rmse.n_samples) == (3, "0 1 2", 0, 20)
    assert (rmse.stale, rmse.protocol) == ("", "a way")
    assert (fid["mean"], fid.n_seeds, str(fid.seeds), fid.diverged) == (7.5, 1, "0", 1)
    assert pd.isna(fid.low), "one seed has no interval"


def test_stale_records_are_shown_where_there_are_no_others(own: Path) -> None:
    with used(own):
        record("results/own/digits/vae/seed0", "rmse", 0.25)
        record("results/own/digits/vae/seed1", "rmse", 9.0, train_code="other")
        record("results/own/digits/dcgan/seed0", "fid_domain", 3.0, spec="other", protocol="another way")
        gan, vae = (row for _, row in frame("--preset", "own").iterrows())
    assert (vae["mean"], vae.n_seeds, vae.stale) == (0.25, 1, "")
    assert (gan["mean"], gan.stale, gan.protocol) == (3.0, "training specification", "another way")


def test_nothing_measured(capsys: pytest.CaptureFixture) -> None:
    """A product with a head and no rows; to the terminal an error."""
    assert frame("--preset", "demo").empty
    with pytest.raises(FileNotFoundError, match="expected records below results/demo, found none"):
        measured.main(["--preset", "demo"])


def test_the_product_is_made_anew_for_new_numbers_alone(own: Path) -> None:
    """By a param: no record is its input, so that asking for it measures and trains nothing."""
    job = SimpleNamespace(preset="own")
    with used(own):
        seen = [params.measured_records(job)]
        record("results/own/digits/vae/seed0", "rmse", 0.25)
        seen += [params.measured_records(job), params.measured_records(job)]
        record("results/demo/digits/vae/seed0", "rmse", 0.5)
        seen.append(params.measured_records(job))
        record("results/own/digits/vae/seed0", "rmse", 0.5)
        seen.append(params.measured_records(job))
    assert seen[1] == seen[2] == seen[3]
    assert len(set(seen)) == 3
    written(own, presets=overlays.PRESETS.replace("default: 4", "default: 5"))
    with used(own):
        assert params.measured_records(job) not in seen, "the record is stale now"


# Sweeps


def test_a_sweep_is_a_system_for_each_value(own: Path) -> None:
    with used(own):
        names = ["vae-lr=0.0001", "vae-lr=0.0003", "vae-lr=0.001"]
        assert configuration.sweeps() == {"rates": names}
        assert [name for name in configuration.models() if "-" in name] == names
        base, one = (specs.train_spec(specs.Run("demo", "digits", name, 0)) for name in ("vae", names[0]))
        assert one.hparams == {**base.hparams, "lr": 0.0001}
        assert (one.steps, one.batch_size, one.entry) == (base.steps, base.batch_size, base.entry)
        assert configuration.model(names[2]).label == "VAE, lr=0.001"
        wanted = expand("results/own/digits/rates")
        assert len(wanted) == len(set(wanted)) == 3 * len(expand(f"results/own/digits/{names[0]}"))
        assert f"results/own/digits/{names[1]}/seed1/metrics/rmse.json" in wanted
        for word in ("results/own/digits/rates", "results/own/digits/vae-lr=0.001"):
            assert {run.model for run in status.runs_of(word)} == set(names if word.endswith("rates") else names[2:])
        record(f"results/own/digits/{names[1]}/seed0", "rmse", 0.5)
        assert list(frame("--preset", "own").model) == [names[1]]
        assert specs.Run("own", "digits", names[1], 0) in status.runs_of("own")


def test_a_sweep_of_two_hyperparameters_is_their_product_on_every_dataset(own: Path) -> None:
    """Also where the system has another value on one dataset."""
    written(own, models="both:\n  variants_of: vae\n  hparams: {z_dim: [4, 8], lr: [1e-5, 1e-4], width: 0.5}\n")
    with used(own):
        names = configuration.sweeps()["both"]
        assert names[:2] == ["vae-z_dim=4-lr=1e-05-width=0.5", "vae-z_dim=4-lr=0.0001-width=0.5"]
        assert len(names) == 4
        spec = specs.train_spec(specs.Run("demo", "digits", names[-1], 0))
        assert spec.hparams == {"z_dim": 8, "lr": 0.0001, "width": 0.5 * configuration.preset("demo").width}


@pytest.mark.parametrize("system, cap", [("cegan", 500), ("vae", 300)])
def test_a_variant_is_capped_as_its_system(system: str, cap: int, own: Path) -> None:
    written(own, models=f"some:\n  variants_of: {system}\n  hparams: {{z_dim: [8, 9]}}\n")
    with used(own):
        assert specs.train_spec(specs.Run("demo", "digits", f"{system}-z_dim=9", 0)).steps == cap


@pytest.mark.parametrize(
    "entry, message",
    [
        ("{variants_of: vea, hparams: {lr: [1, 2]}}", r"line 1: bad.variants_of: unknown model 'vea'"),
        ("{variants_of: rates, hparams: {lr: [1, 2]}}", r"line 1: bad.variants_of: unknown model 'rates'"),
        ("{variants_of: vae, hparams: {lr: [0.1, 1e-1]}}", r"line 1: bad.hparams: expected distinct values"),
        ("{variants_of: vae, hparams: {lr: []}}", r"line 1: bad.hparams: expected values of every hyperparameter"),
        ("{variants_of: vae, hparams: {lr: ['a/b']}}", r"line 1: bad.hparams: expected distinct values of numbers"),
        ("{variants_of: vae, hparams: {}}", r"line 1: bad.hparams: .*at least 1 item"),
        ("{variants_of: vae, steps: 3, hparams: {lr: 1}}", r"line 1: bad.steps: Extra inputs"),
        ("{variants_of: vae, hparams: {rate: [1, 2]}}", r"line 1: bad.hparams.rate: unknown hyperparameter 'rate'"),
    ],
)
def test_sweeps_that_are_refused(entry: str, message: str, own: Path) -> None:
    written(own, models=f"bad: {entry}\n{SWEEP}")
    with used(own), pytest.raises(ValueError, match=f"^own/models.yaml, {message}"):
        configuration.check_entries()


# Compare


def measure(
    preset: str, system: str, values: tuple[float | None, ...], metric: str = "rmse", **changes: object
) -> None:
    for seed, value in enumerate(values):
        record(f"results/{preset}/digits/{system}/seed{seed}", metric, value, **changes)


def test_two_presets_by_cells_with_welchs_interval(own: Path) -> None:
    a, b = (0.25, 0.5, 1.0), (1.5, 2.0)
    with used(own):
        measure("demo", "vae", a)
        measure("own", "vae", b)
        measure("own", "vae", (3.0,), "mse")
        (row,) = (row for _, row in frame("demo", "own", command=compare.main).iterrows())
    expected = estimate(b, a)
    assert (row.a, row.b, row.dataset, row.model, row.metric) == ("demo", "own", "digits", "vae", "rmse")
    assert (row.n_a, row.mean_a, row.n_b, row.mean_b) == pytest.approx((3, mean(a), 2, mean(b)))
    assert (row.difference, row.low, row.high) == pytest.approx((expected.value, *expected.interval()))
    assert row.remarks == ""


def test_presets_with_other_stand_ins_are_joined_by_cells(own: Path) -> None:
    """Each pair of runs once, though a stand-in answers cells of several datasets."""
    presets = overlays.PRESETS + "  stand_ins: {cifar10: own_images, celeba: own_images}\n"
    with used(written(own, presets=presets)):
        record("results/demo/digits/vae/seed0", "rmse", 1.0)
        record("results/own/own_images/vae/seed0", "rmse", 3.0)
        (row,) = (row for _, row in frame("demo", "own", command=compare.main).iterrows())
    assert (row.dataset, row.model, row.difference) == ("digits | own_images", "vae", 2.0)
    assert (row.low, row.high) == ("", "") or pd.isna(row.low), "one seed has no interval"


def test_what_speaks_against_a_comparison_is_said(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with used(own):
        measure("demo", "vae", (0.25, None))
        measure("own", "vae", (0.5, 0.75), protocol="another way", extractor="a network", spec="other")
        assert compare.main(["results/demo", str(tmp_path / "results" / "own"), "--out", "found.md"]) == 0
    shown = Path("found.md").read_text()
    assert shown == capsys.readouterr().out
    for remark in (
        "B is stale: training specification",
        "1 of A diverged",
        "protocols differ",
        "feature networks differ",
    ):
        assert remark in shown


def test_values_of_a_sweep_stand_beside_the_first(own: Path) -> None:
    with used(own):
        for system, value in (("vae", 9.0), ("vae-lr=0.0001", 1.0), ("vae-lr=0.0003", 2.0), ("vae-lr=0.001", 4.0)):
            measure("own", system, (value, value))
            measure("own", system, (value,), "fid_domain")
        found = frame("rates", "--preset", "own", "--metric", "rmse", command=compare.main)
        assert list(zip(found.a, found.b, found.metric, found.difference)) == [
            ("vae-lr=0.0001", "vae-lr=0.0003", "rmse", 1.0),
            ("vae-lr=0.0001", "vae-lr=0.001", "rmse", 3.0),
        ]
        found = frame("vae", "vae-lr=0.001", "--preset", "own", "--metric", "fid", command=compare.main)
        assert list(zip(found.metric, found.difference)) == [("fid_domain", -5.0)]


@pytest.mark.parametrize(
    "words, message",
    [
        (("demo",), "expected two sides, or a sweep and --preset, found 'demo' alone"),
        (("demo", "demos"), "expected a preset .demo, .*, a folder of runs, or --preset with a system, found 'demos'"),
        (("vae", "vea", "--preset", "demo"), "unknown model 'vea'"),
        (("vae", "dcgan", "--preset", "demo"), "expected a quantity measured in vae and dcgan, found none in common"),
        (("vae", "dcgan", "--preset", "demo", "--out", "x.pdf"), "expected a .csv or .md file for --out, found x.pdf"),
    ],
)
def test_comparisons_that_are_refused(words: tuple[str, ...], message: str) -> None:
    Path("results/demo").mkdir(parents=True)
    with pytest.raises((ValueError, LookupError), match=message):
        compare.main(list(words))
