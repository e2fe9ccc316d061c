"""ALI, ALICE and SVAE, and what they share with BiGAN: losses on pairs, orientation of critic and maps, their order."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from baselines import ali, alice, bigan, svae
from dtri import anomaly
from dtri.model import Model
from dtri.networks.additive_critic import AdditiveCritic
from dtri.networks.joint_critic import JointCritic
from dtri.objectives import gaussian, pairs
from dtri.objectives.absolute import l1_mean, l1_norm
from tests.toys import bright, image_batch, still

SHAPE = (1, 28, 28)
CLASSES = {"ali": ali.ALI, "alice": alice.ALICE, "svae": svae.SVAE, "bigan": bigan.BiGAN}
MODULES = {"ali": ali, "alice": alice, "svae": svae, "bigan": bigan}
QUIET = {"ali": {"dropout": 0.0}, "bigan": {"dropout": 0.0}}  # the same logits at every call
NO_CYCLES = {"alice": {"cycle_weight": 0.0}, "svae": {"cycle_weight": 0.0}}

every_system = pytest.mark.parametrize("name", CLASSES)


def build(name: str, **hparams) -> Model:
    torch.manual_seed(1)
    h = {"width": 0.05, "z_dim": 10, **QUIET.get(name, {}), **hparams}
    return CLASSES[name](SHAPE, MODULES[name].Hparams(**h)).train()


def loud(model: Model) -> Model:
    """The model with a critic whose logits are of order one, so that a swapped pair of them shows."""
    with torch.no_grad():
        for layer in layers(model.critic, nn.Linear):
            layer.weight.mul_(20)
    return model


def layers(critic: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in critic.modules() if isinstance(layer, kind)]


def logits_of(model: Model) -> list[tuple[Tensor, Tensor]]:
    """Fills with (a_real, a_fake) of every update."""
    seen: list[tuple[Tensor, Tensor]] = []
    judge = model.judge

    def watched(*judged: Tensor) -> tuple[Tensor, Tensor]:
        logits = judge(*judged)
        seen.append(tuple(a.detach() for a in logits))
        return logits

    model.judge = watched
    return seen


# Losses


def test_swapped_labels_are_swapped():
    a, b = torch.randn(5), torch.randn(5)
    zeros, ones = torch.zeros(5), torch.ones(5)
    assert torch.allclose(pairs.swapped_labels(a, b), bce(a, zeros) + bce(b, ones))


def test_probabilities_and_logits():
    a, b = torch.tensor([0.0, 100.0]), torch.tensor([-100.0, -100.0])
    assert pairs.probabilities(a, b).item() == pytest.approx(0.75)  # mean of 1/2 and 1, less 0
    assert pairs.logits(a, b).item() == pytest.approx(150.0)


@pytest.mark.parametrize("loss", [pairs.swapped_labels, pairs.probabilities, pairs.logits])
def test_maps_gain_by_confusing_the_critic(loss):
    a, b = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    loss(a, b).backward()
    assert (a.grad > 0).all()
    assert (b.grad < 0).all()


def test_logits_loss_is_the_symmetric_divergence():
    """At the best critic a = log q - log p of two Gaussians: KL(q || p) + KL(p || q) by Monte Carlo."""
    q, p = torch.distributions.Normal(0.5, 1.0), torch.distributions.Normal(0.0, 1.5)
    x, y = q.sample((200_000,)), p.sample((200_000,))
    value = pairs.logits(q.log_prob(x) - p.log_prob(x), q.log_prob(y) - p.log_prob(y))
    kl = torch.distributions.kl_divergence
    assert value.item() == pytest.approx((kl(q, p) + kl(p, q)).item(), rel=0.02)


def test_absolute_errors():
    a, b = torch.zeros(2, 3, 4), torch.stack([torch.ones(3, 4), torch.full((3, 4), -2.0)])
    assert l1_mean(a, b).item() == pytest.approx(1.5)
    assert l1_norm(a, b).tolist() == [12.0, 24.0]


ADVERSARIAL = {  # what the maps minimise, from the papers, as functions of data-high logits
    "ali": lambda a, b: bce(a, torch.zeros_like(a)) + bce(b, torch.ones_like(b)),
    "bigan": lambda a, b: bce(a, torch.zeros_like(a)) + bce(b, torch.ones_like(b)),
    # In the released codes D = sigmoid(-a) labels generated pairs 1: -mean D(x, E(x)) + mean D(G(z), z).
    "alice": lambda a, b: -torch.sigmoid(-a).mean() + torch.sigmoid(-b).mean(),
    "svae": lambda a, b: -(-a).mean() + (-b).mean(),
}


@pytest.mark.parametrize("cycle_weight", [0.0, 3.0])
@every_system
def test_losses_of_a_step(name, cycle_weight, monkeypatch):
    """Against the papers' equations, draws of the posterior replaced by means."""
    monkeypatch.setattr(gaussian, "sample", lambda mu, logvar: mu)
    cycles = name in NO_CYCLES
    model = loud(build(name, **({"cycle_weight": cycle_weight} if cycles else {})))
    seen, losses, x = logits_of(model), still(model, monkeypatch), image_batch(8, SHAPE)
    torch.manual_seed(5)
    model.step(x, 0)
    first, second = seen
    (a_real, a_fake), maps = (second, first) if name == "ali" else (first, second)
    assert (a_real.mean() - a_fake.mean()).abs() > 0.05
    assert torch.allclose(losses["critic"], bce(a_real, torch.ones(8)) + bce(a_fake, torch.zeros(8)))
    expected = ADVERSARIAL[name](*maps)
    if cycles:
        torch.manual_seed(5)
        z = torch.randn(8, model.z_dim)
        x_fake = model.generate(z)
        cycle = (x - model.generate(model.infer(x))).abs().mean() + (z - model.infer(x_fake)).abs().mean()
        expected = expected + cycle_weight * cycle
    assert torch.allclose(losses["maps"], expected, atol=1e-5)


@every_system
def test_pairs_that_the_critic_sees(name, monkeypatch):
    """(x, E(x)) before (G(z), z), one drawn z per pair, in each update; ALI's in one batch."""
    monkeypatch.setattr(gaussian, "sample", lambda mu, logvar: mu)
    model = build(name)
    batches = []
    model.critic.register_forward_hook(lambda critic, pair, a: batches.append([part.detach() for part in pair]))
    still(model, monkeypatch)
    x = image_batch(8, SHAPE)
    model.step(x, 0)
    assert [len(seen) for seen, _ in batches] == ([16] * 2 if name == "ali" else [8] * 4)
    images, latents = (torch.cat(parts).chunk(2) for parts in zip(*batches))  # one chunk per update
    for seen, z in zip(images, latents):
        assert torch.equal(seen[:8], x)
        assert torch.allclose(z[:8], model.infer(x), atol=1e-5)
        assert torch.allclose(seen[8:], model.generate(z[8:]), atol=1e-5)
    assert torch.equal(latents[0][8:], latents[1][8:]) == (name != "bigan")  # EGBAD draws anew for the maps


@every_system
def test_statistics_of_the_two_kinds(name):
    """Two calls, each of one kind of pairs, except ALI's one batch."""
    model = build(name, **({"critic_batch_norm": True} if name == "ali" else {}))
    x, z_x, x_fake, z = image_batch(8, SHAPE), torch.randn(8, 10), -torch.ones(8, *SHAPE), torch.randn(8, 10)

    def alike() -> bool:
        torch.manual_seed(5)
        judged = model.judge(x, z_x, x_fake, z)
        torch.manual_seed(5)
        apart = model.critic(x, z_x), model.critic(x_fake, z)
        return all(torch.allclose(a, b, atol=1e-6) for a, b in zip(judged, apart))

    assert alike() == (name != "ali")
    model.eval()
    assert alike()


def test_alice_without_cycles_is_ali_up_to_the_form_of_one_term(monkeypatch):
    """The same critic loss for the same networks and batches; the maps' terms pull every logit the same way."""
    ours = build("alice", cycle_weight=0.0)
    theirs = build("ali", critic_batch_norm=True)
    ours.encoder, ours.generator, ours.critic = theirs.encoder, theirs.generator, theirs.critic
    monkeypatch.setattr(ali.ALI, "judge", alice.ALICE.judge)
    x = image_batch(8, SHAPE)
    found = {}
    for name, model in (("alice", ours), ("ali", theirs)):
        seen, losses = logits_of(model), still(model, monkeypatch)
        torch.manual_seed(5)
        model.step(x, 0)
        found[name] = losses, seen[-1]
    (alice_losses, logits), (ali_losses, same_logits) = found["alice"], found["ali"]
    assert all(torch.allclose(a, b) for a, b in zip(logits, same_logits))
    assert torch.allclose(alice_losses["critic"], ali_losses["critic"])
    assert torch.allclose(ali_losses["maps"], pairs.swapped_labels(*logits))
    assert torch.allclose(alice_losses["maps"], pairs.probabilities(*logits))
    a, b = (logit.clone().requires_grad_() for logit in logits)
    of_ali = torch.autograd.grad(pairs.swapped_labels(a, b), (a, b))
    of_alice = torch.autograd.grad(pairs.probabilities(a, b), (a, b))
    # d softplus = s and ds = s (1 - s): ALICE's pull is ALI's, damped where the critic is sure.
    assert torch.allclose(of_alice[0], of_ali[0] * torch.sigmoid(-a))
    assert torch.allclose(of_alice[1], of_ali[1] * torch.sigmoid(b))


@pytest.mark.parametrize("name, factor", [("svae", 10.0), ("alice", None)])
def test_svae_is_linear_in_the_logits(name, factor):
    """Ten times the critic, ten times SVAE's adversarial term; ALICE's is bounded by 1."""
    terms = []
    for scale in (1.0, 1e3, 1e4):
        model = build(name)
        with torch.no_grad():
            for last in (model.critic.h[-1], model.critic.k[-1]):
                last.weight.mul_(scale)
            model.critic.h[-1].bias.mul_(scale)
        torch.manual_seed(5)
        for group in (group for optimizer in model.optimizers.values() for group in optimizer.param_groups):
            group["lr"] = 0.0
        terms.append(model.step(image_batch(8, SHAPE), 0)["adversarial"].item())
    assert abs(terms[0]) > 1e-7
    if factor:
        assert terms[2] == pytest.approx(factor * terms[1], rel=1e-4)
    else:
        assert abs(terms[2]) <= 1


# Order of the updates


def critic_loss_of_first_step(name: str, monkeypatch, keep: str) -> dict[str, float]:
    model = build(name)
    for optimizer in model.optimizers.values():
        optimizer.param_groups[0]["lr"] = 1e-2
    losses = still(model, monkeypatch, keep=keep)
    torch.manual_seed(5)
    model.step(image_batch(8, SHAPE), 0)
    return {player: loss.item() for player, loss in losses.items()}


def test_ali_updates_simultaneously(monkeypatch):
    """Both gradients are those at the weights before the step, whoever moves."""
    rest = critic_loss_of_first_step("ali", monkeypatch, keep="")
    for player in ("maps", "critic"):
        assert critic_loss_of_first_step("ali", monkeypatch, keep=player) == pytest.approx(rest, rel=1e-6)


@pytest.mark.parametrize("name", ["alice", "svae", "bigan"])
def test_the_others_move_the_critic_first(name, monkeypatch):
    rest = critic_loss_of_first_step(name, monkeypatch, keep="")
    moved = critic_loss_of_first_step(name, monkeypatch, keep="critic")
    assert moved["critic"] == pytest.approx(rest["critic"], rel=1e-6)
    assert abs(moved["maps"] - rest["maps"]) > 1e-4 * abs(rest["maps"])
    assert critic_loss_of_first_step(name, monkeypatch, keep="maps") == pytest.approx(rest, rel=1e-6)


@pytest.mark.parametrize("name", ["alice", "svae"])
def test_critic_steps(name, monkeypatch):
    """All on the same pairs, then one of the maps."""
    model = build(name, critic_steps=3)
    players, inputs = [], []
    descend = model.descend
    monkeypatch.setattr(model, "descend", lambda player, loss: (players.append(player), descend(player, loss)))
    judge = model.judge
    monkeypatch.setattr(
        model, "judge", lambda *pairs: (inputs.append([part.detach() for part in pairs]), judge(*pairs))[1]
    )
    model.step(image_batch(8, SHAPE), 0)
    assert players == ["critic"] * 3 + ["maps"]
    assert all(torch.equal(part, again) for other in inputs[1:] for part, again in zip(inputs[0], other))


# Orientation: fixed by what the critic is trained to do


def gap(model: Model, data: Tensor) -> float:
    """Mean logit on data pairs less that on the generator's, in evaluation mode."""
    z = torch.randn(len(data), model.z_dim, generator=torch.Generator().manual_seed(3))
    model.eval()
    with torch.no_grad():
        real, fake = model.judge(data, model.infer(data), model.generate(z), z)
    model.train()
    return (real.mean() - fake.mean()).item()


def train(model: Model, player: str, data: Tensor, steps: int, monkeypatch) -> None:
    """Only `player` moves."""
    with monkeypatch.context() as patched:
        model.optimizers[player].param_groups[0]["lr"] = 1e-3
        still(model, patched, keep=player)
        for t in range(steps):
            model.step(data, t)


@every_system
def test_critic_rises_on_data_pairs_and_maps_fool_it(name, monkeypatch):
    model = build(name, **NO_CYCLES.get(name, {}))
    data = torch.from_numpy(bright(16)).float() / 127.5 - 1
    train(model, "critic", data, 40, monkeypatch)
    sure = gap(model, data)
    assert sure > 2
    if name != "bigan":
        model.eval()
        z = torch.randn(16, model.z_dim)
        fakes = ((model.generate(z).detach() + 1) * 127.5).round().to(torch.uint8).numpy()
        energies = [anomaly.scores(model, stored)["energy"] for stored in (bright(16), fakes)]
        assert energies[0].max() < energies[1].min()  # data low
        model.train()
    train(model, "maps", data, 25, monkeypatch)
    assert gap(model, data) < sure - 1


@pytest.mark.parametrize("name", ["ali", "alice", "svae"])
def test_energy_is_minus_the_logit_at_the_posterior_mean(name):
    model = build(name).eval()
    x = image_batch(8, SHAPE)
    assert torch.equal(model.energy(x), -model.critic(x, model.encoder(x)[0]))


# The critic's options


def test_the_baselines_critics_are_not_spectrally_normalised():
    for name in CLASSES:
        assert not any("parametrizations" in key for key in build(name).critic.state_dict()), name


def test_dropout_and_batch_norm_where_their_papers_have_them():
    norms = {name: bool(layers(build(name).critic, nn.BatchNorm2d)) for name in CLASSES}
    assert norms == {"ali": False, "alice": True, "svae": True, "bigan": True}
    rates = {name: {layer.p for layer in layers(build(name).critic, nn.Dropout)} for name in ("alice", "svae")}
    assert rates == {"alice": set(), "svae": set()}
    for name, rate in (("ali", 0.2), ("bigan", 0.5)):
        torch.manual_seed(1)
        model = CLASSES[name](SHAPE, MODULES[name].Hparams(width=0.05))
        assert {layer.p for layer in layers(model.critic, nn.Dropout)} == {rate}


@pytest.mark.parametrize("z_layers", [1, 2])
def test_a_nonlinearity_follows_every_linear_layer_but_the_head(z_layers):
    """Two linear layers in a row are one, of a smaller scale."""
    critic = JointCritic(SHAPE, 10, 0.05, z_layers)
    for branch in (critic.x_branch, critic.z_branch, critic.joint):
        behind = [after for layer, after in zip(branch, [*branch, None][1:]) if isinstance(layer, nn.Linear)]
        assert [type(after) for after in behind] == [nn.LeakyReLU] * len(behind)


def test_hidden_layers_of_z_as_in_the_sources():
    """Two in ALI's critic, one in EGBAD's."""
    found = {name: len(layers(build(name).critic.z_branch, nn.Linear)) for name in ("ali", "bigan")}
    assert found == {"ali": 2, "bigan": 1}


def test_dropout_falls_on_every_hidden_linear_layer():
    critic = JointCritic(SHAPE, 10, 0.05, spectral_norm=False, dropout=0.5).train()
    branches = (critic.x_branch, critic.z_branch, critic.joint)
    assert [sum(isinstance(layer, nn.Dropout) for layer in branch) for branch in branches] == [2, 2, 2]
    pair = image_batch(2, SHAPE), torch.randn(2, 10)
    assert not torch.equal(critic(*pair), critic(*pair))
    critic.eval()
    assert torch.equal(critic(*pair), critic(*pair))


# The released critic of ALICE and SVAE


def additive() -> AdditiveCritic:
    torch.manual_seed(1)
    return AdditiveCritic(SHAPE, 10, 0.05)


def test_the_released_critic_is_a_sum():
    """What a latent adds does not depend on the image, nor the reverse."""
    critic = additive().eval()
    x, z = image_batch(8, SHAPE), torch.randn(8, 10)
    with torch.no_grad():
        grid = torch.stack([critic(x, one.expand(8, -1)) for one in z])  # [z, x]
    assert grid.std(0).min() > 0
    assert grid.std(1).min() > 0
    assert torch.allclose(grid - grid[:1], (grid - grid[:1])[:, :1].expand(8, 8), atol=1e-6)


def test_the_released_critic_sees_noise_beside_both_inputs():
    critic = additive().train()
    pair = image_batch(8, SHAPE), torch.randn(8, 10)
    assert (critic.h[0].in_channels, critic.k[0].in_features) == (2, 30)
    assert not torch.equal(critic(*pair), critic(*pair))
    drawn = critic.noise(torch.zeros(10_000))
    assert (drawn.min() + 1).abs() < 0.01
    assert (drawn.max() - 1).abs() < 0.01
    critic.eval()
    assert torch.equal(critic(*pair), critic(*pair))


def test_the_released_critic_normalises_every_convolution():
    critic = additive()
    assert len(layers(critic, nn.BatchNorm2d)) == len(layers(critic, nn.Conv2d)) == 3


def test_the_use_of_z_is_asked_without_moving_the_critic():
    """A diagnostic may not train: no step of the power iteration, and the critic trains on as before."""
    torch.manual_seed(0)
    critic = JointCritic(SHAPE, 10, 0.05).train()
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    f, other = critic.exchanged(image_batch(8, SHAPE), torch.randn(8, 10))
    assert not torch.equal(f, other)
    assert critic.training
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())
