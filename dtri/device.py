"""Where a run computes: device choice, GPU slots on one machine, precision, threads."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from dtri import slots


def choose(name: str = "auto") -> torch.device:
    """ "auto" takes a GPU where there is one; "gpu" insists on it; "cpu" does not look. ValueError otherwise."""
    if name not in ("auto", "cpu", "gpu"):
        raise ValueError(f"expected device auto, cpu or gpu, found {name!r}")
    if name == "gpu" and not torch.cuda.is_available():
        raise ValueError(
            "expected a GPU (device gpu), found none that PyTorch can use; use --config device=cpu or auto"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def gpu_slots(device: torch.device, count: int = 1, folder: Path | None = None) -> Iterator[list[torch.device]]:
    """Hold `count` of this machine's GPUs, each shared by at most DTRI_RUNS_PER_GPU (1) runs; waits for them.

    The kernel frees them when the process dies. On the CPU, and under Slurm (which isolates devices itself), nothing
    is held. ValueError when the machine has fewer GPUs.
    """
    if device.type != "cuda":
        yield [device] * count
        return
    names = [_uuid(gpu) for gpu in _gpus()]
    if count > len(names):
        raise ValueError(f"expected {count} GPUs for {count} processes of one run, found {len(names)}")
    if "SLURM_JOB_ID" in os.environ:
        yield [torch.device("cuda", gpu) for gpu in range(count)]
        return
    folder = folder or Path(tempfile.gettempdir()) / f"dtri-gpu-{os.getuid()}"
    with slots.hold(names, count, int(os.environ.get("DTRI_RUNS_PER_GPU", "1")), folder) as held:
        yield [torch.device("cuda", gpu) for gpu in held]


@contextmanager
def gpu_slot(device: torch.device) -> Iterator[torch.device]:
    """Hold one GPU as `gpu_slots` does; the CPU passes through."""
    with gpu_slots(device) as (held,):
        yield held


def _gpus() -> range:
    return range(torch.cuda.device_count())


def _uuid(gpu: int) -> str:
    """Names the physical device, whatever CUDA_VISIBLE_DEVICES calls it."""
    return str(torch.cuda.get_device_properties(gpu).uuid)


def prepare(threads: int, precision: str) -> None:
    """Set CPU threads, deterministic kernels and the TF32 switch of this process."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms would import the compiler: 3.5 s
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid: 6 % of a step, no number
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def autocast(device: torch.device, precision: str):
    """bf16 autocast where the precision asks for it; fp32 and tf32 run as they are."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def describe(device: torch.device) -> str:
    """For records: the GPU's name, or "cpu" and the processor's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = "unknown processor"
    return f"cpu ({model})"
