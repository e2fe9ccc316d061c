"""Every stage killed, on a full disk, with damaged, missing or vanishing inputs, twice at once: the same bytes, or one
line that names the file and the way out. Random kills of all systems: `python -m tests.faults.campaign`.
"""

import importlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from dtri import checkpoint, engine
from dtri.experiment import TrainSpec
from tests.faults import clones, jobs
from tests.training import settings_restored
from workflow import jobcode
from workflow.commands import classifier, train

DATA, HELD = "results/data/digits", "results/data/digits_holdout4"
RUN, LATE = "results/demo/digits/vae/seed0", "results/demo/digits_holdout4/vae/seed0"
COMPARISON = {"n_samples": 32, "reference": "train", "n_reference": 64}
WAYS = json.dumps({"comparisons": [COMPARISON], "sampler": {}})


def training(dataset: str, out: str, late_every: int) -> list[str]:
    shape, hparams = (1, 28, 28), {"width": 0.05, "z_dim": 10}
    spec = TrainSpec(dataset, "vae", "baselines.vae:VAE", shape, hparams, 12, 8, 0, late_every=late_every)
    ending = ["--preset", "demo", "--device", "cpu", "--out", out]
    return ["--spec", spec.to_json(), "--code", "c", "--data", f"results/data/{dataset}", *ending]


def on(model: str, *arguments: str) -> list[str]:
    return ["--model", f"{model}/model.safetensors", "--device", "cpu", *arguments]


def read(run: str, *arguments: str) -> list[str]:
    return ["--train", f"{run}/train.json", "--code", "c", *arguments]


@dataclass(frozen=True)
class Stage:
    """One command, what it reads and what it makes."""

    command: str
    arguments: list[str]
    inputs: tuple[str, ...]
    products: tuple[str, ...]


SPLITS = ("train.npy", "test.npy", "index.npz", "meta.json")
NETWORK = (f"{DATA}/classifier.safetensors", f"{DATA}/classifier.json")
STAGES = {
    "prepare": Stage(
        "prepare",
        ["--module", "dtri.data.digits", "--image-shape", "1,28,28", "--raw", "raw", "--name", "digits", "--out", DATA],
        (),
        tuple(f"{DATA}/{name}" for name in SPLITS),
    ),
    "hold out": Stage(
        "prepare",
        ["--holdout-of", DATA, "--digit", "4", "--name", "digits_holdout4", "--out", HELD],
        tuple(f"{DATA}/{name}" for name in SPLITS),
        tuple(f"{HELD}/{name}" for name in (*SPLITS, "test_leaky.npy")),
    ),
    "classifier": Stage(
        "classifier",
        ["--data", DATA, "--out", NETWORK[0], "--summary", NETWORK[1]],
        (f"{DATA}/train.npy", f"{DATA}/index.npz"),
        NETWORK,
    ),
    "train": Stage(
        "train",
        training("digits", RUN, 0),
        (f"{DATA}/train.npy", f"{DATA}/meta.json"),
        tuple(f"{RUN}/{name}" for name in ("model.safetensors", "train.csv", "train.json")),
    ),
    "train, keeping weights": Stage(
        "train",
        training("digits_holdout4", LATE, 1),
        (f"{HELD}/train.npy",),
        tuple(f"{LATE}/{name}" for name in ("model.safetensors", "train.csv", "train.json", "snapshots/7.safetensors")),
    ),
    "sample": Stage(
        "sample",
        on(RUN, "--n", "32", "--out", f"{RUN}/samples.npy", "--variants", f"{RUN}/samples_variants.npz"),
        (f"{RUN}/model.safetensors",),
        (f"{RUN}/samples.npy", f"{RUN}/samples_variants.npz"),
    ),
    "interpolate": Stage(
        "interpolate",
        on(RUN, "--data", DATA, "--out", f"{RUN}/interpolation.npy", "--prior", f"{RUN}/prior.npy"),
        (f"{DATA}/test.npy",),
        (f"{RUN}/interpolation.npy", f"{RUN}/prior.npy"),
    ),
    "reconstruct": Stage(
        "reconstruct",
        [
            *on(RUN, "--data", DATA, "--pairs", f"{RUN}/reconstructions.npy"),
            *read(RUN, "--rmse", f"{RUN}/metrics/rmse.json", "--mse", f"{RUN}/metrics/mse.json"),
        ],
        (f"{RUN}/model.safetensors", f"{RUN}/train.json"),
        (f"{RUN}/metrics/rmse.json", f"{RUN}/metrics/mse.json", f"{RUN}/reconstructions.npy"),
    ),
    "score": Stage(
        "score",
        on(RUN, "--data", DATA, "--split", "test", "--limit", "64", "--out", f"{RUN}/scores/digits__test.npz"),
        (f"{RUN}/model.safetensors",),
        (f"{RUN}/scores/digits__test.npz",),
    ),
    "score by kept weights": Stage(
        "score",
        on(LATE, "--data", HELD, "--split", "test", "--snapshots", "--out", f"{LATE}/scores/digits_holdout4__test.npz"),
        (f"{LATE}/snapshots/7.safetensors", f"{HELD}/test.npy"),
        (f"{LATE}/scores/digits_holdout4__test.npz",),
    ),
    "generation": Stage(
        "generation",
        [
            *read(RUN, "--samples", f"{RUN}/samples.npy", "--data", DATA, "--spec", WAYS, "--extractor", "domain"),
            *("--weights", NETWORK[0], "--summary", NETWORK[1], "--cache", f"{DATA}/features"),
            *("--variants", f"{RUN}/samples_variants.npz", "--out", f"{RUN}/metrics"),
        ],
        (*NETWORK, f"{RUN}/samples.npy", f"{RUN}/samples_variants.npz", f"{RUN}/train.json"),
        tuple(f"{RUN}/metrics/{name}_domain.json" for name in ("fid", "is", "kid", "prc")),
    ),
    "auroc": Stage(
        "ranking",
        [
            *read(RUN, "--scores", f"{RUN}/scores/digits__test.npz", "--against", f"{RUN}/scores/digits__test.npz"),
            *("--against-data", DATA, "--out", f"{RUN}/metrics/auroc_digits.json"),
        ],
        (f"{RUN}/scores/digits__test.npz",),
        (f"{RUN}/metrics/auroc_digits.json",),
    ),
    "auprc": Stage(
        "ranking",
        [
            *read(LATE, "--scores", f"{LATE}/scores/digits_holdout4__test.npz", "--labels-of", HELD),
            *("--split", "test", "--out", f"{LATE}/metrics/auprc.json"),
        ],
        (f"{LATE}/scores/digits_holdout4__test.npz", f"{HELD}/index.npz", f"{LATE}/train.json"),
        (f"{LATE}/metrics/auprc.json",),
    ),
    "table": Stage(
        "table",
        ["table2", "--preset", "demo", "--partial", "--out", "results/demo"],
        (f"{RUN}/metrics/rmse.json",),
        tuple(f"results/demo/table2.{ending}" for ending in ("csv", "md", "tex", "html")),
    ),
}
MAKER = {product: name for name, stage in STAGES.items() for product in stage.products}


def begin(stage: Stage, log: Path = Path("log"), limit: int = 0) -> int:
    log.unlink(missing_ok=True)
    return jobs.start(stage.command, stage.arguments, log, limit)


def finish(*names: str) -> None:
    """Give commands, which must succeed."""
    for name in names:
        assert jobs.complete(begin(STAGES[name]))[0] == 0, f"{name}: {Path('log').read_text()}"


def refused(stage: Stage, limit: int = 0) -> str:
    """The one line of an error, with exit code 2."""
    code = jobs.complete(begin(stage, limit=limit))[0]
    lines = [line for line in Path("log").read_text().splitlines() if line.startswith(("error:", "Traceback"))]
    assert (code, len(lines)) == (2, 1), Path("log").read_text()
    return lines[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """All stages done in the current folder; the hashes of what they made."""
    before, patched = Path.cwd(), pytest.MonkeyPatch()
    patched.delenv("DTRI_DEVICE", raising=False)
    patched.setattr(classifier, "MAX_STEPS", 5)
    patched.setattr(engine, "CHECK_EVERY", 3)
    patched.setattr(engine, "fit", partial(engine.fit, save_every=3))
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # imports what forks else import one by one
    for stage in STAGES.values():
        importlib.import_module(f"workflow.commands.{stage.command}")
    for command in ("interpolate", "score"):
        importlib.import_module(jobcode.COMMAND[command])
    importlib.import_module("baselines.vae")
    os.chdir(tmp_path_factory.mktemp("faults"))
    with settings_restored():
        torch.set_num_threads(1)
        finish(*STAGES)
        yield clones.products(Path.cwd())
    os.chdir(before)
    patched.undo()


@pytest.fixture(autouse=True)
def equal_at_the_end(undisturbed: dict[str, str]) -> Iterator[None]:
    """Whatever happened, everything is there again, and nothing half-written."""
    yield
    assert clones.products(Path.cwd()) == undisturbed
    hidden = {path.name for path in Path("results").rglob(".*") if not path.name.endswith(".lock")}
    assert hidden == set()


def remove(products: tuple[str, ...]) -> None:
    """As Snakemake does before a job; and what training keeps for itself."""
    for product in products:
        Path(product).unlink(missing_ok=True)
        for state in Path(product).parent.glob("state*"):
            state.unlink()


@pytest.mark.parametrize("name", STAGES)
def test_killed(name: str) -> None:
    stage = STAGES[name]
    remove(stage.products)
    needed = jobs.complete(begin(stage))[1]
    remove(stage.products)
    pid, moment = begin(stage), random.uniform(0.0, 0.9) * needed
    while clones.cpu_seconds(pid) < moment and not jobs.ended(pid):
        time.sleep(0.002)
    clones.kill([pid])
    jobs.complete(pid)
    finish(name)
    for left in set(Path("results").rglob(".*.????????.partial")):  # under a name that nobody reads
        assert str(left.with_name(left.name[1 : -len(".12345678.partial")])) in stage.products
        left.unlink()


@pytest.mark.parametrize("name", STAGES)
def test_full_disk(name: str) -> None:
    """The largest product has no room; the same command continues when it has."""
    stage = STAGES[name]
    largest = max(stage.products, key=lambda product: Path(product).stat().st_size)
    size = Path(largest).stat().st_size
    steady = largest.endswith((".npy", ".npz", ".safetensors"))  # the length of a record varies by its times
    limit = size - (1 if steady else size // 10)
    remove(stage.products)
    line = refused(stage, limit)
    assert line.startswith("error: expected to write results/"), line
    assert Path(line.split()[4].rstrip(",")).parent.is_dir()
    assert not Path(largest).exists()
    finish(name)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


PAIRS = [(name, product) for name, stage in STAGES.items() for product in stage.inputs]


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("name, product", PAIRS)
def test_damaged_input(name: str, product: str, damage) -> None:
    """One line names the file and says what to delete; then the command that makes it is given again."""
    if product.endswith("samples.npy") and damage is flip:
        pytest.skip("samples are temporary and vouched for by nothing")
    damage(Path(product))
    line = refused(STAGES[name])
    assert product in line or (f"{Path(product).parent}/classifier" in line and "classifier" in product), line
    assert "delete" in line or "again" in line, line
    Path(product).unlink()
    finish(MAKER[product])


@pytest.mark.parametrize("name, product", PAIRS)
def test_missing_input(name: str, product: str) -> None:
    Path(product).rename("away")
    if name == "table":
        finish(name)  # with --partial a cell without a record says so
        assert "missing" in Path("results/demo/table2.csv").read_text()
    else:
        line = refused(STAGES[name])
        assert Path(product).name in line, line
    Path("away").rename(product)
    finish(name)


def state_of(run: str) -> Path:
    return Path(run) / "state.pt"


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize("both", [False, True])
def test_damaged_states(damage, both: bool) -> None:
    """The state before takes over; where both are damaged, training starts anew. Each says so."""
    state = state_of(RUN)
    remove(STAGES["train"].products)
    finish("train")
    remove_outputs = [Path(product) for product in STAGES["train"].products]
    for path in remove_outputs:
        path.unlink()
    for path in (state, checkpoint.previous_path(state))[: 1 + both]:
        damage(path)
    finish("train")
    log = Path("log").read_text()
    if damage is not Path.unlink:
        assert log.count("is unreadable") == 1 + both
    expected = "no saved state" if damage is Path.unlink else "starting over"
    assert (expected if both else f"continuing {checkpoint.previous_path(state)} at iteration 9") in log
    for path in state.parent.glob("*.damaged"):
        path.unlink()


def test_files_that_vanish_while_training(undisturbed: dict[str, str]) -> None:
    remove(STAGES["train"].products)
    pid = begin(STAGES["train"])
    while not jobs.ended(pid):
        for name in ("state.pt", "state.previous.pt", "events.jsonl"):
            (Path(RUN) / name).unlink(missing_ok=True)
    assert jobs.complete(pid)[0] == 0, Path("log").read_text()


def test_a_folder_that_vanishes_while_training() -> None:
    remove(STAGES["train"].products)
    kept = Path(RUN).rename("kept")
    pid = begin(STAGES["train"])
    while not jobs.ended(pid):
        shutil.rmtree(RUN, ignore_errors=True)
    code = jobs.complete(pid)[0]
    log = Path("log").read_text()
    assert code in (0, 2), log
    assert "Traceback" not in log
    shutil.rmtree(RUN, ignore_errors=True)
    kept.rename(RUN)
    finish("train")


@pytest.mark.parametrize("name", ["train", "sample", "reconstruct", "generation", "prepare"])
def test_two_processes_at_once(name: str) -> None:
    pids = [begin(STAGES[name], Path(f"log{k}")) for k in range(2)]
    codes = [jobs.complete(pid)[0] for pid in pids]
    assert codes == [0, 0], [Path(f"log{k}").read_text() for k in range(2)]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_while_training(number: int, code: int) -> None:
    remove(STAGES["train"].products)
    pid = begin(STAGES["train"])
    while not state_of(RUN).exists() and not jobs.ended(pid):
        time.sleep(0.001)
    clones.kill([pid], number)
    assert jobs.complete(pid)[0] in (code, 0)
    finish("train")


@pytest.mark.parametrize("jump", [-1e7, 1e7])
def test_a_clock_that_jumps(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a deadline: forward ends the attempt early with its state saved, backward does not keep it from saving."""
    remove(STAGES["train"].products)
    stage = STAGES["train"]
    limited = Stage(stage.command, [*stage.arguments, "--minutes", "60"], stage.inputs, stage.products)
    steady, reads = time.monotonic, iter(range(10**9))
    with monkeypatch.context() as faked:
        faked.setattr(time, "monotonic", lambda: steady() + jump * (next(reads) > 6))
        faked.setattr(time, "time", lambda: 1e9 + jump)
        code = jobs.complete(begin(limited))[0]
    assert code == (0 if jump < 0 else train.EXIT_OUT_OF_TIME), Path("log").read_text()
    assert state_of(RUN).exists()
    finish("train")


def test_an_injected_nan_is_a_result_that_kills_do_not_change(tmp_path: Path) -> None:
    """The loss of iteration 8 is infinite: the run ends as diverged, killed on the way or not."""
    spec = TrainSpec("digits", "toy", "tests.toys:Toy", (1, 28, 28), {"bad_step": 8}, 12, 8, 0)
    found = []
    for folder in (tmp_path / "whole", tmp_path / "killed"):
        arguments = ["--spec", spec.to_json(), "--code", "c", "--data", DATA, "--device", "cpu", "--out", str(folder)]
        stage = Stage("train", arguments, (), ())
        if folder.name == "killed":
            pid = begin(stage)
            while not (folder / "state.pt").exists() and not jobs.ended(pid):
                time.sleep(0.001)
            clones.kill([pid])
            jobs.complete(pid)
        assert jobs.complete(begin(stage))[0] == 0
        summary = json.loads((folder / "train.json").read_text())
        found.append({name: summary[name] for name in ("status", "step", "bad_step", "term", "files")})
    assert found[0] == found[1]
    assert (found[0]["status"], found[0]["bad_step"]) == ("diverged", 8)


def test_every_record_says_where_it_comes_from() -> None:
    """Versions, device, commit, whether tracked files differed from it, lock file, and what it took."""
    records = [*Path("results").rglob("metrics/*.json"), *Path("results").rglob("train.json"), Path(NETWORK[1])]
    assert len(records) >= 10
    for path in records:
        made = json.loads(path.read_text())
        assert made["versions"]["python"], path
        assert made["provenance"].keys() == {"commit", "dirty", "lock"}, path
        assert len(made["provenance"]["lock"]) == 64, path
        assert made["device"].startswith("cpu"), path
        assert made["seconds"] > 0, path
        if path.parent.name == "metrics":
            assert made["train_seconds"] > 0, path
            assert made["train_device"].startswith("cpu ("), path


def test_every_product_has_a_maker() -> None:
    assert {product for _, product in PAIRS} <= MAKER.keys()
