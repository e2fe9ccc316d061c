"""The train command: its outputs, exit codes and one-line errors. Killing it is in test_kill.py."""

import csv
import json
import os
import signal

import numpy as np
import pytest
import torch

from dtri import anomaly, engine, experiment, trained
from dtri.data import saving, store
from dtri.images import to_float
from dtri.trained import load_model
from tests import training
from workflow.commands import cli, score, train

STEPS = 60
SPEC = training.spec().to_json()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training.prepare_digits(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _process(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("DTRI_", "SLURM_")):
            monkeypatch.delenv(name)
    with training.settings_restored():
        yield


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    training.complete(data, out, steps=STEPS)
    return out


def toy(**hparams) -> dict:
    return {"model": "toy", "entry": "tests.toys:Toy", "hparams": hparams, "steps": STEPS}


def failing(capsys, argv: list[str]) -> str:
    """Run as the workflow does; the one line of the error."""
    capsys.readouterr()
    assert cli.run(lambda: train.main(argv)) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text


def test_outputs(finished, data):
    model, spec = load_model(finished / "model.safetensors")
    assert spec == training.spec(steps=STEPS)
    with (finished / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "loss_discriminator", "loss_generator"]
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    summary = json.loads((finished / "train.json").read_text())
    content = store.load(data).content
    expected = {
        "status": "done",
        "step": STEPS,
        "bad_step": None,
        "term": None,
        "attempts": 1,
        "code": "code",
        "spec_hash": spec.hash,
        "spec": json.loads(spec.to_json()),
        "data": {"digits": content},
        "parameters": sum(p.numel() for p in model.parameters()),
        "gpu_hours": None,
    }
    assert expected.items() <= summary.items()
    assert summary["hparams"]["width"] == 0.05
    assert summary["hparams"]["beta1"] == 0.5  # defaults too
    assert summary["seconds"] > 0
    assert summary["images_per_s"] > 0


def test_it_trains_on_the_training_images(data, tmp_path):
    """With its specification's numbers: the averaged weights that the engine gives for them."""
    system = {"model": "bigan", "entry": "baselines.bigan:BiGAN", "hparams": {"width": 0.05, "z_dim": 4}}
    changes = {**system, "steps": 3, "batch_size": 12, "seed": 5}
    training.complete(data, tmp_path / "run", **changes)
    spec = training.spec(**changes)
    expected = engine.fit(
        lambda: experiment.build(spec.entry, spec.image_shape, spec.hparams),
        np.load(data / "train.npy"),
        steps=3,
        batch_size=12,
        seed=5,
        device=torch.device("cpu"),
        state_path=tmp_path / "state.pt",
        events_path=tmp_path / "events.jsonl",
        run_id="by hand",
    )
    weights = load_model(tmp_path / "run" / "model.safetensors")[0].state_dict()
    assert all(torch.allclose(tensor, weights[name], atol=1e-6) for name, tensor in expected.weights.items())


def test_late_weights_are_kept_and_scored(data, tmp_path):
    vae = {"model": "vae", "entry": "baselines.vae:VAE", "late_every": 2}
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "7.safetensors").write_bytes(b"of an earlier specification")
    training.complete(data, tmp_path, steps=20, **vae)
    late = training.spec(steps=20, **vae).final_snapshots
    assert late == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert {path.name for path in (tmp_path / "snapshots").iterdir()} == {f"{t}.safetensors" for t in late}
    assert json.loads((tmp_path / "train.json").read_text())["snapshots"] == late

    model = ["--model", str(tmp_path / "model.safetensors"), "--device", "cpu"]
    arguments = [*model, "--data", str(data), "--split", "test", "--limit", "8", "--out", str(tmp_path / "scores.npz")]
    with training.settings_restored():
        assert score.main([*arguments, "--snapshots"]) == 0
    scores = dict(np.load(tmp_path / "scores.npz"))
    assert set(scores) == {f"{name}{at}" for name in ("energy", "sse") for at in ("", *(f"@{t}" for t in late))}
    images = store.load(data).images("test")[:8]
    for at, file in (("", "model.safetensors"), ("@18", "snapshots/18.safetensors"), ("@2", "snapshots/2.safetensors")):
        vae_then = load_model(tmp_path / file)[0]
        assert np.array_equal(scores[f"energy{at}"], anomaly.scores(vae_then, images)["energy"])
        with torch.no_grad():
            energy = vae_then.energy(to_float(torch.from_numpy(np.array(images))))
        assert scores[f"energy{at}"] == pytest.approx(energy.numpy(), rel=1e-4)
    assert not np.array_equal(scores["energy"], scores["energy@18"])

    training.complete(data, tmp_path / "other", steps=20, **vae, seed=1)
    (tmp_path / "other" / "snapshots" / "18.safetensors").replace(tmp_path / "snapshots" / "18.safetensors")
    with training.settings_restored(), pytest.raises(ValueError, match="expected weights of the same training as"):
        score.main([*arguments, "--snapshots"])


def test_an_energy_with_batch_norm_is_scored_by_the_statistics_of_batches_too(data, tmp_path):
    """ALICE's has batch norm, the triangle's has none; not with --snapshots, where kinds share a batch."""
    images = store.load(data).images("test")[:100]
    for name, entry, late, expected in (
        ("alice", "baselines.alice:ALICE", False, {"energy", "sse", "batch_statistics"}),
        ("alice", "baselines.alice:ALICE", True, {"energy", "sse"}),
        ("triangle", "dtri.models.divergence_triangle:DivergenceTriangle", False, {"energy", "sse"}),
    ):
        training.complete(data, tmp_path / name, steps=2, model=name, entry=entry)
        model = ["--model", str(tmp_path / name / "model.safetensors"), "--device", "cpu"]
        out = ["--limit", "100", "--out", str(tmp_path / "scores.npz"), *(["--snapshots"] if late else [])]
        with training.settings_restored():
            assert score.main([*model, "--data", str(data), "--split", "test", *out]) == 0
        scores = dict(np.load(tmp_path / "scores.npz"))
        assert set(scores) == expected
        if "batch_statistics" in expected:
            batch, _ = trained.load(tmp_path / name / "model.safetensors", "cpu", "batch")
            with torch.no_grad():
                energy = batch.energy(to_float(torch.from_numpy(images.copy())))
            assert np.array_equal(scores["batch_statistics"], energy.double().numpy())
            assert not np.array_equal(scores["batch_statistics"], scores["energy"])


@pytest.mark.parametrize("minutes", ["0.001", "0", "0.99"])
def test_out_of_time(minutes, data, finished, tmp_path, capsys):
    """Exit 75 with the state saved, a minute before the allocated time ends; then on to the same bytes."""
    argv = training.arguments(data, tmp_path, steps=STEPS)
    assert train.main([*argv, "--minutes", minutes]) == 75
    assert "deadline at iteration 1, state saved" in capsys.readouterr().out
    assert not (tmp_path / "model.safetensors").exists()
    assert train.main([*argv, "--minutes", "600"]) == 0
    assert training.outputs(tmp_path) == training.outputs(finished)


@pytest.mark.parametrize("change", [{"seed": 1}, {"code": "other code"}, {"hparams": {"width": 0.06, "z_dim": 10}}])
def test_state_of_another_run_is_ignored(change, data, finished, tmp_path, capsys):
    assert train.main([*training.arguments(data, tmp_path, **{"steps": STEPS, **change}), "--minutes", "0"]) == 75
    capsys.readouterr()
    assert train.main(training.arguments(data, tmp_path, steps=STEPS)) == 0
    assert "belongs to another specification, code or data, starting over" in capsys.readouterr().out
    assert training.outputs(tmp_path) == training.outputs(finished)


def test_other_data_are_another_run(data, tmp_path, capsys):
    """Same spec, same code, other images under the same name."""
    arrays = store.load(data)
    changed = saving.Arrays(
        splits={split: 255 - arrays.images(split) for split in ("train", "test")},
        indices={split: arrays.index(split) for split in ("train", "test")},
        labels={},
        n_classes=None,
        description="",
    )
    saving.save(changed, tmp_path / "digits", "digits")
    out = tmp_path / "out"
    assert train.main([*training.arguments(data, out, steps=STEPS), "--minutes", "0"]) == 75
    capsys.readouterr()
    assert train.main([*training.arguments(tmp_path / "digits", out, steps=STEPS), "--minutes", "0"]) == 75
    assert "belongs to another" in capsys.readouterr().out


@pytest.mark.parametrize("where, bad_step, found_at, term", [("loss", 33, 33, "second"), ("buffer", 33, 40, "weights")])
def test_a_diverged_run_is_a_result(where, bad_step, found_at, term, data, tmp_path, capsys):
    argv = training.arguments(data, tmp_path, **toy(bad_step=bad_step, where=where))
    assert train.main(argv) == 0
    assert f"diverged at iteration {found_at} ({term}), weights of 20" in capsys.readouterr().out
    summary = json.loads((tmp_path / "train.json").read_text())
    found = [summary[key] for key in ("status", "bad_step", "term", "step")]
    assert found == ["diverged", found_at, term, 20]
    model, _ = load_model(tmp_path / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_divergence_before_the_first_row(data, tmp_path):
    """The curve is a table without rows, the weights are the initial ones."""
    assert train.main(training.arguments(data, tmp_path, **toy(bad_step=1))) == 0
    assert (tmp_path / "train.csv").read_text() == "step\n"
    assert json.loads((tmp_path / "train.json").read_text())["step"] == 0


def test_stop_names_its_reason():
    stop = train.Stop(None)
    assert stop() is None
    os.kill(os.getpid(), signal.SIGUSR1)
    assert stop() == "signal"
    assert train.Stop(0.0)() == "deadline"
    assert train.Stop(1e12)() is None


# Mistakes


def test_folder_that_cannot_be_written(data, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "file" in failing(capsys, training.arguments(data, tmp_path / "file" / "run"))


def test_missing_data(tmp_path, capsys):
    text = failing(capsys, training.arguments(tmp_path / "nowhere", tmp_path / "out"))
    assert "expected a prepared dataset in" in text


def test_images_of_another_shape(data, tmp_path, capsys):
    text = failing(capsys, training.arguments(data, tmp_path, image_shape=(3, 32, 32)))
    assert "expected images (3, 32, 32), found (1, 28, 28)" in text


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "expected a training spec as JSON"),
        ('{"steps": 3}', "expected a training spec as JSON"),
        (
            SPEC.replace('"width"', '"wdth"'),
            "unknown hyperparameter 'wdth' for baselines.dcgan:DCGAN",
        ),
        (SPEC.replace("dcgan:DCGAN", "dcgan:GAN"), "no class GAN in baselines.dcgan"),
        (
            SPEC.replace('"steps":300', '"steps":0'),
            "expected a positive integer for steps, found 0",
        ),
    ],
)
def test_bad_spec(text, message, data, tmp_path, capsys):
    argv = training.arguments(data, tmp_path)
    argv[1] = text
    assert message in failing(capsys, argv)


def test_unknown_device(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DTRI_DEVICE", "tpu")
    assert "expected device auto, cpu or gpu, found 'tpu'" in failing(capsys, training.arguments(data, tmp_path))


def test_several_processes_of_one_slurm_job(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert "expected one process per run" in failing(capsys, training.arguments(data, tmp_path))


def test_a_device_that_is_too_small_is_an_error_that_says_what_to_lower(data, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(engine, "fit", full)
    text = failing(capsys, training.arguments(data, tmp_path, steps=STEPS))
    assert (
        "to hold a training iteration, found: CUDA out of memory. Tried to allocate 2.00 GiB.; lower runs_per_gpu"
        in text
    )
