"""A small prepared dataset, and training runs on it by the command that the workflow uses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dtri.data import digits, saving
from dtri.experiment import TrainSpec
from workflow.commands import train

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = ("model.safetensors", "train.csv")
TIMEOUT_S = 240.0

# The same command, its state saved every 20 iterations instead of every 5,000.
SAVING_OFTEN = (
    "import functools, sys; from dtri import engine; engine.fit = functools.partial(engine.fit, save_every=20); "
    "from workflow.commands import cli, train; sys.exit(cli.run(train.main))"
)


def prepare_digits(folder: Path) -> Path:
    """Prepared digits at 28x28, 1437 images to train on."""
    saving.save(digits.prepare(folder, (1, 28, 28), {}, 0), folder / "digits", "digits")
    return folder / "digits"


def spec(**changes) -> TrainSpec:
    fields = {
        "dataset": "digits",
        "model": "dcgan",
        "entry": "baselines.dcgan:DCGAN",
        "image_shape": (1, 28, 28),
        "hparams": {"width": 0.05, "z_dim": 10},
        "steps": 300,
        "batch_size": 16,
        "seed": 0,
        **changes,
    }
    return TrainSpec(**fields)


def arguments(data: Path, out: Path, code: str = "code", **changes) -> list[str]:
    return [
        "--spec",
        spec(**changes).to_json(),
        "--code",
        code,
        "--data",
        str(data),
        "--out",
        str(out),
        "--device",
        "cpu",
    ]


@contextmanager
def settings_restored() -> Iterator[None]:
    """Puts back what the train command changes in its process: signal handlers, threads, determinism."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    handlers = {number: signal.getsignal(number) for number in numbers}
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        torch.set_flush_denormal(False)


def complete(data: Path, out: Path, **changes) -> dict[str, bytes]:
    """Give the train command in this process; the bytes of what it made."""
    with settings_restored():
        assert train.main(arguments(data, out, **changes)) == 0
    return outputs(out)


def start(data: Path, out: Path, often: bool = False, **changes) -> subprocess.Popen:
    """The train command as a process of its own."""
    command = ["-c", SAVING_OFTEN] if often else ["-m", "workflow.commands.train"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DTRI_", "SLURM_"))}
    return subprocess.Popen(
        [sys.executable, *command, *arguments(data, out, **changes)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def events(out: Path, kind: str) -> list[dict]:
    path = out / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def wait_for(condition, process: subprocess.Popen) -> None:
    """Poll until `condition()`; fails when the process ends first."""
    limit = time.monotonic() + TIMEOUT_S
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"exit {process.returncode}: {process.stdout.read()}")
        assert time.monotonic() < limit
        time.sleep(0.005)


def outputs(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in OUTPUTS}
