"""Train one run: data and a spec in, weights, curve and a summary out.

Killing it at any moment and giving the same command again continues it. Exit codes: 0 done or diverged, since a
diverged run is a result; 75 out of allocated time; 128 + n interrupted by signal n, its state saved (SIGINT, SIGTERM,
SIGHUP or SIGUSR1); 2 a mistake in the input; 1 a bug.

A spec with "processes": N is trained by `torchrun --standalone --nproc-per-node N -m workflow.commands.train` with the
same arguments (dtri/process_group.py); torchrun exits 1 whatever the processes end with.
"""

import argparse
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

from dtri import curve, distributed, engine, experiment, recording
from dtri.data import store
from dtri.device import check_gpu, choose_device, describe_device, hold_gpus, process_group_backend
from dtri.files import digest, write_text
from dtri.numerics import set_numerics
from dtri.sealed import write_sealed
from dtri.snapshots import SnapshotFiles
from dtri.weights import save_weights
from workflow.commands.cli import run
from workflow.commands.provenance import provenance, versions

EXIT_OUT_OF_TIME = 75
DEADLINE_MARGIN_S = 60.0


class Stop:
    """Says why training should stop now, or None: a signal was received, or the deadline is near."""

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

    spec = experiment.TrainSpec.from_json(arguments.spec)
    dataset = store.load(arguments.data)
    if dataset.image_shape != spec.image_shape:
        raise ValueError(f"expected images {spec.image_shape}, found {dataset.image_shape} in {arguments.data}")
    if int(os.environ.get("SLURM_PROCID", "0")) != 0:
        raise ValueError("expected one process per run, found several (SLURM_PROCID is not 0): drop `tasks`")
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != spec.processes:
        raise ValueError(f"expected {spec.processes} processes (torchrun --nproc-per-node), found {started}")
    device = choose_device(arguments.device)
    set_numerics(spec.threads, spec.precision)
    with (
        distributed.process_group(spec.sync_batch_norm, process_group_backend(arguments.device)) as group,
        ExitStack() as held,
    ):
        devices = []
        if group.is_main_process:
            arguments.out.mkdir(parents=True, exist_ok=True)
            held.enter_context(_exclusive(arguments.out))
            devices = held.enter_context(hold_gpus(device, spec.processes))
        else:
            held.enter_context(redirect_stdout(held.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        device = group.assign_device(devices)
        check_gpu(device, spec.precision)
        held.enter_context(recording.side_stream(device))
        return _train(spec, dataset, arguments, device, Stop(deadline), group)


def _exclusive(folder: Path) -> FileLock:
    """The run's lock; it waits for another process at work on the run, such as a killed workflow's orphan."""
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
    device: torch.device,
    stop: Stop,
    group: distributed.SingleProcess,
) -> int:
    run_id = experiment.run_id(spec, arguments.code, dataset.content)
    recorded = spec.processes == 1 and not arguments.eager  # exchange between processes is not recorded
    snapshots = SnapshotFiles(arguments.out, spec)
    try:
        outcome = engine.fit(
            lambda: experiment.build(spec.entry, spec.image_shape, spec.hparams),
            dataset.images("train"),
            steps=spec.steps,
            batch_size=spec.batch_size,
            seed=spec.seed,
            device=device,
            precision=spec.precision,
            state_path=arguments.out / "state.pt",
            events_path=arguments.out / "events.jsonl",
            run_id=run_id,
            stop=stop,
            snapshots=snapshots,
            label=f"{spec.dataset}/{spec.model}/seed{spec.seed}",
            recorder=recording.cuda_recorder() if device.type == "cuda" and recorded else None,
            group=group,
        )
    except engine.Interrupted as interrupted:
        print(f"{arguments.out}: {interrupted}", flush=True)
        return EXIT_OUT_OF_TIME if interrupted.reason == "deadline" else 128 + min(stop.signal or 15, 15)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"expected {describe_device(device)} to hold a training iteration, found: {str(error).splitlines()[0]}; "
            "lower runs_per_gpu or end other processes on it, else use precision bf16, a smaller batch_size or width"
        ) from error
    if not group.is_main_process:
        return 0
    snapshots.remove_others()
    save_weights(arguments.out / "model.safetensors", outcome.weights, spec)
    write_text(arguments.out / "train.csv", curve.to_csv(outcome.curve))
    made = [arguments.out / "model.safetensors", arguments.out / "train.csv", *snapshots.files()]
    summary = {
        "preset": arguments.preset,
        "dataset": spec.dataset,
        "model": spec.model,
        "seed": spec.seed,
        "status": outcome.status,
        "step": outcome.step,
        "snapshots": sorted(snapshots.iterations),
        "bad_step": outcome.bad_step,
        "term": outcome.term,
        "spec": asdict(spec),
        "spec_hash": spec.hash,
        "hparams": asdict(outcome.model.h),
        "parameters": sum(p.numel() for p in outcome.model.parameters()),
        "code": arguments.code,
        "data": {spec.dataset: dataset.content},
        "run_id": run_id,
        "device": describe_device(device),
        "seconds": round(outcome.seconds, 3),
        "gpu_hours": round(spec.processes * outcome.seconds / 3600, 6) if device.type == "cuda" else None,
        "images_seen": outcome.images_seen,
        "images_per_s": round(outcome.images_seen / max(outcome.seconds, 1e-9), 1),
        "attempts": outcome.attempts,
        "modes": outcome.modes,
        "files": {str(path.relative_to(arguments.out)): digest(path, "sha256") for path in made},
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "versions": versions("torch", "numpy"),
        "provenance": provenance(),
    }
    write_sealed(arguments.out / "train.json", summary)
    if outcome.status == "diverged":
        print(f"{arguments.out}: diverged at iteration {outcome.bad_step} ({outcome.term}), weights of {outcome.step}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
