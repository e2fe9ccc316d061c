"""One run on several devices of one machine: each process trains on its rows of every batch. Models know nothing of it.

    torchrun --standalone --nproc-per-node 2 -m workflow.commands.train --spec ... (with "processes": 2)

Losses, gradients and weights equal those of one process with the whole batch, up to the order of sums:

* the batch size counts the images of all processes together; each takes an equal share of consecutive rows;
* every process draws the noise of the whole batch from (seed, t), and takes its rows. The first dimension of a draw
  counts rows; a draw without dimensions is the same everywhere;
* gradients are averaged as soon as backward has accumulated them, so before they are clipped or used;
* batch norm computes its statistics over all processes, on the CPU as well (torch's SyncBatchNorm is for GPUs only).
  With `sync_batch_norm` false it uses each process's rows: usual and cheaper, but another experiment;
* floating-point buffers of weights, such as batch norm's averages, are averaged after every iteration.

Some parts couple the images of a batch in other ways: a replay buffer, a permutation of the batch, and whatever counts
chains per iteration rather than per image. They see the rows of their process alone. Such a run is sound, but not the
same as a run of one process.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dtri.distributed import STOP_REASONS, SingleProcess
from dtri.model import Model


class ProcessGroup(SingleProcess):
    """Several processes of one machine in one run. All of them have to call its methods in the same order.

    `rank` numbers this process from 0, and `world_size` is the number of all processes.
    """

    def __init__(self, rank: int, world_size: int, sync_batch_norm: bool):
        self.rank, self.world_size, self.is_main_process = rank, world_size, rank == 0
        self.sync_batch_norm = sync_batch_norm

    def rows(self, batch_size: int) -> slice:
        share, rest = divmod(batch_size, self.world_size)
        if rest:
            raise ValueError(
                f"expected batches divisible by {self.world_size} processes, found one of {batch_size} images"
            )
        return slice(self.rank * share, (self.rank + 1) * share)

    def assign_device(self, devices: list[torch.device]) -> torch.device:
        indices = torch.zeros(self.world_size, dtype=torch.int64)
        if self.is_main_process:
            indices.copy_(torch.tensor([-1 if device.index is None else device.index for device in devices]))
        dist.broadcast(indices, 0)
        index = int(indices[self.rank])
        return torch.device("cpu") if index < 0 else torch.device("cuda", index)

    def wrap(self, model: Model) -> None:
        for p in model.parameters():
            p.register_post_accumulate_grad_hook(self._average_gradient)
        kept = model.state_dict(keep_vars=True)
        buffers = [b for name, b in model.named_buffers() if name in kept and b.is_floating_point()]
        own, step = LocalRows(self.rank, self.world_size, self.sync_batch_norm), model.step

        def shared(x: Tensor, t: int) -> dict[str, Tensor]:
            with own:
                losses = step(x, t)
            if buffers:
                flat = self.mean(torch.cat([b.reshape(-1).float() for b in buffers]))
                for b, values in zip(buffers, flat.split([b.numel() for b in buffers])):
                    b.copy_(values.view_as(b))
            return losses

        model.step = shared

    def _average_gradient(self, p: Tensor) -> None:
        dist.all_reduce(p.grad)
        p.grad.div_(self.world_size)

    def all_agree(self, reason: str | None) -> str | None:
        said = torch.tensor(STOP_REASONS.index(reason))
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return STOP_REASONS[int(said)]

    def mean(self, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values.div_(self.world_size)

    def gather(self, memory: dict[str, Tensor]) -> dict[str, Tensor]:
        gathered = {}
        for name, tensor in memory.items():
            parts = [torch.empty_like(tensor) for _ in range(self.world_size)] if self.is_main_process else None
            dist.gather(tensor.contiguous(), parts)
            gathered[name] = torch.stack(parts) if self.is_main_process else tensor
        return gathered

    def local_part(self, memory: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor[self.rank] for name, tensor in memory.items()}

    def check_same_weights(self, model: Model) -> None:
        norms = torch.stack(torch._foreach_norm([p.detach() for p in model.parameters()])).double()
        largest, smallest = norms.clone(), norms.clone()
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        dist.all_reduce(smallest, dist.ReduceOp.MIN)
        differing = (largest != smallest).nonzero().flatten().tolist()  # NaN differs from itself: checked before
        if differing:
            name = [name for name, _ in model.named_parameters()][differing[0]]
            raise RuntimeError(
                f"expected the same weights in all {self.world_size} processes, found differences in {name}"
            )

    def barrier(self) -> None:
        self.all_agree(None)

    def main_process_first(self, read: Callable[[], Any]) -> Any:
        found = read() if self.is_main_process else None
        self.barrier()
        return found if self.is_main_process else read()


class LocalRows(TorchFunctionMode):
    """While active, random draws are this process's rows of the whole batch's draws, from torch's own generator.

    If batch norm is to be synchronised, it uses the statistics of the whole batch in training. ValueError for random
    functions whose rows cannot be told: drawn as they are, they would be the same in every process.
    """

    SIZED = (torch.randn, torch.rand)
    LIKE = (torch.randn_like, torch.rand_like, torch.randint_like)
    IN_PLACE = (Tensor.normal_, Tensor.uniform_, Tensor.exponential_, Tensor.random_)
    REFUSED = (
        torch.randint,
        torch.normal,
        torch.bernoulli,
        torch.multinomial,
        torch.poisson,
        Tensor.bernoulli,
        Tensor.bernoulli_,
        Tensor.multinomial,
        F.dropout1d,
        F.dropout2d,
        F.dropout3d,
        F.alpha_dropout,
        F.gumbel_softmax,
        F.rrelu,
    )

    def __init__(self, rank: int, world_size: int, sync_batch_norm: bool):
        super().__init__()
        self.rank, self.world_size, self.sync_batch_norm = rank, world_size, sync_batch_norm

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm and self.sync_batch_norm:
            return batch_norm(self.world_size, *args, **kwargs)
        if func is F.dropout:
            return self._dropout(*args, **kwargs)
        if kwargs.get("generator") is None:
            if func in self.REFUSED:
                raise ValueError(
                    "expected noise by randn, rand, their _like, normal_, uniform_, exponential_, random_ in a run of "
                    f"several processes, found {func.__name__}; set processes to 1, or give it a generator"
                )
            if func in self.SIZED:
                shape = func(*args, **{**kwargs, "device": "meta"}).shape
                options = {name: value for name, value in kwargs.items() if name != "size"}
                return self._rows(func(self._whole(shape), **options)) if shape else func(*args, **kwargs)
            if func in self.LIKE and args[0].dim():
                return self._rows(func(self._widened(args[0]), *args[1:], **kwargs))
            if func in self.IN_PLACE and args[0].dim():
                return args[0].copy_(self._rows(func(self._widened(args[0]), *args[1:], **kwargs)))
        return func(*args, **kwargs)

    def _whole(self, shape: torch.Size) -> tuple[int, ...]:
        return (self.world_size * shape[0], *shape[1:])

    def _widened(self, x: Tensor) -> Tensor:
        """An uninitialised tensor like x [B, ...], same memory layout, with the rows of all processes."""
        last = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return torch.empty(self._whole(x.shape), dtype=x.dtype, device=x.device, memory_format=layout)

    def _rows(self, drawn: Tensor) -> Tensor:
        share = len(drawn) // self.world_size
        return drawn[self.rank * share : (self.rank + 1) * share]

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        return x * self._rows(F.dropout(self._widened(x).fill_(1), p))


class AllReduceSum(torch.autograd.Function):
    """Sum over processes, both of the value and of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return AllReduceSum.apply(gradient.contiguous())


def batch_norm(
    world_size: int,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """torch.nn.functional.batch_norm of x [B, C, ...], with statistics over the batches of all processes."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    dims, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
    n = world_size * x.numel() // x.shape[1]
    values = x.float()
    mean = AllReduceSum.apply(values.sum(dims)) / n
    centred = values - mean.view(shape)
    var = AllReduceSum.apply(centred.square().sum(dims)) / n
    if running_mean is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * (n / (n - 1))).to(running_var), momentum)
    out = centred * torch.rsqrt(var + eps).view(shape)
    if weight is not None:
        out = out * weight.view(shape)
    if bias is not None:
        out = out + bias.view(shape)
    return out.to(x.dtype)
