"""Many small runs on one device: processes side by side, one process after another, or seeds stacked in one network.

    python -m bench.packing                                     the demo's width and images, on this machine's cores
    python -m bench.packing --model vae --width 0.25 --processes 1 2 4 8       on a GPU: runs per slot

Processes side by side share the cores (or the GPU) evenly. Their rates are added up over the time in which all train.
Stacking is measured on the part that would gain most: the convolutions of k equal trunks, forward and backward. They
run as k networks in turn, and as one network with k groups of channels.
"""

import argparse
import csv
import statistics
import sys
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dtri import experiment
from dtri.batches import Batches
from dtri.device import choose_device, describe_device
from dtri.networks.convolutional import LEAK, TRUNK, scaled
from dtri.numerics import set_numerics
from dtri.recording import cuda_recorder, make_recordable, side_stream
from dtri.stepper import Stepper
from workflow.commands.cli import run

N_IMAGES = 1_437  # training images of the digits
WARM_UP = 5  # iterations


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="divergence_triangle", help="a system of workflow/config/models.yaml")
    parser.add_argument("--width", type=float, default=0.125, help="multiplies all channels")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers to try")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads, shared")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu")
    parser.add_argument("--csv", type=Path, help="also write every round's rates there")
    arguments = parser.parse_args(argv)
    if min(arguments.processes) < 1 or arguments.rounds < 1:
        raise ValueError(f"expected at least one process and round, found {arguments.processes}, {arguments.rounds}")
    from workflow import configuration  # imported here, since bench.gpu also runs where it cannot be read

    entry = configuration.model(arguments.model)
    device = choose_device(arguments.device)
    load = Load(
        *(entry.entry, {**entry.hparams, "width": arguments.width}, arguments.batch_size, arguments.device),
        *(arguments.threads, arguments.seconds),
    )
    print(f"{describe_device(device)}; {arguments.threads} threads; torch {torch.__version__}")
    print(f"{arguments.model}, 1x28x28, batch {arguments.batch_size}, width {arguments.width:g}", flush=True)
    found: dict[str, list[float]] = {_ways(n): [] for n in arguments.processes}
    for _ in range(arguments.rounds):
        for n in arguments.processes:
            found[_ways(n)].append(side_by_side(n, load))
    _print("images/s, all runs together", found)
    set_numerics(arguments.threads, "fp32")
    stacked = _stacked(arguments, device)
    _print(f"trunk iterations/s, {STACKED} seeds together", stacked)
    if arguments.csv:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["model", "width", "batch_size", "threads", "device", "way", "round", "rate"])
            setup = [arguments.model, arguments.width, arguments.batch_size, arguments.threads, describe_device(device)]
            for way, rates in {**found, **stacked}.items():
                writer.writerows([*setup, way, k, round(rate, 2)] for k, rate in enumerate(rates))
    return 0


def _print(what: str, found: dict[str, list[float]]) -> None:
    first = next(iter(found.values()))
    print(f"\n{what:40}{'median':>9}{'min':>9}{'max':>9}   against the first, within rounds")
    for way, rates in found.items():
        ratios = [ours / theirs for ours, theirs in zip(rates, first, strict=True)]
        line = f"{way:40}{statistics.median(rates):9.1f}{min(rates):9.1f}{max(rates):9.1f}"
        print(f"{line}   {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def _ways(n: int) -> str:
    return f"{n} process{'es' if n > 1 else ''}"


@dataclass(frozen=True)
class Load:
    """A run of `seconds` on noise in the digits' shape; all processes together have `threads`."""

    entry: str
    hparams: dict[str, Any]
    batch_size: int
    device: str
    threads: int
    seconds: float
    shape: tuple[int, int, int] = (1, 28, 28)


def side_by_side(n: int, load: Load) -> float:
    """Images per second of n processes that train at once, added up."""
    context = get_context("spawn")
    barrier, rates = context.Barrier(n), context.SimpleQueue()
    children = [context.Process(target=_train, args=(k, n, load, barrier, rates)) for k in range(n)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        if child.exitcode:
            raise RuntimeError(f"a process ended with {child.exitcode}")
    return sum(rates.get() for _ in children)


def _train(k: int, n: int, load: Load, barrier: Barrier, rates) -> None:
    device = choose_device(load.device)
    set_numerics(max(1, load.threads // n), "fp32")
    stored = np.random.default_rng(0).integers(0, 256, (N_IMAGES, *load.shape), dtype=np.uint8)
    torch.manual_seed(k)
    model = experiment.build(load.entry, load.shape, load.hparams)
    model = model.to(device).to(memory_format=model.memory_format).train()
    recorder = None
    with side_stream(device):
        if device.type == "cuda":
            recorder = cuda_recorder()
            for optimizer in model.optimizers.values():
                make_recordable(optimizer, device)
        batches = Batches(stored, load.batch_size, k, device)
        stepper = Stepper(model, batches, k, "fp32", recorder)
        for t in range(WARM_UP):
            stepper(t).values.tolist()
        barrier.wait()
        start, t = time.perf_counter(), WARM_UP
        while time.perf_counter() - start < load.seconds:
            stepper(t).values.tolist()
            t += 1
        rates.put((t - WARM_UP) * load.batch_size / (time.perf_counter() - start))


STACKED = 4


def _stacked(arguments: argparse.Namespace, device: torch.device) -> dict[str, list[float]]:
    """Forward and backward passes per second of the trunks of several seeds, added up."""
    networks = [_trunk(1, arguments.width).to(device) for _ in range(STACKED)]
    together = _trunk(STACKED, arguments.width).to(device)
    x = torch.randn(arguments.batch_size, 1, 28, 28, device=device)
    many = x.repeat(1, STACKED, 1, 1).contiguous(memory_format=torch.channels_last)

    def in_turn() -> None:
        for network in networks:
            network(x).square().mean().backward()

    ways = {"networks in turn": in_turn, "one network, grouped": lambda: together(many).square().mean().backward()}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        for way, work in ways.items():
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            start, n = time.perf_counter(), 0
            while time.perf_counter() - start < arguments.seconds / 5:
                work()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                n += 1
            found[way].append(n / (time.perf_counter() - start))
    return found


def _trunk(groups: int, width: float) -> nn.Module:
    """The convolutions at 28 px of `groups` trunks, in one network."""
    layers: list[nn.Module] = []
    channels = groups
    for conv in TRUNK[28]:
        out = groups * scaled(conv.channels, width)
        layers += [nn.Conv2d(channels, out, conv.kernel, conv.stride, conv.padding, groups=groups), nn.LeakyReLU(LEAK)]
        channels = out
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


if __name__ == "__main__":
    sys.exit(run(main))
