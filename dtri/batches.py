"""Which images an iteration trains on: a function of (seed, t)."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from dtri.distributed import SINGLE_PROCESS
from dtri.seeding import derive

RESIDENT_BYTES = 4 << 30  # image sets up to this size are kept on the device


class Batches:
    """Batch t of an endless stream of epochs over uint8 images [N, C, H, W]; a function of (seed, t) alone.

    Each epoch is a permutation of all images. A batch may straddle two epochs, so no image is dropped. `span` gives
    the images of batch t in the stream (see Model.span); without it every batch has `batch_size` images. Images are
    kept on the device where they fit. Otherwise a thread reads the next batch while the device computes. Each of
    several processes reads only its own `rows` of every batch.

    Args:
        stored:     training images, uint8 [N, C, H, W].
        batch_size: images per batch, of all processes together.
        seed:       seed of the data order.
        device:     device of the batches.
        span:       (t, batch_size) -> (start, stop), positions in the stream.
        rows:       batch size -> this process's rows.

    Raises:
        ValueError: `stored` is empty.
    """

    def __init__(
        self,
        stored: np.ndarray,
        batch_size: int,
        seed: int,
        device: torch.device,
        span: Callable[[int, int], tuple[int, int]] | None = None,
        rows: Callable[[int], slice] = SINGLE_PROCESS.rows,
    ):
        if len(stored) == 0:
            raise ValueError("expected training images, found an empty array")
        self.n, self.batch_size, self.seed, self.device = len(stored), batch_size, seed, device
        self.span, self.rows = span, rows
        resident = stored.nbytes <= RESIDENT_BYTES
        self.resident = torch.from_numpy(np.array(stored)).to(device) if resident else None
        self.stored = stored
        self._orders: dict[int, Tensor] = {}
        self._reader = None if resident else ThreadPoolExecutor(1, "batches")
        self._ahead: tuple[int, Future[Tensor]] | None = None

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(derive("order", self.seed, epoch))
            order = torch.randperm(self.n, generator=generator)
            if self.resident is not None:
                order = order.to(self.device)
            self._orders = dict([*self._orders.items()][-1:]) | {epoch: order}  # a batch may straddle two epochs
        return self._orders[epoch]

    def indices(self, t: int) -> Tensor:
        """int64 indices of this process's rows of batch t, on the device of the images."""
        start, stop = self.span(t, self.batch_size) if self.span else (t * self.batch_size, (t + 1) * self.batch_size)
        position, parts, wanted = start, [], stop - start
        while wanted:
            epoch, place = divmod(position, self.n)
            part = self._order(epoch)[place : place + wanted]
            parts.append(part)
            position += len(part)
            wanted -= len(part)
        return torch.cat(parts)[self.rows(stop - start)]

    def _read(self, t: int) -> Tensor:
        batch = torch.from_numpy(self.stored[self.indices(t).numpy()])
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def __call__(self, t: int) -> Tensor:
        """Batch t as stored: uint8 [B, C, H, W], on the device."""
        if self.resident is not None:
            return self.resident[self.indices(t)]
        if self._ahead is None or self._ahead[0] != t:
            self._ahead = t, self._reader.submit(self._read, t)
        batch = self._ahead[1].result()
        self._ahead = t + 1, self._reader.submit(self._read, t + 1)
        return batch.to(self.device, non_blocking=True)
