"""What is special about each system: sizes, identities of the papers, closed forms of the losses, signs."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from baselines import dcgan, vae
from bench.plain import PlainTriangle
from dtri import anomaly
from dtri.model import Model
from dtri.models import divergence_triangle, joint_vae_ebm
from dtri.objectives import gaussian
from tests.toys import bright, noise_images, still

SHAPE = (3, 32, 32)
MODULES = {module.__name__.split(".")[-1]: module for module in (dcgan, vae, divergence_triangle, joint_vae_ebm)}
CLASSES = {"dcgan": "DCGAN", "vae": "VAE", "divergence_triangle": "DivergenceTriangle", "joint_vae_ebm": "JointVAEEBM"}


def build(name: str, shape: tuple[int, int, int] = SHAPE, **hparams) -> Model:
    torch.manual_seed(1)
    module = MODULES[name]
    return getattr(module, CLASSES[name])(shape, module.Hparams(**{"width": 0.05, "z_dim": 10, **hparams})).train()


def images(n: int = 8, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.rand(n, *shape) * 2 - 1


def excited(model: Model) -> Model:
    """The model with posteriors far from the prior, so that a wrong weight of the KL shows beside the squared error."""
    with torch.no_grad():
        model.encoder.mu.bias.normal_(0.0, 2.0)
        model.encoder.logvar.bias.normal_()
    return model


def faint(n: int = 8) -> Tensor:
    """Grey images, whose squared error is small."""
    return 0.05 * images(n)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_of_paper_b():
    h = divergence_triangle.Hparams()
    with torch.device("meta"):
        model = divergence_triangle.DivergenceTriangle(SHAPE, h)
    assert (h.width, h.z_dim) == (1.0, 100)
    assert count(model.generator) == 7_641_219
    assert count(model.energy_net) == 1_709_761
    assert count(model.encoder) == 4_392_840


# Joint training of VAE and latent EBM: Eqn 15 ("minus") and 17 ("plus") on a scalar linear-Gaussian model


DATA_VARIANCE, SLOPE, NOISE = 1.3, 0.8, 0.25  # x ~ N(0, 1.3); p(x|z) = N(0.8 z, 0.25)
PRECISION = torch.tensor([[1.1, -0.4], [-0.4, 0.9]], dtype=torch.float64)  # pi(x, z) = N(0, PRECISION^-1)
POSTERIORS = [(0.3, 0.5), (0.6, 0.2), (0.9, 1.4)]  # q(z|x) = N(a x, v): (a, v)
TABLE = {"minus": [0.827298, -0.196872, 1.085178], "plus": [1.117711, 0.743731, 1.374371]}
EQUAL_WEIGHTS = {"rec_weight": 1 / (2 * NOISE), "prior_weight": 1.0, "energy_weight": 1.0, "entropy_weight": 2.0}


def joint_normal(covariance: list[list[float]] | Tensor) -> MultivariateNormal:
    return MultivariateNormal(torch.zeros(2, dtype=torch.float64), torch.as_tensor(covariance, dtype=torch.float64))


def divergences(a: float, v: float) -> tuple[float, float]:
    """KL(q || p) and KL(q || pi), exactly."""
    s = DATA_VARIANCE
    q = joint_normal([[s, a * s], [a * s, a * a * s + v]])
    p = joint_normal([[SLOPE**2 + NOISE, SLOPE], [SLOPE, 1.0]])
    pi = joint_normal(torch.linalg.inv(PRECISION))
    return kl_divergence(q, p).item(), kl_divergence(q, pi).item()


def encoder_loss(kl_sign: str, a: float, v: float) -> float:
    """The model's own formula with exact expectations: all is quadratic in (x, noise), so two values of each do."""
    h = joint_vae_ebm.Hparams(kl_sign=kl_sign, **EQUAL_WEIGHTS)
    sign = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    x = math.sqrt(DATA_VARIANCE) * sign.repeat_interleave(2)  # mean 0, variance 1.3
    mu, logvar = a * x, torch.full_like(x, math.log(v))
    z = mu + math.sqrt(v) * sign.repeat(2)
    pair = torch.stack([x, z], dim=1)
    f = -0.5 * ((pair @ PRECISION) * pair).sum(1)
    rec = (x - SLOPE * z).square()
    model = SimpleNamespace(h=h)
    return joint_vae_ebm.JointVAEEBM.encoder_loss(model, rec, mu[:, None], logvar[:, None], f).item()


@pytest.mark.parametrize("kl_sign", ["minus", "plus"])
def test_encoder_loss_is_the_divergence(kl_sign):
    """Eqn 15 is KL(q||p) - KL(q||pi), Eqn 17 KL(q||p) + KL(q||pi), up to a constant free of q."""
    sign = {"minus": -1, "plus": 1}[kl_sign]
    exact = [forward + sign * other for forward, other in (divergences(*q) for q in POSTERIORS)]
    assert exact == pytest.approx(TABLE[kl_sign], abs=1e-6)  # values of an independent calculation
    formula = [encoder_loss(kl_sign, *q) for q in POSTERIORS]
    for i in (1, 2):
        assert formula[i] - formula[0] == pytest.approx(exact[i] - exact[0], abs=1e-9)


def stationary_slope(kl_sign: str, variance: float) -> float:
    """d loss / d logvar with prior and entropy terms only."""
    h = joint_vae_ebm.Hparams(kl_sign=kl_sign, **EQUAL_WEIGHTS)
    logvar = torch.full((1, 1), math.log(variance), dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    loss = joint_vae_ebm.JointVAEEBM.encoder_loss(SimpleNamespace(h=h), zero, zero[:, None], logvar, zero)
    loss.backward()
    return logvar.grad.item()


def test_variance_without_data():
    """ "Ours" has no entropy: V goes to 0. A VAE rests at V = 1, "Ours(+)" at V = 2."""
    assert all(stationary_slope("minus", v) == pytest.approx(v / 2) for v in (1e-6, 0.1, 1.0, 2.0, 50.0))
    assert stationary_slope("plus", 2.0) == pytest.approx(0.0, abs=1e-12)
    assert stationary_slope("plus", 1.9) < 0 < stationary_slope("plus", 2.1)
    logvar = torch.zeros(1, 1, requires_grad=True)
    gaussian.kl_standard(torch.zeros(1, 1), logvar).sum().backward()
    assert logvar.grad.item() == 0


def test_unknown_sign_is_an_error():
    with pytest.raises(ValueError, match=r"expected kl_sign 'minus' \(Eqn 15\) or 'plus' \(Eqn 17\), found 'times'"):
        build("joint_vae_ebm", kl_sign="times")


@pytest.mark.parametrize("kl_sign", ["minus", "plus"])
def test_joint_losses(kl_sign, monkeypatch):
    """All three losses of a step against their equations, the draws replaced by the means."""
    monkeypatch.setattr(gaussian, "sample", lambda mu, logvar: mu)
    model = excited(build("joint_vae_ebm", kl_sign=kl_sign, **EQUAL_WEIGHTS))
    seen = []
    model.critic.register_forward_hook(lambda critic, pair, f: seen.append(f.detach()))
    losses, x = still(model, monkeypatch), faint()
    model.step(x, 0)
    f_real, f_fake, f_encoder, f_generator = seen
    mu, logvar = model.encoder(x)
    rec = (x - model.generate(mu)).square().sum((1, 2, 3)).mean()
    prior = (mu.square() + logvar.exp()).sum(1).mean() / 2
    sign = {"minus": 1, "plus": -1}[kl_sign]
    entropy = logvar.sum(1).mean() if kl_sign == "plus" else 0.0  # of weight 2
    assert torch.allclose(losses["critic"], f_fake.mean() - f_real.mean())
    expected = rec / (2 * NOISE) + prior + sign * f_encoder.mean() - entropy
    assert torch.allclose(losses["encoder"], expected, rtol=1e-4)
    assert torch.allclose(losses["generator"], rec / (2 * NOISE) - f_generator.mean(), rtol=1e-4)


def test_joint_critic_sees_pairs(monkeypatch):
    """(x, z_x) of the data and (x_fake, z) of the generator; the generator is judged on its own pairs."""
    model = build("joint_vae_ebm")
    pairs = []
    model.critic.register_forward_hook(lambda critic, pair, f: pairs.append([part.detach() for part in pair]))
    still(model, monkeypatch)
    x = images()
    torch.manual_seed(5)
    model.step(x, 0)
    torch.manual_seed(5)
    z = torch.randn(len(x), model.z_dim)
    (real, z_x), (fake, z_fake), (real_again, z_x_again), (fake_again, z_again) = pairs
    assert torch.equal(real, x)
    assert torch.equal(real_again, x)
    assert torch.equal(z_x, z_x_again)
    assert torch.equal(z_fake, z)
    assert torch.equal(z_again, z)
    assert torch.allclose(fake, model.generate(z), atol=1e-6)
    assert torch.equal(fake, fake_again)


def fakes_of(noise: float, monkeypatch) -> tuple[Model, list[Tensor], list[Tensor]]:
    """The generated images that critic and generator judge in a step, and its z: the model, [x_fake], [z]."""
    model = build("joint_vae_ebm", noise=noise)
    pairs: list[tuple[Tensor, Tensor]] = []
    model.critic.register_forward_hook(lambda critic, pair, f: pairs.append(tuple(part.detach() for part in pair)))
    still(model, monkeypatch)
    torch.manual_seed(5)
    model.step(images(64), 0)
    return model, [pairs[1][0], pairs[3][0]], [pairs[1][1], pairs[3][1]]


def test_noise_of_eqn_18(monkeypatch):
    """x_fake = g(z) + sigma e, one draw for critic and generator; e is white and independent of z."""
    model, (fake, fake_again), (z, _) = fakes_of(0.3, monkeypatch)
    assert torch.equal(fake, fake_again)
    e = (fake - model.generate(z).detach()) / 0.3
    assert e.mean().item() == pytest.approx(0, abs=0.02)
    assert e.std().item() == pytest.approx(1, abs=0.02)
    assert (e[:, :, 1:] * e[:, :, :-1]).mean().item() == pytest.approx(0, abs=0.02)
    assert torch.equal(fake, fakes_of(0.3, monkeypatch)[1][0])  # a function of the seed


def test_by_default_images_have_no_noise(monkeypatch):
    """The text below Eqn 18: x_fake is taken from the generator directly."""
    assert joint_vae_ebm.Hparams().noise == 0
    model, (fake, _), (z, _) = fakes_of(joint_vae_ebm.Hparams().noise, monkeypatch)
    assert torch.allclose(fake, model.generate(z), atol=1e-6)


@pytest.mark.parametrize("blind_to, low, high", [("z", 0, 0), ("x", 0.9, 1.4)])
def test_a_step_reports_how_much_f_uses_z(blind_to, low, high, monkeypatch):
    """0 where f is f(x); where it is f(z), about the 1.13 of a normal distribution."""
    model = build("joint_vae_ebm")
    weight = model.critic.joint[0].parametrizations.weight.original  # its inputs are x's features, then z's
    x_features, z_features = weight.detach().chunk(2, dim=1)
    (z_features if blind_to == "z" else x_features).zero_()
    still(model, monkeypatch)
    assert low <= model.step(images(64), 0)["use_of_z"].item() <= high


# Divergence triangle


def gradients_of(optimizers: dict, into: dict[str, list[Tensor]]) -> None:
    """Record every optimiser's gradients just before it moves."""
    for name, optimizer in optimizers.items():

        def record(optimizer, *_, name=name):
            into[name] = [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]

        optimizer.register_step_pre_hook(record)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_triangle_equals_the_plain_loop(layout):
    """Freezing changes no gradient and no weight: the same bits; channels_last rounds sums in another order."""
    stored = torch.from_numpy(noise_images(8, SHAPE))
    model = build("divergence_triangle", width=0.1)
    plain = PlainTriangle(model)
    model.to(memory_format=layout)
    theirs: dict[str, list[Tensor]] = {}
    ours: dict[str, list[Tensor]] = {}
    gradients_of(plain.optimizers, theirs)
    gradients_of(model.optimizers, ours)
    for name, rate in model.learning_rates(0).items():
        model.optimizers[name].param_groups[0]["lr"] = rate
    for t in range(2):
        torch.manual_seed(7 + t)
        plain.step(stored)
        torch.manual_seed(7 + t)
        model.step((stored.float() / 127.5 - 1).contiguous(memory_format=layout), t)
        for name in ("energy", "encoder", "generator"):
            a, b = (torch.cat([g.flatten() for g in source[name]]) for source in (ours, theirs))
            assert b.norm() > 0
            if layout is torch.contiguous_format:
                assert torch.equal(a, b), name
            elif t == 0:
                assert (a - b).norm() < 1e-2 * b.norm(), name
    if layout is torch.contiguous_format:
        for net, other in (("energy_net", "energy"), ("encoder", "encoder"), ("generator", "generator")):
            for p, q in zip(getattr(model, net).parameters(), getattr(plain, other).parameters()):
                assert torch.equal(p, q), net


@pytest.mark.parametrize("name", CLASSES)
def test_a_player_moves_only_its_own_network(name, monkeypatch):
    for player in build(name).optimizers:
        model = build(name)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        own = {p for group in model.optimizers[player].param_groups for p in group["params"]}
        still(model, monkeypatch, keep=player)
        model.step(images(), 0)
        for n, p in model.named_parameters():
            assert p in own or torch.equal(p, before[n]), f"{n} moves with {player}"
        assert any(not torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_triangle_losses(monkeypatch):
    monkeypatch.setattr(gaussian, "sample", lambda mu, logvar: mu)
    model = excited(build("divergence_triangle"))
    losses, x = still(model, monkeypatch), faint()
    torch.manual_seed(5)
    model.step(x, 0)
    torch.manual_seed(5)
    z = torch.randn(len(x), model.z_dim)
    x_fake = model.generate(z)
    mu, logvar = model.encoder(x)
    rec = (x - model.generate(mu)).square().sum((1, 2, 3)).mean()
    prior = Independent(Normal(torch.zeros(model.z_dim), 1.0), 1)
    kl = kl_divergence(Independent(Normal(mu, (logvar / 2).exp()), 1), prior).mean()
    mu_fake, logvar_fake = model.encoder(x_fake)
    density = Independent(Normal(mu_fake, (logvar_fake / 2).exp()), 1)
    latent = -density.log_prob(z).mean() - model.z_dim / 2 * math.log(2 * math.pi)
    real, fake = model.energy_net(x).mean(), model.energy_net(x_fake).mean()
    assert torch.allclose(losses["energy"], real - fake, atol=1e-6)
    assert torch.allclose(losses["encoder"], rec + kl / model.z_dim + 0.1 * latent, rtol=1e-4)
    assert torch.allclose(losses["generator"], rec + fake + 0.1 * latent, rtol=1e-4)


def test_auto_encoding_part_of_the_triangle_is_an_elbo(monkeypatch):
    """SSE + KL / d is, at d = 100, an ELBO with decoder variance 0.005, times 0.01: the loss of our VAE."""
    monkeypatch.setattr(gaussian, "sample", lambda mu, logvar: mu)
    triangle = excited(build("divergence_triangle", z_dim=100, latent_weight=0.0))
    auto_encoder = build("vae", z_dim=100)
    auto_encoder.generator.load_state_dict(triangle.generator.state_dict())
    auto_encoder.encoder.load_state_dict(triangle.encoder.state_dict())
    x = faint()
    ours, theirs = still(triangle, monkeypatch), still(auto_encoder, monkeypatch)
    triangle.step(x, 0)
    auto_encoder.step(x, 0)
    assert torch.allclose(ours["encoder"], theirs["vae"], rtol=1e-5)
    mu, logvar = triangle.encoder(x)
    sse = (x - triangle.generate(mu)).square().sum((1, 2, 3)).mean()
    elbo = sse / (2 * 0.005) + gaussian.kl_standard(mu, logvar).mean()
    assert torch.allclose(ours["encoder"], 0.01 * elbo, rtol=1e-5)


# Baselines


@pytest.mark.parametrize("variance", [0.005, 1.0])
def test_vae_loss(variance, monkeypatch):
    """2 s2 times the negative ELBO without its constant, from the densities themselves."""
    monkeypatch.setattr(gaussian, "sample", lambda mu, logvar: mu)
    model = excited(build("vae", decoder_variance=variance))
    losses, x = still(model, monkeypatch), faint()
    model.step(x, 0)
    mu, logvar = model.encoder(x)
    decoder = Independent(Normal(model.generate(mu), math.sqrt(variance)), 3)
    constant = x[0].numel() / 2 * math.log(2 * math.pi * variance)
    prior = Independent(Normal(torch.zeros(model.z_dim), 1.0), 1)
    kl = kl_divergence(Independent(Normal(mu, (logvar / 2).exp()), 1), prior)
    elbo = (decoder.log_prob(x) + constant - kl).mean()
    assert torch.allclose(losses["vae"], -2 * variance * elbo, rtol=1e-4)


def test_vae_energy_is_the_negative_elbo():
    model = excited(build("vae")).eval()
    x = faint()
    mu, logvar = model.encoder(x)
    expected = (x - model.generate(mu)).square().sum((1, 2, 3)) / 0.01 + gaussian.kl_standard(mu, logvar)
    assert torch.allclose(model.energy(x), expected)


def test_dcgan_losses(monkeypatch):
    model = build("dcgan")
    losses, x = still(model, monkeypatch), images()
    torch.manual_seed(5)
    model.step(x, 0)
    torch.manual_seed(5)
    real = model.discriminator(x)
    fake = model.discriminator(model.generate(torch.randn(len(x), model.z_dim)))
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    assert torch.allclose(losses["discriminator"], bce(real, ones) + bce(fake, zeros))
    assert torch.allclose(losses["generator"], bce(fake, ones))


# Orientation: energies fall on data


@pytest.mark.parametrize("name, critic", [("divergence_triangle", "energy"), ("joint_vae_ebm", "critic")])
def test_critic_lowers_the_energy_of_data(name, critic, monkeypatch):
    """Only the critic moves: data separate from the generator's images with the data low, and so do their scores."""
    lr = "lr_energy" if critic == "energy" else "lr_critic"
    model = build(name, (1, 28, 28), **{lr: 1e-3})
    still(model, monkeypatch, keep=critic)
    data = torch.from_numpy(bright(16)).float() / 127.5 - 1
    z = torch.randn(16, model.z_dim)

    def gap() -> float:
        model.eval()
        with torch.no_grad():
            value = model.energy(data).mean() - model.energy(model.generate(z)).mean()
        model.train()
        return value.item()

    before = gap()
    for t in range(30):
        model.step(data, t)
    assert gap() < min(before, 0.0) - 10
    model.eval()
    fakes = ((model.generate(z).detach() + 1) * 127.5).round().to(torch.uint8).numpy()
    assert anomaly.scores(model, fakes)["energy"].mean() > anomaly.scores(model, bright(16))["energy"].mean()


@pytest.mark.parametrize("name", ["divergence_triangle", "joint_vae_ebm"])
def test_generator_lowers_the_energy_of_its_images(name, monkeypatch):
    """Its adversarial term alone, against a critic at rest that tells bright from grey."""
    triangle = name == "divergence_triangle"
    weights = {"elbo_weight": 0.0, "latent_weight": 0.0} if triangle else {"rec_weight": 0.0}
    critic = "energy" if triangle else "critic"
    model = build(name, (1, 28, 28), **weights)
    for group in model.optimizers[critic].param_groups:
        group["lr"] = 1e-3
    descend = model.descend
    data = torch.from_numpy(bright(16)).float() / 127.5 - 1
    still(model, monkeypatch, keep=critic)
    for t in range(30):
        model.step(data, t)
    monkeypatch.setattr(model, "descend", descend)
    still(model, monkeypatch, keep="generator")
    brightness = model.generate(torch.randn(64, model.z_dim)).mean().item()
    for t in range(60):
        model.step(data, t)
    assert model.generate(torch.randn(64, model.z_dim)).mean().item() > brightness + 0.05


def test_vae_finds_strange_images_strange():
    model = build("vae", (1, 28, 28))
    data = torch.from_numpy(bright(32)).float() / 127.5 - 1
    for t in range(60):
        model.step(data, t)
    model.eval()
    for kind in ("energy", "sse"):
        usual = anomaly.scores(model, bright(32))[kind]
        strange = anomaly.scores(model, 255 - bright(32))[kind]
        assert strange.min() > usual.max(), kind
