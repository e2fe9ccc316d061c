"""The study of the critics of pairs: what its variants change, its numbers, and the command."""

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench import critics
from dtri.data import digits, saving
from dtri.networks.additive_critic import AdditiveCritic
from dtri.networks.joint_critic import JointCritic
from tests.toys import image_batch

SHAPE = (1, 28, 28)


def changed(system: str, name: str) -> nn.Module:
    (variant,) = (v for v in critics.VARIANTS if (v.system, v.name) == (system, name))
    hparams = {"width": critics.WIDTH, **variant.hparams}
    model = critics.experiment.build(critics.ENTRIES[system], SHAPE, hparams).train()
    variant.change(model)
    return model


def test_every_variant_changes_one_thing():
    assert isinstance(changed("alice", "as it is").critic, AdditiveCritic)
    assert isinstance(changed("svae", "joint network").critic, JointCritic)
    assert changed("alice", "lambda 1").h.cycle_weight == 1
    assert changed("bigan", "ten times the learning rate").h.lr == 1e-4
    x, z = image_batch(4, SHAPE), torch.randn(4, 256)
    for name, alike in (("no noise in the critic", True), ("joint network", True), ("joint network with noise", False)):
        critic = changed("alice", name).critic
        assert torch.equal(critic(x, z), critic(x, z)) == alike, name
        assert torch.equal(critic.eval()(x, z), critic(x, z)), name


def test_one_batch_shares_statistics():
    pairs = image_batch(4, SHAPE), torch.randn(4, 256), -torch.ones(4, *SHAPE), torch.randn(4, 256)
    for name, alike in (("no noise in the critic", True), ("one batch", False)):
        model = changed("alice", name)
        model.critic.noise = torch.zeros_like
        apart = model.critic(*pairs[:2]), model.critic(*pairs[2:])
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(model.judge(*pairs), apart)) == alike, name


class Perfect(nn.Module):
    """Samples and reconstructions are the training images themselves; the critic hears the latent alone."""

    def generate(self, z: Tensor) -> Tensor:
        return z.unflatten(1, SHAPE)

    def infer(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def critic(self, x: Tensor, z: Tensor) -> Tensor:
        return z.sum(1)


def test_numbers_of_a_perfect_model():
    x = image_batch(600, SHAPE)
    row, shown = critics.quality(Perfect(), x, x.flatten(1))
    assert row["rmse"] == 0
    assert row["frechet"] == pytest.approx(0, abs=1e-6)
    assert row["std"] == pytest.approx(x.std(0).mean().item())
    assert len(shown) == 3 * critics.SHOWN
    assert critics.z_share(Perfect(), x) == pytest.approx(2**0.5, rel=0.1)


def test_the_command(tmp_path: Path):
    """A run is not repeated; the figure shows what the table lists."""
    saving.save(digits.prepare(tmp_path, SHAPE, {}, 0), tmp_path / "digits", "digits")
    words = ["--data", str(tmp_path / "digits"), "--to", str(tmp_path / "to"), "--steps", "1", "--z-dim", "4"]
    words += ["--only", "ali, as it is", "--seeds"]
    for seeds in (["0"], ["0", "1"]):
        assert critics.main([*words, *seeds]) == 0
    with (tmp_path / "to" / "critics.csv").open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["0", "1"]
    assert (tmp_path / "to" / "critics.png").stat().st_size < 500_000


def test_unknown_variants_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="expected variants among"):
        critics.main(["--data", str(tmp_path), "--to", str(tmp_path), "--only", "alice, whatever"])
