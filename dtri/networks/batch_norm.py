"""Batch norm has two kinds of statistics: the statistics of the current batch, and their averages for evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

Layer = nn.BatchNorm1d | nn.BatchNorm2d


def layers(network: nn.Module) -> list[Layer]:
    """The batch norm layers of a network."""
    return [module for module in network.modules() if isinstance(module, Layer)]


@contextmanager
def untracked(network: nn.Module) -> Iterator[None]:
    """Passes by the statistics of the batch, as all passes in training, that leave the averages as they are.

    For an encoder's passes on generated images, because it is evaluated on real ones.
    """
    before = [(layer, layer.momentum) for layer in layers(network)]
    for layer, _ in before:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in before:
            layer.momentum = momentum
