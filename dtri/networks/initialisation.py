"""Weight initialisation of DCGAN, used by both papers."""

from torch import nn


def dcgan_init(module: nn.Module) -> None:
    """Weights N(0, 0.02), batch-norm gain N(1, 0.02), offset 0; biases keep PyTorch's default. For `Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
