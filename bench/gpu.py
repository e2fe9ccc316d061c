"""Accept a GPU: does it train right, how fast is it, what limits it, what will every table cost?

    python -m bench.gpu                               nine minutes at most, on the GPU there is
    python -m bench.gpu --quick --device cpu          narrow networks, seconds each: does this command work?

Writes gpu.json and gpu.md into --out after every answer, so that a run that was cut off keeps its answers. It needs
torch, NumPy, SciPy, scikit-learn, safetensors, tqdm and filelock, but neither Snakemake nor torch-fidelity nor a
network. A question without an answer says why: "needs a GPU", "out of time".

recording   is an iteration recorded, and if not, why; do the weights after 200 iterations equal those of eager
            iterations, of the same run again, and of a run that was stopped half way and continued
rates       images/s of a straightforward loop (bench/plain.py), of the engine eager and recorded; share of the measured
            peak; peak memory; host time per iteration, and for the average of weights alone
limit       launches, memory or compute, by the profiler, for the divergence triangle
packing     several runs on one device: the best number of runs_per_gpu for each width
evaluation  samples/s, features/s of the Inception graph, FID of 50,000 images in seconds
memory      what happens where the device's memory is full
schedule    hours of the full schedules of the paper preset's runs and tables, from these rates
"""

import argparse
import io
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import inception, packing
from bench.step import CONTIGUOUS, PEAK_SIZE, Contestant, Entrants, System, peak, processor, race, wait
from dtri import counting, engine, evaluation, experiment
from dtri.costs import CARDS, Card, card_of
from dtri.device import check_gpu, choose_device, describe_device
from dtri.ema import EMA
from dtri.experiment import TrainSpec
from dtri.files import write_text
from dtri.metrics.frechet import Gaussian, distance
from dtri.numerics import set_numerics
from dtri.recording import Recorder, cuda_recorder, side_stream
from workflow import counted
from workflow.commands.cli import run

TRIANGLE = "divergence_triangle"
FIRST = (TRIANGLE, "joint_vae_ebm", "vae", "dcgan", "sngan", "alice")  # systems to measure in a first hour
GROWN = "divergence_triangle_progressive"  # has no single rate: every level has another one
QUICK_PEAK = 128  # side of the matrices, where only any answer is wanted
NEEDS_GPU, NO_TIME = "needs a GPU", "out of time: give --minutes"
# Goals on an H100: ratio of recorded to plain loop, and hours of 750,000 iterations of the triangle. At its full
# peak they would take 2.7 h in fp32 and .18 h in bf16.
GOAL_RATIO, GOAL_HOURS = 6.0, 0.5


@dataclass(frozen=True)
class Answer:
    """An answer: `values` by name; `note` says what they are, or why there are none."""

    question: str
    subject: str
    precision: str
    values: dict[str, Any]
    note: str = ""


@dataclass
class Bench:
    """The device, and the questions that it is asked."""

    device: torch.device
    threads: int
    quick: bool
    deadline: float  # end of the current question, in seconds of time.monotonic()
    specs: dict[str, TrainSpec]  # specification by system, on CIFAR-10 where the paper preset has it
    precisions: tuple[str, ...]
    peaks: dict[str, float] = field(default_factory=dict)  # GFLOP/s by precision
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)  # per iteration, by system and precision

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def pairs(self) -> Iterator[tuple[str, TrainSpec, str]]:
        """Yield (system, specification, precision): all systems in one precision before the next precision."""
        for precision in self.precisions:
            for name, spec in self.specs.items():
                yield name, replace(spec, precision=precision), precision


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the width, batches of 4, few iterations")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--systems", nargs="+", help="of the paper preset (default: all)")
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--out", type=Path, default=Path("results/bench"), help="folder")
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    set_numerics(arguments.threads, "fp32")
    check_gpu(device, "fp32")
    precisions = ["fp32", "tf32", "bf16"] if device.type == "cuda" else ["fp32", "bf16"]
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        precisions = ["fp32"]
    bench = Bench(
        *(device, arguments.threads, arguments.quick, math.inf),
        *(systems(arguments.systems, arguments.quick), tuple(precisions)),
    )
    with side_stream(device):
        size = QUICK_PEAK if arguments.quick else PEAK_SIZE
        bench.peaks = {precision: peak(precision, device, size) for precision in ("fp32", "bf16")}
        report = Report(arguments.out, bench)
        started, share = time.monotonic(), 0.0
        total = sum(SHARES[question] for question in arguments.questions)
        for question in arguments.questions:
            share += SHARES[question] / total
            bench.deadline = started + 60 * arguments.minutes * share
            for answer in answered(question, bench):
                report.add(answer)
    print(f"{report.path}.json and .md, {(time.monotonic() - started) / 60:.1f} min")
    return int(any(answer.note.startswith("failed") for answer in report.answers))


def systems(names: list[str] | None, quick: bool) -> dict[str, TrainSpec]:
    """The paper preset's specification of each system: on CIFAR-10, else on the smallest images it trains on."""
    found: dict[str, TrainSpec] = {}
    rows = sorted(counted.planned("paper"), key=lambda row: (row.spec.dataset != "cifar10", row.spec.image_shape))
    for row in rows:
        found.setdefault(row.spec.model, row.spec)
    order = sorted(found, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    if unknown := set(names or ()) - set(order):
        raise ValueError(f"expected systems among {', '.join(order)}, found {', '.join(sorted(unknown))}")
    chosen = {name: found[name] for name in order if not names or name in names}
    return {name: narrow(spec) for name, spec in chosen.items()} if quick else chosen


def narrow(spec: TrainSpec) -> TrainSpec:
    """A small version of `spec`, for a look whether things work."""
    hparams = {**spec.hparams, "width": 0.1}
    if "batch_sizes" in hparams:
        hparams["batch_sizes"] = [4] * len(hparams["batch_sizes"])
    if spec.model == "igebm":
        hparams["langevin_steps"] = 2
    return replace(spec, hparams=hparams, batch_size=4, late_every=0)


def answered(question: str, bench: Bench) -> Iterator[Answer]:
    """Yield the answers to a question. A failure is an answer too, and the next question follows."""
    try:
        yield from QUESTIONS[question](bench)
    except Exception as error:
        lines = str(error).splitlines() or [""]
        yield Answer(question, "", "", {}, f"failed: {type(error).__name__}: {lines[0]}")


class Report:
    """gpu.json and gpu.md in a folder; both are written anew at every answer."""

    def __init__(self, folder: Path, bench: Bench):
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.answers = folder / "gpu", []
        self.facts = {
            "device": processor(bench.device),
            "torch": torch.__version__,
            "cuda": torch.version.cuda if bench.on_gpu else None,
            "threads": bench.threads,
            "quick": bench.quick,
            "peak_gflop_per_s": {precision: round(value) for precision, value in bench.peaks.items()},
        }

    def add(self, answer: Answer) -> None:
        self.answers.append(answer)
        rows = [asdict(one) for one in self.answers]
        write_text(self.path.with_suffix(".json"), json.dumps({**self.facts, "answers": rows}, indent=1) + "\n")
        write_text(self.path.with_suffix(".md"), self.markdown())
        told = "  ".join(f"{name} {_shown(value)}" for name, value in answer.values.items())
        print(f"{answer.question:11}{answer.subject:28}{answer.precision:5} {told} {answer.note}".rstrip(), flush=True)

    def markdown(self) -> str:
        lines = [f"# {self.facts['device']}", "", *(f"* {name}: {value}" for name, value in self.facts.items())]
        for question in dict.fromkeys(answer.question for answer in self.answers):
            rows = [answer for answer in self.answers if answer.question == question]
            columns = list(dict.fromkeys(name for row in rows for name in row.values))
            header = [question, "precision", *columns, "note"]
            lines += ["", " | ".join(["", *header, ""]).strip(), f"|{'-|' * len(header)}"]
            for row in rows:
                cells = [row.subject, row.precision, *(_shown(row.values.get(name, "")) for name in columns), row.note]
                lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# Is it right


def recording(bench: Bench) -> Iterator[Answer]:
    for name, spec, precision in bench.pairs():
        if bench.late():
            yield Answer("recording", name, precision, {}, NO_TIME)
            continue
        set_numerics(bench.threads, precision)
        yield Answer("recording", name, precision, *_trained_alike(bench, spec))


def _trained_alike(bench: Bench, spec: TrainSpec) -> tuple[dict[str, Any], str]:
    """Compare runs that should end with the same weights: (values, note)."""
    n = 4 if bench.quick else 200
    began = time.monotonic()
    _fit(bench, spec, 4, _refuse if bench.on_gpu else None)
    each = (time.monotonic() - began) / 4
    room = max(4, int((bench.deadline - time.monotonic()) / 4 / max(each, 1e-9)))
    steps = min(n, room) // 2 * 2
    recorder = cuda_recorder if bench.on_gpu else lambda: None
    once, modes = _fit(bench, spec, steps, recorder())
    values: dict[str, Any] = {"iterations": steps, "again": _equal(once, _fit(bench, spec, steps, recorder())[0])}
    values["continued"] = _equal(once, _fit(bench, spec, steps, recorder, stopped=True)[0])
    if not bench.on_gpu:
        return values, f"recorded: {NEEDS_GPU}"
    recorded = sum(mode.startswith("recorded") for mode in modes.values())
    values["recorded"] = f"{recorded} of {len(modes)} phases"
    values["as eager"] = _equal(once, _fit(bench, spec, steps, _refuse)[0])
    return values, "; ".join(f"{phase}: {mode}" for phase, mode in modes.items())


def _refuse(work: Callable[[], None]) -> Callable[[], None]:
    """A recorder that leaves iterations eager, with the optimisers that recorded iterations have."""
    raise RuntimeError("asked to stay eager")


def _fit(
    bench: Bench, spec: TrainSpec, steps: int, recorder: Recorder | Callable | None, stopped: bool = False
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(weights, modes) of a run on noise. If it is to be `stopped`, `recorder` makes one for each of its two parts."""
    images = np.random.default_rng(0).integers(0, 256, (500, *spec.image_shape), dtype=np.uint8)
    calls = iter(range(steps))
    with tempfile.TemporaryDirectory() as folder:

        def fit(stop: Callable[[], str | None], recorder: Recorder | None) -> engine.Outcome:
            return engine.fit(
                lambda: experiment.build(spec.entry, spec.image_shape, spec.hparams),
                images,
                steps=steps,
                batch_size=spec.batch_size,
                seed=0,
                device=bench.device,
                precision=spec.precision,
                state_path=Path(folder) / "state.pt",
                events_path=Path(folder) / "events.jsonl",
                run_id="bench",
                stop=stop,
                recorder=recorder,
            )

        with _quiet():
            if stopped:
                try:
                    fit(lambda: "signal" if next(calls) + 1 == steps // 2 else None, recorder())
                except engine.Interrupted:
                    recorder = recorder()
            outcome = fit(lambda: None, recorder)
    return outcome.weights, outcome.modes


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the lines that training prints."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> str:
    """ "to the bit", or the largest difference, relative to the largest value of its tensor."""
    largest = 0.0
    for name, a in ours.items():
        if a.is_floating_point() and not torch.equal(a, theirs[name]):
            scale = theirs[name].abs().max().clamp(min=1e-30)
            largest = max(largest, ((a - theirs[name]).abs().max() / scale).item())
    return f"off by {largest:.1e}" if largest else "to the bit"


# How fast


def rates(bench: Bench) -> Iterator[Answer]:
    for name, spec, precision in bench.pairs():
        if name == GROWN:
            yield Answer("rates", name, precision, {}, "grows: every level has a rate of its own")
        elif bench.late():
            yield Answer("rates", name, precision, {}, NO_TIME)
        else:
            set_numerics(bench.threads, precision)
            yield Answer("rates", name, precision, _rates(bench, spec))


def _rates(bench: Bench, spec: TrainSpec) -> dict[str, Any]:
    entrants, precision = _entrants(bench, spec), spec.precision
    ways = {"plain": entrants.plain()} if precision == "fp32" else {}
    ways["eager"] = entrants.engine(precision, "eager")
    if precision == "fp32":
        ways["contiguous"] = entrants.engine(precision, CONTIGUOUS, layout=torch.contiguous_format)
    if bench.on_gpu:
        ways["recorded"] = entrants.engine(precision, "recorded", recorded=True)
    best = ways["recorded" if bench.on_gpu else "eager"]
    for way in ways.values():
        way.steps(3, bench.device)  # the second iteration is recorded and compared with eager ones
    rounds, seconds = (1, 0.05) if bench.quick else (3, 0.3)
    per_round = max(1, math.ceil(seconds / (best.steps(2, bench.device) / 2)))
    race(list(ways.values()), rounds, per_round, spec.batch_size, bench.device)
    found = {name: statistics.median(way.rates) for name, way in ways.items()}
    each = spec.batch_size / found["recorded" if bench.on_gpu else "eager"]
    bench.seconds[spec.model, precision] = each
    setup = (spec.entry, spec.image_shape, spec.hparams, spec.batch_size, spec.steps)
    gflop = counting.iteration(*setup).operations / 1e9
    values: dict[str, Any] = {f"{name} images/s": rate for name, rate in found.items()}
    values |= {"iterations/s": 1 / each, "GFLOP": gflop}
    if precision in bench.peaks:  # no peak is measured for tf32
        values["of peak"] = gflop / each / bench.peaks[precision]
    if "plain" in found:
        values["times plain"] = spec.batch_size / each / found["plain"]
        if bench.on_gpu and spec.model == TRIANGLE:
            values[f"goal of {GOAL_RATIO:g} times plain"] = "met" if values["times plain"] >= GOAL_RATIO else "missed"
    if bench.on_gpu:
        values["memory MiB"] = best.memory_mib
    return values | _host(bench, best)


def _entrants(bench: Bench, spec: TrainSpec) -> Entrants:
    return Entrants(System(spec.model, spec.entry, spec.hparams, spec.image_shape), spec.batch_size, bench.device)


def _host(bench: Bench, way: Contestant) -> dict[str, float]:
    """Milliseconds until the host has launched an iteration, and for the average of weights alone."""
    n = 2 if bench.quick else 20
    wait(bench.device)
    start = time.perf_counter()
    for t in range(way.t, way.t + n):
        way.iterate(t)
    asked = (time.perf_counter() - start) / n
    way.t += n
    way.model.ema_decay = way.model.ema_decay or 0.999
    ema = EMA(way.model)
    ema.update(way.model, 0)
    wait(bench.device)
    start = time.perf_counter()
    for t in range(n):
        ema.update(way.model, t)
    return {"host ms": 1e3 * asked, "average host ms": 1e3 * (time.perf_counter() - start) / n}


PRODUCTS = ("conv", "gemm", "addmm", "::mm", "bmm", "cutlass", "xmma", "wgrad", "dgrad", "fprop", "cudnn")


def limit(bench: Bench) -> Iterator[Answer]:
    """Fractions of the time in which the device computes, and of this time the fraction of products."""
    for name, spec, precision in bench.pairs():
        if name != TRIANGLE:
            continue
        set_numerics(bench.threads, precision)
        way = _entrants(bench, spec).engine(precision, "engine", recorded=bench.on_gpu)
        way.steps(3, bench.device)
        activity = torch.profiler.ProfilerActivity.CUDA if bench.on_gpu else torch.profiler.ProfilerActivity.CPU
        n = 2 if bench.quick else 10
        with torch.profiler.profile(activities=[activity]) as profile:
            wall = way.steps(n, bench.device)
        times = {
            event.key: event.self_device_time_total if bench.on_gpu else event.self_cpu_time_total
            for event in profile.key_averages()
        }
        total = sum(times.values()) / 1e6
        products = sum(value for key, value in times.items() if any(part in key.lower() for part in PRODUCTS)) / 1e6
        values = {"busy": total / wall, "products": products / max(total, 1e-12)}
        limited = "compute" if values["products"] > 0.5 else "memory"
        if bench.on_gpu and values["busy"] < 0.8:
            limited = "launches"
        yield Answer("limit", name, precision, {**values, "limited by": limited})
    if TRIANGLE not in bench.specs:
        yield Answer("limit", TRIANGLE, "", {}, "not among --systems")


def side_by_side(bench: Bench) -> Iterator[Answer]:
    """Images per second of several runs at once, added up."""
    spec = bench.specs.get(TRIANGLE) or next(iter(bench.specs.values()))
    widths, numbers = (1.0, 0.25), (1, 2, 4, 8)
    if bench.quick or not bench.on_gpu:
        widths, numbers = (0.1,), (1, 2)
    for width in widths:
        found: dict[int, float] = {}
        for n in numbers:
            if bench.late():
                break
            name, seconds = ("gpu" if bench.on_gpu else "cpu"), (0.2 if bench.quick else 3.0)
            hparams = {**spec.hparams, "width": width}
            load = packing.Load(
                spec.entry, hparams, spec.batch_size, name, bench.threads, seconds, tuple(spec.image_shape)
            )
            found[n] = packing.side_by_side(n, load)
        values = {f"{n} runs, images/s": rate for n, rate in found.items()}
        if found:
            values["best runs_per_gpu"] = max(found, key=found.get)
        note = NO_TIME if len(found) < len(numbers) else "" if bench.on_gpu else f"on the CPU; cards: {NEEDS_GPU}"
        yield Answer("packing", f"{spec.model}, width {width:g}", "fp32", values, note)


# Evaluation


def evaluated(bench: Bench) -> Iterator[Answer]:
    set_numerics(bench.threads, "fp32")
    n = 8 if bench.quick else 10_000 if bench.on_gpu else 500
    spec = bench.specs.get("vae") or next(iter(bench.specs.values()))
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams).to(bench.device).eval()
    samples = n / _seconds(bench, lambda: evaluation.sample(model, n, 0))
    network = inception.build(bench.device)
    rates = {}
    for size in (2, 4) if bench.quick else (50, 250) if bench.on_gpu else (25,):
        count = size if bench.quick or not bench.on_gpu else 2000
        batch = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, device=bench.device)

        def extract(batch: torch.Tensor = batch, times: int = count // size) -> None:
            with torch.no_grad():
                for _ in range(times):
                    network(batch)[0].cpu()

        rates[size] = count / _seconds(bench, extract)
    dims, rows = (64, 200) if bench.quick else (2048, 50_000 if bench.on_gpu else 5_000)
    features = torch.randn(2, rows, dims, device=bench.device)
    gaussians = _seconds(bench, lambda: distance(*(Gaussian.of(part) for part in features)), warm=False)
    values = {"samples/s": samples, **{f"features/s, batch {size}": rate for size, rate in rates.items()}}
    values[f"Frechet distance of {rows} x {dims}, s"] = gaussians
    values["FID of 50,000, s"] = 50_000 / samples + 50_000 / max(rates.values()) + gaussians
    note = "" if dims == 2048 and rows == 50_000 else f"the distance of fewer; of 50,000 x 2048: {NEEDS_GPU}"
    yield Answer("evaluation", f"{spec.model}, Inception graph", "fp32", values, note)


def _seconds(bench: Bench, work: Callable[[], object], warm: bool = True) -> float:
    if warm:
        work()
    wait(bench.device)
    start = time.perf_counter()
    work()
    wait(bench.device)
    return time.perf_counter() - start


def memory(bench: Bench) -> Iterator[Answer]:
    """Limit this process's memory to a little more than it holds, then sample and train."""
    if not bench.on_gpu:
        yield Answer("memory", "", "", {}, NEEDS_GPU)
        return
    spec = bench.specs.get("vae") or next(iter(bench.specs.values()))
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams).to(bench.device).eval()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(bench.device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 100 * 2**20) / total)
    try:
        text = io.StringIO()
        with redirect_stdout(text):
            evaluation.sample(model, 500, 0)
        yield Answer("memory", "samples", "fp32", {"told": text.getvalue().strip() or "nothing: they fit"})
        try:
            _entrants(bench, replace(spec, batch_size=2000)).engine("fp32", "engine").steps(1, bench.device)
            told = "nothing: it fits"
        except torch.OutOfMemoryError as error:
            told = str(error).splitlines()[0]
        yield Answer("memory", "training, batch 2000", "fp32", {"told": told})
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


# What everything costs


def schedule(bench: Bench) -> Iterator[Answer]:
    rows = counted.planned("paper")
    for precision in bench.precisions:
        seconds, told = _predicted(bench, precision)
        if bench.quick:
            told = f"from a tenth of the width: {told}"
        for name, spec in systems(list(bench.specs), quick=False).items():
            hours = spec.steps * seconds(spec) / 3600
            values = {"hours": hours, "dataset": spec.dataset, "steps": spec.steps}
            measured = not bench.quick and (name, precision) in bench.seconds
            if name == TRIANGLE and bench.on_gpu:
                values["goal of half an hour"] = "met" if hours <= GOAL_HOURS else "missed"
            yield Answer("schedule", name, precision, values, "as measured" if measured else told)
        for table in sorted({table for row in rows for table in row.tables}):
            runs = [row for row in rows if table in row.tables]
            hours = sum(row.seeds * row.spec.steps * seconds(row.spec) / 3600 for row in runs)
            values = {"hours": hours, "runs": sum(row.seeds for row in runs)}
            yield Answer("schedule", f"all of {table}", precision, values, told)


def _predicted(bench: Bench, precision: str) -> tuple[Callable[[TrainSpec], float], str]:
    """(specification -> seconds of an iteration, what they are based on)."""
    card = card_of(describe_device(bench.device))
    known = card is not None and precision in card.peaks
    law: Card = card if known else next(one for one in CARDS if one.name == "A100")
    threads = bench.threads
    ratios = []
    for (name, measured_in), measured in bench.seconds.items():
        spec = bench.specs[name]
        if measured_in == precision:
            setup = (spec.entry, spec.image_shape, spec.hparams, spec.batch_size, spec.steps)
            ratios.append(measured / law.seconds(counting.iteration(*setup), precision, threads))
    factor = statistics.geometric_mean(ratios) if ratios else 1.0
    told = f"estimate for {law.name}" if known else f"estimate as if an {law.name}"
    if ratios:
        told += f", times {factor:.2g} by {len(ratios)} measured systems ({min(ratios):.2g} to {max(ratios):.2g})"
    else:
        told += ", nothing measured"

    def seconds(spec: TrainSpec) -> float:
        measured = bench.seconds.get((spec.model, precision))
        if measured is not None and bench.specs.get(spec.model) == spec:
            return measured
        return factor * law.seconds(counted.work(spec), precision, threads)

    return seconds, told


QUESTIONS: dict[str, Callable[[Bench], Iterator[Answer]]] = {
    "recording": recording,
    "rates": rates,
    "limit": limit,
    "packing": side_by_side,
    "evaluation": evaluated,
    "memory": memory,
    "schedule": schedule,
}
SHARES = {"recording": 0.36, "rates": 0.27, "limit": 0.05, "packing": 0.2, "evaluation": 0.08, "memory": 0.02}
SHARES["schedule"] = 0.02


if __name__ == "__main__":
    sys.exit(run(main))
