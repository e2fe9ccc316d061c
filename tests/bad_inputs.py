"""Bad inputs and what is said of them: tests/test_bad_inputs.py provokes each, docs/errors.md lists them.

python -m tests.bad_inputs > docs/errors.md
"""

import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from dtri import experiment
from dtri.data import saving
from dtri.experiment import TrainSpec, build
from dtri.files import digest
from dtri.sealed import read_sealed, write_sealed
from dtri.weights import save_weights
from tests.toys import noise_images
from tests.training import settings_restored
from workflow import checks, configuration, plan, specs
from workflow.commands.cli import run

ROOT = Path(__file__).resolve().parents[1]
SPEC = TrainSpec("noise", "vae", "baselines.vae:VAE", (1, 28, 28), {"width": 0.05}, 2, 8, 0)
FIELDS = json.loads(SPEC.to_json())


def save_noise(folder: Path, image_shape: tuple[int, int, int] = (1, 28, 28)) -> None:
    splits = {"train": noise_images(16, image_shape), "test": noise_images(12, image_shape)}
    indices = {name: np.arange(len(images)) for name, images in splits.items()}
    saving.save(saving.Arrays(splits, indices, {}, None, "noise"), folder, folder.name)


def weights(spec: TrainSpec) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build(spec.entry, spec.image_shape, spec.hparams).state_dict()


def furnish(folder: Path) -> Path:
    """Good and bad things to hand to commands."""
    save_noise(folder / "noise")
    save_noise(folder / "colour", (3, 32, 32))

    shutil.copytree(folder / "noise", folder / "untrainable")
    np.save(folder / "untrainable" / "train.npy", noise_images(16, (1, 28, 28))[:0])
    meta = read_sealed(folder / "noise" / "meta.json", "a meta")
    meta["sizes"]["train"] = 0
    meta["sha256"]["train.npy"] = digest(folder / "untrainable" / "train.npy", "sha256")
    meta["content"] = hashlib.sha256(experiment.canonical_json(sorted(meta["sha256"].items())).encode()).hexdigest()
    write_sealed(folder / "untrainable" / "meta.json", meta)

    shutil.copytree(folder / "noise", folder / "half")
    half = (folder / "noise" / "train.npy").read_bytes()
    (folder / "half" / "train.npy").write_bytes(half[: len(half) // 2])
    shutil.copytree(folder / "noise", folder / "unread")
    (folder / "unread" / "meta.json").write_text('{"name": ')

    save_weights(folder / "vae.safetensors", weights(SPEC), SPEC)
    dcgan = replace(SPEC, model="dcgan", entry="baselines.dcgan:DCGAN")
    save_weights(folder / "dcgan.safetensors", weights(dcgan), dcgan)
    save_weights(folder / "mixed.safetensors", weights(dcgan), SPEC)
    save_weights(folder / "wide.safetensors", weights(replace(SPEC, hparams={"width": 0.1})), SPEC)
    broken = {name: tensor / 0 if tensor.is_floating_point() else tensor for name, tensor in weights(SPEC).items()}
    save_weights(folder / "broken.safetensors", broken, SPEC)
    coopnet = replace(SPEC, model="coopnet", entry="baselines.coopnet:CoopNet")
    save_weights(folder / "coopnet.safetensors", weights(coopnet), coopnet)
    igebm = replace(SPEC, model="igebm", entry="baselines.igebm:IGEBM")
    save_weights(folder / "igebm.safetensors", weights(igebm), igebm)
    safetensors.torch.save_file(weights(SPEC), folder / "nameless.safetensors")
    whole = (folder / "vae.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save(weights(SPEC), folder / "pickle.safetensors")
    (folder / "empty.safetensors").touch()
    (folder / "flipped.safetensors").write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    write_sealed(folder / "edited.json", {"status": "done", "seed": 0})
    (folder / "edited.json").write_text((folder / "edited.json").read_text().replace('"seed": 0', '"seed": 1'))
    shutil.copytree(folder / "noise", folder / "flipped")
    pixels = (folder / "noise" / "train.npy").read_bytes()
    (folder / "flipped" / "train.npy").write_bytes(pixels[:-9] + bytes([pixels[-9] ^ 1]) + pixels[-8:])
    (folder / "file").write_text("a file, not a folder\n")
    furnish_raw(folder / "raw")
    (folder / "train.json").write_text('{"status": "done"}')
    return folder


def picture(mode: str = "RGB", kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, kind, **options)
    return buffer.getvalue()


def furnish_raw(raw: Path) -> None:
    """A drop folder: in each folder one good test image, and one training image or archive that is not."""
    frames = [Image.new("RGB", (8, 8), (90 * k, 0, 0)) for k in range(3)]
    bad = {
        "cut/train/a.ppm": picture(kind="PPM")[:-30],
        "empty/train/a.png": b"",
        "text/train/a.jpg": b"not a picture",
        "clear/train/a.png": picture("RGBA"),
        "animated/train/a.gif": picture(kind="GIF", save_all=True, append_images=frames),
        "deep/train/a.png": picture("I;16"),
        "latin/train/caf\udce9.png": b"",
    }
    for name, content in bad.items():
        (raw / name).parent.mkdir(parents=True)
        (raw / name).write_bytes(content)
        (raw / name).parents[1].joinpath("test").mkdir()
        (raw / name).parents[1].joinpath("test", "b.png").write_bytes(picture())
    for name, target in (("gone", "nothing"), ("circle", "../../circle")):
        (raw / name / "train").mkdir(parents=True)
        (raw / name / "train" / ("a.png" if name == "gone" else "a")).symlink_to(target)
    (raw / "mnist" / "train-images-idx3-ubyte.gz").mkdir(parents=True)
    (raw / "cut.zip").write_bytes(zipped({"train/a.png": picture()})[:-20])
    (raw / "up.zip").write_bytes(zipped({"../a.png": picture()}))
    (raw / "cases.zip").write_bytes(zipped({"train/Cat/a.png": picture(), "test/cat/b.png": picture()}))
    (raw / "index.csv").write_bytes(b"path,split\ntrain/caf\xe9.png,train\n")
    (raw / "nul.csv").write_bytes(b"path,split\n" + b"a" * 200_000 + b",train\n")


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def prepare(room: Path, out: Path, archive: str, **options: object) -> list[str]:
    given = {"archive": archive, "split": {"train": "train", "test": "test"}} | options
    fixed = ["--name", "mine", "--module", "dtri.data.image_folder", "--image-shape", "3,8,8"]
    return ["prepare", *fixed, "--options", json.dumps(given), "--raw", f"{room}/raw", "--out", f"{out}/mine"]


def fetch(room: Path, out: Path, module: str, *more: str, raw: str = "raw") -> list[str]:
    fixed = ["--module", module, "--raw", f"{room}/{raw}", "--out", f"{out}/fetch.json", "--offline"]
    return ["fetch", *fixed, *more]


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


def generation(room: Path, out: Path, *more: str) -> list[str]:
    given = {"samples": "s.npy", "train": "train.json", "data": "noise", "weights": "w.safetensors"}
    paths = [text for name, path in given.items() for text in (f"--{name}", str(room / path))]
    rest = ["--spec", "{}", "--code", "c", "--extractor", "domain", "--cache", f"{out}/cache", "--out", str(out)]
    return ["generation", *paths, *rest, *more]


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
    "half a meta.json": (
        lambda r, o: train(r, o, data="unread"),
        ("expected the description of a dataset in", "meta.json"),
    ),
    "half an array": (lambda r, o: train(r, o, data="half"), ("expected a complete array", "half/train.npy")),
    "an array with one changed bit": (
        lambda r, o: train(r, o, data="flipped"),
        ("expected sha256", "flipped/train.npy", "delete", "meta.json"),
    ),
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
    "weights with one changed bit": (
        lambda r, o: sample(r, o, "flipped"),
        ("expected weights with sha256", "flipped.safetensors", "delete it"),
    ),
    "samples that are not finite": (
        lambda r, o: sample(r, o, "broken", name="grid.png"),
        ("expected finite images, found", "NaN", "in 2 of 2"),
    ),
    "a system that does not grow": (
        lambda r, o: ["growth", "--model", f"{r}/vae.safetensors", "--data", f"{r}/noise", "--out", f"{o}/g.npz"],
        ("expected a system that grows", "baselines.vae:VAE"),
    ),
    "an edited training summary": (
        lambda r, o: reconstruct(r, o, "vae", "edited.json"),
        ("expected a training summary with the seal", "edited.json", "delete it"),
    ),
    "a folder that is not there to verify": (
        lambda r, o: ["verify", str(r / "nowhere")],
        ("expected a folder of products", "nowhere"),
    ),
    "an export that is no zip": (
        lambda r, o: ["export", "demo", "--out", str(o / "crate.tar")],
        ("expected a .zip file for --out", "crate.tar"),
    ),
    "event files of a folder without runs": (
        lambda r, o: ["tensorboard", str(r / "nowhere"), "--out", str(o / "board")],
        ("expected a preset, or a folder with train.csv in it", "nowhere"),
    ),
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
    "unknown device of an evaluation": (
        lambda r, o: generation(r, o, "--device", "tpu"),
        ("auto, cpu or gpu", "'tpu'"),
    ),
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
        ("unknown preset 'fast'", "known: demo, "),
    ),
    "figure for a paper without its width": (
        lambda r, o: ["figure", "samples", "--preset", "demo", "--paper", "--out", f"{o}/a.pdf"],
        ("expected --paper and --width together", "found one of them"),
    ),
    "figure for a paper in a folder": (
        lambda r, o: ["figure", "samples", "--preset", "demo", "--paper", "--width", "3.25", "--out", str(o)],
        ("expected a .pdf or .png file for --out with --paper",),
    ),
    "figure of no width": (
        lambda r, o: ["figure", "samples", "--preset", "demo", "--paper", "--width", "0", "--out", f"{o}/a.pdf"],
        ("expected a width of 1 to 20 inches", "found 0"),
    ),
    "table without its records": (
        lambda r, o: ["table", "table3", "--preset", "lite", "--out", str(o)],
        ("expected", "more records", "results/lite/", "snakemake results/lite/table3.csv", "--partial"),
    ),
    # raw files
    "a cut picture": (lambda r, o: prepare(r, o, "cut"), ("expected an image", "raw/cut/train/a.ppm")),
    "an empty picture": (lambda r, o: prepare(r, o, "empty"), ("an empty file", "raw/empty/train/a.png")),
    "text in place of a picture": (lambda r, o: prepare(r, o, "text"), ("cannot identify", "raw/text/train/a.jpg")),
    "a file name that is not UTF-8": (lambda r, o: prepare(r, o, "latin"), ("expected an image", "caf\\udce9.png")),
    "a transparent picture": (lambda r, o: prepare(r, o, "clear"), ("opaque", "clear/train/a.png", "'background'")),
    "a background that is no colour": (lambda r, o: prepare(r, o, "clear", background=[1, 2]), ("0..255", "[1, 2]")),
    "an animated picture": (lambda r, o: prepare(r, o, "animated"), ("one picture", "3 frames", "train/a.gif")),
    "sixteen bits of grey": (lambda r, o: prepare(r, o, "deep"), ("8 bits per channel", "I;16", "train/a.png")),
    "a link that leads nowhere": (lambda r, o: prepare(r, o, "gone"), ("a broken link", "raw/gone/train/a.png")),
    "a link to the folder it lies in": (lambda r, o: prepare(r, o, "circle"), ("it lies in", "raw/circle/train/a")),
    "a cut archive": (lambda r, o: prepare(r, o, "cut.zip"), ("a zip, tar or tar.gz archive", "raw/cut.zip")),
    "an archive that would write elsewhere": (lambda r, o: prepare(r, o, "up.zip"), ("'../a.png'", "raw/up.zip")),
    "classes that differ in case": (
        lambda r, o: prepare(r, o, "cases.zip", labels="folder"),
        ("differ in more than case", "Cat and cat"),
    ),
    "a list with another file's name": (
        lambda r, o: prepare(r, o, "clear", split={"index": "index.csv"}),
        ("'train/caf\\udce9.png'", "raw/index.csv, line 2"),
    ),
    "a list that is no CSV": (
        lambda r, o: prepare(r, o, "clear", split={"index": "nul.csv"}),
        ("expected a CSV file", "raw/nul.csv"),
    ),
    "a folder in place of a raw file": (
        lambda r, o: fetch(r, o, "dtri.data.mnist", raw="raw/mnist"),
        ("train-images-idx3-ubyte.gz", "found a folder of that name", "raw/mnist"),
    ),
    "no archive to fetch": (
        lambda r, o: fetch(r, o, "dtri.data.image_folder", "--archive", "none.zip"),
        ("expected the archive none.zip, found none", "raw/none.zip"),
    ),
    "no list to fetch": (
        lambda r, o: fetch(r, o, "dtri.data.image_folder", "--archive", "up.zip", "--index", "none.csv"),
        ("expected a CSV file", "raw/none.csv"),
    ),
    "accepted without a reason": (
        lambda r, o: ["accept", "results/demo/table1.csv", "--reason", " "],
        ("expected a reason for --reason", "found none"),
    ),
    "report of nothing": (
        lambda r, o: ["report", "--preset", "demo", "--out", f"{o}/report.html"],
        ("expected a table or figure below results/demo", "found none"),
    ),
    "report of another type": (
        lambda r, o: ["report", "--preset", "demo", "--out", f"{o}/report.pdf"],
        (".html or .zip file for --out", "report.pdf"),
    ),
    # where nothing can be written
    "run below a file": (lambda r, o: train(r, r / "file" / "run"), ("file",)),
    "samples below a file": (lambda r, o: sample(r, r / "file"), ("file",)),
    "scores below a file": (lambda r, o: score(r, r / "file"), ("file",)),
    "run in a folder that denies": (lambda r, o: train(r, Path("/proc/run")), ("/proc/run",)),
}


# Configuration: (file, text, its replacement, fragments of the message)
CONFIGURATIONS = {
    "misspelled key of a preset": ("presets", "max_samples: 1000\n", "max_smaples: 1000\n", ("demo.max_smaples",)),
    "negative steps of a preset": ("presets", "holdout: ", "holdout: -", ("demo.max_steps.holdout", "greater than 0")),
    "text samples of a preset": ("presets", "max_samples: 1000\n", "max_samples: many\n", ("max_samples", "'many'")),
    "no width": ("presets", "width: 0.125", "width: 0", ("demo.width", "greater than 0", "found 0")),
    "no seeds": ("presets", "seeds: [0]", "seeds: []", ("demo.seeds", "found []")),
    "the same seed twice": ("presets", "seeds: [0]", "seeds: [1, 1]", ("distinct non-negative seeds", "[1, 1]")),
    "negative seed of a preset": ("presets", "seeds: [0]", "seeds: [-1]", ("distinct non-negative seeds", "[-1]")),
    "unknown extractor": ("presets", "extractor: domain", "extractor: resnet", ("demo.extractor", "'resnet'")),
    "unknown device of preset": ("presets", "extractor: domain", "extractor: domain\n  device: tpu", ("demo.device",)),
    "unknown hyperparameter of a model": ("models", "gamma_every: 90}", "gama_every: 90}", ("'gama_every'",)),
    "negative batch of a model": ("models", "batch_size: 100", "batch_size: -100", ("greater than 0", "-100")),
    "misspelled key of a model": ("models", "steps: 750000", "stpes: 750000", ("divergence_triangle.", "stpes")),
    "misspelled argument of a sampler": ("models", "{steps: 400}", "{stpes: 400}",
        ("igebm.datasets.digits", "'stpes'")),
    "a sampler without chains": ("models", "label: VAE", "label: VAE\n  sampler: {steps: 9}",
        ("vae.sampler", ": none")),
    "unknown file of a model": ("models", "baselines.vae:VAE", "baselines.vae_misspelled:VAE",
        ("vae.entry", "'baselines.vae_misspelled:VAE'")),
    "two kinds of dataset": ("datasets", "any_shape: true", "any_shape: true\n  image_shape: [1, 2, 3]", ("one of",)),
    "image shape of two numbers": ("datasets", "[3, 32, 32]", "[32, 32]", ("cifar10.image_shape",)),
    "test set of no shape": ("datasets", "any_shape: true", "any_shape: true\n  test_only: true", ("test_only",)),
    "dataset without a module": ("datasets", "  module: dtri.data.cifar10\n", "", ("cifar10", "expected module")),
    "a class of another library": ("models", "entry: baselines.vae:VAE", "entry: os:path",
        ("vae.entry", "of these sources", "'os:path'")),
    "a label of two lines": ("models", "label: VAE\n", 'label: "V\\nE"\n', ("vae.label", "one line", "'V\\nE'")),
    "a label without text": ("presets", "label: \"demo: ", "label: ' ' # ", ("demo.label", "one line", "' '")),
    "a label with mathematics": ("models", "label: VAE\n", "label: $\\VAE$\n", ("vae.label", "without $")),
    "more threads than any machine has": ("presets", "max_samples: 1000\n", "threads: 1000000000\n",
        ("demo.threads", "found 1000000000")),
    "an enormous width": ("presets", "width: 0.125", "width: 1.0e+30", ("demo.width", "found 1e+30")),
    "an archive that is named as an option is": (
        *("datasets", "archive: bedroom_train_lmdb.zip", "archive: -bedroom.zip"),
        ("lsun_bedroom.options.archive", "'-bedroom.zip'"),
    ),
    "a list of models": ("models", None, "- vae\n- dcgan\n", ("expected a mapping in models.yaml", "found list")),
    "no presets": ("presets", None, "# none\n", ("at least one entry in presets.yaml", "found none")),
    "the same model twice": ("models", None, "vae: {}\ndcgan: {}\nvae: {}\n", ("line 3", "'vae' once", "in line 1")),
    "the same key twice": ("datasets", "test_only: true\n\n", "test_only: true\n  test_only: false\n\n",
        ("'test_only' once",)),
    "the same hyperparameter twice": ("models", "{width: 2.0, batch", "{width: 2.0, width: 3, batch",
        ("'width' once",)),
    "a tab": ("models", "vae:\n  label", "vae:\n\tlabel", ("YAML in models.yaml, line ", "a tab")),
    "no colon": ("presets", "max_samples: 1000\n", "max_samples 1000\n", ("YAML in presets.yaml, line 10",)),
    "an unknown anchor": ("models", "digits_holdout: *digits", "digits_holdout: *digit",
        ("models.yaml, line ", "'digit'")),
    "an entry that contains itself": ("presets", None, "a: &a {b: *a}\n", ("presets.yaml, line 1", "contains itself")),
    "text that is not UTF-8": ("models", None, "vae: {label: \udce9}\n", ("UTF-8 text in models.yaml",)),
    "a Python object": (
        *("presets", "width: 0.125", "width: !!python/name:os.system "),
        ("presets.yaml, line ", "!!python/name"),
    ),
    "a number as a name": ("presets", "lite:\n", "1:\n", ("presets.yaml, line ", "text as a key", "'1'")),
    "a name with a capital": ("presets", "lite:\n", "Lite:\n", ("presets.yaml, line ", "Lite", "a-z")),
    "a reserved name": ("presets", "lite:\n", "data:\n", ("presets.yaml, line ", "data", "reference")),
    "too few samples": ("presets", "max_samples: 1000\n", "max_samples: 5\n",
        ("line 9", "demo.max_samples", "found 5")),
    "too few samples of a dataset": ("datasets", "{n_samples: 1000,", "{n_samples: 9,", ("n_samples", "found 9")),
    "too few reference images": ("datasets", "n_reference: 10000", "n_reference: 1", ("n_reference", "found 1")),
    "a fraction of a seed": ("presets", "seeds: [0, 1, 2]", "seeds: [0, 0.5]", ("lite.seeds.1", "found 0.5")),
    "true as a number": ("presets", "holdout: 200", "holdout: true", ("demo.max_steps.holdout", "found True")),
    "a number in quotes": ("models", "steps: 750000", "steps: '750000'", ("steps", "found '750000'")),
    "an infinite width": ("presets", "width: 0.125", "width: .inf", ("demo.width", "found '.inf'")),
    "a hyperparameter that is no number": ("models", "&plus_28 {z_dim: 64", "&plus_28 {z_dim: .nan",
        ("z_dim", "'.nan'")),
    "no latents": ("models", "&digits {hparams: {z_dim: 10}}", "&digits {hparams: {z_dim: 0}}",
        ("positive int", "found 0")),
    "a choice that there is not": ("models", "kl_sign: plus", "kl_sign: plsu",
        ("kl_sign", "'minus', 'plus'", "'plsu'")),
    "a batch size that is text": ("models", "[50, 50, 50,", "[50, 50, many,", ("every one of", "'many'")),
    "a batch that processes cannot share": ("models", "label: VAE", "label: VAE\n  processes: 3", ("divisible by 3",)),
    "a stand-in that there is not": ("presets", "svhn: photos", "svhn: photo", ("demo.stand_ins.svhn", "'photo'")),
    "a stand-in for nothing": ("presets", "svhn: photos", "svnh: photos", ("demo.stand_ins.svnh", "'svnh'")),
    "a hold-out family as a stand-in": ("presets", "svhn: photos", "svhn: digits_holdout", ("hold-out family",)),
    "a limit of an unknown model": ("presets", "wgan_gp: 1000", "wgan_pg: 1000",
        ("max_steps.models.wgan_pg", "known:")),
    "hyperparameters of an unknown model": ("presets", "{bigan: {lr", "{biggan: {lr",
        ("lite.hparams.biggan", "known:")),
    "a preset's unknown hyperparameter": ("presets", "{bigan: {lr:", "{bigan: {rate:",
        ("lite.hparams.bigan.rate", "known:")),
    "a preset's width for one system": ("presets", "{bigan: {lr:", "{bigan: {width:",
        ("lite.hparams.bigan.width", "scales all systems")),
    "unknown override of a model": ("models", "mnist: {steps: 30000, hparams: {gamma_every: 600}}", "mnits: {steps: 3}",
        ("mnits",)),
    "a hold-out of nothing": ("datasets", "holdout_of: mnist", "holdout_of: mnits",
        ("mnist_holdout.holdout_of", "'mnits'")),
    "a hold-out without classes": ("datasets", "holdout_of: mnist", "holdout_of: celeba", ("with classes", "'celeba'")),
    "a variant of nothing": ("datasets", "variant_of: celeba\n", "variant_of: celeb\n", ("variant_of", "'celeb'")),
    "unknown module of a dataset": ("datasets", "dtri.data.svhn", "dtri.data.svnh",
        ("svhn.module", "'dtri.data.svnh'")),
    "unknown option of a dataset": ("datasets", "{crop: cover}", "{corp: cover}",
        ("celeba_cover.options.corp", "known: crop")),
    "no source images": ("datasets", "n_source: 708264", "n_source: 0", ("options.n_source", "found 0")),
    "half a hash": ("datasets", "sha256: 440caec7", "sha256: 440", ("options.sha256", "64 hexadecimal digits")),
    "images that are not square": ("datasets", "[3, 32, 32]", "[3, 32, 28]", ("cifar10.image_shape", "[3, 32, 28]")),
    "two channels": ("datasets", "[3, 32, 32]", "[2, 32, 32]", ("1 or 3 channels", "[2, 32, 32]")),
    # what a job would refuse after it had started
    "a crop that there is not": ("datasets", "crop: cover", "crop: covr",
        ("celeba_cover.options.crop", "'none' or 'cover'", "'covr'")),
    "a crop larger than the picture": ("datasets", "crop: 178", "crop: 179", ("options.crop", "at most 178", "179")),
    "another crop that there is not": ("datasets", "crop: top_left", "crop: left",
        ("dtd_crop.options.crop", "'centre' or 'top_left'", "'left'")),
    "a resize that there is not": ("datasets", "resize: stretch", "resize: strech",
        ("celeba10k.options.resize", "'crop'", "'strech'")),
    "images of another size than published": ("datasets", "cifar10\n  image_shape: [3, 32, 32]",
        "cifar10\n  image_shape: [3, 28, 28]", ("cifar10: expected image shape (3, 32, 32)", "(3, 28, 28)")),
    "a pyramid without that level": ("datasets", "image_shape: [3, 512, 512]", "image_shape: [3, 384, 384]",
        ("celeba_hq_512", "256, 512, 1024", "(3, 384, 384)")),
    "fewer images than are held out": ("datasets", "n_source: 708264", "n_source: 9000",
        ("lsun_tower.options.n_source", "more than 10000", "found 9000")),
    "a limit of what is held out": ("datasets", "n_source: 708264", "limit: 10000",
        ("lsun_tower.options.limit", "more than 10000", "found 10000")),
    "an archive elsewhere": ("datasets", "archive: dtd-10classes-96px.zip", "archive: ../x.zip",
        ("dtd10.options.archive", "'../x.zip'")),
    "an archive that is a number": ("datasets", "archive: dtd-10classes-96px.zip", "archive: 10",
        ("dtd10.options.archive", "found 10")),
    "no archive": ("datasets", "    archive: cifar10-jpeg.tar.gz\n", "",
        ("cifar10_jpeg", "'archive'", "found None")),
    "a split that there is not": ("datasets", "{train: train, test: test}", "{train: train, tset: test}",
        ("cifar10_jpeg", "unknown split 'tset'")),
    "a split inside the other": ("datasets", "{train: train, test: test}", "{train: '', test: test}",
        ("cifar10_jpeg", "one inside the other")),
    "half an image to train on": ("datasets", "{train: 9000, test: 1000}", "{train: 0.5, test: 1000}",
        ("celeba10k", "number of train images", "found 0.5")),
    "nothing to train on": ("datasets", "{random: {train: 9000, test: 1000}}", "{test: ''}",
        ("celeba10k: expected training images or test_only", "the splits test")),
    "a test set to train on": ("datasets", "  test_only: true\n  options: {test_only: true}",
        "  options: {test_only: true}", ("celeba32", "expected training images or test_only")),
    "true or false in words": ("datasets", "options: {test_only: true}", "options: {test_only: yes}",
        ("celeba32.options.test_only", "true or false", "'yes'")),
    "classes without labels": ("datasets", "    labels: folder\n", "",
        ("cifar10_jpeg: expected labels, since classes are true",)),
    "images too small for a classifier": ("datasets", "dtri.data.digits\n  image_shape: [1, 28, 28]",
        "dtri.data.digits\n  image_shape: [1, 16, 16]", ("digits.image_shape", "at least 28 pixels", "[1, 16, 16]")),
    "images of a side without networks": ("datasets", "data.celeba\n  image_shape: [3, 64, 64]",
        "data.celeba\n  image_shape: [3, 48, 48]", ("models.yaml", "28 or 32 or 64", "[3, 48, 48] of celeba")),
    "a probability above one": ("models", "label: EBM (IGEBM)", "label: EBM\n  hparams: {reinit: 1.5}",
        ("igebm", "'reinit' in [0, 1]", "1.5")),
    "a moment that never forgets": ("models", "label: DCGAN", "label: DCGAN\n  hparams: {beta1: 1.0}",
        ("dcgan.hparams.beta1", "'beta1' in [0, 1)", "1.0")),
    "everything dropped out": ("models", "label: ALI\n", "label: ALI\n  hparams: {dropout: 1.0}\n",
        ("ali", "'dropout' in [0, 1)", "1.0")),
    "a range from above to below": ("models", "{kl_sign: plus,", "{logvar_range: [5.0, 4.0], kl_sign: plus,",
        ("joint_vae_ebm_plus", "'logvar_range'", "[5.0, 4.0]")),
    "a replay buffer below the batch": ("models", "hparams: {langevin_steps: 20}",
        "hparams: {langevin_steps: 20, buffer_size: 16}", ("igebm.datasets.digits", "'buffer_size'", "32", "16")),
    "a decay that ends before it begins": ("models", "decay_from: 30000, decay_until: 60000",
        "decay_from: 60000, decay_until: 30000", ("cegan", "'decay_from' below decay_until 30000", "60000")),
    "another batch size than the first level's": ("models", "steps: 3264284\n  batch_size: 16",
        "steps: 3264284\n  batch_size: 32", ("divergence_triangle_progressive", "batch_size 16", "found 32")),
    "a first level above the last": ("models", "start_side: 28", "start_side: 32",
        ("divergence_triangle_ungrown", "'start_side'", "at most 28", "32")),
    "a level that processes cannot share": ("models", "batch_size: 16", "batch_size: 16\n  processes: 2",
        ("divergence_triangle_progressive", "'batch_sizes' divisible by 2", "found 3")),
    "options of a hold-out": ("datasets", "holdout_of: mnist\n", "holdout_of: mnist\n  options: {digit: 3}\n",
        ("mnist_holdout.options", "'options' of a hold-out", "{'digit': 3}")),
    "a hold-out of test images": ("datasets", "holdout_of: mnist\n\n", "holdout_of: svhn\n\n",
        ("mnist_holdout.holdout_of", "'svhn'")),
    "settings in place of a system": ("models", "baselines.vae:VAE", "baselines.vae:Hparams",
        ("vae.entry", "subclass of Model", "'baselines.vae:Hparams'")),
    "test images to train on": ("presets", "cifar10: digits", "cifar10: photos",
        ("demo.stand_ins.cifar10", "with training images", "'photos'")),
    "a crop that is true": ("datasets", "{crop: cover}", "{crop: true}", ("celeba_cover.options.crop", "found True")),
    "a limit that is text": ("datasets", "    n_source: 708264", "    limit: many",
        ("lsun_tower.options.limit", "found 'many'")),
    "a background in words": ("datasets", "    labels: folder\n", "    labels: folder\n    background: white\n",
        ("cifar10_jpeg.options.background", "0..255", "'white'")),
    "labels that are true": ("datasets", "    labels: folder\n", "    labels: true\n",
        ("cifar10_jpeg.options.labels", "'folder' or null", "found True")),
    "an archive by its whole path": ("datasets", "archive: bedroom_train_lmdb.zip",
        "archive: /mnt/bedroom_train_lmdb.zip", ("lsun_bedroom.options.archive", "'/mnt/bedroom_train_lmdb.zip'")),
    "a list elsewhere": ("datasets", "split: {test: \"\"}\n    resize", "split: {index: ../split.csv}\n    resize",
        ("dtd10", "'../split.csv'")),
    "options where there are none": ("datasets", "module: dtri.data.svhn\n",
        "module: dtri.data.svhn\n  options: {split: extra}\n", ("svhn.options.split", "known: none")),
    "colour in a grey set": ("datasets", "variant_of: digits\n  image_shape: [1, 32, 32]\n",
        "variant_of: digits\n  image_shape: [3, 32, 32]\n", ("digits_32", "with C 1", "(3, 32, 32)")),
    "landscape without starts": ("presets", "from_samples: 8", "from_samples: -8", ("demo.landscape", "expected")),
}  # fmt: skip


@contextlib.contextmanager
def spoiled(name: str, folder: Path) -> Iterator[None]:
    """A copy of the configuration with one of CONFIGURATIONS in it, in place of the real one."""
    caches, before = (
        (configuration.datasets, configuration.models, configuration.presets, specs.dataset),
        configuration.CONFIG,
    )
    file, old, new, _ = CONFIGURATIONS[name]
    configuration.CONFIG = shutil.copytree(before, folder / "config")
    path = configuration.CONFIG / f"{file}.yaml"
    text = path.read_text("utf-8")
    spoiled = new if old is None else text.replace(old, new)
    assert spoiled != text
    path.write_text(spoiled, "utf-8", errors="surrogateescape")
    for cached in caches:
        cached.cache_clear()
    try:
        yield
    finally:
        configuration.CONFIG = before
        for cached in caches:
            cached.cache_clear()


def plan_everything() -> int:
    """As Snakemake does before anything runs; and every run of every preset."""
    checks.check_configuration()
    for preset in configuration.presets().values():
        for planned in plan.runs(preset):
            specs.train_spec(planned)
            specs.sampler(planned)
    return 0


def said(main: Callable[[], int]) -> str:
    """The line on stderr of a command that must fail; AssertionError for anything else."""
    with (
        contextlib.redirect_stderr(io.StringIO()) as errors,
        contextlib.redirect_stdout(io.StringIO()),
        settings_restored(),
    ):
        code = run(main)
    lines = errors.getvalue().splitlines()
    assert (code, len(lines)) == (2, 1), (code, lines)
    assert lines[0].startswith("error: "), lines
    return lines[0]


def provoke(name: str, room: Path, folder: Path) -> str:
    """What is said of a case, given in an empty folder."""
    with contextlib.chdir(folder):  # no results here
        if name in CONFIGURATIONS:
            with spoiled(name, folder):
                return said(plan_everything)
        (folder / "out").mkdir()
        command, *arguments = CASES[name][0](room, folder / "out")
        module = importlib.import_module(f"workflow.commands.{command}")
        return said(lambda: module.main(arguments))


KNOWN = re.compile(r"(unknown (?:preset|model|dataset[a-z ]*|table|figure) '[^']*' \(known: [^,()]+), [^()]*\)")


def general(line: str, room: Path, folder: Path) -> str:
    """The line without what differs from one machine or day to another."""
    line = line.removeprefix("error: ").replace(str(folder), "DIR").replace(str(room), "DIR")
    line = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", line)
    line = re.sub(r"found '\{.{99,}?' ", "found 'SPEC' ", line)
    line = KNOWN.sub(r"\1, ...)", line)  # so that a new system, dataset or preset leaves the page as it is
    return line.replace("\\", "\\\\").replace("|", "\\|")


HEAD = """\
# What is said of bad inputs

Written by `python -m tests.bad_inputs`; `tests/test_bad_inputs.py` provokes every line of this table and compares. A
command that cannot work says so in one such line, on stderr, after `error: `, ends with exit code 2 and leaves nothing
half-written; `DTRI_TRACEBACK=1` shows where it was raised. `DIR` stands for folders, `SHA256` for a hash, `SPEC` for
the beginning of a specification. What is said of damaged, missing or vanishing products, and of full disks, is provoked
by `tests/test_faults.py`; of other raw files, archives and downloads by
`tests/test_{data,damaged_raw,fetch,download,image_files,image_sets,large_sets}.py`.
"""


def documented() -> dict[str, str]:
    """{case: message} of docs/errors.md."""
    return dict(re.findall(r"^\| (.+?) \| `(.+)` \|$", (ROOT / "docs" / "errors.md").read_text(), re.M))


def main() -> int:
    os.environ.pop("DTRI_DEVICE", None)
    with tempfile.TemporaryDirectory() as folder:
        room = furnish(Path(folder) / "room")
        print(HEAD)
        for title, names in (("Commands", CASES), ("Configuration", CONFIGURATIONS)):
            print(f"## {title}", "", "| given | said |", "|-|-|", sep="\n")
            for name in names:
                with tempfile.TemporaryDirectory() as here:
                    line = provoke(name, room, Path(here).resolve())
                    print(f"| {name} | `{general(line, room, Path(here).resolve())}` |")
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
