"""Speed of one training step, measured side by side: the engine in fp32 and bf16, and a straightforward loop.

    python -m bench.step                      the divergence triangle at 32x32x3, batch 100, full width
    python -m bench.step --quick              narrow networks, to see that it works
    python -m bench.step --model vae --side 64

All run in one process, in turns, on the same weights, batches and noise. A plain loop exists for the divergence
triangle only (bench/plain.py); the other systems are measured by themselves.
"""

import argparse
import csv
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.plain import PlainTriangle, loader
from dtri import device, engine, experiment
from dtri.model import Model
from dtri.seeding import derive
from workflow import plan
from workflow.commands.cli import run

SEED = 0
ROUND_S = 0.5  # a round takes at least so long, so that the clock and queued kernels do not matter
N_IMAGES = 2_000


@dataclass
class Contestant:
    """One way to train. `iterate(t)` runs iteration t; `rates` are images per second, one per round."""

    name: str
    iterate: Callable[[int], None]
    optimizers: dict[str, Optimizer]
    t: int = 0
    rates: list[float] = field(default_factory=list)

    def steps(self, n: int, where: torch.device) -> float:
        """Run n iterations; seconds."""
        _wait(where)
        start = time.perf_counter()
        for _ in range(n):
            self.iterate(self.t)
            self.t += 1
        _wait(where)
        return time.perf_counter() - start


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="divergence_triangle", help="a system of workflow/config/models.yaml")
    parser.add_argument("--side", type=int, choices=(28, 32, 64), default=32, help="image side (28: one channel)")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies all channels")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu")
    parser.add_argument("--csv", type=Path, help="also write every round's rate there")
    parser.add_argument("--quick", action="store_true", help="width 0.1, three rounds")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.width, arguments.rounds = 0.1, 3
    if arguments.rounds < 1 or arguments.batch_size < 2:
        raise ValueError(f"expected rounds >= 1 and batch size >= 2, found {arguments.rounds}, {arguments.batch_size}")

    where = device.choose(arguments.device)
    device.prepare(arguments.threads, "fp32")
    shape = (1 if arguments.side == 28 else 3, arguments.side, arguments.side)
    print(f"{_processor(where)}; {arguments.threads} threads; torch {torch.__version__}")
    print(f"{arguments.model}, images {'x'.join(map(str, shape))}, batch {arguments.batch_size}, ", end="")

    *contestants, contiguous = _contestants(arguments.model, shape, arguments.width, arguments.batch_size, where)
    agreement = _first_step([*contestants, contiguous], where)
    per_round = max(1, math.ceil(ROUND_S / min(c.steps(1, where) for c in contestants)))
    print(f"width {arguments.width:g}, {arguments.rounds} rounds of {per_round} steps in turns", flush=True)
    for k in range(arguments.rounds):
        for contestant in contestants if k % 2 == 0 else reversed(contestants):
            seconds = contestant.steps(per_round, where)
            contestant.rates.append(per_round * arguments.batch_size / seconds)
    _report(contestants, agreement)
    if arguments.csv:
        _write(arguments.csv, contestants, arguments, _processor(where))
    return 0


def _contestants(
    name: str, shape: tuple[int, int, int], width: float, batch_size: int, where: torch.device
) -> list[Contestant]:
    """The plain loop where there is one, the engine in fp32 and bf16; last, to compare with, fp32 in plain layout."""
    stored = np.random.default_rng(SEED).integers(0, 256, (N_IMAGES, *shape), dtype=np.uint8)
    batches = engine.Batches(stored, batch_size, SEED, where)

    def build() -> Model:
        torch.manual_seed(derive("init", SEED))
        entry = plan.model(name)
        return experiment.build(entry.entry, shape, {**entry.hparams, "width": width}).to(where)

    def engine_in(precision: str, name: str, layout: torch.memory_format = torch.channels_last) -> Contestant:
        model = build().to(memory_format=layout).train()
        return Contestant(name, engine.Stepper(model, batches, SEED, precision, layout=layout), model.optimizers)

    contestants = [
        engine_in("fp32", "engine fp32"),
        engine_in("bf16", "engine bf16"),
        engine_in("fp32", "engine fp32, contiguous", torch.contiguous_format),
    ]
    if name == "divergence_triangle":
        plain = PlainTriangle(build().train())
        endless = (batches.indices(t).tolist() for t in range(sys.maxsize))
        images = iter(loader(torch.from_numpy(stored), endless))

        def iterate(t: int) -> None:
            torch.manual_seed(derive("step", SEED, t))  # the engine's noise
            (batch,) = next(images)
            plain.step(batch.to(where))

        contestants.insert(0, Contestant("plain fp32", iterate, plain.optimizers))
    return contestants


def _first_step(contestants: list[Contestant], where: torch.device) -> list[str]:
    """Run iteration 0 of each; how far the engine's gradients and weights are from the plain loop's, in words."""
    recorded = []
    for contestant in contestants:
        gradients: dict[str, Tensor] = {}
        hooks = []
        for name, optimizer in contestant.optimizers.items():

            def record(optimizer: Optimizer, *_: object, name: str = name, into: dict = gradients) -> None:
                into[name] = torch.cat([p.grad.detach().flatten().double() for p in _parameters(optimizer)])

            hooks.append(optimizer.register_step_pre_hook(record))
        before = {name: _weights(optimizer) for name, optimizer in contestant.optimizers.items()}
        contestant.steps(1, where)
        for hook in hooks:
            hook.remove()
        moved = {name: _weights(optimizer) - before[name] for name, optimizer in contestant.optimizers.items()}
        recorded.append((gradients, moved))
    if contestants[0].name != "plain fp32":
        return []
    lines = ["relative distance from plain fp32 after the first step (energy, encoder, generator):"]
    for contestant, (gradients, moved) in zip(contestants[1:], recorded[1:]):
        for what, ours, reference in (("gradients", gradients, recorded[0][0]), ("updates", moved, recorded[0][1])):
            distances = "  ".join(f"{_distance(ours[name], reference[name]):7.1e}" for name in reference)
            lines.append(f"    {contestant.name:24}{what:10}{distances}")
    return lines


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _weights(optimizer: Optimizer) -> Tensor:
    return torch.cat([p.detach().flatten().double() for p in _parameters(optimizer)])


def _distance(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||."""
    return ((a - b).norm() / b.norm()).item()


def _report(contestants: list[Contestant], agreement: list[str]) -> None:
    reference = contestants[0]
    print(f"\n{'':14}{'images/s':>10}{'min':>9}{'max':>9}   speed / {reference.name}: median (min to max over rounds)")
    for contestant in contestants:
        rates = contestant.rates
        row = f"{contestant.name:14}{statistics.median(rates):10.1f}{min(rates):9.1f}{max(rates):9.1f}"
        if contestant is not reference:
            ratios = [ours / theirs for ours, theirs in zip(rates, reference.rates)]
            row += f"   {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(row)
    print("\n".join(["", *agreement]) if agreement else "", flush=True)


def _write(path: Path, contestants: list[Contestant], arguments: argparse.Namespace, processor: str) -> None:
    """One row per contestant and round."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["model", "side", "width", "batch_size", "threads", "processor", "torch", "loop", "round", "images_per_s"]
        )
        for contestant in contestants:
            for k, rate in enumerate(contestant.rates):
                setup = [arguments.model, arguments.side, arguments.width, arguments.batch_size, arguments.threads]
                writer.writerow([*setup, processor, torch.__version__, contestant.name, k, round(rate, 2)])


def _processor(where: torch.device) -> str:
    """The device, and for a CPU whether it computes bf16 in hardware."""
    name = device.describe(where)
    if where.type != "cpu":
        return name
    try:
        flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
    except OSError:
        return f"{name}, instruction sets unknown"
    units = [unit for unit in ("amx_bf16", "avx512_bf16") if unit in flags]
    return f"{name}, bf16 in hardware: {', '.join(units) or 'no'}"


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize(where)


if __name__ == "__main__":
    sys.exit(run(main))
