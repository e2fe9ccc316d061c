"""How a process computes: threads, deterministic kernels, precision. dtri/device.py says on which device."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from dtri.device import check_gpu, choose_device, hold_gpu


def set_numerics(threads: int, precision: str) -> None:
    """Set CPU threads, deterministic kernels and the TF32 switch of this process."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms would import the compiler: 3.5 s
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid: 6 % of a step, changes no number
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def autocast(device: torch.device, precision: str):
    """bf16 autocast for precision "bf16"; for fp32 and tf32 a context without effect."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def hold_device(name: str, threads: int) -> Iterator[torch.device]:
    """Hold the device chosen by `name` until the end of the block, for an evaluation in full float32."""
    device = choose_device(name)
    set_numerics(threads, "fp32")
    with hold_gpu(device) as held:
        check_gpu(held, "fp32")
        yield held
