"""The weights that a run ends with: the exponential moving average over all iterations."""

import torch
from torch import Tensor

from dtri.model import Model


class EMA:
    """Exponential moving average of a model's weights and of batch norm's averages.

    With `ema_decay` 0 these are the model's own values. At iteration t the decay is at most (t + 1) / (t + 10), so that
    the initial weights are soon forgotten. Other buffers are copied: averages of spectral norm's singular vectors would
    no longer be unit vectors.
    """

    def __init__(self, model: Model):
        state = model.state_dict() if model.ema_decay else {}
        self.weights = _copy(state) if state else {}
        parameters = {name for name, _ in model.named_parameters()}
        means = {name for name in state if name.endswith(("running_mean", "running_var"))}
        # Pairs of the average and the tensor that it follows, which stays the same object: a search for it costs the
        # host more time than a GPU's update takes.
        self._averaged = _pairs(self.weights, state, sorted(state.keys() & (parameters | means)))
        self._copied = _pairs(self.weights, state, sorted(state.keys() - parameters - means))
        self._places = {name: tensor.data_ptr() for name, tensor in state.items()}

    def update(self, model: Model, t: int) -> None:
        """Account for the weights after iteration t."""
        if not self.weights:
            return
        torch._foreach_lerp_(*self._averaged, 1 - min(model.ema_decay, (t + 1) / (t + 10)))
        if self._copied[0]:
            torch._foreach_copy_(*self._copied)

    def snapshot(self, model: Model) -> dict[str, Tensor]:
        """A copy of the averages. ValueError where an iteration put a new tensor in the place of a followed one."""
        state = model.state_dict()
        if moved := [name for name, place in self._places.items() if state[name].data_ptr() != place]:
            raise ValueError(f"expected a step to update {moved[0]} in place, found another tensor")
        return _copy(self.weights or state)


def _pairs(ours: dict[str, Tensor], theirs: dict[str, Tensor], names: list[str]) -> tuple[list[Tensor], list[Tensor]]:
    return [ours[name] for name in names], [theirs[name] for name in names]


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    copies = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    torch._foreach_copy_(list(copies.values()), [tensor.detach() for tensor in state.values()])
    return copies
