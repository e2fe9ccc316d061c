"""WGAN: weights in the box, the gradient penalty's closed form, which player moves when."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam, RMSprop

from baselines.wgan import WGAN, Hparams
from dtri import experiment
from dtri.objectives import gradient_penalty
from tests.toys import noise_images, still
from workflow import configuration

SHAPE = (1, 28, 28)
both = pytest.mark.parametrize("lipschitz", ["clip", "penalty"])


def build(**hparams) -> WGAN:
    torch.manual_seed(1)
    return WGAN(SHAPE, Hparams(**{"width": 0.05, "z_dim": 10, **hparams})).train()


def images(n: int = 8) -> Tensor:
    return torch.from_numpy(noise_images(n, SHAPE)).float() / 127.5 - 1


def linear(norm: float) -> tuple[Tensor, gradient_penalty.Critic]:
    """Weights [3, 4, 4] of the given norm and the critic <w, x>."""
    w = torch.randn(3, 4, 4, dtype=torch.float64)
    w = (w * norm / w.norm()).requires_grad_()
    return w, lambda x: (x * w).flatten(1).sum(1)


# Gradient penalty


@pytest.mark.parametrize("norm", [0.25, 1.0, 3.0])
def test_penalty_of_a_linear_critic(norm):
    """(||w|| - 1)^2 wherever it is taken, and its derivative by w."""
    w, f = linear(norm)
    x, x_fake = torch.randn(2, 5, 3, 4, 4, dtype=torch.float64)
    penalty = gradient_penalty.interpolated(f, x, x_fake)
    assert penalty.item() == pytest.approx((norm - 1) ** 2, abs=1e-6)
    (derivative,) = torch.autograd.grad(penalty, w)
    assert torch.allclose(derivative, 2 * (norm - 1) * w / norm, atol=1e-5)


def test_penalty_is_taken_between_the_pairs():
    """One e ~ U(0, 1) per pair, the same for all of its pixels."""
    x, x_fake = torch.randn(2, 400, 3, 4, 4)
    seen = []

    def f(x_hat: Tensor) -> Tensor:
        seen.append(x_hat.detach())
        return x_hat.square().flatten(1).sum(1) / 2

    penalty = gradient_penalty.interpolated(f, x, x_fake)
    e = ((seen[0] - x_fake) / (x - x_fake)).flatten(1).median(dim=1).values
    assert torch.allclose(seen[0], e[:, None, None, None] * x + (1 - e)[:, None, None, None] * x_fake, atol=1e-3)
    assert 0 < e.min() < 0.05 < 0.95 < e.max() < 1
    assert e.mean().item() == pytest.approx(0.5, abs=0.06)
    assert torch.allclose(penalty, (seen[0].flatten(1).norm(dim=1) - 1).square().mean())  # the gradient is x_hat


def test_penalty_leaves_the_images_alone():
    w, f = linear(2.0)
    x, x_fake = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4, requires_grad=True)
    gradient_penalty.interpolated(f, x, x_fake * 1).backward()
    assert w.grad is not None
    assert x_fake.grad is None
    assert not x.requires_grad


# The model


@both
def test_losses(lipschitz, monkeypatch):
    model, x = build(lipschitz=lipschitz, n_critic=1), images()
    losses = still(model, monkeypatch)
    before = {name: p.detach().clone() for name, p in model.critic.named_parameters()}
    torch.manual_seed(5)
    terms = model.step(x, 0)
    with torch.no_grad():  # cut weights are put back
        for name, p in model.critic.named_parameters():
            p.copy_(before[name])
    torch.manual_seed(5)
    x_fake = model.generate(torch.randn(len(x), model.z_dim)).detach()
    expected = model.critic(x_fake).mean() - model.critic(x).mean()
    assert list(terms) == ["f_real", "f_fake"] + ["penalty"] * (lipschitz == "penalty")
    assert torch.allclose(terms["f_fake"] - terms["f_real"], expected, atol=1e-6)
    if lipschitz == "penalty":
        penalty = gradient_penalty.interpolated(model.critic, x, x_fake)
        assert penalty > 0.1
        assert torch.allclose(terms["penalty"], penalty, rtol=1e-4)
        expected = expected + 10.0 * penalty
    assert torch.allclose(losses["critic"], expected, atol=1e-6)


@both
def test_generator_raises_the_critic_on_images_of_its_own(lipschitz, monkeypatch):
    model, x = build(lipschitz=lipschitz, n_critic=1), images()
    losses, seen = still(model, monkeypatch), []
    model.critic.register_forward_hook(lambda critic, pair, f: seen.append((pair[0].detach(), f.detach())))
    model.step(x, 0)
    (_, _), (fake, _), *_, (other, f) = seen
    assert torch.equal(losses["generator"], -f.mean())
    assert not torch.allclose(fake, other)  # the generator draws again


def test_weights_stay_in_the_box():
    model = build()
    for t in range(6):
        model.step(images(), t)
        weights = torch.cat([p.flatten() for p in model.critic.parameters()])
        assert weights.abs().max() <= 0.01, t
        assert (weights.abs() == torch.tensor(0.01)).any()
    assert max(p.abs().max() for p in model.generator.parameters()) > 0.01


def test_the_penalty_needs_no_box():
    model = build(lipschitz="penalty")
    model.step(images(), 0)
    assert max(p.abs().max() for p in model.critic.parameters()) > 0.01
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.critic.modules())


@both
def test_generator_follows_every_fifth_critic(lipschitz):
    model = build(lipschitz=lipschitz)
    moves = {"critic": [], "generator": []}
    for t in range(11):
        before = {name: [p.detach().clone() for p in getattr(model, name).parameters()] for name in moves}
        model.step(images(4), t)
        for name, found in moves.items():
            now = getattr(model, name).parameters()
            if not all(torch.equal(p, q) for p, q in zip(now, before[name])):
                found.append(t)
    assert moves == {"critic": list(range(11)), "generator": [4, 9]}


def test_the_two_entries():
    """RMSProp and the paper's learning rate for clipping, Adam without momentum for the penalty."""
    found = {}
    for name in ("wgan", "wgan_gp"):
        entry = configuration.models()[name]
        model = experiment.build(entry.entry, SHAPE, {**entry.hparams, "width": 0.05})
        found[name] = model.h.lipschitz
        for optimizer in model.optimizers.values():
            group = optimizer.param_groups[0]
            if name == "wgan":
                assert isinstance(optimizer, RMSprop)
                assert (group["lr"], group["alpha"], group["momentum"]) == (5e-5, 0.99, 0)
            else:
                assert isinstance(optimizer, Adam)
                assert (group["lr"], group["betas"]) == (1e-4, (0.0, 0.9))
    assert found == {"wgan": "clip", "wgan_gp": "penalty"}


def test_unknown_constraint_is_an_error():
    with pytest.raises(ValueError, match=r"expected lipschitz 'clip' \(WGAN\) or 'penalty' \(WGAN-GP\), found 'cut'"):
        build(lipschitz="cut")
