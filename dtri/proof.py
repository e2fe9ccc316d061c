"""A recorded iteration proves itself: it is compared with eager ones before a run relies on it.

Two iterations in a row, replayed and eager, from the same state, with the same noise. They are others than the one that
was recorded, one of them as late in the run as its phase goes: so a number of the recorded iteration that stayed behind
in it (a learning rate, a schedule) shows. Parameters, buffers, the optimisers' state and the losses have to agree: to
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
ROUNDING = 1e-6  # and of the tensor itself, for those that hardly move
NEXT = 60  # iterations among which the next one of a phase is looked for
PLACES = 100  # and a late one


@dataclass(frozen=True)
class Verdict:
    """`text`: what the comparison says, for people; `holds`: whether replays may take the place of eager iterations."""

    holds: bool
    text: str


def tensors(model: Model) -> dict[str, Tensor]:
    """All that an iteration may move, by name: parameters, buffers, state of the optimisers."""
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
    """Names of the buffers that are other tensors than `before`; they are made what they were.

    A replay would go on writing to the tensor of the recording, and reading the one before it.
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
    """(next, late): iterations below `steps` of t's phase other than t, where it has such."""
    places = {t + 1 + k * (steps - t) // PLACES for k in range(PLACES)}
    ahead, late = range(t + 1, min(t + NEXT, steps)), range(max(t + 1, steps - NEXT), steps)
    found = sorted(k for k in {*ahead, *late, *places} if t < k < steps and phase(k) == phase(t))
    return (found[0], found[-1]) if found else (t, t)


def compare(
    model: Model, replayed: Callable[[int], Tensor], eager: Callable[[int], Tensor], at: Sequence[int], precision: str
) -> Verdict:
    """Run the iterations `at` in both ways, which give their losses; the model is left as it was."""
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
    """The tensor with the largest difference, and that; 0 where all bits agree, NaN being NaN."""
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
