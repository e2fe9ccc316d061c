"""Training as a straightforward script does it: the reference that bench/step.py measures against.

It has ordinary parts of PyTorch: a DataLoader, contiguous tensors, every parameter always trainable, so that each
backward pass computes all gradients. The divergence triangle is written from paper B's equations, with updates in the
official order. tests/test_models.py compares the model with the gradients of this file.
"""

import copy
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset

from dtri.model import Model
from dtri.models.divergence_triangle import DivergenceTriangle


def loader(stored: Tensor, batches: list[list[int]]) -> DataLoader:
    """Yields [uint8 images [B, C, H, W]] for lists of indices, gathered image by image as a DataLoader does."""
    return DataLoader(TensorDataset(stored), batch_sampler=batches)


class PlainTriangle:
    """Copies of a model's networks with new optimisers, at the learning rates of the first epoch."""

    def __init__(self, model: DivergenceTriangle):
        h = self.h = model.h
        self.energy = copy.deepcopy(model.energy_net)
        self.encoder = copy.deepcopy(model.encoder)
        self.generator = copy.deepcopy(model.generator)
        betas = (h.beta1, h.beta2)
        self.optimizers = {
            "energy": Adam(self.energy.parameters(), h.lr_energy * h.gamma, betas),
            "encoder": Adam(self.encoder.parameters(), h.lr_encoder * h.gamma, betas),
            "generator": Adam(
                self.generator.parameters(), h.lr_generator * h.gamma, betas, weight_decay=h.weight_decay
            ),
        }

    def step(self, stored: Tensor) -> dict[str, Tensor]:
        """One iteration on a batch of uint8 images [B, C, H, W] -> losses."""
        h = self.h
        x = stored.float() / 127.5 - 1
        z = torch.randn(len(x), h.z_dim, device=x.device)
        x_fake = self.generator(z)

        loss_energy = self.energy(x).mean() - self.energy(x_fake.detach()).mean()
        self.optimizers["energy"].zero_grad()
        loss_energy.backward()
        clip_grad_norm_(self.energy.parameters(), h.clip_norm)
        self.optimizers["energy"].step()

        mu, logvar = self.encoder(x)
        z_x = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        rec = mse_loss(self.generator(z_x), x, reduction="sum") / len(x)
        kl = torch.mean(0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar))
        latent = self._latent_nll(z, x_fake.detach())
        loss_encoder = h.elbo_weight * (rec + kl) + h.latent_weight * latent
        self.optimizers["encoder"].zero_grad()
        loss_encoder.backward()
        clip_grad_norm_(self.encoder.parameters(), h.clip_norm)
        self.optimizers["encoder"].step()

        mu, logvar = self.encoder(x)
        z_x = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        rec = mse_loss(self.generator(z_x), x, reduction="sum") / len(x)
        latent = self._latent_nll(z, x_fake)
        loss_generator = h.elbo_weight * rec + self.energy(x_fake).mean() + h.latent_weight * latent
        self.optimizers["generator"].zero_grad()
        loss_generator.backward()
        clip_grad_norm_(self.generator.parameters(), h.clip_norm)
        self.optimizers["generator"].step()

        return {"energy": loss_energy.detach(), "encoder": loss_encoder.detach(), "generator": loss_generator.detach()}

    def _latent_nll(self, z: Tensor, x_fake: Tensor) -> Tensor:
        mu, logvar = self.encoder(x_fake)
        return torch.sum(0.5 * (logvar + (z - mu) ** 2 / (torch.exp(logvar) + 1e-6))) / len(z)


class PlainLoop:
    """Any system as a straightforward script trains it: by its own step, with nothing frozen.

    Each backward pass then computes the gradients of all networks, most of which are thrown away.
    """

    def __init__(self, model: Model):
        self.model, self.optimizers, self.t = model, model.optimizers, 0
        model.only = lambda player: nullcontext()

    def step(self, stored: Tensor) -> dict[str, Tensor]:
        """One iteration on a batch of uint8 images [B, C, H, W] -> losses."""
        for name, lr in self.model.learning_rates(self.t).items():
            for group in self.optimizers[name].param_groups:
                group["lr"] = lr
        self.t += 1
        return self.model.step(stored.float() / 127.5 - 1, self.t - 1)
