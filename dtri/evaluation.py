"""What is made with a trained model's maps: samples, reconstructions, interpolations. All deterministic by seed.

Latents are drawn on the CPU, so the same seed gives the same latents on any device. Noise of Markov chains is drawn
where they run: the same seed gives the same noise on one device. Neither depends on how many images are made or in
which batches: the first five of many are the five of few, up to rounding.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dtri import finite, images
from dtri.model import Model, has
from dtri.networks import batch_norm
from dtri.sampling.per_image import PerImage
from dtri.seeding import derive

BATCH = 100  # images whose statistics batch norm takes together, as in paper B's code
BLOCK = 64  # latents drawn at a time: torch's draws depend on their number


def require(model: Model, map_name: str) -> None:
    """ValueError when the model lacks the map `generate`, `infer`, `energy` or `sample`."""
    if not has(model, map_name):
        maps = [name for name in ("generate", "infer", "energy", "sample") if has(model, name)]
        raise ValueError(f"expected a model with the map {map_name!r}, found {type(model).__name__} with {maps}")


def by_batch_statistics(model: Model) -> bool:
    """Whether batch norm takes the statistics of each batch, not its averages."""
    return any(layer.training for layer in batch_norm.layers(model))


def eval_batch_size(model: Model) -> int:
    """Images per batch at evaluation: 250 up to 64 pixels, above as many as have that many pixels, at least one.

    `BATCH` where batch norm takes the statistics of each batch.
    """
    if by_batch_statistics(model):
        return BATCH
    _, height, width = model.image_shape
    return max(1, min(250, 250 * 64 * 64 // (height * width)))


def batches(model: Model, stored: np.ndarray) -> Iterator[tuple[Tensor, int]]:
    """uint8 images [n, C, H, W] -> batches in [-1, 1] where the model is, and how many images of each count.

    All do, unless batch norm takes the statistics of each batch: then images from the front fill the last one.
    """
    device, size, whole = next(model.parameters()).device, eval_batch_size(model), by_batch_statistics(model)
    for first in range(0, len(stored), size):
        count = min(size, len(stored) - first)
        part = stored[np.arange(first, first + (size if whole else count)) % len(stored)]
        yield images.to_float(torch.from_numpy(part).to(device)), count


def latents(n: int, z_dim: int, seed: int) -> Tensor:
    """n draws from N(0, I), float32 [n, d], on the CPU; the first of them are the same for every n."""
    blocks = (
        torch.randn(BLOCK, z_dim, generator=torch.Generator().manual_seed(derive("latents", seed, k)))
        for k in range(-(-n // BLOCK))
    )
    return torch.cat([torch.empty(0, z_dim), *blocks])[:n]


@torch.no_grad()
def decode(model: Model, z: Tensor) -> np.ndarray:
    """z: [n, d] -> uint8 images [n, C, H, W]; NonFinite where some are not finite."""
    device, parts = next(model.parameters()).device, z.split(eval_batch_size(model))
    return images.stacked(model.generate(part.to(device)) for part in parts)


@torch.no_grad()
def encode(model: Model, stored: np.ndarray) -> Tensor:
    """uint8 images [n, C, H, W] -> posterior means [n, d], on the CPU; NonFinite where some are not finite."""
    z = torch.cat([model.infer(x)[:count].cpu() for x, count in batches(model, stored)])
    finite.check("posterior means", z)
    return z


@torch.no_grad()
def sample(model: Model, n: int, seed: int) -> np.ndarray:
    """n samples from the model as uint8 [n, C, H, W]: ends of its Markov chains where it has such, else g(z).

    NonFinite where some are not finite; its `rest` are the others.
    """
    size = eval_batch_size(model)
    # Where batch norm takes the statistics of each batch, the last one is drawn whole too.
    drawn = -(-n // size) * size if by_batch_statistics(model) else n
    device = next(model.parameters()).device
    chains = has(model, "sample")
    if not chains:
        require(model, "generate")

    def batch(z: Tensor, first: int) -> Tensor:
        if not chains:
            return model.generate(z.to(device))
        seeds = [derive("chain", seed, first + i) for i in range(len(z))]
        with PerImage(seeds, device) as noise:
            return model.sample(z.to(device), noise.generator)

    z = latents(drawn, model.z_dim, seed)
    return images.stacked(batch(z[i : i + size], i)[: n - i] for i in range(0, drawn, size))


@torch.no_grad()
def reconstruct(model: Model, x: Tensor) -> Tensor:
    """x: [B, C, H, W] in [-1, 1] -> g(mu(x)) in the same shape and range."""
    return model.generate(model.infer(x))


def interpolate(model: Model, ends: np.ndarray | None, seed: int, rows: int = 8, columns: int = 10) -> np.ndarray:
    """Rows of images along straight lines in latent space: uint8 [rows, columns, C, H, W].

    Between the posterior means of pairs of real images (`ends`: uint8 [2 * rows, C, H, W]), which then stand at both
    ends of each row (paper B's script); between prior samples where `ends` is None or the model cannot infer.
    """
    require(model, "generate")
    real = ends is not None and has(model, "infer")
    z = encode(model, ends) if real else latents(2 * rows, model.z_dim, seed)
    weights = torch.linspace(0, 1, columns - 2 if real else columns)[None, :, None]
    line = (1 - weights) * z[:rows, None] + weights * z[rows:, None]  # [rows, columns, d]
    frames = decode(model, line.flatten(0, 1)).reshape(rows, -1, *model.image_shape)
    if real:
        frames = np.concatenate([ends[:rows, None], frames, ends[rows:, None]], axis=1)
    return frames
