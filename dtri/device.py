"""The device of a run: its choice, its checks, and slots on this machine's GPUs. No hash of code counts this module."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dtri import slots


def choose_device(name: str = "auto") -> torch.device:
    """The device to compute on. ValueError where it cannot be had.

    "auto" takes a GPU if there is one, "gpu" insists on a GPU, and "cpu" does not look for one. The environment
    variable DTRI_DEVICE, where set, overrides `name`.
    """
    name = os.environ.get("DTRI_DEVICE") or name
    if name not in ("auto", "cpu", "gpu"):
        raise ValueError(f"expected device auto, cpu or gpu, found {name!r}")
    if name == "cpu" or torch.cuda.is_available():
        return torch.device("cpu" if name == "cpu" else "cuda")
    if name == "gpu":
        raise ValueError(f"expected a GPU (device gpu), found {why_no_gpu()}; or use --config device=cpu or auto")
    if any(Path("/dev").glob("nvidia[0-9]*")):  # a container may show any of a machine's GPUs
        print(f"warning: computing on the CPU beside a GPU, found {why_no_gpu()}", file=sys.stderr)
    return torch.device("cpu")


def why_no_gpu() -> str:
    """One line that says why PyTorch can use none of this machine's GPUs."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"a PyTorch without GPU support ({torch.__version__}): install its CUDA build (docs/gpu.md)"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.split(",")[0].strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r}, which hides every GPU: unset it"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # the driver is old or missing
        return str(error).splitlines()[0].partition(". ")[0]
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES={visible!r}, which names none of this machine's GPUs: unset it"
    return "none that PyTorch can use"


def check_gpu(device: torch.device, precision: str) -> None:
    """Raise a ValueError of one line where a GPU cannot compute in `precision`; warn where other processes fill it."""
    if device.type != "cuda":
        return
    try:
        torch.zeros(1, device=device)
        free, total = torch.cuda.mem_get_info(device)
    except torch.OutOfMemoryError as error:
        raise ValueError(f"expected memory on {device}, found it full: end what fills it (nvidia-smi)") from error
    except RuntimeError as error:
        told = str(error).splitlines()[0]
        hint = (
            "another process may hold it in exclusive compute mode (nvidia-smi -q -d COMPUTE), or runs_per_gpu be > 1"
        )
        raise ValueError(f"expected to compute on {device}, found: {told}; {hint}") from error
    if free < total / 2:
        print(f"warning: {free >> 20} of {total >> 20} MiB are free on {device}: other processes use it", flush=True)
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(f"expected a GPU that computes in bf16, found {describe_device(device)}: use precision fp32")


@contextmanager
def hold_gpus(device: torch.device, count: int = 1, folder: Path | None = None) -> Iterator[list[torch.device]]:
    """Hold `count` of this machine's GPUs, each shared by at most DTRI_RUNS_PER_GPU runs (default 1); wait for them.

    The kernel frees them when the process dies. Jobs within one Slurm allocation see the same GPUs, so they hold them
    too. A job whose GPUs no other job sees never waits. On the CPU nothing is held. ValueError when the machine has
    fewer GPUs, or when DTRI_RUNS_PER_GPU is no positive whole number.

    Args:
        device: a CUDA device, or the CPU.
        count:  number of GPUs.
        folder: folder of the locks; None for the one that all users share.

    Yields:
        The GPUs that are held; on the CPU `count` times the CPU.
    """
    if device.type != "cuda":
        yield [device] * count
        return
    names = [_uuid(gpu) for gpu in _gpus()]
    if count > len(names):
        raise ValueError(f"expected {count} GPUs for {count} processes of one run, found {len(names)}")
    runs_per_gpu = os.environ.get("DTRI_RUNS_PER_GPU") or "1"
    if not runs_per_gpu.isdecimal() or int(runs_per_gpu) < 1:
        raise ValueError(f"expected a positive whole number as DTRI_RUNS_PER_GPU, found {runs_per_gpu!r}")
    folder = folder or slots.shared_folder("dtri-gpu")
    with slots.hold(names, count, int(runs_per_gpu), folder) as held:
        yield [torch.device("cuda", gpu) for gpu in held]


@contextmanager
def hold_gpu(device: torch.device) -> Iterator[torch.device]:
    """Hold one GPU, as `hold_gpus` does; the CPU is returned as it is."""
    with hold_gpus(device) as (held,):
        yield held


def process_group_backend(name: str) -> str:
    """Name of the torch.distributed backend for devices chosen by `name`."""
    return "cpu:gloo,cuda:nccl" if choose_device(name).type == "cuda" else "gloo"


def free_bytes(device: torch.device) -> int:
    """Free bytes of the GPU's memory, or of the machine's for the CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("utf-8").splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _gpus() -> range:
    return range(torch.cuda.device_count())


def _uuid(gpu: int) -> str:
    """Name of the physical device, whatever number CUDA_VISIBLE_DEVICES gives it. A MIG slice has its own name.

    Older drivers call a slice MIG-GPU-<uuid>/1/0. The name is part of a file's name, so "/" becomes "_".
    """
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if gpu < len(visible) and visible[gpu].startswith("MIG-"):
        return visible[gpu].replace("/", "_")
    return str(torch.cuda.get_device_properties(gpu).uuid)


def describe_device(device: torch.device) -> str:
    """Device name for records: the GPU's name, or "cpu" and the processor's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = "unknown processor"
    return f"cpu ({model})"
