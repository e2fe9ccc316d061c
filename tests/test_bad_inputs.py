"""Bad inputs: one line that begins with `error:` and says what was expected and found, exit code 2, nothing written.

Raw files of datasets (truncated, missing, of another size) are in tests/test_data.py and tests/test_fetch.py.
"""

import importlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from dtri import checkpoint
from dtri.data import store
from dtri.experiment import TrainSpec, build
from tests.toys import noise_images
from workflow import plan
from workflow.commands.cli import run

ROOT = Path(__file__).resolve().parents[1]
SPEC = TrainSpec("noise", "vae", "baselines.vae:VAE", (1, 28, 28), {"width": 0.05}, 2, 8, 0)
FIELDS = json.loads(SPEC.text)


def save_noise(folder: Path, image_shape: tuple[int, int, int] = (1, 28, 28)) -> None:
    splits = {"train": noise_images(16, image_shape), "test": noise_images(12, image_shape)}
    indices = {name: np.arange(len(images)) for name, images in splits.items()}
    store.save(store.Arrays(splits, indices, {}, None, "noise"), folder, folder.name)


def weights(spec: TrainSpec) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build(spec.entry, spec.image_shape, spec.hparams).state_dict()


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad things to hand to commands."""
    folder = tmp_path_factory.mktemp("room")
    save_noise(folder / "noise")
    save_noise(folder / "colour", (3, 32, 32))

    shutil.copytree(folder / "noise", folder / "untrainable")
    np.save(folder / "untrainable" / "train.npy", noise_images(16, (1, 28, 28))[:0])
    meta = json.loads((folder / "noise" / "meta.json").read_text())
    meta["sizes"]["train"] = 0
    (folder / "untrainable" / "meta.json").write_text(json.dumps(meta))

    shutil.copytree(folder / "noise", folder / "half")
    half = (folder / "noise" / "train.npy").read_bytes()
    (folder / "half" / "train.npy").write_bytes(half[: len(half) // 2])
    shutil.copytree(folder / "noise", folder / "unread")
    (folder / "unread" / "meta.json").write_text('{"name": ')

    checkpoint.save_weights(folder / "vae.safetensors", weights(SPEC), SPEC)
    dcgan = replace(SPEC, model="dcgan", entry="baselines.dcgan:DCGAN")
    checkpoint.save_weights(folder / "dcgan.safetensors", weights(dcgan), dcgan)
    checkpoint.save_weights(folder / "mixed.safetensors", weights(dcgan), SPEC)
    checkpoint.save_weights(folder / "wide.safetensors", weights(replace(SPEC, hparams={"width": 0.1})), SPEC)
    coopnet = replace(SPEC, model="coopnet", entry="baselines.coopnet:CoopNet")
    checkpoint.save_weights(folder / "coopnet.safetensors", weights(coopnet), coopnet)
    igebm = replace(SPEC, model="igebm", entry="baselines.igebm:IGEBM")
    checkpoint.save_weights(folder / "igebm.safetensors", weights(igebm), igebm)
    safetensors.torch.save_file(weights(SPEC), folder / "nameless.safetensors")
    whole = (folder / "vae.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save(weights(SPEC), folder / "pickle.safetensors")
    (folder / "empty.safetensors").touch()
    (folder / "file").write_text("a file, not a folder\n")
    (folder / "train.json").write_text('{"status": "done"}')
    return folder


def train(room: Path, out: Path, data: str = "noise", **spec: object) -> list[str]:
    text = json.dumps({**FIELDS, **spec})
    return ["train", "--spec", text, "--code", "c", "--data", str(room / data), "--out", str(out)]


def sample(room: Path, out: Path, weights: str = "vae", *more: str, name: str = "samples.npy") -> list[str]:
    return ["sample", "--model", str(room / f"{weights}.safetensors"), "--n", "2", "--out", str(out / name), *more]


def score(room: Path, out: Path, data: str = "noise", split: str = "test", weights: str = "vae") -> list[str]:
    where = ["--data", str(room / data), "--split", split, "--out", str(out / "scores.npz")]
    return ["score", "--model", str(room / f"{weights}.safetensors"), *where]


def reconstruct(room: Path, out: Path, weights: str, train: str = "train.json") -> list[str]:
    outs = ["--rmse", f"{out}/rmse.json", "--mse", f"{out}/mse.json", "--pairs", f"{out}/pairs.npy"]
    common = ["--train", str(room / train), "--data", str(room / "noise"), "--code", "c"]
    return ["reconstruct", "--model", str(room / f"{weights}.safetensors"), *common, *outs]


def interpolate(room: Path, out: Path, weights: str) -> list[str]:
    data = ["--data", str(room / "noise"), "--out", f"{out}/interpolation.npy", "--prior", f"{out}/prior.npy"]
    return ["interpolate", "--model", str(room / f"{weights}.safetensors"), *data]


Case = tuple[Callable[[Path, Path], list[str]], tuple[str, ...]]
CASES: dict[str, Case] = {
    # specifications
    "spec is no JSON": (
        lambda room, out: ["train", "--spec", "steps=3", *train(room, out)[3:]],
        ("expected a training spec as JSON", "steps=3"),
    ),
    "spec with a misspelled key": (lambda room, out: train(room, out, stpes=3), ("training spec", "stpes")),
    "spec lacks a key": (
        lambda room, out: ["train", "--spec", '{"steps":3}', *train(room, out)[3:]],
        ("training spec", "image_shape"),
    ),
    "unknown model file": (
        lambda r, o: train(r, o, entry="baselines.nothing:X"),
        ("'module:Class'", "baselines.nothing"),
    ),
    "unknown model package": (lambda r, o: train(r, o, entry="nothing.at.all:X"), ("'module:Class'", "nothing.at.all")),
    "unknown model class": (
        lambda r, o: train(r, o, entry="baselines.vae:WAE"),
        ("no class WAE in baselines.vae", "VAE"),
    ),
    "unknown hyperparameter": (lambda r, o: train(r, o, hparams={"lrr": 1}), ("'lrr'", "known: z_dim, width", "lr")),
    "negative hyperparameter": (
        lambda r, o: train(r, o, hparams={"lr": -1e-3}),
        ("non-negative float", "'lr'", "-0.001"),
    ),
    "text hyperparameter": (lambda r, o: train(r, o, hparams={"lr": "fast"}), ("expected float", "'lr'", "'fast'")),
    "fractional latent size": (lambda r, o: train(r, o, hparams={"z_dim": 1.5}), ("expected int", "'z_dim'", "1.5")),
    "no steps": (lambda r, o: train(r, o, steps=0), ("positive integer for steps", "found 0")),
    "negative batch": (lambda r, o: train(r, o, batch_size=-8), ("positive integer for batch_size", "found -8")),
    "text steps": (lambda r, o: train(r, o, steps="many"), ("positive integer for steps", "'many'")),
    "no threads": (lambda r, o: train(r, o, threads=0), ("positive integer for threads", "found 0")),
    "negative seed": (lambda r, o: train(r, o, seed=-1), ("non-negative integer for seed", "found -1")),
    "unknown precision": (lambda r, o: train(r, o, precision="fp8"), ("fp32", "bf16", "'fp8'")),
    # data
    "data of another shape": (
        lambda r, o: train(r, o, data="colour"),
        ("expected images (1, 28, 28)", "(3, 32, 32)", "colour"),
    ),
    "no data": (
        lambda r, o: train(r, o, data="nowhere"),
        ("expected a prepared dataset in", "nowhere", "no meta.json"),
    ),
    "half a meta.json": (lambda r, o: train(r, o, data="unread"), ("expected JSON in", "meta.json")),
    "half an array": (lambda r, o: train(r, o, data="half"), ("expected a complete array", "half/train.npy")),
    "empty train split": (lambda r, o: train(r, o, data="untrainable"), ("expected training images", "empty")),
    "score data of another shape": (
        lambda r, o: score(r, o, data="colour"),
        ("expected images (1, 28, 28)", "(3, 32, 32)"),
    ),
    "unknown split": (lambda r, o: score(r, o, split="valid"), ("unknown split 'valid'", "known: test, train")),
    "no labels": (
        lambda r, o: ["classifier", "--data", f"{r}/noise", "--out", f"{o}/c.safetensors", "--summary", f"{o}/c.json"],
        ("expected labels of noise 'train'", "no split"),
    ),
    # weights
    "no weights": (
        lambda r, o: sample(r, o, "nothing"),
        ("expected trained weights in", "nothing.safetensors", "no such file"),
    ),
    "weights of another model": (lambda r, o: sample(r, o, "mixed"), ("does not fit baselines.vae:VAE", "of shape")),
    "weights of another width": (
        lambda r, o: sample(r, o, "wide"),
        ("does not fit baselines.vae:VAE", "of shape", "found ("),
    ),
    "weights without a spec": (lambda r, o: sample(r, o, "nameless"), ("expected a training spec in the header of",)),
    "half the weights": (lambda r, o: sample(r, o, "cut"), ("expected a safetensors file in", "cut.safetensors")),
    "pickled weights": (lambda r, o: sample(r, o, "pickle"), ("expected a safetensors file in", "pickle.safetensors")),
    "empty weights": (lambda r, o: sample(r, o, "empty"), ("expected a safetensors file in", "empty.safetensors")),
    "a map that the model lacks": (lambda r, o: reconstruct(r, o, "dcgan"), ("map 'infer'", "DCGAN")),
    "no straight lines without latents": (
        lambda r, o: interpolate(r, o, "igebm"),
        ("map 'generate'", "IGEBM with ['energy', 'sample']"),
    ),
    "no training summary": (
        lambda r, o: reconstruct(r, o, "vae", "nothing.json"),
        ("expected a training summary in", "nothing.json"),
    ),
    # options
    "no samples": (lambda r, o: sample(r, o, "vae", "--n", "0"), ("positive number of samples for --n", "found 0")),
    "negative samples": (
        lambda r, o: sample(r, o, "vae", "--n", "-5"),
        ("positive number of samples for --n", "found -5"),
    ),
    "unknown picture type": (lambda r, o: sample(r, o, name="grid.gif"), (".png or .npy file for --out", "grid.gif")),
    "misspelled sampler argument": (
        lambda r, o: sample(r, o, "coopnet", "--sampler", '{"stpes": 3}'),
        ("unknown sampler argument 'stpes' for baselines.coopnet:CoopNet", "known: steps, scale"),
    ),
    "fractional sampler steps": (
        lambda r, o: sample(r, o, "coopnet", "--sampler", '{"steps": 1.5}'),
        ("expected int for sampler argument 'steps'", "1.5"),
    ),
    "negative sampler steps": (
        lambda r, o: sample(r, o, "coopnet", "--sampler", '{"steps": -1}'),
        ("non-negative int for sampler argument 'steps'", "-1"),
    ),
    "a sampler where there are no chains": (
        lambda r, o: sample(r, o, "vae", "--sampler", '{"steps": 3}'),
        ("unknown sampler argument 'steps' for baselines.vae:VAE (known: none)",),
    ),
    "sampler is no JSON": (
        lambda r, o: sample(r, o, "coopnet", "--sampler", "steps=3"),
        ("JSON mapping for --sampler", "'steps=3'"),
    ),
    "sampler is a number": (lambda r, o: sample(r, o, "coopnet", "--sampler", "3"), ("JSON mapping for --sampler",)),
    "unknown device": (lambda r, o: sample(r, o, "vae", "--device", "tpu"), ("auto, cpu or gpu", "'tpu'")),
    "neither AUROC nor AUPRC": (
        lambda r, o: ["ranking", "--train", "t", "--code", "c", "--scores", "s", "--out", f"{o}/a.json"],
        ("exactly one of --against (AUROC) and --labels-of (AUPRC)",),
    ),
    "table of an unknown preset": (
        lambda r, o: ["table", "table1", "--preset", "fast"],
        ("unknown preset 'fast'", "known: demo"),
    ),
    "figure of an unknown preset": (
        lambda r, o: ["figure", "samples", "--preset", "fast", "--out", str(o)],
        ("unknown preset 'fast'", "known: demo, lite, lite_jpeg, paper"),
    ),
    "table without its records": (
        lambda r, o: ["table", "table1", "--preset", "lite", "--out", str(o)],
        ("expected", "more records", "results/lite/", "snakemake results/lite/table1.csv", "--partial"),
    ),
    # where nothing can be written
    "run below a file": (lambda r, o: train(r, r / "file" / "run"), ("file",)),
    "samples below a file": (lambda r, o: sample(r, r / "file"), ("file",)),
    "scores below a file": (lambda r, o: score(r, r / "file"), ("file",)),
    "run in a folder that denies": (lambda r, o: train(r, Path("/proc/run")), ("/proc/run",)),
}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Training takes over signals; pytest wants them back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line on stderr of a command that must fail."""
    command = importlib.import_module(f"workflow.commands.{argv[0]}")
    capsys.readouterr()
    assert run(lambda: command.main(argv[1:])) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("name", CASES)
def test_bad_input(
    name: str, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DTRI_DEVICE", raising=False)
    monkeypatch.chdir(tmp_path)  # no results here
    (tmp_path / "out").mkdir()
    before = sorted(room.rglob("*"))
    make, fragments = CASES[name]
    line = one_line(make(room, tmp_path / "out"), capsys)
    assert [fragment for fragment in fragments if fragment not in line] == [], line
    kept = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {".lock", "events.jsonl"}
    assert kept == set(), "half-written"
    assert sorted(room.rglob("*")) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("command", ["train", "sample", "score"])
def test_a_gpu_where_there_is_none(
    command: str, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTRI_DEVICE", "gpu")
    line = one_line({"train": train, "sample": sample, "score": score}[command](room, tmp_path), capsys)
    assert "expected a GPU" in line
    assert "--config device=cpu" in line
    assert list(tmp_path.iterdir()) == []


def test_one_run_started_as_several_tasks(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert "expected one process per run" in one_line(train(room, tmp_path / "run"), capsys)
    assert list(tmp_path.iterdir()) == []


# Configuration: (file, text, its replacement, fragments of the message)
CONFIGURATIONS = {
    "misspelled key of a preset": ("presets", "max_samples: 1000\n", "max_smaples: 1000\n", ("demo.max_smaples",)),
    "negative steps of a preset": ("presets", "holdout: ", "holdout: -", ("demo.max_steps.holdout", "greater than 0")),
    "text samples of a preset": ("presets", "max_samples: 1000\n", "max_samples: many\n", ("max_samples", "'many'")),
    "no width": ("presets", "width: 0.125", "width: 0", ("demo.width", "greater than 0", "found 0")),
    "no seeds": ("presets", "seeds: [0]", "seeds: []", ("demo.seeds", "found []")),
    "the same seed twice": ("presets", "seeds: [0]", "seeds: [1, 1]", ("distinct non-negative seeds", "[1, 1]")),
    "negative seed": ("presets", "seeds: [0]", "seeds: [-1]", ("demo", "distinct non-negative seeds", "[-1]")),
    "unknown extractor": ("presets", "extractor: domain", "extractor: resnet", ("demo.extractor", "'resnet'")),
    "unknown device": ("presets", "extractor: domain", "extractor: domain\n  device: tpu", ("demo.device", "'tpu'")),
    "unknown hyperparameter": ("models", "gamma_every: 90}", "gama_every: 90}", ("'gama_every'", "gamma_every")),
    "negative batch": ("models", "batch_size: 100", "batch_size: -100", ("batch_size", "greater than 0", "-100")),
    "misspelled key of a model": ("models", "steps: 750000", "stpes: 750000", ("divergence_triangle.", "stpes")),
    "misspelled sampler argument": ("models", "{steps: 400}", "{stpes: 400}", ("igebm on digits", "'stpes'")),
    "a sampler without chains": ("models", "label: VAE", "label: VAE\n  sampler: {steps: 9}", ("vae on", ": none")),
    "unknown model file": ("models", "baselines.vae:VAE", "baselines.wae:VAE", ("vae on", "'baselines.wae:VAE'")),
    "two kinds of dataset": ("datasets", "any_shape: true", "any_shape: true\n  image_shape: [1, 2, 3]", ("one of",)),
    "image shape of two numbers": ("datasets", "[3, 32, 32]", "[32, 32]", ("cifar10.image_shape",)),
    "test set of no shape": ("datasets", "any_shape: true", "any_shape: true\n  test_only: true", ("test_only",)),
    "dataset without a module": ("datasets", "  module: dtri.data.cifar10\n", "", ("cifar10", "expected module")),
    "a list of models": ("models", None, "- vae\n- dcgan\n", ("expected a mapping in models.yaml", "found list")),
}  # fmt: skip


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the configuration that may be spoiled."""
    caches = (plan.datasets, plan.models, plan.presets, plan.dataset)
    folder = shutil.copytree(plan.CONFIG, tmp_path / "config")
    monkeypatch.setattr(plan, "CONFIG", folder)
    for cached in caches:
        cached.cache_clear()
    yield folder
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_bad_configuration(
    name: str, configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, old, new, fragments = CONFIGURATIONS[name]
    path = configuration / f"{file}.yaml"
    text = path.read_text()
    spoiled = new if old is None else text.replace(old, new)
    assert spoiled != text
    path.write_text(spoiled)
    monkeypatch.chdir(tmp_path)
    line = all_specs(capsys)
    assert [fragment for fragment in fragments if fragment not in line] == [], line


def all_specs(capsys: pytest.CaptureFixture[str]) -> str:
    """The line that planning every run of every preset ends with."""

    def main() -> int:
        for preset in plan.presets():
            for planned in plan.runs(preset):
                plan.train_spec(planned)
                plan.sampler(planned)
        return 0

    assert run(main) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def snakemake(folder: Path, *arguments: str) -> list[str]:
    """Output lines of a dry run that must fail."""
    options = ["--dry-run", "--cores", "1", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, *options], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert list(folder.glob("results*")) == []
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        (("demo", "--config", "stpes=3"), ("--config stpes", "known keys: downloads, device, offline")),
        (("demo", "--config", "device=tpu"), ("--config device", "'cpu' or 'gpu'", "'tpu'")),
        (
            ("results/demo/digits/nosuchmodel/seed0/train.json",),
            ("unknown model 'nosuchmodel'", "known: divergence_triangle", "vae", "dcgan"),
        ),
    ],
    ids=["unknown key", "unknown device", "unknown model"],
)
def test_snakemake_says_it_in_one_line(arguments: tuple[str, ...], fragments: tuple[str, ...], tmp_path: Path) -> None:
    lines = snakemake(tmp_path, *arguments)
    assert [line for line in lines if all(fragment in line for fragment in fragments)], "\n".join(lines)


def test_a_command_by_itself(tmp_path: Path) -> None:
    """As a user meets it: exit code 2, one line, no traceback."""
    command = [sys.executable, "-m", "workflow.commands.table", "table1", "--preset", "fast"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown preset 'fast' (known: demo, lite, lite_jpeg, paper)\n"
