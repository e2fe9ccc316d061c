"""A recorded iteration is compared with eager iterations before a run relies on it.

Two further iterations of the phase run in a row, replayed and eager, from the same state with the same noise. One of
them lies as late in the run as the phase allows. A number of the recorded iteration that stayed behind in the recording
(a learning rate, a schedule) then shows. Parameters, buffers, the optimisers' state and the losses have to agree: to
the bit where eager iterations repeat themselves to the bit, else within the tolerance below.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dtri.model import Model

# Where kernels are not deterministic: largest ||replayed - eager|| / ||change of the tensor|| of any tensor. Sums in
# another order move updates by 1e-3 of themselves (bench/README.md); a stale rate moves them by its whole change.
TOLERANCE = {"fp32": 5e-3, "tf32": 2e-2, "bf16": 5e-2}
ROUNDING = 1e-6  # further tolerance, relative to the tensor itself, for tensors that hardly move
NEXT = 60  # iterations after t, and before the end, that are searched for one of t's phase
PLACES = 100  # iterations spread over the rest of the run that are searched too


@dataclass(frozen=True)
class Verdict:
    """`text` says in words how the comparison ended; `holds` says whether replays may replace eager iterations."""

    holds: bool
    text: str


def tensors(model: Model) -> dict[str, Tensor]:
    """All tensors that an iteration may change, by name: parameters, buffers, state of the optimisers."""
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    names = {id(p): name for name, p in model.named_parameters()}
    for player, optimizer in model.optimizers.items():
        for p, memory in optimizer.state.items():
            for key, value in memory.items():
                if isinstance(value, Tensor):
                    found[f"{key} of {names.get(id(p), 'a parameter')} in optimiser {player}"] = value
    return found


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


@torch.no_grad()
def put_back(state: dict[str, Tensor], contents: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        tensor.copy_(contents[name])


def replaced(model: Model, before: dict[str, Tensor]) -> list[str]:
    """Names of the buffers that are no longer the tensors in `before`; the model gets those tensors back.

    A replay would always read the old tensor and write the new one, so its updates would be lost.
    """
    found = []
    for prefix, module in model.named_modules():
        for name, tensor in module.named_buffers(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            if tensor is not before[full]:
                setattr(module, name, before[full])
                found.append(full)
    return found


def others(phase: Callable[[int], object], t: int, steps: int) -> tuple[int, int]:
    """(next, late): two iterations below `steps` of t's phase, other than t; (t, t) where there are none."""
    places = {t + 1 + k * (steps - t) // PLACES for k in range(PLACES)}
    ahead, late = range(t + 1, min(t + NEXT, steps)), range(max(t + 1, steps - NEXT), steps)
    found = sorted(k for k in {*ahead, *late, *places} if t < k < steps and phase(k) == phase(t))
    return (found[0], found[-1]) if found else (t, t)


def compare(
    model: Model, replayed: Callable[[int], Tensor], eager: Callable[[int], Tensor], at: Sequence[int], precision: str
) -> Verdict:
    """Run some iterations replayed and eager, and compare their losses and what they change. Restores the model.

    Args:
        model:     the model that trains.
        replayed:  t -> losses of iteration t, from the recording.
        eager:     t -> losses of iteration t.
        at:        the iterations to run, one after the other.
        precision: key of TOLERANCE.
    """
    state = tensors(model)
    before = copied(state)

    def after(iterate: Callable[[int], Tensor]) -> dict[str, Tensor]:
        losses = {f"losses of iteration {t}": iterate(t).detach().clone() for t in dict.fromkeys(at)}
        reached = {**copied(tensors(model)), **losses}
        put_back(state, before)
        return reached

    ours, theirs = after(replayed), after(eager)
    name, largest = _largest(ours, theirs)
    if not largest:
        return Verdict(True, "equal to eager iterations to the bit")
    told = f"largest difference {largest:.3g}, in {name}"
    if not _largest(after(eager), theirs)[1]:
        return Verdict(False, f"differs from eager iterations: {told}")
    far = [name for name in theirs if not _close(ours[name], theirs[name], before.get(name), TOLERANCE[precision])]
    if far:
        return Verdict(False, f"differs from eager iterations, which do not repeat themselves either: {told}")
    return Verdict(True, f"equal to eager iterations within {TOLERANCE[precision]:g} of their updates: {told}")


def _largest(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[str, float]:
    """(name, difference) of the tensor that differs most; difference 0 where all bits agree, NaN equal to NaN."""
    differences = []
    for name, a in ours.items():
        if not a.numel():
            differences.append(torch.zeros(()))
            continue
        a, b = a.double(), theirs[name].double()
        same = (a == b) | (a.isnan() & b.isnan())
        differences.append(torch.where(same, 0.0, (a - b).abs().nan_to_num(nan=torch.inf)).max())
    values = torch.stack([difference.cpu() for difference in differences]).tolist()
    largest = max(values)
    return list(ours)[values.index(largest)], largest


def _close(ours: Tensor, theirs: Tensor, before: Tensor | None, tolerance: float) -> bool:
    a, b = ours.double(), theirs.double()
    moved = b - before.double() if before is not None else b
    return bool((a - b).norm() <= tolerance * moved.norm() + ROUNDING * b.norm())
