"""How much memory each level of layer-wise growth takes, before anything is trained.

    python -m workflow.commands.growth_memory --preset paper

Nothing is computed: two training steps of every phase run on meta tensors, whose sizes are added up while they live.
Counted are weights, gradients, optimisers' states and activations, and the averaged and the last finite weights. Not
counted are the libraries' own memory (about 1 GB on a GPU) and the work space of convolutions.
"""

import argparse
import sys
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dtri import experiment
from dtri.device import choose_device, describe_device, free_bytes
from dtri.model import Model
from workflow import configuration, specs
from workflow.commands.cli import run

MODEL = "divergence_triangle_progressive"
MIB = 2**20


class Ledger(TorchDispatchMode):
    """Counts the bytes of live tensors that are made inside it: `now`, and the most so far, `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._enter(tensor.untyped_storage())
        return made

    def _enter(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._leave, size)

    def _leave(self, size: int) -> None:
        self.now -= size


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--dataset", default="celeba_hq", help="in the paper's words; stand-ins apply")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    arguments = parser.parse_args(argv)
    on = specs.measured_on(configuration.preset(arguments.preset), arguments.dataset)
    if on is None:
        raise ValueError(f"expected a dataset that preset {arguments.preset} has, found {arguments.dataset!r}")
    spec = specs.train_spec(specs.Run(arguments.preset, on, MODEL, 0))
    device = choose_device(arguments.device)
    free = _free(device)

    print(f"{on}, {spec.image_shape[1]} pixels, {MODEL}: memory while training, in MiB")
    print(f"{'level':>6} {'batch':>6} {'weights':>8} {'optimisers':>11} {'activations':>12} {'all':>8}")
    rows = levels(spec)
    for side, batch_size, *parts in rows:
        print(f"{side:6} {batch_size:6} {parts[0]:8.0f} {parts[1]:11.0f} {parts[2]:12.0f} {sum(parts):8.0f}")
    most = max(rows, key=lambda row: sum(row[2:]))
    needed, name = sum(most[2:]), describe_device(device)
    fits = "fits into" if needed < free else "does not fit into"
    advice = "" if needed < free else "; lower batch_sizes at that level, or the preset's width"
    print(f"{most[0]} pixels need most, {needed:.0f} MiB: {fits} {free:.0f} MiB free on {name}{advice}")
    return 0 if needed < free else 1


def levels(spec: experiment.TrainSpec) -> list[tuple[int, int, float, float, float]]:
    """(side, batch size, MiB of weights, of optimisers' states, of the rest) per level.

    Weights have three copies: current, averaged and last finite. The rest is taken at its peak. It includes gradients
    and the images of a batch at full size.
    """
    with torch.device("meta"):
        model = experiment.build(spec.entry, spec.image_shape, spec.hparams).train()
        weights = 3 * sum(tensor.nbytes for tensor in model.state_dict().values())  # current, averaged, last finite
        worst: dict[int, tuple[int, int, float, float, float]] = {}
        for phase in model.phases:
            if phase.start >= spec.steps:
                break
            peak = _peak(model, phase.start, phase.batch_size)
            states = [s for optimizer in model.optimizers.values() for s in optimizer.state.values()]
            memory = sum(value.nbytes for state in states for value in state.values())
            row = (model.sides[phase.level], phase.batch_size, weights / MIB, memory / MIB, peak / MIB)
            worst[row[0]] = max(worst.get(row[0], row), row, key=lambda found: found[4])
    return list(worst.values())


def _peak(model: Model, t: int, batch_size: int) -> int:
    """The most bytes alive in the second of two steps from iteration t, without weights and optimisers' states."""
    for i in (t, t + 1):
        model.zero_grad(set_to_none=True)
        with Ledger() as ledger:
            model.begin(i)
            x = torch.empty(batch_size, *model.image_shape).contiguous(memory_format=model.memory_format)
            model.step(x, i)
    return ledger.peak


def _free(device: torch.device) -> float:
    """MiB free on the device, for the CPU in the machine's memory."""
    return free_bytes(device) / MIB


if __name__ == "__main__":
    sys.exit(run(main))
