"""Losses against torch.distributions and closed forms; schedules; spectral normalisation against the exact value."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from dtri.networks.convolutional import GaussianEncoder, softly_bounded, spectrally_normalised
from dtri.networks.joint_critic import JointCritic
from dtri.objectives import adversarial, dependence, gaussian
from dtri.objectives.reconstruction import sse
from dtri.objectives.schedules import exponential

B, D = 5, 7
LOG_2PI = math.log(2 * math.pi)


def posterior() -> tuple[torch.Tensor, torch.Tensor, Independent]:
    mu, logvar = torch.randn(B, D, dtype=torch.float64), torch.randn(B, D, dtype=torch.float64)
    return mu, logvar, Independent(Normal(mu, (0.5 * logvar).exp()), 1)


def standard() -> Independent:
    return Independent(Normal(torch.zeros(D, dtype=torch.float64), 1.0), 1)


def test_kl():
    mu, logvar, q = posterior()
    assert torch.allclose(gaussian.kl_standard(mu, logvar), kl_divergence(q, standard()))
    assert gaussian.kl_standard(torch.zeros(B, D), torch.zeros(B, D)).abs().max() == 0


def test_nll():
    mu, logvar, q = posterior()
    z = torch.randn(B, D, dtype=torch.float64)
    expected = -q.log_prob(z) - D / 2 * LOG_2PI
    assert torch.allclose(gaussian.nll(z, mu, logvar), expected, rtol=1e-4)  # the variance has 1e-6 added
    assert torch.isfinite(gaussian.nll(z, mu, torch.full_like(mu, -200.0))).all()  # which keeps a collapse finite


def test_entropy():
    _, logvar, q = posterior()
    assert torch.allclose(gaussian.entropy(logvar), q.entropy() - D / 2 * (1 + LOG_2PI))


def test_prior_energy_is_the_cross_entropy():
    mu, logvar, q = posterior()
    cross_entropy = kl_divergence(q, standard()) + q.entropy()
    assert torch.allclose(gaussian.prior_energy(mu, logvar), cross_entropy - D / 2 * LOG_2PI)


def test_kl_is_prior_energy_less_entropy():
    mu, logvar, _ = posterior()
    difference = gaussian.prior_energy(mu, logvar) - gaussian.entropy(logvar)
    assert torch.allclose(gaussian.kl_standard(mu, logvar), difference - D / 2)


def test_sample_moments_and_gradient():
    """logvar is log sigma^2, not log sigma; the draw is differentiable in both."""
    mu = torch.full((100_000, 1), 3.0, requires_grad=True)
    logvar = torch.full((100_000, 1), math.log(4.0), requires_grad=True)
    z = gaussian.sample(mu, logvar)
    assert z.mean().item() == pytest.approx(3.0, abs=0.03)
    assert z.var().item() == pytest.approx(4.0, rel=0.03)
    z.square().mean().backward()
    # E z^2 = mu^2 + exp(logvar)
    assert mu.grad.sum().item() == pytest.approx(2 * 3.0, rel=0.03)
    assert logvar.grad.sum().item() == pytest.approx(4.0, rel=0.03)


def test_sse_sums_over_channels_and_pixels():
    x, y = torch.randn(B, 3, 4, 4), torch.randn(B, 3, 4, 4)
    expected = torch.stack([((a - b) ** 2).sum() for a, b in zip(x, y)])
    assert torch.allclose(sse(x, y), expected)
    assert sse(torch.ones(2, 3, 4, 4), -torch.ones(2, 3, 4, 4)).tolist() == [4 * 48.0] * 2


def test_bce():
    real, fake = torch.randn(B), torch.randn(B)
    ones, zeros = torch.ones(B), torch.zeros(B)
    expected = binary_cross_entropy_with_logits(real, ones) + binary_cross_entropy_with_logits(fake, zeros)
    assert torch.allclose(adversarial.bce_critic(real, fake), expected)
    assert torch.allclose(adversarial.bce_generator(fake), binary_cross_entropy_with_logits(fake, ones))
    assert torch.isfinite(adversarial.bce_critic(torch.tensor([-1e4]), torch.tensor([1e4])))


def test_bce_orientation():
    """Scores are high on real data."""
    good = adversarial.bce_critic(torch.tensor([5.0]), torch.tensor([-5.0]))
    bad = adversarial.bce_critic(torch.tensor([-5.0]), torch.tensor([5.0]))
    assert good < bad
    assert adversarial.bce_generator(torch.tensor([5.0])) < adversarial.bce_generator(torch.tensor([-5.0]))


def test_exponential_schedule_is_the_stepped_scheduler():
    """torch's ExponentialLR, stepped at the start of every epoch as in paper B's script."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 3e-4)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.998)
    for t in range(35):
        if t % 10 == 0:
            optimizer.step()
            scheduler.step()
        assert exponential(3e-4, 0.998, 10, t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert exponential(1.0, 0.998, 500, 749_999) == pytest.approx(0.0496, abs=1e-4)  # after 1500 epochs


@pytest.mark.parametrize("kind", ["linear", "stride 1", "stride 2"])
def test_spectral_norm_is_the_largest_singular_value(kind):
    """Of the kernel as a matrix [out, in * k * k], once the power iteration has converged."""
    makers = {
        "linear": (nn.Linear, 12, 7),
        "stride 1": (nn.Conv2d, 3, 8, 3, 1, 1),
        "stride 2": (nn.Conv2d, 4, 5, 4, 2, 1),
    }
    make, *sizes = makers[kind]
    layer = make(*sizes)
    weight = layer.weight.detach().clone()
    x = torch.randn(2, 12) if isinstance(layer, nn.Linear) else torch.randn(2, weight.shape[1], 8, 8)
    spectrally_normalised(layer).train()
    for _ in range(1000):
        layer(x)
    sigma = torch.linalg.svdvals(weight.flatten(1))[0]
    assert torch.allclose(layer.weight, weight / sigma, rtol=1e-3)
    assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=1e-4)


def test_spectral_norm_rests_in_evaluation():
    layer = spectrally_normalised(nn.Linear(12, 7)).eval()
    first = layer.weight.clone()
    layer(torch.randn(2, 12))
    assert torch.equal(layer.weight, first)


@pytest.mark.parametrize("last", [False, True])
def test_layers_of_the_joint_critic_are_normalised(last: bool):
    critic = JointCritic((3, 32, 32), 10, 0.05, spectral_norm_last=last).train()
    with torch.no_grad():
        critic.head.weight.mul_(7)
        for _ in range(300):
            critic(torch.randn(2, 3, 32, 32), torch.randn(2, 10))
    layers = [layer for layer in critic.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 10  # four convolutions, one layer behind them, two for z, three for the pair
    sigmas = {layer: torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers}
    if not last:
        assert sigmas.pop(critic.head) != pytest.approx(1.0, abs=0.05)
    assert list(sigmas.values()) == pytest.approx([1.0] * len(sigmas), abs=1e-2)


# Bound on log variances


def test_a_soft_bound_is_the_identity_inside_and_has_a_gradient_everywhere():
    v = torch.linspace(-20, 16, 200, requires_grad=True)
    bounded = softly_bounded(v, -8.0, 4.0)
    assert bounded.min() > -8
    assert bounded.max() < 4 + 1e-4
    inside = (v > -3) & (v < -1)
    assert (bounded - v)[inside].abs().max() < 0.02
    assert torch.allclose(bounded[[0, -1]], torch.tensor([-8.0, 4.0]), atol=1e-4)
    bounded.sum().backward()
    assert v.grad.min() > 0


@pytest.mark.parametrize("bias", [-12.0, 9.0])
def test_an_encoder_beyond_its_bound_can_come_back(bias: float):
    """As with a plain clamp, log V is held; unlike with one, its layer still learns."""
    encoder = GaussianEncoder((1, 28, 28), 4, 0.05, logvar_range=(-8.0, 4.0))
    with torch.no_grad():
        encoder.logvar.bias.fill_(bias)
    _, logvar = encoder(torch.randn(3, 1, 28, 28))
    logvar.sum().backward()
    assert logvar.min() >= -8
    assert logvar.max() <= 4 + 1e-4
    assert encoder.logvar.weight.grad.abs().max() > 0
    assert encoder.logvar.bias.grad.min() > 0


# What a critic of pairs uses


def test_share_of_latents_in_a_critic():
    x, z = torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0))
    other = z.roll(1)
    assert dependence.share(x, x) == 0
    assert dependence.share(z, other).item() == pytest.approx(2 / math.sqrt(math.pi), rel=0.02)
    assert dependence.share(x + z, x + other).item() == pytest.approx(math.sqrt(2 / math.pi), rel=0.02)
    assert dependence.share(7 * z - 3, 7 * other - 3) == pytest.approx(dependence.share(z, other).item())


def test_share_of_a_constant_is_finite():
    assert dependence.share(torch.ones(5), torch.ones(5)) == 0
    assert dependence.share(torch.ones(1), torch.ones(1)) == 0
