"""What the engine asks of the processes that train one run together, and the answers of a single process.

dtri/process_group.py answers for several processes (`torchrun`). It is imported by name: the code of a run with one
process then does not depend on it. `workflow.jobcode.modules` lists it for runs that need it.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dtri.model import Model

PROCESS_GROUP = "dtri.process_group"
TIMEOUT = timedelta(days=30)  # how long processes wait for the main one, which may wait for GPUs or for another run
STOP_REASONS = (None, "due", "deadline", "signal")  # in increasing priority: where processes differ, the last one wins


class SingleProcess:
    """A run of one process, which agrees and shares with nobody. Subclasses do the same for several processes."""

    rank, world_size = 0, 1
    is_main_process = True  # whether this process writes files

    def rows(self, batch_size: int) -> slice:
        """This process's rows of a batch."""
        return slice(0, batch_size)

    def assign_device(self, devices: list[torch.device]) -> torch.device:
        """This process's device. The main process holds `devices` for all processes."""
        return devices[0]

    def wrap(self, model: Model) -> None:
        """Make each process's steps of `model` equal to the steps of one process with the whole batch."""

    def all_agree(self, reason: str | None) -> str | None:
        """The reason of highest priority (STOP_REASONS) over all processes."""
        return reason

    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes."""
        return values

    def gather(self, buffers: dict[str, Tensor]) -> dict[str, Tensor]:
        """In the main process the buffers of all processes, stacked [world_size, ...]; of a single one unchanged."""
        return buffers

    def local_part(self, buffers: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of a result of `gather`."""
        return buffers

    def check_same_weights(self, model: Model) -> None:
        """RuntimeError unless all processes hold the same weights."""

    def barrier(self) -> None:
        """Wait until all processes are here."""

    def main_process_first(self, read: Callable[[], Any]) -> Any:
        """Calls `read` in the main process, then in the others: the main process may rename a damaged file first."""
        return read()


SINGLE_PROCESS = SingleProcess()


@contextmanager
def process_group(sync_batch_norm: bool, backend: str = "gloo") -> Iterator[SingleProcess]:
    """The processes that torchrun started, or this one alone. ValueError where they are not all on one machine.

    `backend` names the backend of torch.distributed.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield SINGLE_PROCESS
        return
    local = os.environ.get("LOCAL_WORLD_SIZE")
    if local != str(world_size):
        raise ValueError(f"expected all {world_size} processes on one machine, found {local}")
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        group = importlib.import_module(PROCESS_GROUP).ProcessGroup
        yield group(dist.get_rank(), world_size, sync_batch_norm)
    finally:
        dist.destroy_process_group()
