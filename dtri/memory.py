"""Work in batches on a device whose memory may not hold them: smaller ones then, and it goes on."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


def in_batches(work: Callable[[int, int], T], n: int, size: int, fixed: str = "") -> Iterator[T]:
    """work(start, stop) over all of [0, n), `size` at a time, and half as many from where memory does not suffice.

    Args:
        work:  computes a part, whatever its size.
        n:     number of all.
        size:  largest part.
        fixed: why parts have this size and no other; empty where they need not.

    Raises:
        ValueError: one at a time, or parts that are fixed, do not fit.
    """
    start = 0
    while start < n:
        stop, lacking = min(start + size, n), ""
        try:
            yield work(start, stop)
            start = stop
        except torch.OutOfMemoryError as error:
            lacking = str(error).splitlines()[0]
        if lacking:  # out of the handler, which would keep the tensors of what failed
            if size == 1 or fixed:
                why = f" ({fixed})" if fixed else ""
                raise ValueError(f"expected the device's memory to hold {size} images at once{why}, found: {lacking}")
            size = max(1, size // 2)
            torch.cuda.empty_cache()
            print(f"the device's memory is full: going on with {size} images at once", flush=True)
