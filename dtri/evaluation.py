"""Products of a trained model's maps: samples, reconstructions, interpolations. The seed determines all of them.

Latents are drawn on the CPU, so the same seed gives the same latents on any device. Markov chains draw their noise on
the device where they run: the same seed gives the same noise on one device. Neither depends on the number of images or
on the batches: the first five of many images equal five images drawn alone, up to rounding.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from dtri import finite, images
from dtri.memory import in_batches
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
    """Whether batch norm uses the statistics of each batch instead of its averages."""
    return any(layer.training for layer in batch_norm.layers(model))


def eval_batch_size(model: Model) -> int:
    """Images per batch at evaluation: 250 up to 64x64 pixels, fewer above (equal pixels per batch), at least 1.

    It is `BATCH` where batch norm uses the statistics of each batch.
    """
    if by_batch_statistics(model):
        return BATCH
    _, height, width = model.image_shape
    return max(1, min(250, 250 * 64 * 64 // (height * width)))


def batches(model: Model, stored: np.ndarray) -> Iterator[tuple[Tensor, int]]:
    """Yield batches x in [-1, 1] on the model's device, of uint8 images [n, C, H, W], and how many rows of x count.

    All rows count, unless batch norm uses the statistics of each batch: then the first images fill up the last batch.
    """
    size = eval_batch_size(model)
    for first in range(0, len(stored), size):
        yield _batch(model, stored, first, min(first + size, len(stored))), min(size, len(stored) - first)


def _batch(model: Model, stored: np.ndarray, first: int, stop: int) -> Tensor:
    """Images [first, stop) of uint8 [n, C, H, W], in [-1, 1], on the model's device, filled up as `batches` does."""
    size = BATCH if by_batch_statistics(model) else stop - first
    part = stored[np.arange(first, first + size) % len(stored)]
    return images.to_float(torch.from_numpy(part).to(next(model.parameters()).device))


def _fixed(model: Model) -> str:
    """Why batches must not become smaller; empty where they may."""
    return f"batch norm takes the statistics of {BATCH} together" if by_batch_statistics(model) else ""


def to_uint8(x: Tensor) -> Tensor:
    """float [B, C, H, W] in [-1, 1] -> uint8, as `images.quantised`. NonFinite where a value is NaN or infinite."""
    pixels = images.quantised(x)
    finite.check("images", x)
    return pixels


def stacked(batches: Iterable[Tensor]) -> np.ndarray:
    """float batches [B, C, H, W] on any device -> uint8 [n, C, H, W].

    NonFinite where some images are not finite, counted over all batches; its `rest` holds the finite images.
    """
    count, parts = finite.Count(), []
    for batch in batches:
        whole = count.add(batch)
        parts.append(images.quantised(batch[whole] if count.bad else batch).cpu())
    stored = torch.cat(parts).numpy()
    count.refuse("images", stored)
    return stored


def latents(n: int, z_dim: int, seed: int) -> Tensor:
    """n draws from N(0, I), float32 [n, d], on the CPU. The first k draws are the same for every n >= k."""
    blocks = (
        torch.randn(BLOCK, z_dim, generator=torch.Generator().manual_seed(derive("latents", seed, k)))
        for k in range(-(-n // BLOCK))
    )
    return torch.cat([torch.empty(0, z_dim), *blocks])[:n]


@torch.no_grad()
def decode(model: Model, z: Tensor) -> np.ndarray:
    """Images g(z), uint8 [n, C, H, W], of latents z [n, d]. NonFinite where some are not finite."""
    device = next(model.parameters()).device
    size = eval_batch_size(model)
    parts = in_batches(lambda start, stop: model.generate(z[start:stop].to(device)), len(z), size, _fixed(model))
    return stacked(parts)


@torch.no_grad()
def encode(model: Model, stored: np.ndarray) -> Tensor:
    """Posterior means [n, d] of uint8 images [n, C, H, W], on the CPU. NonFinite where some are not finite."""

    def infer(start: int, stop: int) -> Tensor:
        return model.infer(_batch(model, stored, start, stop))[: stop - start].cpu()

    z = torch.cat(list(in_batches(infer, len(stored), eval_batch_size(model), _fixed(model))))
    finite.check("posterior means", z)
    return z


@torch.no_grad()
def sample(model: Model, n: int, seed: int) -> np.ndarray:
    """n samples of the model, uint8 [n, C, H, W]: the ends of its Markov chains if it defines them, else g(z).

    NonFinite where some are not finite; its `rest` holds the finite ones.
    """
    size = eval_batch_size(model)
    # Where batch norm uses the statistics of each batch, the last batch is drawn whole too.
    drawn = -(-n // size) * size if by_batch_statistics(model) else n
    device = next(model.parameters()).device
    chains = has(model, "sample")
    if not chains:
        require(model, "generate")

    z = latents(drawn, model.z_dim, seed)

    def batch(start: int, stop: int) -> Tensor:
        part = z[start:stop].to(device)
        if not chains:
            return model.generate(part)[: n - start]
        with PerImage([derive("chain", seed, i) for i in range(start, stop)], device) as noise:
            return model.sample(part, noise.generator)[: n - start]

    return stacked(in_batches(batch, drawn, size, _fixed(model)))


@torch.no_grad()
def reconstruct(model: Model, x: Tensor) -> Tensor:
    """x: [B, C, H, W] in [-1, 1] -> g(mu(x)) in the same shape and range."""
    return model.generate(model.infer(x))


def interpolate(model: Model, ends: np.ndarray | None, seed: int, rows: int = 8, columns: int = 10) -> np.ndarray:
    """Rows of images along straight lines in latent space: uint8 [rows, columns, C, H, W].

    Args:
        model:   a model with `generate`.
        ends:    real images, uint8 [2 * rows, C, H, W]: lines join their posterior means, and the images stand at both
                 ends of each row, as in paper B's script. If None, or without `infer`, lines join prior samples.
        seed:    seed of the prior samples.
        rows:    number of lines.
        columns: images per row, with the real ones.

    Raises:
        ValueError: the model lacks `generate`.
        NonFinite: some images or means are not finite.
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
