"""Work in batches on a device, with smaller batches where its memory does not suffice."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


def in_batches(work: Callable[[int, int], T], n: int, size: int, fixed: str = "") -> Iterator[T]:
    """Yield work(start, stop) over all of [0, n), `size` items at a time, and half as many once memory is full.

    Args:
        work:  computes the items [start, stop), however many they are.
        n:     number of all items.
        size:  largest number of items at a time.
        fixed: why parts must have this size; empty where they may be smaller.

    Raises:
        ValueError: one item, or a part of fixed size, does not fit into memory.
    """
    start = 0
    while start < n:
        stop, lacking = min(start + size, n), ""
        try:
            yield work(start, stop)
            start = stop
        except torch.OutOfMemoryError as error:
            lacking = str(error).splitlines()[0]
        if lacking:  # outside of the handler, which would keep the failed call's tensors alive
            if size == 1 or fixed:
                why = f" ({fixed})" if fixed else ""
                raise ValueError(f"expected the device's memory to hold {size} images at once{why}, found: {lacking}")
            size = max(1, size // 2)
            torch.cuda.empty_cache()
            print(f"the device's memory is full: going on with {size} images at once", flush=True)
