"""Where a run computes: device choice, GPU slots on one machine, precision, threads."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from dtri import slots


def choose_device(name: str = "auto") -> torch.device:
    """ "auto" takes a GPU where there is one; "gpu" insists on it; "cpu" does not look. ValueError otherwise.

    DTRI_DEVICE, where it is set, stands above `name`.
    """
    name = os.environ.get("DTRI_DEVICE") or name
    if name not in ("auto", "cpu", "gpu"):
        raise ValueError(f"expected device auto, cpu or gpu, found {name!r}")
    if name == "gpu" and not torch.cuda.is_available():
        raise ValueError(
            "expected a GPU (device gpu), found none that PyTorch can use; use --config device=cpu or auto"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def hold_gpus(device: torch.device, count: int = 1, folder: Path | None = None) -> Iterator[list[torch.device]]:
    """Hold `count` of this machine's GPUs, each shared by at most DTRI_RUNS_PER_GPU (1) runs; waits for them.

    The kernel frees them when the process dies. Under Slurm too: jobs within one allocation see the same GPUs; a job
    with GPUs that no other sees never waits. On the CPU nothing is held. ValueError when the machine has fewer GPUs.
    """
    if device.type != "cuda":
        yield [device] * count
        return
    names = [_uuid(gpu) for gpu in _gpus()]
    if count > len(names):
        raise ValueError(f"expected {count} GPUs for {count} processes of one run, found {len(names)}")
    folder = folder or Path(tempfile.gettempdir()) / f"dtri-gpu-{os.getuid()}"
    with slots.hold(names, count, int(os.environ.get("DTRI_RUNS_PER_GPU", "1")), folder) as held:
        yield [torch.device("cuda", gpu) for gpu in held]


@contextmanager
def hold_gpu(device: torch.device) -> Iterator[torch.device]:
    """Hold one GPU as `hold_gpus` does; the CPU passes through."""
    with hold_gpus(device) as (held,):
        yield held


@contextmanager
def hold_device(name: str, threads: int) -> Iterator[torch.device]:
    """What an evaluation computes on, in full float32: the device chosen by `name`, held until the end."""
    device = choose_device(name)
    set_numerics(threads, "fp32")
    with hold_gpu(device) as held:
        yield held


def process_group_backend(name: str) -> str:
    """What processes on devices chosen by `name` exchange tensors with."""
    return "cpu:gloo,cuda:nccl" if choose_device(name).type == "cuda" else "gloo"


def free_bytes(device: torch.device) -> int:
    """Free memory of a GPU; of the machine for the CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("utf-8").splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _gpus() -> range:
    return range(torch.cuda.device_count())


def _uuid(gpu: int) -> str:
    """Names the physical device, whatever CUDA_VISIBLE_DEVICES calls it."""
    return str(torch.cuda.get_device_properties(gpu).uuid)


def set_numerics(threads: int, precision: str) -> None:
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


def describe_device(device: torch.device) -> str:
    """For records: the GPU's name, or "cpu" and the processor's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = "unknown processor"
    return f"cpu ({model})"
