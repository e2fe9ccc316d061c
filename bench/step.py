"""Speed of one training step, measured side by side: a straightforward loop, the engine in fp32 and in bf16.

    python -m bench.step                                      the divergence triangle at 32x32x3, batch 100, full width
    python -m bench.step --quick                              narrow networks, to see that it works
    python -m bench.step --model all --width 0.25 --batch-size 50 --csv systems.csv --plot systems.png
    python -m bench.step --model joint_vae_ebm dcgan --side 28 32 64

All loops run in one process, in turns, from the same weights, on the same batches and noise. On a GPU the engine runs
recorded and, for comparison, eager.
"""

import argparse
import csv
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.plain import PlainLoop, PlainTriangle, loader
from dtri import counting, experiment
from dtri.batches import Batches
from dtri.device import choose_device, describe_device
from dtri.model import Model
from dtri.numerics import set_numerics
from dtri.recording import cuda_recorder, make_recordable, side_stream
from dtri.seeding import derive
from dtri.stepper import Stepper
from workflow.commands.cli import run

SEED = 0
ROUND_S = 0.5  # shortest time of a round, in which the clock and queued kernels do not matter
N_IMAGES = 2_000
PEAK_SIZE = 2_048  # side of the matrices that find the processor's peak; the convolution has about the same work
PLAIN, CONTIGUOUS = "plain fp32", "engine fp32, contiguous"


@dataclass(frozen=True)
class System:
    """What trains: an entry as in models.yaml, its hyperparameters, and the image shape (C, H, W)."""

    name: str
    entry: str
    hparams: dict[str, Any]
    shape: tuple[int, int, int]


def configured(name: str, shape: tuple[int, int, int], width: float) -> System:
    from workflow import configuration

    entry = configuration.model(name)
    return System(name, entry.entry, {**entry.hparams, "width": width}, shape)


@dataclass
class Contestant:
    """One way to train. `iterate(t)` runs iteration t; `rates` are images per second, one per round."""

    name: str
    iterate: Callable[[int], object]
    model: Model | None
    optimizers: dict[str, Optimizer]
    t: int = 0
    rates: list[float] = field(default_factory=list)
    memory_mib: float | None = None  # peak on the GPU

    def steps(self, n: int, device: torch.device) -> float:
        """Run n iterations, and return their seconds."""
        wait(device)
        start = time.perf_counter()
        for _ in range(n):
            self.iterate(self.t)
            self.t += 1
        wait(device)
        return time.perf_counter() - start


@dataclass(frozen=True)
class Row:
    """One loop of one system. FLOP counts multiplications and additions of matrix products and convolutions."""

    model: str
    side: int
    width: float
    batch_size: int
    threads: int
    processor: str
    torch: str
    loop: str
    images_per_s: float  # median over rounds
    low: float
    high: float
    ratio: float  # to the plain loop: median of the ratios within rounds
    ratio_low: float
    ratio_high: float
    gflop_per_iteration: float
    gflop_per_s: float
    fraction_of_peak: float
    memory_mib: float | None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["divergence_triangle"], help="of models.yaml, or all")
    parser.add_argument("--side", nargs="+", type=int, choices=(28, 32, 64), default=[32], help="28: one channel")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies all channels")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu")
    parser.add_argument("--compile", action="store_true", help="also let the engine run networks of torch.compile")
    parser.add_argument("--csv", type=Path, help="also write one row per system, side and loop there")
    parser.add_argument("--plot", type=Path, help="also draw the ratios there")
    parser.add_argument("--quick", action="store_true", help="width 0.1, three rounds")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.width, arguments.rounds = 0.1, 3
    if arguments.rounds < 1 or arguments.batch_size < 2:
        raise ValueError(f"expected rounds >= 1 and batch size >= 2, found {arguments.rounds}, {arguments.batch_size}")

    device = choose_device(arguments.device)
    set_numerics(arguments.threads, "fp32")
    peaks = {precision: peak(precision, device) for precision in ("fp32", "bf16")}
    print(f"{processor(device)}; {arguments.threads} threads; torch {torch.__version__}")
    print("peak of matrix products and convolutions: fp32 {fp32:.0f}, bf16 {bf16:.0f} GFLOP/s".format(**peaks))
    names = _fixed_size() if arguments.model == ["all"] else arguments.model
    rows: list[Row] = []
    with side_stream(device):
        for name in names:
            for side in arguments.side:
                rows += measure(name, side, arguments, device, peaks)
    if arguments.csv:
        _write(arguments.csv, rows)
    if arguments.plot:
        _draw(arguments.plot, rows)
    return 0


def _fixed_size() -> list[str]:
    """All systems except the one that grows, whose batch size depends on its level."""
    from workflow import configuration  # imported here, since bench.gpu also runs where it cannot be read

    return [
        name
        for name, entry in configuration.models().items()
        if "batch_sizes" not in experiment.hparam_defaults(entry.entry)
    ]


def measure(
    name: str, side: int, arguments: argparse.Namespace, device: torch.device, peaks: dict[str, float]
) -> list[Row]:
    """Let the loops of one system take turns; prints and returns their rates.

    Args:
        name:      a system of models.yaml.
        side:      side of the images.
        arguments: the command line.
        device:    where to train.
        peaks:     GFLOP/s by precision.
    """
    shape = (1 if side == 28 else 3, side, side)
    print(f"\n{name}, images {'x'.join(map(str, shape))}, batch {arguments.batch_size}, ", end="")
    system = configured(name, shape, arguments.width)
    entrants = Entrants(system, arguments.batch_size, device)
    contestants = entrants.all(compiled=arguments.compile)
    contiguous = entrants.engine("fp32", CONTIGUOUS, layout=torch.contiguous_format)
    agreement = _first_step([*contestants, contiguous], device)
    flops = _flops(contestants[-1])
    per_round = max(1, math.ceil(ROUND_S / min(contestant.steps(2, device) / 2 for contestant in contestants)))
    print(f"width {arguments.width:g}, {arguments.rounds} rounds of {per_round} steps in turns", flush=True)
    race(contestants, arguments.rounds, per_round, arguments.batch_size, device)
    setup = (
        name,
        side,
        arguments.width,
        arguments.batch_size,
        arguments.threads,
        processor(device),
        torch.__version__,
    )
    rows = list(_rows(contestants, setup, flops, peaks))
    _print(rows, agreement)
    return rows


def race(contestants: list[Contestant], rounds: int, per_round: int, batch_size: int, device: torch.device) -> None:
    """Let the contestants take turns; fills in their rates and peak memory.

    Args:
        contestants: what takes turns.
        rounds:      number of rounds.
        per_round:   iterations of each contestant in a round.
        batch_size:  images per iteration.
        device:      where they train.
    """
    for k in range(rounds):
        for contestant in contestants if k % 2 == 0 else reversed(contestants):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds = contestant.steps(per_round, device)
            contestant.rates.append(per_round * batch_size / seconds)
            if device.type == "cuda":
                contestant.memory_mib = torch.cuda.max_memory_allocated() / 2**20


class Entrants:
    """Ways to train one system, all from the same weights, on the same batches and noise."""

    def __init__(self, system: System, batch_size: int, device: torch.device):
        self.system, self.device = system, device
        self.stored = np.random.default_rng(SEED).integers(0, 256, (N_IMAGES, *system.shape), dtype=np.uint8)
        self.batches = Batches(self.stored, batch_size, SEED, device, self._build().span)

    def _build(self) -> Model:
        torch.manual_seed(derive("init", SEED))
        return experiment.build(self.system.entry, self.system.shape, self.system.hparams).to(self.device).train()

    def all(self, compiled: bool = False) -> list[Contestant]:
        """The plain loop, and the engine in fp32 and bf16; on a GPU recorded and, for comparison, eager."""
        recorded = self.device.type == "cuda"
        found = [self.plain()]
        if recorded:
            found += [self.engine(precision, f"eager {precision}") for precision in ("fp32", "bf16")]
        found += [self.engine(precision, f"engine {precision}", recorded) for precision in ("fp32", "bf16")]
        if compiled:
            found += [self.engine(precision, f"compiled {precision}", compiled=True) for precision in ("fp32", "bf16")]
        return found

    def plain(self) -> Contestant:
        loop = PlainTriangle if self.system.name == "divergence_triangle" else PlainLoop
        plain, batches = loop(self._build()), self.batches
        images = iter(loader(torch.from_numpy(self.stored), (batches.indices(t).tolist() for t in count())))

        def iterate(t: int) -> None:
            torch.manual_seed(derive("step", SEED, t))  # the engine's noise
            (batch,) = next(images)
            plain.step(batch.to(self.device))

        return Contestant(PLAIN, iterate, None, plain.optimizers)

    def engine(
        self,
        precision: str,
        name: str,
        recorded: bool = False,
        layout: torch.memory_format | None = None,
        compiled: bool = False,
    ) -> Contestant:
        """The engine as a contestant called `name`; `layout` None keeps the model's memory layout."""
        model = self._build()
        model.memory_format = layout or model.memory_format
        model.to(memory_format=model.memory_format)
        for network in model.children() if compiled else ():
            network.compile()
        recorder = None
        if recorded:
            recorder = cuda_recorder()
            for optimizer in model.optimizers.values():
                make_recordable(optimizer, self.device)
        stepper = Stepper(model, self.batches, SEED, precision, recorder)
        return Contestant(name, stepper, model, model.optimizers)


def _first_step(contestants: list[Contestant], device: torch.device) -> list[str]:
    """Run iteration 0 of each; lines on how far the engine's gradients and weights are from the plain loop's."""
    recorded = []
    for contestant in contestants:
        gradients: dict[str, Tensor] = {}
        hooks = []
        for name, optimizer in contestant.optimizers.items():

            def record(optimizer: Optimizer, *_: object, name: str = name, into: dict = gradients) -> None:
                into[name] = torch.cat([p.grad.detach().flatten().double() for p in _parameters(optimizer)])

            hooks.append(optimizer.register_step_pre_hook(record))
        before = {name: _weights(optimizer) for name, optimizer in contestant.optimizers.items()}
        contestant.steps(1, device)
        for hook in hooks:
            hook.remove()
        moved = {name: _weights(contestant.optimizers[name]) - before[name] for name in gradients}
        recorded.append((gradients, moved))
    (reference, reference_moved), *others = recorded
    lines = [f"relative distance from {PLAIN} after the first step ({', '.join(reference)}):"]
    for contestant, (gradients, moved) in zip(contestants[1:], others, strict=True):
        for what, ours, theirs in (("gradients", gradients, reference), ("updates", moved, reference_moved)):
            distances = "  ".join(f"{_distance(ours[name], theirs[name]):7.1e}" for name in theirs)
            lines.append(f"    {contestant.name:24}{what:10}{distances}")
    return lines


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _weights(optimizer: Optimizer) -> Tensor:
    return torch.cat([p.detach().flatten().double() for p in _parameters(optimizer)])


def _distance(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||; 0 where both are 0."""
    return ((a - b).norm() / b.norm().clamp(min=1e-300)).item()


def _flops(contestant: Contestant) -> float:
    """10^9 operations per iteration, averaged over enough iterations for the rarest phase."""
    phases = len({contestant.model.phase(t) for t in range(100)})
    n = 1 if phases == 1 else next(n for n in range(2, 100) if contestant.model.phase(n - 1) != 0)
    with counting.WorkCounter() as counter:
        for t in range(n):
            contestant.iterate(t)
    return counter.operations / n / 1e9


def peak(precision: str, device: torch.device, size: int = PEAK_SIZE) -> float:
    """GFLOP/s of a large matrix product or a 3x3 convolution, whichever is faster: libraries differ by processor."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(size, size, device=device, dtype=dtype)
    x = torch.randn(size // 32, 256, 16, 16, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    w = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    products = {
        2 * size**3: lambda: a @ a,
        2 * x.numel() * w[0].numel(): lambda: torch.nn.functional.conv2d(x, w, padding=1),
    }
    return max(flops / fastest(product, device) / 1e9 for flops, product in products.items())


def fastest(work: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Seconds of the fastest of `times` calls."""
    found = []
    for _ in range(times):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - start)
    return min(found)


def _rows(contestants: list[Contestant], setup: tuple, gflop: float, peaks: dict[str, float]) -> Iterator[Row]:
    batch_size = setup[3]
    for contestant in contestants:
        rates = contestant.rates
        ratios = [ours / theirs for ours, theirs in zip(rates, contestants[0].rates, strict=True)]
        rate, ratio = statistics.median(rates), statistics.median(ratios)
        speed = gflop * rate / batch_size
        # The plain loop computes more than the counted operations, so its operations per second are unknown.
        known = (
            (speed, speed / peaks[contestant.name.split()[-1]]) if contestant.name != PLAIN else (math.nan, math.nan)
        )
        spread = (rate, min(rates), max(rates), ratio, min(ratios), max(ratios))
        yield Row(*setup, contestant.name, *spread, gflop, *known, contestant.memory_mib)


def _print(rows: list[Row], agreement: list[str]) -> None:
    print(f"{rows[0].gflop_per_iteration:.1f} GFLOP per iteration (engine)\n")
    print(f"{'':16}{'images/s':>10}{'min':>9}{'max':>9}{'of peak':>9}   speed / {PLAIN}: median (range over rounds)")
    for row in rows:
        part = "" if math.isnan(row.fraction_of_peak) else f"{row.fraction_of_peak:.0%}"
        line = f"{row.loop:16}{row.images_per_s:10.1f}{row.low:9.1f}{row.high:9.1f}{part:>9}"
        if row.loop != PLAIN:
            line += f"   {row.ratio:.2f} ({row.ratio_low:.2f} to {row.ratio_high:.2f})"
        print(line)
    print("\n".join(["", *agreement]), flush=True)


def _write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            values = asdict(row).items()
            writer.writerow({name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in values})


def _draw(path: Path, rows: list[Row]) -> None:
    """Draw ratios to the plain loop, a group of bars per system and side."""
    import matplotlib.pyplot as plt
    import pandas as pd
    import seaborn as sns

    frame = pd.DataFrame([asdict(row) for row in rows if row.loop != PLAIN])
    frame["system"] = frame.model + frame.side.map(", {} px".format)
    figure, axes = plt.subplots(figsize=(7, 1 + 0.35 * frame.system.nunique()))
    sns.barplot(frame, y="system", x="ratio", hue="loop", ax=axes, palette="colorblind")
    axes.axvline(1, color="black", linewidth=0.8)
    first = rows[0]
    axes.set(xlabel="images per second / plain loop in fp32", ylabel="")
    axes.set_title(
        f"{first.processor}, {first.threads} threads, width {first.width:g}, batch {first.batch_size}", size=8
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def processor(device: torch.device) -> str:
    """Name of the device, and for a CPU whether it computes bf16 in hardware."""
    name = describe_device(device)
    if device.type != "cpu":
        return name
    try:
        flags = set(Path("/proc/cpuinfo").read_text("utf-8").partition("flags")[2].partition("\n")[0].split())
    except OSError:
        return f"{name}, instruction sets unknown"
    units = [unit for unit in ("amx_bf16", "avx512_bf16") if unit in flags]
    return f"{name}, bf16 in hardware: {', '.join(units) or 'no'}"


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(run(main))
