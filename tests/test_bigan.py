"""BiGAN-sigma (EGBAD): its score and the score's variants, its deterministic encoder, its averaged weights."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from baselines.bigan import BiGAN, Hparams
from dtri import anomaly, evaluation
from tests.toys import image_batch, noise_images

SHAPE = (1, 28, 28)


def build(**hparams) -> BiGAN:
    """Untrained, its critic and decoder loud enough that every part of the score counts."""
    torch.manual_seed(1)
    model = BiGAN(SHAPE, Hparams(**{"width": 0.05, "z_dim": 10, **hparams})).eval()
    with torch.no_grad():
        model.critic.head.weight.mul_(1e5)
        model.critic.joint[-3].weight.mul_(1e2)
    return model


def parts(model: BiGAN, x: Tensor) -> dict[str, Tensor]:
    """The terms of the reference code, one image at a time."""
    found: dict[str, list[Tensor]] = {"l1": [], "at_reconstruction": [], "at_image": [], "features": []}
    real = torch.ones(1)
    with torch.no_grad():
        for one in x.split(1):
            z = model.encoder(one)
            y = model.generator(z)
            found["l1"].append((one - y).abs().sum())
            found["at_reconstruction"].append(bce(model.critic(y, z), real))
            found["at_image"].append(bce(model.critic(one, z), real))
            hidden, other = model.critic.features(one, z), model.critic.features(y, z)
            found["features"].append((hidden - other).abs().sum())
    return {name: torch.stack(values) for name, values in found.items()}


@pytest.mark.parametrize("w", [0.1, 0.7])
def test_score_and_variants(w):
    model, x = build(score_weight=w), image_batch(6, SHAPE)
    of = parts(model, x)
    assert (of["at_reconstruction"] - of["at_image"]).abs().max() > 1e-3
    with torch.no_grad():
        energy, variants = model.energy(x), model.anomaly_scores(x)
    assert torch.allclose(energy, (1 - w) * of["l1"] + w * of["at_reconstruction"], rtol=1e-5)
    assert torch.allclose(variants["fm"], (1 - w) * of["l1"] + w * of["features"], rtol=1e-5)
    assert torch.allclose(variants["sigma_paper"], (1 - w) * of["l1"] + w * of["at_image"], rtol=1e-5)
    assert torch.allclose(variants["l1"], of["l1"], rtol=1e-5)
    assert torch.allclose(variants["cross_entropy"], of["at_reconstruction"], rtol=1e-4)


def test_weight_of_the_paper():
    assert Hparams().score_weight == 0.1
    assert Hparams().z_dim == 200


def test_score_rises_where_the_critic_disbelieves():
    """Larger is stranger: the score falls as the critic's logit at the reconstruction rises."""
    model, x = build(), image_batch(6, SHAPE)
    with torch.no_grad():
        before = model.energy(x)
        model.critic.head.bias.add_(5.0)
        assert (model.energy(x) < before).all()


def test_every_score_becomes_a_column(monkeypatch):
    model, stored = build(), noise_images(7, SHAPE)
    monkeypatch.setattr(evaluation, "eval_batch_size", lambda _: 3)
    columns = anomaly.scores(model, stored)
    assert set(columns) == {"energy", "sse", "fm", "sigma_paper", "l1", "cross_entropy"}
    x = torch.from_numpy(stored).float() / 127.5 - 1
    with torch.no_grad():
        expected = {"energy": model.energy(x), **model.anomaly_scores(x)}
    for name, values in expected.items():
        assert columns[name].dtype == np.float64
        assert np.allclose(columns[name], values.numpy(), rtol=1e-5), name


def test_a_score_cannot_take_the_name_of_another(monkeypatch):
    model = build()
    monkeypatch.setattr(model, "anomaly_scores", lambda x: {"sse": x.flatten(1).sum(1)})
    with pytest.raises(ValueError, match=r"expected new names from BiGAN.anomaly_scores, found \['sse'\]"):
        anomaly.scores(model, noise_images(2, SHAPE))


def test_encoder_is_deterministic():
    """Also while it trains: it draws nothing."""
    model, x = build().train(), image_batch(6, SHAPE)
    before = torch.get_rng_state()
    assert torch.equal(model.infer(x), model.infer(x))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any("logvar" in name for name, _ in model.named_parameters())


def test_critic_sees_the_encoder_itself(monkeypatch):
    """No noise around E(x): the latents of data pairs are those of `infer`, bit for bit."""
    model, x = build().train(), image_batch(6, SHAPE)
    seen: list[Tensor] = []
    judge = model.judge
    monkeypatch.setattr(model, "judge", lambda x, z_x, *fakes: (seen.append(z_x.detach()), judge(x, z_x, *fakes))[1])
    monkeypatch.setattr(model, "descend", lambda *_: None)
    model.step(x, 0)
    assert len(seen) == 2
    assert all(torch.equal(z, model.infer(x)) for z in seen)


def test_weights_are_averaged_for_evaluation():
    assert build().ema_decay == 0.999
    assert build(ema_decay=0.5).ema_decay == 0.5
