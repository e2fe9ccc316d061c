"""A trained model as all evaluation uses it: frozen, its batch norm by a named rule (docs/deviations.md, "Protocols").

"standing"  layers that `generate` passes have the means and variances of `BATCHES` batches of prior latents, averaged,
            taken with the weights that are evaluated: the standing statistics of BigGAN (Brock, Donahue & Simonyan,
            2019, appendix C.1). The others have the running averages of training. For all that starts at prior latents.
"running"   all layers have the running averages of training. For all that starts at images: training normalises
            latents of the posterior by their own statistics, not by those of the prior.
"batch"     all layers take the statistics of each batch of `corners.BATCH` images, as the code of paper B does.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from dtri import checkpoint, corners
from dtri.experiment import TrainSpec
from dtri.model import Model, has
from dtri.networks import batch_norm
from dtri.seeding import derive

BATCHES = 20  # of 100 latents: 2,000 know the standard deviation of a channel to 1.6 %
Rule = Literal["standing", "running", "batch"]
RULES: tuple[Rule, ...] = ("standing", "running", "batch")


def load(path: Path, device: torch.device | str, rule: Rule) -> tuple[Model, TrainSpec]:
    """The model in `path` and its spec; ValueError naming the file when it is damaged."""
    model, spec = checkpoint.load_model(path, device)
    if rule == "standing":
        take_standing_statistics(model, derive("standing", spec.dataset, spec.model, spec.seed))
    elif rule == "batch":
        for layer in batch_norm.layers(model):
            layer.train()
            layer.momentum = 0.0
    return model, spec


def by_other_rules(path: Path, device: torch.device | str, rule: Rule) -> Iterator[tuple[Rule, Model]]:
    """The model in `path` by every rule but `rule`; nothing where `generate` passes no batch norm."""
    if passed_layers(checkpoint.load_model(path, device)[0], "generate"):
        for other in RULES:
            if other != rule:
                yield other, load(path, device, other)[0]


@torch.no_grad()
def passed_layers(model: Model, corner: Literal["generate", "energy"]) -> list[batch_norm.Layer]:
    """The batch norm layers that a map passes; none where the model lacks the map."""
    passed: list[batch_norm.Layer] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, _: passed.append(layer)) for layer in batch_norm.layers(model)
    ]
    if hooks and has(model, corner):
        shape = (model.z_dim,) if corner == "generate" else model.image_shape
        getattr(model, corner)(torch.zeros(1, *shape, device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    return passed


@torch.no_grad()
def take_standing_statistics(model: Model, seed: int) -> None:
    """Replace the averages of the layers that `generate` passes; a function of weights and seed."""
    layers, device = passed_layers(model, "generate"), next(model.parameters()).device
    if not layers:
        return
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches, each with the same weight
        layer.train()
    for z in corners.latents(BATCHES * corners.BATCH, model.z_dim, seed).split(corners.BATCH):
        model.generate(z.to(device))
    for layer in layers:
        layer.eval()
