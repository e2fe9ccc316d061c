"""Trained model -> anomaly scores, larger = stranger; oriented by what the maps mean, never by labels."""

import numpy as np
import torch

from dtri import images
from dtri.corners import reconstruct
from dtri.model import Model, has
from dtri.objectives.reconstruction import sse


@torch.no_grad()
def scores(model: Model, stored: np.ndarray, batch_size: int = 250) -> dict[str, np.ndarray]:
    """uint8 images [n, C, H, W] -> float64 [n] arrays, those that the model's maps can give.

    "energy": energy(x), low where data are likely. "sse": squared error of g(mu(x)), summed over pixels in [-1, 1].
    """
    kinds = {"energy": model.energy} if has(model, "energy") else {}
    if has(model, "infer") and has(model, "generate"):
        kinds["sse"] = lambda x: sse(x, reconstruct(model, x))
    if not kinds:
        raise ValueError(f"expected a model with an energy or a reconstruction, found {type(model).__name__}")
    device = next(model.parameters()).device
    columns: dict[str, list[np.ndarray]] = {name: [] for name in kinds}
    for i in range(0, len(stored), batch_size):
        x = images.to_float(torch.from_numpy(stored[i : i + batch_size].copy()).to(device))
        for name, score in kinds.items():
            columns[name].append(score(x).double().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in columns.items()}
