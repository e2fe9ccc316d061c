"""Train one run: data and a spec in, weights, curve and a summary out.

Killing it at any moment and giving the same command again continues it. Exit codes: 0 done or diverged (a diverged run
is a result), 75 out of allocated time, 130/143 interrupted by SIGINT/SIGTERM, 2 a mistake in the input, 1 a bug.

A spec with "processes": N is trained by `torchrun --standalone --nproc-per-node N -m workflow.commands.train` with the
same arguments (dtri/distributed.py); torchrun exits 1 whatever the processes end with.
"""

import argparse
import csv
import io
import os
import resource
import signal
import sys
import time
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from dtri import checkpoint, device, distributed, engine, experiment, recording
from dtri.data import store
from dtri.files import write_text
from dtri.report.records import write_sealed
from workflow.commands.cli import run
from workflow.commands.provenance import provenance, versions

EXIT_OUT_OF_TIME = 75
DEADLINE_MARGIN_S = 60.0


class Stop:
    """Why training should stop now, if it should: a signal received or the deadline near."""

    def __init__(self, deadline: float | None):
        self.signal: int | None = None
        self.deadline = deadline
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, self._received)

    def _received(self, number: int, _frame: object) -> None:
        self.signal = number

    def __call__(self) -> str | None:
        if self.signal is not None:
            return "signal"
        if self.deadline is not None and time.monotonic() > self.deadline:
            return "deadline"
        return None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, help="training spec, JSON")
    parser.add_argument("--code", required=True, help="fingerprint of the code that trains")
    parser.add_argument("--data", required=True, type=Path, help="folder of the prepared dataset")
    parser.add_argument("--preset", default="", help="preset, for the record")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    parser.add_argument("--eager", action="store_true", help="on a GPU: record no CUDA graphs, to compare with")
    parser.add_argument("--minutes", type=float, help="allocated time; saves and exits 75 before it ends")
    arguments = parser.parse_args(argv)
    minutes = arguments.minutes
    deadline = None if minutes is None else time.monotonic() + 60 * minutes - DEADLINE_MARGIN_S

    spec = experiment.TrainSpec.parse(arguments.spec)
    dataset = store.load(arguments.data)
    if dataset.image_shape != spec.image_shape:
        raise ValueError(f"expected images {spec.image_shape}, found {dataset.image_shape} in {arguments.data}")
    if int(os.environ.get("SLURM_PROCID", "0")) != 0:
        raise ValueError("expected one process per run, found several (SLURM_PROCID is not 0): drop `tasks`")
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != spec.processes:
        raise ValueError(f"expected {spec.processes} processes (torchrun --nproc-per-node), found {started}")
    where = device.choose(arguments.device)
    device.prepare(spec.threads, spec.precision)
    with distributed.team(spec.sync_batch_norm, device.backend(arguments.device)) as team, ExitStack() as held:
        devices = []
        if team.leads:
            arguments.out.mkdir(parents=True, exist_ok=True)
            held.enter_context(_exclusive(arguments.out))
            devices = held.enter_context(device.gpu_slots(where, spec.processes))
        else:
            held.enter_context(redirect_stdout(held.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        where = team.place(devices)
        held.enter_context(recording.side_stream(where))
        return _train(spec, dataset, arguments, where, Stop(deadline), team)


def _exclusive(folder: Path) -> FileLock:
    """The run's lock; waits for another process that is at work on it (an orphan of a killed workflow, say)."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that trains {folder}", flush=True)
        lock.acquire()
    return lock


def _train(
    spec: experiment.TrainSpec,
    dataset: store.Dataset,
    arguments: argparse.Namespace,
    where: torch.device,
    stop: Stop,
    team: distributed.Alone,
) -> int:
    run_id = experiment.run_id(spec, arguments.code, dataset.content)
    recorded = spec.processes == 1 and not arguments.eager  # exchange between processes is not recorded
    try:
        outcome = engine.fit(
            lambda: experiment.build(spec.entry, spec.image_shape, spec.hparams),
            dataset.images("train"),
            steps=spec.steps,
            batch_size=spec.batch_size,
            seed=spec.seed,
            device=where,
            precision=spec.precision,
            state_path=arguments.out / "state.pt",
            events_path=arguments.out / "events.jsonl",
            run_id=run_id,
            stop=stop,
            keep=spec.late,
            kept=lambda t, weights: checkpoint.save_weights(checkpoint.late_path(arguments.out, t), weights, spec),
            has=lambda t: checkpoint.late_path(arguments.out, t).exists(),
            progress_label=f"{spec.dataset}/{spec.model}/seed{spec.seed}",
            recorder=recording.cuda_recorder() if where.type == "cuda" and recorded else None,
            team=team,
        )
    except engine.Interrupted as interrupted:
        print(f"{arguments.out}: {interrupted}", flush=True)
        return EXIT_OUT_OF_TIME if interrupted.reason == "deadline" else 128 + min(stop.signal or 15, 15)
    if not team.leads:
        return 0
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams)
    late = sorted({*spec.late, *model.milestones(spec.steps)})
    for path in checkpoint.late_path(arguments.out, 0).parent.glob("*.safetensors"):
        if int(path.stem) not in late:
            path.unlink()  # of an earlier specification
    checkpoint.save_weights(arguments.out / "model.safetensors", outcome.weights, spec)
    write_text(arguments.out / "train.csv", _csv(outcome.curve))
    seen = model.span(outcome.step, spec.batch_size)[0]
    kept = (checkpoint.late_path(arguments.out, t) for t in late)
    made = [arguments.out / "model.safetensors", arguments.out / "train.csv", *(path for path in kept if path.exists())]
    summary = {
        "preset": arguments.preset,
        "dataset": spec.dataset,
        "model": spec.model,
        "seed": spec.seed,
        "status": outcome.status,
        "step": outcome.step,
        "late": late,
        "bad_step": outcome.bad_step,
        "term": outcome.term,
        "spec": asdict(spec),
        "spec_hash": spec.hash,
        "hparams": asdict(model.h),
        "parameters": sum(p.numel() for p in model.parameters()),
        "code": arguments.code,
        "data": {spec.dataset: dataset.content},
        "run_id": run_id,
        "device": device.describe(where),
        "seconds": round(outcome.seconds, 3),
        "gpu_hours": round(spec.processes * outcome.seconds / 3600, 6) if where.type == "cuda" else None,
        "images_seen": seen,
        "images_per_s": round(seen / max(outcome.seconds, 1e-9), 1),
        "attempts": outcome.attempts,
        "files": {str(path.relative_to(arguments.out)): store.digest(path, "sha256") for path in made},
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "versions": versions("torch", "numpy"),
        "provenance": provenance(),
    }
    write_sealed(arguments.out / "train.json", summary)
    if outcome.status == "diverged":
        print(f"{arguments.out}: diverged at iteration {outcome.bad_step} ({outcome.term}), weights of {outcome.step}")
    return 0


def _csv(curve: list[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(curve[0]) if curve else ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(run(main))
