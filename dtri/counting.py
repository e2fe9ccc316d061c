"""The work of training iterations, counted on meta tensors, which have a shape but no values."""

from collections import Counter
from functools import partial

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from dtri import experiment
from dtri.costs import Work

# Views launch no kernel, and neither do these functions.
NO_KERNEL = {
    *("detach", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "set_", "lift_fresh"),
    *("_unsafe_view", "_reshape_alias", "alias"),
}
BLOCKS, BLOCK = (
    40,
    60,
)  # blocks of a run whose phases are looked at, iterations per block; a period of up to six iterations divides a block


class WorkCounter(TorchDispatchMode):
    """Counts operations below autograd, because FlopCounterMode's hooks reject gradient penalties."""

    def __init__(self):
        super().__init__()
        self.operations, self.bytes, self.kernels = 0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.overloadpacket in flop_registry:
            self.operations += flop_registry[func.overloadpacket](*args, **kwargs, out_val=out)
        if not func.is_view and func.overloadpacket.__name__ not in NO_KERNEL:
            self.kernels += 1
            tensors = (leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor))
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out

    def update(self, optimizer: Optimizer) -> None:
        """Replaces the optimiser's step: counts one fused kernel over weights, gradients and two moments.

        The kernel reads all four and writes three. PyTorch has no such kernel for meta tensors.
        """
        self.kernels += 1
        self.bytes += sum(7 * p.numel() * p.element_size() for group in optimizer.param_groups for p in group["params"])

    @property
    def work(self) -> Work:
        return Work(self.operations, self.bytes, self.kernels)


def iteration(entry: str, image_shape: tuple[int, int, int], hparams: dict, batch_size: int, steps: int) -> Work:
    """Work of one float32 iteration, averaged over a run of `steps` iterations. Each phase is counted once.

    Args:
        entry:       "module:Class" of the model.
        image_shape: (C, H, W).
        hparams:     overrides of the model's hyperparameters.
        batch_size:  images per iteration.
        steps:       iterations of the run.
    """
    where = torch.device("meta")
    with where:
        model = experiment.build(entry, image_shape, hparams).train()
        model.to(memory_format=model.memory_format)
    found: Counter[tuple] = Counter()
    first: dict[tuple, int] = {}
    for block in range(BLOCKS):
        start = min(block * steps // BLOCKS, max(0, steps - BLOCK))
        for t in range(start, min(start + BLOCK, steps)):
            images = model.span(t, batch_size)
            kind = model.phase(t), images[1] - images[0]
            found[kind] += 1
            first.setdefault(kind, t)
    total = [0.0, 0.0, 0.0]
    for (phase, n), count in found.items():
        t = first[phase, n]
        model.begin(t)
        x = torch.empty(n, *image_shape, device=where).contiguous(memory_format=model.memory_format)
        with where, WorkCounter() as counter:
            for optimizer in model.optimizers.values():
                optimizer.step = partial(counter.update, optimizer)
            model.step(x, t)
        total = [one + count * more for one, more in zip(total, counter.work, strict=True)]
    return Work(*(round(one / found.total(), 1) for one in total))
