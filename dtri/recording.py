"""An iteration recorded once and replayed: CUDA graphs.

A step of these networks is hundreds of kernels, many of which take less time than the host needs to launch them. A
graph launches all of them at once. A replay runs the recorded kernels on the recorded addresses and no Python: so
whatever differs between two iterations of one phase (dtri/model.py) must lie in tensors that are filled before, and the
noise in generators that are seeded before, which a graph reads anew at every replay.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

# Records what a function would do, without doing it; the replay. RuntimeError where something cannot be recorded.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


def cuda_recorder() -> Recorder:
    """Records CUDA graphs on the current stream, which must not be the default one; all share one pool of memory.

    They may share it because they are replayed one after another and nothing but the tensors that are still referred
    to outlives a replay.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        # thread_local: the thread that reads batches ahead pins memory meanwhile
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            work()
        return graph.replay

    return record


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Compute on `device` on a stream of its own, as recording needs it; nothing on the CPU."""
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

    Also for one whose state was just loaded. Learning rates are then set by `set_rate`.
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
    """The learning rate of the next steps, in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
