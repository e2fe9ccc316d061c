"""Penalties on the gradient of a critic f by its input, differentiable by the critic's weights -> scalar.

f maps images [B, C, H, W] to [B], each image by itself (no batch norm). A penalty trains the critic alone: it treats
the images as constants, whatever graph they come from.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Critic = Callable[[Tensor], Tensor]


def input_gradient(f: Critic, x: Tensor, create_graph: bool = True) -> Tensor:
    """grad_x f(x): [B, C, H, W], the gradient of each image's value by that image."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x, create_graph=create_graph)[0].float()


def interpolated(f: Critic, x: Tensor, x_fake: Tensor) -> Tensor:
    """E (||grad f(x_hat)|| - 1)^2 with x_hat = e x + (1 - e) x_fake, e ~ U(0, 1) per pair (Gulrajani et al., 2017).

    The norm is over all channels and pixels of an image. x, x_fake: [B, C, H, W].
    """
    e = torch.rand(len(x), 1, 1, 1, device=x.device)
    gradient = input_gradient(f, e * x + (1 - e) * x_fake)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def zero_centred(f: Critic, x: Tensor) -> Tensor:
    """Squared norm of grad f over the channels, averaged over images and pixels (MEG's released code).

    The value is H * W times smaller than the squared norm of an image's whole gradient.
    """
    return input_gradient(f, x).square().sum(1).mean()
