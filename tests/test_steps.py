"""Every system's iterations written out from its paper, beside the model's own: the same terms, the same weights.

The plain versions share the model's networks and nothing else: losses are spelled out, gradients are asked for by
`torch.autograd.grad`, and no hyperparameter has its default, 0 or 1. All draws come in the model's order from its seed.
"""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, softplus
from torch.nn.utils import parametrize
from torch.optim import Adam, Optimizer, RMSprop

from baselines import ali, alice, bigan, cegan, coopnet, dcgan, igebm, meg, sngan, svae, vae, wake_sleep, wgan
from dtri.model import Model
from dtri.models import divergence_triangle, divergence_triangle_progressive, joint_vae_ebm
from tests.toys import image_batch

SHAPE = (1, 28, 28)
B, D = 6, 5
BETAS = {"beta1": 0.3, "beta2": 0.95}
GAMMA = {"gamma": 0.8, "gamma_every": 2}

Terms = dict[str, Tensor]
Step = Callable[[Tensor, int], Terms]


class Player:
    """Networks that one optimiser moves, along the gradient of a loss by their parameters alone."""

    def __init__(
        self,
        networks: Iterable[nn.Module],
        lr: float,
        clip: float | None = None,
        make: Callable[..., Optimizer] = Adam,
        **options: Any,
    ):
        self.params = [p for network in networks for p in network.parameters()]
        options = {"betas": (BETAS["beta1"], BETAS["beta2"]), **options} if make is Adam else options
        self.optimizer, self.lr, self.clip = make(self.params, lr, **options), lr, clip

    def down(self, loss: Tensor, factor: float = 1.0) -> None:
        """One step at `factor` times the learning rate."""
        gradients = torch.autograd.grad(loss, self.params, retain_graph=True)
        if self.clip is not None:
            norm = torch.cat([g.flatten() for g in gradients]).norm()
            gradients = [g * min(1.0, self.clip / (norm.item() + 1e-6)) for g in gradients]
        self.move(gradients, factor)

    def move(self, gradients: Iterable[Tensor], factor: float = 1.0) -> None:
        for p, gradient in zip(self.params, gradients, strict=True):
            p.grad = gradient
        self.optimizer.param_groups[0]["lr"] = factor * self.lr
        self.optimizer.step()
        for p in self.params:
            p.grad = None


def follow(model: Model, by_hand: Callable[[Any], Step], iterations: Iterable[int] = range(4)) -> None:
    """Some iterations of `model` beside those that `by_hand` makes of a copy of it: equal terms, weights, averages.

    Each starts from the model's weights, so that rounding does not add up.
    """
    twin = copy.deepcopy(model)
    step = by_hand(twin)
    for t in iterations:
        x = image_batch(B, model.image_shape).roll(t, 3)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for name, rate in model.learning_rates(t).items():
            for group in model.optimizers[name].param_groups:
                group["lr"] = rate
        model.begin(t)
        torch.manual_seed(100 + t)
        found = model.step(x, t)
        torch.manual_seed(100 + t)
        expected = step(x, t)
        assert found.keys() == expected.keys()
        for name, term in expected.items():
            assert found[name].item() == pytest.approx(term.item(), rel=1e-4, abs=1e-5), (t, name)
        by_name = twin.state_dict()
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and name != "alpha":
                off, moved = (tensor - by_name[name]).norm(), (tensor - before[name]).norm()
                assert off <= 0.01 * moved + 1e-6, (t, name, off, moved)
                by_name[name].copy_(tensor)


def build(module: Any, name: str, shape: tuple[int, int, int] = SHAPE, **hparams: Any) -> Model:
    """With scores and posteriors far from 0, so that every term counts."""
    torch.manual_seed(1)
    model = getattr(module, name)(shape, module.Hparams(**{"width": 0.05, **hparams})).train()
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.Conv2d | nn.Linear) and not parametrize.is_parametrized(part):
                part.weight.mul_(3)
                if part.bias is not None:
                    part.bias.normal_(0.0, 0.3)
    return model


def normal(n: int = B) -> Tensor:
    return torch.randn(n, D)


def drawn(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + (logvar / 2).exp() * torch.randn_like(mu)


def nll(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (logvar + (z - mu) ** 2 / (logvar.exp() + 1e-6)).sum(1).mean() / 2


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean() / 2


def sse(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).pow(2).sum((1, 2, 3)).mean()


def untracked(network: nn.Module, *given: Tensor) -> Any:
    """A pass in training whose batch statistics are forgotten."""
    kept = {name: tensor.clone() for name, tensor in network.named_buffers()}
    made = network(*given)
    for name, tensor in network.named_buffers():
        tensor.data = kept[name]  # the graph of the pass keeps what it saw
    return made


def rate(t: int) -> float:
    return GAMMA["gamma"] ** (t // GAMMA["gamma_every"] + 1)


# The papers' systems


@pytest.mark.parametrize("batch_norm", [False, True])
def test_divergence_triangle(batch_norm: bool) -> None:
    lrs = {"lr_energy": 1e-3, "lr_generator": 2e-3, "lr_encoder": 3e-3}
    weights = {"elbo_weight": 0.7, "latent_weight": 0.3, "clip_norm": 2.0, "generator_steps": 2, "weight_decay": 0.05}
    h = {"z_dim": D, "batch_norm": batch_norm, **lrs, **BETAS, **GAMMA, **weights}

    def by_hand(m) -> Step:
        energy, encoder = Player([m.energy_net], 1e-3, 2.0), Player([m.encoder], 3e-3, 2.0)
        generator = Player([m.generator], 2e-3, 2.0, weight_decay=0.05)

        def step(x: Tensor, t: int) -> Terms:
            z = normal()
            x_fake = m.generator(z)
            real, fake = m.energy_net(x).mean(), m.energy_net(x_fake.detach()).mean()
            energy.down(real - fake, rate(t))
            mu, logvar = m.encoder(x)
            rec = sse(x, m.generator(drawn(mu, logvar)))
            latent = nll(z, *untracked(m.encoder, x_fake.detach()))
            encoder.down(0.7 * (rec + kl(mu, logvar) / D) + 0.3 * latent, rate(t))
            for again in (False, True):
                x_fake = m.generator(z) if again else x_fake
                rec = sse(x, m.generator(drawn(*m.encoder(x)).detach()))
                adversarial, latent = m.energy_net(x_fake).mean(), nll(z, *untracked(m.encoder, x_fake))
                generator.down(0.7 * rec + adversarial + 0.3 * latent, rate(t))
            terms = {"energy_real": real, "energy_fake": fake, "rec": rec, "kl_per_dim": kl(mu, logvar) / D}
            return {**terms, "latent_nll": latent, "logvar": logvar.mean()}

        return step

    follow(build(divergence_triangle, "DivergenceTriangle", **h), by_hand)


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("kl_sign", ["minus", "plus"])
def test_joint_vae_ebm(kl_sign: str, noise: float) -> None:
    weights = {"rec_weight": 0.002, "prior_weight": 0.3, "energy_weight": 0.6, "entropy_weight": 0.4}
    weights |= {"clip_norm": 0.02}
    lrs = {"lr_critic": 1e-3, "lr_generator": 2e-3, "lr_encoder": 3e-3}
    h = {
        "kl_sign": kl_sign,
        "noise": noise,
        "z_dim": D,
        "logvar_range": (-1.0, 0.5),
        **lrs,
        **BETAS,
        **GAMMA,
        **weights,
    }

    def by_hand(m) -> Step:
        players = [
            Player([network], lr, 0.02) for network, lr in ((m.critic, 1e-3), (m.encoder, 3e-3), (m.generator, 2e-3))
        ]
        critic, encoder, generator = players

        def step(x: Tensor, t: int) -> Terms:
            z = normal()
            x_fake = m.generator(z)
            x_fake = x_fake + noise * torch.randn_like(x_fake) if noise else x_fake
            mu, logvar = m.encoder(x)
            z_x = drawn(mu, logvar)
            f_real, f_fake = m.critic(x, z_x.detach()).mean(), m.critic(x_fake.detach(), z).mean()
            m.critic.eval()
            f, other = m.critic(x, z_x), m.critic(x, z_x.roll(1, 0))
            m.critic.train()
            use_of_z = (f - other).abs().mean() / f.std(correction=0)
            critic.down(f_fake - f_real, rate(t))
            f, prior = m.critic(x, z_x).mean(), (mu**2 + logvar.exp()).sum(1).mean() / 2
            loss = 0.002 * sse(x, m.generator(z_x)) + 0.3 * prior
            loss = loss + 0.6 * f if kl_sign == "minus" else loss - 0.6 * f - 0.4 * logvar.sum(1).mean() / 2
            encoder.down(loss, rate(t))
            rec = sse(x, m.generator(z_x.detach()))
            generator.down(0.002 * rec - 0.6 * m.critic(x_fake, z).mean(), rate(t))
            terms = {"f_real": f_real, "f_fake": f_fake, "use_of_z": use_of_z, "rec": rec, "prior": prior}
            return {**terms, "logvar": logvar.mean()}

        return step

    follow(build(joint_vae_ebm, "JointVAEEBM", **h), by_hand)


def test_the_grown_triangle() -> None:
    """While 8 pixels fade in, alone, and while 16 fade in: level, alpha and the weight of the error by hand."""
    sizes = {"fade_kimg": 0.018, "stable_kimg": 0.012, "batch_sizes": (B,) * 9, "start_side": 4}
    lrs = {"lr_energy": 1e-3, "lr_generator": 2e-3, "lr_encoder": 3e-3}
    weights = {"rec_weight": 0.1, "rec_side": 16, "latent_weight": 0.3, "clip_norm": 5.0}
    shown = {2: (1, 0.0), 3: (1, 1 / 3), 4: (1, 2 / 3), 5: (1, None), 7: (2, 0.0), 8: (2, 1 / 3)}  # t: (level, alpha)

    def by_hand(m) -> Step:
        networks = ((m.energy_net, 1e-3), (m.encoder, 3e-3), (m.generator, 2e-3))
        players: dict[tuple, list[Player]] = {}

        def step(x: Tensor, t: int) -> Terms:
            level, a = shown[t]
            now = (level, None if a is None else torch.tensor(a))
            key = level, a is None  # a phase; its optimisers begin without memory
            energy, encoder, generator = players.setdefault(key, [GrownPlayer([n], lr, 5.0) for n, lr in networks])
            x = avg_pool2d(x, 32 // (4 * 2**level))
            if a is not None:
                x = (1 - a) * interpolate(avg_pool2d(x, 2), scale_factor=2) + a * x
            x = torch.where(torch.rand(B, 1, 1, 1) < 0.5, x.flip(3), x)
            z, weight = normal(), 0.1 * (16 / (4 * 2**level)) ** 2
            x_fake = m.generator(z, *now)
            real, fake = m.energy_net(x, *now).mean(), m.energy_net(x_fake.detach(), *now).mean()
            energy.down(real - fake)
            mu, logvar = m.encoder(x, *now)
            rec, divergence = sse(x, m.generator(drawn(mu, logvar), *now)), kl(mu, logvar) / D
            encoder.down(weight * rec + divergence + 0.3 * nll(z, *m.encoder(x_fake.detach(), *now)))
            rec = sse(x, m.generator(drawn(*m.encoder(x, *now)).detach(), *now))
            latent = nll(z, *m.encoder(x_fake, *now))
            generator.down(weight * rec + m.energy_net(x_fake, *now).mean() + 0.3 * latent)
            terms = {"energy_real": real, "energy_fake": fake, "rec": rec, "kl_per_dim": divergence}
            return {**terms, "latent_nll": latent, "logvar": logvar.mean()}

        return step

    class GrownPlayer(Player):
        """Layers of other levels have no gradient."""

        def down(self, loss: Tensor, factor: float = 1.0) -> None:
            found = torch.autograd.grad(loss, self.params, retain_graph=True, allow_unused=True)
            norm = torch.cat([g.flatten() for g in found if g is not None]).norm().item()
            self.move([None if g is None else g * min(1.0, self.clip / (norm + 1e-6)) for g in found], factor)

    torch.manual_seed(1)
    h = divergence_triangle_progressive.Hparams(z_dim=D, width=0.02, mirror=True, **sizes, **lrs, **weights, **BETAS)
    model = divergence_triangle_progressive.ProgressiveTriangle((3, 32, 32), h).train()
    for level in shown:
        assert (model.phase_at(level).level, model.phase_at(level).fading) == (
            shown[level][0],
            shown[level][1] is not None,
        )
    follow(model, by_hand, shown)


# Baselines with an encoder


def test_vae() -> None:
    h = {"z_dim": D, "decoder_variance": 0.2, "lr": 2e-3, **BETAS, **GAMMA}

    def by_hand(m) -> Step:
        player = Player([m], 2e-3)

        def step(x: Tensor, t: int) -> Terms:
            mu, logvar = m.encoder(x)
            rec, divergence = sse(x, m.generator(drawn(mu, logvar))), kl(mu, logvar)
            player.down(rec + 2 * 0.2 * divergence, rate(t))
            return {"rec": rec, "kl": divergence, "logvar": logvar.mean()}

        return step

    follow(build(vae, "VAE", **h), by_hand)


def test_wake_sleep() -> None:
    h = {"z_dim": D, "lr": 2e-3, **BETAS, **GAMMA}

    def by_hand(m) -> Step:
        generator, encoder = Player([m.generator], 2e-3), Player([m.encoder], 2e-3)

        def step(x: Tensor, t: int) -> Terms:
            rec = sse(x, m.generator(drawn(*m.encoder(x)).detach()))
            generator.down(rec, rate(t))
            z = normal()
            mu, logvar = m.encoder(m.generator(z).detach())
            encoder.down(nll(z, mu, logvar), rate(t))
            return {"rec": rec, "latent_nll": nll(z, mu, logvar), "logvar": logvar.mean()}

        return step

    follow(build(wake_sleep, "WakeSleep", **h), by_hand)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_ali(batch_norm: bool) -> None:
    """Both kinds of pairs in one batch; both gradients at the weights before the step."""
    h = {"z_dim": D, "lr": 2e-3, "dropout": 0.3, "critic_batch_norm": batch_norm, **BETAS}

    def by_hand(m) -> Step:
        critic, maps = Player([m.critic], 2e-3), Player([m.encoder, m.generator], 2e-3)

        def step(x: Tensor, t: int) -> Terms:
            z = normal()
            x_fake = m.generator(z)
            mu, logvar = m.encoder(x)
            pairs = torch.cat([x, x_fake]), torch.cat([drawn(mu, logvar), z])
            real, fake = m.critic(*pairs).split(B)
            loss = softplus(real).mean() + softplus(-fake).mean()
            maps.down(loss)
            a, b = m.critic(*(part.detach() for part in pairs)).split(B)
            loss_critic = softplus(-a).mean() + softplus(b).mean()
            critic.down(loss_critic)
            terms = {"loss_critic": loss_critic, "loss_maps": loss, "a_real": real.mean(), "a_fake": fake.mean()}
            return {**terms, "logvar": logvar.mean()}

        return step

    follow(build(ali, "ALI", **h), by_hand)


@pytest.mark.parametrize("module, name", [(alice, "ALICE"), (svae, "SVAE")], ids=["alice", "svae"])
def test_alice_and_svae(module: Any, name: str) -> None:
    """They differ in the adversarial term alone: of probabilities, of logits."""
    h = {"z_dim": D, "lr": 2e-3, "critic_steps": 2, "cycle_weight": 0.4, **BETAS}
    taken = torch.sigmoid if module is alice else lambda a: a

    def by_hand(m) -> Step:
        critic, maps = Player([m.critic], 2e-3), Player([m.encoder, m.generator], 2e-3)

        def step(x: Tensor, t: int) -> Terms:
            z = normal()
            x_fake = m.generator(z)
            mu, logvar = m.encoder(x)
            z_x = drawn(mu, logvar)
            for _ in range(2):
                a, b = m.critic(x, z_x.detach()), m.critic(x_fake.detach(), z)
                loss_critic = softplus(-a).mean() + softplus(b).mean()
                critic.down(loss_critic)
            real, fake = m.critic(x, z_x), m.critic(x_fake, z)
            adversarial = taken(real).mean() - taken(fake).mean()
            cycle_x = (x - m.generator(z_x)).abs().mean()
            cycle_z = (z - drawn(*untracked(m.encoder, x_fake))).abs().mean()
            maps.down(adversarial + 0.4 * cycle_x + 0.4 * cycle_z)
            terms = {"loss_critic": loss_critic, "adversarial": adversarial, "cycle_x": cycle_x, "cycle_z": cycle_z}
            return {**terms, "a_real": real.mean(), "a_fake": fake.mean(), "logvar": logvar.mean()}

        return step

    follow(build(module, name, **h), by_hand)


def test_bigan() -> None:
    h = {"z_dim": D, "lr": 2e-3, "dropout": 0.3, **BETAS}

    def by_hand(m) -> Step:
        critic, maps = Player([m.critic], 2e-3), Player([m.encoder, m.generator], 2e-3)

        def step(x: Tensor, t: int) -> Terms:
            z = normal()
            z_x, x_fake = m.encoder(x).detach(), m.generator(z).detach()
            a, b = m.critic(x, z_x), m.critic(x_fake, z)
            loss_critic = softplus(-a).mean() + softplus(b).mean()
            critic.down(loss_critic)
            z = normal()
            z_x, x_fake = m.encoder(x), m.generator(z)
            real, fake = m.critic(x, z_x), m.critic(x_fake, z)
            loss = softplus(real).mean() + softplus(-fake).mean()
            maps.down(loss)
            return {"loss_critic": loss_critic, "loss_maps": loss, "a_real": real.mean(), "a_fake": fake.mean()}

        return step

    follow(build(bigan, "BiGAN", **h), by_hand)


# Baselines without


def test_dcgan() -> None:
    def by_hand(m) -> Step:
        discriminator, generator = Player([m.discriminator], 2e-3), Player([m.generator], 2e-3)

        def step(x: Tensor, t: int) -> Terms:
            x_fake = m.generator(normal())
            loss_d = softplus(-m.discriminator(x)).mean() + softplus(m.discriminator(x_fake.detach())).mean()
            discriminator.down(loss_d)
            loss_g = softplus(-m.discriminator(x_fake)).mean()
            generator.down(loss_g)
            return {"loss_discriminator": loss_d, "loss_generator": loss_g}

        return step

    follow(build(dcgan, "DCGAN", z_dim=D, lr=2e-3, **BETAS), by_hand)


@pytest.mark.parametrize("loss", ["softplus", "hinge"])
def test_sngan(loss: str) -> None:
    one_sided = softplus if loss == "softplus" else lambda a: (1 + a).clamp(min=0)

    def by_hand(m) -> Step:
        discriminator, generator = Player([m.discriminator], 2e-3), Player([m.generator], 2e-3)

        def step(x: Tensor, t: int) -> Terms:
            x_fake = m.generator(normal())
            loss_d = one_sided(-m.discriminator(x)).mean() + one_sided(m.discriminator(x_fake.detach())).mean()
            discriminator.down(loss_d)
            a = m.discriminator(x_fake)
            loss_g = softplus(-a).mean() if loss == "softplus" else -a.mean()
            generator.down(loss_g)
            return {"loss_discriminator": loss_d, "loss_generator": loss_g}

        return step

    follow(build(sngan, "SNGAN", loss=loss, z_dim=D, lr=2e-3, **BETAS), by_hand)


@pytest.mark.parametrize("lipschitz", ["clip", "penalty"])
def test_wgan(lipschitz: str) -> None:
    """Weights are cut after the critic's step; the generator moves at every second one."""
    clipped = lipschitz == "clip"
    h = {"lipschitz": lipschitz, "z_dim": D, "lr": 2e-3, "clip": 0.03, "penalty_weight": 3.0, "n_critic": 2, **BETAS}

    def by_hand(m) -> Step:
        make = RMSprop if clipped else Adam
        critic, generator = Player([m.critic], 2e-3, make=make), Player([m.generator], 2e-3, make=make)

        def step(x: Tensor, t: int) -> Terms:
            x_fake = m.generator(normal()).detach()
            real, fake = m.critic(x).mean(), m.critic(x_fake).mean()
            terms, loss = {"f_real": real, "f_fake": fake}, fake - real
            if not clipped:
                e = torch.rand(B, 1, 1, 1)
                between = (e * x + (1 - e) * x_fake).requires_grad_()
                (gradient,) = torch.autograd.grad(m.critic(between).sum(), between, create_graph=True)
                terms["penalty"] = ((gradient**2).sum((1, 2, 3)).sqrt() - 1).pow(2).mean()
                loss = loss + 3.0 * terms["penalty"]
            critic.down(loss)
            if clipped:
                for p in m.critic.parameters():
                    p.data = p.data.clamp(-0.03, 0.03)
            if t in (1, 3):
                generator.down(-m.critic(m.generator(normal())).mean())
            return terms

        return step

    follow(build(wgan, "WGAN", **h), by_hand)


@pytest.mark.parametrize("shape", [SHAPE, (3, 32, 32)], ids=["28", "32"])
def test_meg(shape: tuple[int, int, int]) -> None:
    h = {"z_dim": D, "lr": 2e-3, "penalty_weight": 3.0, "n_energy": 2, **BETAS}

    def by_hand(m) -> Step:
        energy, generator = Player([m.energy_net], 2e-3), Player([m.generator, m.statistics], 2e-3)

        def step(x: Tensor, t: int) -> Terms:
            x_fake = m.generator(normal()).detach()
            real, fake = m.energy_net(x).mean(), m.energy_net(x_fake).mean()
            leaf = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(m.energy_net(leaf).sum(), leaf, create_graph=True)
            penalty = (gradient**2).sum(1).mean()
            energy.down(real - fake + 3.0 * penalty)
            if t in (1, 3):
                z = normal()
                x_fake = m.generator(z)
                adversarial = m.energy_net(x_fake).mean()
                own, other = m.statistics(x_fake, z, z[torch.randperm(B)])
                generator.down(adversarial + (softplus(-own).mean() + softplus(other).mean()) / 2)
            return {"energy_real": real, "energy_fake": fake, "penalty": penalty}

        return step

    follow(build(meg, "MEG", shape, **h), by_hand)


@pytest.mark.parametrize("bounded", [True, False])
def test_cegan(bounded: bool) -> None:
    """All three at the weights before the step; rates fall from iteration 1 to iteration 5."""
    lrs = {"lr_generator": 2e-3, "lr_critic": 1e-3, "lr_encoder": 3e-3, "decay_from": 1, "decay_until": 5}
    weights = {"entropy_weight": 0.3, "score_weight": 0.2, "weights_weight": 0.1, "clip_norm": 0.5}
    energy = (lambda s: softplus(-s)) if bounded else (lambda s: -s)
    left = [1.0, 1.0, 0.75, 0.5]

    def by_hand(m) -> Step:
        generator = Player([m.generator], 2e-3, 0.5, weight_decay=0.2)
        critic, encoder = Player([m.critic], 1e-3, 0.5, weight_decay=0.2), Player([m.encoder], 3e-3, 0.5)

        def step(x: Tensor, t: int) -> Terms:
            u = torch.special.ndtr(normal()) * 2 - 1
            x_fake = m.generator(u)
            latent = nll(u, *m.encoder(x_fake))
            generator.down(energy(m.critic(x_fake)).mean() + 0.3 * latent, left[t])
            s_real, s_fake = m.critic(x), m.critic(x_fake.detach())
            real, fake = energy(s_real).mean(), energy(s_fake).mean()
            square = (s_real**2).mean() + (s_fake**2).mean()
            critic.down(real - fake + 0.2 * square, left[t])
            mu, logvar = m.encoder(x_fake.detach())
            encoder.down(0.3 * nll(u, mu, logvar), left[t])
            terms = {"energy_real": real, "energy_fake": fake, "score_square": square, "latent_nll": latent}
            return {**terms, "logvar": logvar.mean()}

        return step

    follow(build(cegan, "CEGAN", bounded=bounded, z_dim=D, **lrs, **weights, **BETAS), by_hand)


def test_coopnet() -> None:
    h = {"z_dim": D, "chains": 4, "langevin_steps": 3, "langevin_scale": 0.1, "reference_std": 0.3}
    h |= {"generator_std": 0.4, "lr_descriptor": 1e-3, "lr_generator": 2e-3, **BETAS}

    def by_hand(m) -> Step:
        descriptor, generator = Player([m.descriptor], 1e-3), Player([m.generator], 2e-3)

        def step(x: Tensor, t: int) -> Terms:
            x_fake = m.generator(normal(4))
            y = x_fake.detach()
            for _ in range(3):
                noise, y = torch.randn_like(y), y.requires_grad_()
                (gradient,) = torch.autograd.grad(m.descriptor(y).sum(), y)
                y = y.detach() - 0.1**2 / 2 * (y.detach() / 0.3**2 - gradient) + 0.1 * noise
            real, revised = m.descriptor(x).mean(), m.descriptor(y).mean()
            descriptor.down(revised - real)
            distance = sse(y, x_fake)
            generator.down(distance / (2 * 0.4**2))
            return {"f_real": real, "f_revised": revised, "distance": distance}

        return step

    follow(build(coopnet, "CoopNet", **h), by_hand)


@pytest.mark.parametrize("shape", [SHAPE, (3, 32, 32)], ids=["28", "32"])
def test_igebm(shape: tuple[int, int, int]) -> None:
    """Pixels in [0, 1] as in the code; the replay buffer is a dictionary; Adam's gradients cut by their own spread."""
    h = {"dropout": 0.3, "langevin_steps": 3, "step_size": 4.0, "noise": 0.02, "gradient_clip": 0.01}
    h |= {"buffer_size": 10, "reinit": 0.3, "energy_l2": 0.6, "lr": 2e-3, **BETAS}

    def by_hand(m) -> Step:
        net, player, buffer, stored = m.energy_net, Player([m.energy_net], 2e-3), {}, 0
        squares, beta2 = [torch.zeros_like(p) for p in player.params], BETAS["beta2"]

        def dequantised(levels: Tensor) -> Tensor:
            x = levels / 127.5 - 1
            return (x + (2 * torch.rand_like(x) - 1) / 255 + 1) / 2

        def step(x: Tensor, t: int) -> Terms:
            nonlocal stored
            index = (torch.rand(B, dtype=torch.float64) * len(buffer)).long()
            fresh, grey = torch.rand(B), torch.randint(256, x.shape, dtype=torch.uint8)
            old = [
                buffer[i.item()] if buffer and u >= 0.3 else noise
                for i, u, noise in zip(index, fresh, grey, strict=True)
            ]
            with parametrize.cached():
                y = dequantised(torch.stack(old).float())
                for _ in range(3):
                    y = (y + 0.02 * torch.randn_like(y)).requires_grad_()
                    (gradient,) = torch.autograd.grad(net(y).sum(), y)
                    y = (y.detach() - 4.0 * gradient.clamp(-0.01, 0.01)).clamp(0, 1)
                real, fake = net(dequantised((x + 1) * 127.5)), net(y)
                square = (real**2 + fake**2).mean()
                gradients = torch.autograd.grad(real.mean() - fake.mean() + 0.6 * square, player.params)
            cut = []
            for k, gradient in enumerate(gradients):
                bound = 0.1 + (3 * (squares[k] / (1 - beta2 ** (t + 1))).sqrt() if t else 0.0)
                cut.append(torch.minimum(torch.maximum(gradient, -torch.as_tensor(bound)), torch.as_tensor(bound)))
                squares[k] = beta2 * squares[k] + (1 - beta2) * cut[k] ** 2
            player.move(cut)
            buffer.update({(stored + k) % 10: image for k, image in enumerate((255 * y).round().to(torch.uint8))})
            stored += B
            return {"energy_real": real.mean(), "energy_fake": fake.mean(), "energy_l2": square}

        return step

    follow(build(igebm, "IGEBM", shape, **h), by_hand)


def test_the_plain_noise_has_the_stream_of_the_model() -> None:
    """Two ways to draw the same numbers, which the plain versions mix."""
    torch.manual_seed(0)
    first = torch.empty(3, 4, 5).normal_()
    torch.manual_seed(0)
    assert torch.equal(first, torch.randn_like(first))
    assert math.isclose(torch.special.ndtr(torch.tensor(1.0)).item(), (1 + math.erf(2**-0.5)) / 2, rel_tol=1e-6)
