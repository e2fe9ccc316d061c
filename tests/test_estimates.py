"""What explain says of hours: as measured, scaled by counted work, or guessed; never by images alone."""

import json
import re
from dataclasses import replace

import pytest

from dtri.costs import CPU, WITHOUT_AVX512
from dtri.experiment import TrainSpec
from workflow import costs, counted, plan, specs
from workflow.costs import Speed

SPEC = TrainSpec("digits", "vae", "baselines.vae:VAE", (1, 28, 28), {"z_dim": 10, "width": 0.125}, 3600, 100, 0)
WIDE = replace(SPEC, image_shape=(3, 32, 32), hparams={})
TRIANGLE = replace(SPEC, model="divergence_triangle", entry="dtri.models.divergence_triangle:DivergenceTriangle")


def test_a_run_of_the_same_size_counts_as_measured():
    speeds = [Speed(SPEC, 100.0, "cpu (a)"), Speed(SPEC, 300.0, "cpu (b)"), Speed(WIDE, 2000.0, "GPU")]
    found = costs.estimate(replace(SPEC, seed=7, dataset="mnist", steps=7200), False, speeds)
    assert (found.hours, found.unit, found.kind) == ((("", pytest.approx(1.0)),), "CPU hours", "measured")
    assert found.source == "as measured, 200 images/s on cpu (a), cpu (b)"


def test_what_is_damaged_stops_no_estimate(tmp_path):
    """A summary or a record that is cut, empty, or of another version; `verify` names it."""
    good = {"spec": json.loads(SPEC.to_json()), "images_per_s": 100.0, "device": "cpu (a)", "seconds": 7.0}
    for seed, text in enumerate((json.dumps(good), "{", "", "[]", "{}", '{"spec": null}', '{"spec": {"steps": 1}}')):
        metrics = tmp_path / "demo" / "digits" / "vae" / f"seed{seed}" / "metrics"
        metrics.mkdir(parents=True)
        for path in (metrics.parent / "train.json", metrics / "mse.json"):
            path.write_text(text)
    assert costs.speeds(tmp_path) == [Speed(SPEC, 100.0, "cpu (a)")]
    assert costs.measured_seconds("reconstruct", tmp_path) == [7.0]


def test_another_size_is_scaled_by_counted_work():
    found = costs.estimate(WIDE, False, [Speed(SPEC, 100.0, "cpu (a)")])
    assert found.kind == "estimate"
    assert found.source == "estimate: counted work, by vae 1x28x28 at width 0.125 on cpu (a)"
    ratio = CPU.seconds(counted.work(WIDE)) / CPU.seconds(counted.work(SPEC))
    assert ratio > 20
    assert found.hours[0][1] == pytest.approx(ratio)  # of one hour


def test_another_system_is_scaled_by_counted_work():
    found = costs.estimate(TRIANGLE, False, [Speed(SPEC, 100.0, "cpu (a)")])
    assert found.kind == "estimate"
    assert found.hours[0][1] == pytest.approx(CPU.seconds(counted.work(TRIANGLE)) / CPU.seconds(counted.work(SPEC)))


def test_after_a_demo_a_triangle_is_within_a_factor_of_two_of_the_bench():
    """1225 images/s in the demo say 17 hours by images alone; the bench says 609 on that processor's two threads."""
    (demo,) = (
        row.spec for row in counted.planned("demo") if (row.spec.model, row.spec.dataset) == (TRIANGLE.model, "digits")
    )
    (full,) = (
        row.spec
        for row in counted.planned("paper")
        if (row.spec.model, row.spec.dataset) == (TRIANGLE.model, "cifar10")
    )
    found = costs.estimate(replace(full, threads=2), False, [Speed(demo, 1225.0, "cpu (AMD EPYC)")])
    assert 609 / 2 < found.hours[0][1] < 609 * 2


def test_nothing_measured_is_a_guess_for_each_class_of_cards(monkeypatch):
    for measured in ([], [Speed(SPEC, 100.0, "cpu (a)")]):
        found = costs.estimate(WIDE, True, measured)
        assert found.kind == "guess"
        assert [name for name, _ in found.hours] == ["H100", "A100", "RTX 4090"]
        assert all(hours > 0 for _, hours in found.hours)
        assert found.source.startswith("guess: H100 ")
    hours = []
    for vectors, words in ((True, "guess for cores with AVX-512"), (False, "guess for cores without AVX-512")):
        monkeypatch.setattr(costs, "has_avx512", lambda vectors=vectors: vectors)
        guess = costs.estimate(SPEC, False, [])
        assert guess.source.startswith(words)
        hours.append(guess.hours[0][1])
    assert hours[1] == WITHOUT_AVX512 * hours[0]


def test_a_configuration_that_was_not_counted_is_counted():
    own = replace(SPEC, hparams={"width": 0.07})
    assert counted.work(own) is None
    assert costs.estimate(own, False, []).hours[0][1] > 0


def test_a_sum_that_mixes_guesses_says_so():
    measured = costs.estimate(SPEC, True, [Speed(SPEC, 100.0, "NVIDIA H100")])
    guessed = costs.estimate(SPEC, True, [])
    assert costs.total([measured, measured]) == "2 GPU-hours (2 as measured)"
    text = costs.total([measured, guessed])
    assert re.fullmatch(
        r"1(\.\d)? GPU-hours on H100, 1(\.\d)? GPU-hours on A100, 1(\.\d)? GPU-hours on RTX 4090 "
        r"\(mixed: 1 as measured, 1 guessed\)",
        text,
    )


def test_tables_have_sums_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [row for row in counted.planned("demo") if row.spec.model in ("vae", "dcgan")]
    runs = [(specs.Run("demo", row.spec.dataset, row.spec.model, 0), False) for row in rows]
    lines = list(costs.training(runs))
    shown = {name: sum(name in row.tables for row in rows) for name in plan.TABLES}
    for name, n in shown.items():
        assert [line for line in lines if line.startswith(f"  {name}: ")] != [] if n else True
        assert not n or any(line.startswith(f"  {name}: ") and f"({n} guessed)" in line for line in lines)
    assert lines[-1].endswith(f"({len(runs)} guessed); a run with a saved state needs less")
