"""A recorder without a GPU: keeps the operations of a step with the tensors they had, as a CUDA graph does.

It bakes in what a CUDA graph bakes in: addresses of tensors and every number of Python. Recording
leaves no trace in the tensors that were there before.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FORBIDDEN = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2")


class FakeCudaGraph(TorchDispatchMode):
    """Operations below autograd, in order."""

    def __init__(self):
        super().__init__()
        self.played: list[tuple[Any, tuple, dict, list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # by storage: a tensor written to, and its former content
        self.made: set[int] = set()  # storages that came to be within the graph
        self.kept: list[Tensor] = []  # so that no address is used twice

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in FORBIDDEN:
            raise RuntimeError(f"{func} asks the host for a value")
        for tensor in _written(func, args, kwargs):
            place = tensor.untyped_storage().data_ptr()
            if place not in self.made and place not in self.before:
                self.before[place] = tensor, tensor.detach().clone()
        out = func(*args, **kwargs)
        outs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        fresh = [tensor for tensor in outs if tensor.untyped_storage().data_ptr() not in given]
        self.made |= {tensor.untyped_storage().data_ptr() for tensor in fresh}
        self.kept += fresh
        self.played.append((func, args, kwargs, fresh))
        return out

    def replay(self) -> None:
        for func, args, kwargs, fresh in self.played:
            out = func(*args, **kwargs)
            if fresh:
                outs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
                for old, new in zip(fresh, outs, strict=True):
                    old.copy_(new)


def _written(func: Any, args: tuple, kwargs: dict) -> list[Tensor]:
    """The tensors among the arguments that `func` writes to: by its schema, silent on batch norm's averages."""
    found = []
    for i, argument in enumerate(func._schema.arguments):
        written = argument.alias_info is not None and argument.alias_info.is_write
        if written or argument.name in ("running_mean", "running_var"):
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            found += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return found


def record(work: Callable[[], None]) -> Callable[[], None]:
    """A `dtri.recording.Recorder`."""
    graph = FakeCudaGraph()
    try:
        with graph:
            work()
    finally:
        with torch.no_grad():
            for tensor, content in graph.before.values():
                tensor.detach().copy_(content)

    def replay() -> None:
        with torch.no_grad():
            graph.replay()

    return replay
