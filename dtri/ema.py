"""The weights that a run ends with: their exponential moving average over all iterations."""

import torch
from torch import Tensor

from dtri.model import Model


class EMA:
    """Exponential moving average of a model's weights and of batch norm's; with `ema_decay` 0 simply the model's own.

    At iteration t the decay is at most (t + 1) / (t + 10), so that the initial weights are soon forgotten. Other
    buffers are the latest: averages of spectral norm's singular vectors would no longer be unit vectors.
    """

    def __init__(self, model: Model):
        self.weights = _copy(model.state_dict()) if model.ema_decay else {}
        parameters = {name for name, _ in model.named_parameters()}
        means = {name for name in self.weights if name.endswith(("running_mean", "running_var"))}
        self.averaged = sorted(self.weights.keys() & (parameters | means))
        self.copied = sorted(self.weights.keys() - set(self.averaged))

    def update(self, model: Model, t: int) -> None:
        """Account for the weights after iteration t."""
        if not self.weights:
            return
        rate = 1 - min(model.ema_decay, (t + 1) / (t + 10))
        state = model.state_dict()
        torch._foreach_lerp_([self.weights[n] for n in self.averaged], [state[n] for n in self.averaged], rate)
        for name in self.copied:
            self.weights[name].copy_(state[name])

    def snapshot(self, model: Model) -> dict[str, Tensor]:
        return _copy(self.weights or model.state_dict())


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    copies = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    torch._foreach_copy_(list(copies.values()), [tensor.detach() for tensor in state.values()])
    return copies
