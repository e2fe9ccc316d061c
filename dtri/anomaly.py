"""Anomaly scores of a trained model: larger means stranger. Their sign follows from the maps, never from labels."""

import numpy as np
import torch
from torch import Tensor

from dtri.evaluation import batches, reconstruct
from dtri.model import Model, has
from dtri.objectives.reconstruction import sse


@torch.no_grad()
def scores(model: Model, stored: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of uint8 images [n, C, H, W], as float64 arrays [n]; the model's maps decide which there are.

    "energy" is energy(x), low where data are likely. "sse" is the squared error of g(mu(x)), summed over pixels in
    [-1, 1]. The model's `anomaly_scores` adds further scores by name. ValueError where no score can be computed.
    """
    columns: dict[str, list[np.ndarray]] = {}
    for x, count in batches(model, stored):
        for name, score in _of_batch(model, x).items():
            columns.setdefault(name, []).append(score[:count].double().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _of_batch(model: Model, x: Tensor) -> dict[str, Tensor]:
    found = {"energy": model.energy(x)} if has(model, "energy") else {}
    if has(model, "infer") and has(model, "generate"):
        found["sse"] = sse(x, reconstruct(model, x))
    further = model.anomaly_scores(x) if has(model, "anomaly_scores") else {}
    if taken := found.keys() & further.keys():
        raise ValueError(f"expected new names from {type(model).__name__}.anomaly_scores, found {sorted(taken)}")
    if not found:
        raise ValueError(f"expected a model with an energy or a reconstruction, found {type(model).__name__}")
    return found | further
