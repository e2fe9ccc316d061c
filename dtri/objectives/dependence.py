"""How much a function of pairs depends on one of them: not a loss, but a number to log."""

from torch import Tensor

TINY = 1e-12  # prevents a division by a standard deviation of 0


def share(f: Tensor, f_other: Tensor) -> Tensor:
    """Mean |f(x, z) - f(x, z')| over the standard deviation of f(x, z), z' the latents of another image: [B] -> scalar.

    The value is 0 for f(x), and 2 / sqrt(pi) = 1.13 for an f(z) that is normally distributed over independent pairs.
    """
    return (f - f_other).abs().mean() / f.std(correction=0).clamp_min(TINY)
