"""Replay buffer: chains continue where earlier iterations left them (Tieleman, 2008; Du & Mordatch, 2019)."""

import torch
from torch import Tensor, nn

from dtri import images


class ReplayBuffer(nn.Module):
    """The latest `size` images given to `store`, as uint8 [size, C, H, W]; first in, first out.

    The content belongs to training alone, so its buffers are not persistent. They move with the model and are saved for
    a run to continue, but never with the trained weights. Positions are tensors: nothing is read on the host.
    `overflow` is 0, and NaN once an image that is not finite was stored; the engine then ends the run as diverged.

    Args:
        image_shape: (C, H, W).
        size: number of images.
        reinit: probability that `draw` returns noise instead of a stored image.
    """

    chains: Tensor
    stored: Tensor
    overflow: Tensor

    def __init__(self, image_shape: tuple[int, int, int], size: int, reinit: float):
        super().__init__()
        if size < 1 or not 0 <= reinit <= 1:
            raise ValueError(f"expected a positive size and a probability reinit, found {size} and {reinit}")
        self.size, self.reinit = size, reinit
        self.register_buffer("chains", torch.zeros(size, *image_shape, dtype=torch.uint8), persistent=False)
        self.register_buffer("stored", torch.zeros((), dtype=torch.int64), persistent=False)  # images stored in total
        self.register_buffer("overflow", torch.zeros(()), persistent=False)

    def draw(self, n: int) -> Tensor:
        """n starts [n, C, H, W] in [-1, 1]: uniform noise with probability `reinit`, else stored images at random.

        All lie on the 256 grey levels. While the buffer is empty, all starts are noise.
        """
        filled = self.stored.clamp(max=self.size)
        index = (torch.rand(n, device=self.chains.device, dtype=torch.float64) * filled).long()
        fresh = (torch.rand(n, device=self.chains.device) < self.reinit) | (filled == 0)
        old = self.chains[index]
        noise = torch.randint_like(old, 256)
        return images.to_float(torch.where(fresh[:, None, None, None], noise, old))

    @torch.no_grad()
    def store(self, x: Tensor) -> None:
        """Replace the oldest images by x: [n, C, H, W] in [-1, 1]; ValueError when n is larger than `size`."""
        if len(x) > self.size:
            raise ValueError(f"expected at most {self.size} images for the replay buffer, found {len(x)}")
        places = (self.stored + torch.arange(len(x), device=x.device)) % self.size
        self.chains[places] = images.quantised(x.detach())
        self.stored += len(x)
        self.overflow += (0 * x.detach()).sum()
