"""An iteration that is recorded once and then replayed: CUDA graphs.

A step of these networks is hundreds of kernels, many of which take less time than the host needs to launch them. A
graph launches all of them at once. A replay runs the recorded kernels on the recorded addresses, and no Python. So
values that differ between iterations of one phase (dtri/model.py) must lie in tensors that are filled before the
replay. The generators of noise are seeded before it; a graph reads their state anew at every replay.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

# function -> its replay: records the function's kernels without running them. RuntimeError where that is impossible.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


def cuda_recorder() -> Recorder:
    """Records CUDA graphs on the current stream, which must not be the default one.

    All graphs share one memory pool. That is safe because they are replayed one after another, and only tensors that
    are still referred to must outlive a replay.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        # thread_local: meanwhile the thread that reads batches ahead may pin memory
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            work()
        return graph.replay

    return record


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Compute in a new stream of `device`, as recording needs it; no effect on the CPU."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        before, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(before)
        with torch.cuda.stream(stream):
            yield
        before.wait_stream(stream)


def make_recordable(optimizer: Optimizer, device: torch.device) -> None:
    """Let `optimizer` keep its step count and learning rate in tensors on `device`, in fused kernels where it has them.

    Also handles an optimiser whose state was just loaded. Afterwards `set_rate` sets its learning rates.
    """
    for group in optimizer.param_groups:
        if "fused" in group:
            group["fused"], group["foreach"] = True, False
        if "capturable" in group and device.type == "cuda":
            group["capturable"] = True
        if group.get("fused") or group.get("capturable"):
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32).to(device)
            for p in group["params"]:
                if "step" in optimizer.state.get(p, ()):
                    optimizer.state[p]["step"] = optimizer.state[p]["step"].to(device)


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of the next steps, in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
