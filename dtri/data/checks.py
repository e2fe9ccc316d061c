"""Checks of the arguments of dataset modules, and the generator of their random numbers."""

from typing import Any

import numpy as np


def generator(seed: int) -> np.random.RandomState:
    """A generator from any non-negative seed, whose numbers no NumPy release changes."""
    return np.random.RandomState(np.random.MT19937(seed))


def check_shape(image_shape: tuple[int, int, int], channels: tuple[int, ...], where: str) -> tuple[int, int, int]:
    """`image_shape` as (C, H, W), positive integers with C among `channels`; ValueError otherwise, naming `where`."""
    shape = tuple(image_shape)
    whole = len(shape) == 3 and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape)
    if not whole or shape[0] not in channels:
        allowed = " or ".join(map(str, channels))
        raise ValueError(f"expected image shape (C, H, W), positive, with C {allowed}, found {shape} ({where})")
    return shape


def check_options(options: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    """ValueError, naming `where`, for an option outside `known`."""
    for key in options:
        if key not in known:
            raise ValueError(f"unknown option {key!r} for {where} (known: {', '.join(known) or 'none'})")


def check_count(value: Any, what: str, where: str) -> int:
    """`value`, a positive integer; ValueError otherwise, which names it `what` of `where`."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"expected {what} to be a positive whole number, found {value!r} ({where})")
    return value
