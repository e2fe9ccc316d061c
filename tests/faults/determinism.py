"""What is equal to the bit: train the same run in other ways and compare the weights. Linux, CPU; not run by pytest.

    python -m tests.faults.determinism --systems vae divergence_triangle coopnet > determinism.csv

Digits at 28 px, an eighth of the width, 24 iterations. A line per system and way: the share of weights that are equal
to those of the plain run, and the largest difference relative to the largest weight.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from dtri.experiment import TrainSpec
from dtri.trained import load_weights
from tests.faults import jobs
from tests.training import prepare_digits
from workflow import configuration, specs

STEPS = 24


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=["vae"], choices=list(configuration.models()))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a fork of a process with threads could wait for them for ever
    print("system,way,equal,largest_difference")
    with tempfile.TemporaryDirectory() as folder:
        data = prepare_digits(Path(folder))
        for system in arguments.systems:
            spec = specs.train_spec(specs.Run("demo", "digits", system, 0))
            spec = replace(spec, steps=STEPS)
            plain = train(spec, data, Path(folder) / system / "plain")
            half = train(replace(spec, precision="bf16"), data, Path(folder) / system / "bf16")
            ways = {
                "again": (plain, train(spec, data, Path(folder) / system / "again")),
                "stopped after every save": (plain, stopped(spec, data, Path(folder) / system / "stopped")),
                "another seed": (plain, train(replace(spec, seed=1), data, Path(folder) / system / "seed")),
                "2 threads": (plain, train(replace(spec, threads=2), data, Path(folder) / system / "threads")),
                "bf16": (plain, half),
                "bf16 again": (half, train(replace(spec, precision="bf16"), data, Path(folder) / system / "half")),
            }
            for way, (one, other) in ways.items():
                print(f"{system},{way},{compared(one, other)}", flush=True)
    return 0


def train(spec: TrainSpec, data: Path, out: Path, *more: str) -> dict[str, torch.Tensor]:
    """Weights of the run, trained in a process of its own; {} when it stopped before its end."""
    given = ["--spec", spec.to_json(), "--code", "c", "--data", str(data), "--out", str(out), "--device", "cpu", *more]
    out.parent.mkdir(exist_ok=True)
    code, _ = jobs.complete(jobs.start("train", given, out.parent / "log"))
    if code not in (0, 75):
        raise RuntimeError((out.parent / "log").read_text())
    return {} if code else load_weights(out / "model.safetensors")[0]


def stopped(spec: TrainSpec, data: Path, out: Path) -> dict[str, torch.Tensor]:
    """Out of time after one iteration, again and again, each attempt a process of its own."""
    for _ in range(STEPS):
        train(spec, data, out, "--minutes", "0")
    return train(spec, data, out)


def compared(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> str:
    pairs = [(one[name].double(), other[name].double()) for name in one]
    equal = sum((a == b).sum().item() for a, b in pairs) / sum(a.numel() for a, _ in pairs)
    largest = max((a - b).abs().max().item() for a, b in pairs) / max(a.abs().max().item() for a, _ in pairs)
    return f"{equal:.6g},{largest:.2g}"


if __name__ == "__main__":
    sys.exit(main())
