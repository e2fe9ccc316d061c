"""A trained model as every evaluation uses it: frozen, its batch norm by a rule (docs/deviations.md, "Protocols").

"standing"  for everything that starts at prior latents. Layers that `generate` passes use the averaged means and
            variances of `BATCHES` batches of prior latents, computed with the weights that are evaluated: the standing
            statistics of BigGAN (Brock, Donahue & Simonyan, 2019, appendix C.1). Other layers use training's averages.
"running"   for everything that starts at images. All layers use the running averages of training: training normalises
            latents of the posterior by their own statistics, not by the prior's.
"batch"     all layers use the statistics of each batch of `evaluation.BATCH` images, as the code of paper B does.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import safetensors
import torch
from torch import Tensor

from dtri import evaluation
from dtri.experiment import TrainSpec, build, canonical_json
from dtri.model import Model, has
from dtri.networks import batch_norm
from dtri.seeding import derive
from dtri.weights import tensors_hash

BATCHES = 20  # of 100 latents: the standard deviation of a channel over 2,000 latents is known to 1.6 %
Rule = Literal["standing", "running", "batch"]
RULES: tuple[Rule, ...] = ("standing", "running", "batch")


def load(path: Path, device: torch.device | str, rule: Rule) -> tuple[Model, TrainSpec]:
    """The frozen model in `path` and its spec.

    Args:
        path:   weights file of a run.
        device: device of the model.
        rule:   statistics of batch norm.

    Raises:
        ValueError: names the file when it is damaged.
    """
    model, spec = load_model(path, device)
    if rule == "standing":
        take_standing_statistics(model, derive("standing", spec.dataset, spec.model, spec.seed))
    elif rule == "batch":
        for layer in batch_norm.layers(model):
            layer.train()
            layer.momentum = 0.0
    return model, spec


def by_other_rules(path: Path, device: torch.device | str, rule: Rule) -> Iterator[tuple[Rule, Model]]:
    """Yield the model in `path` by every rule but `rule`; nothing where `generate` passes no batch norm."""
    if passed_layers(load_model(path, device)[0], "generate"):
        for other in RULES:
            if other != rule:
                yield other, load(path, device, other)[0]


@torch.no_grad()
def passed_layers(model: Model, map_name: Literal["generate", "energy"]) -> list[batch_norm.Layer]:
    """The batch norm layers that the map `map_name` passes; none where the model lacks the map."""
    passed: list[batch_norm.Layer] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, _: passed.append(layer)) for layer in batch_norm.layers(model)
    ]
    if hooks and has(model, map_name):
        shape = (model.z_dim,) if map_name == "generate" else model.image_shape
        getattr(model, map_name)(torch.zeros(1, *shape, device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    return passed


@torch.no_grad()
def take_standing_statistics(model: Model, seed: int) -> None:
    """Replace batch norm's averages in the layers that `generate` passes; depends on weights and seed alone."""
    layers, device = passed_layers(model, "generate"), next(model.parameters()).device
    if not layers:
        return
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the average then weights all batches equally
        layer.train()
    for z in evaluation.latents(BATCHES * evaluation.BATCH, model.z_dim, seed).split(evaluation.BATCH):
        model.generate(z.to(device))
    for layer in layers:
        layer.eval()


def load_weights(path: Path) -> tuple[dict[str, Tensor], TrainSpec]:
    """Tensors by name, and the spec of their training; ValueError names a damaged file."""
    again = "; delete it and give the command that made it again"
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except OSError as error:
        found = "no such file" if not path.exists() else "a folder" if path.is_dir() else f"this: {error}"
        raise FileNotFoundError(f"expected trained weights in {path}, found {found}") from None
    except safetensors.SafetensorError as error:
        raise ValueError(f"expected a safetensors file in {path}, found something else ({error}){again}") from error
    try:
        header = json.loads(metadata["run"])
        expected, spec = header["sha256"], canonical_json(header["spec"])
    except (KeyError, TypeError, json.JSONDecodeError):
        found = json.dumps(sorted(metadata))
        raise ValueError(f"expected a training spec in the header of {path}, found keys {found}{again}") from None
    if (found := tensors_hash(weights)) != expected:
        raise ValueError(f"expected weights with sha256 {expected[:12]} in {path}, found {found[:12]}{again}")
    return weights, TrainSpec.from_json(spec)


def load_model(path: Path, device: torch.device | str = "cpu") -> tuple[Model, TrainSpec]:
    """The trained model in evaluation mode, frozen, and its spec; ValueError names a file that does not fit."""
    weights, spec = load_weights(path)
    model = build(spec.entry, spec.image_shape, spec.hparams)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != found:
        name = next(n for n in sorted(wanted | found) if wanted.get(n) != found.get(n))
        raise ValueError(
            f"{path} does not fit {spec.entry}: expected {name} of shape {wanted.get(name, 'absent')}, "
            f"found {found.get(name, 'absent')}"
        )
    model.load_state_dict(weights)
    model.to(device).to(memory_format=model.memory_format).eval().requires_grad_(False)
    return model, spec
