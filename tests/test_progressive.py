"""Layer-wise growth: every level up to 1024 pixels, fading, the schedule, synchrony, exact continuation."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dtri import engine, evaluation
from dtri.batches import Batches
from dtri.ema import EMA
from dtri.experiment import TrainSpec, build
from dtri.models.divergence_triangle_progressive import Hparams, ProgressiveTriangle
from dtri.networks.progressive import Conv, down, normalise_pixels, sides, up
from dtri.stepper import Stepper
from dtri.trained import load_model
from dtri.weights import save_weights
from tests.toys import SnapshotDict, noise_images, same, still, stopping_after

CPU = torch.device("cpu")
ENTRY = "dtri.models.divergence_triangle_progressive:ProgressiveTriangle"
SHAPE = (3, 32, 32)
SIZES = [2, 2, 2, 1, 1, 1, 1, 1, 1]
QUICK = {"width": 0.02, "z_dim": 5, "fade_kimg": 0.006, "stable_kimg": 0.004, "batch_sizes": SIZES}
STARTS = [0, 2, 5, 7, 10, 12, 18]  # two iterations of 2 images, then three and two; of one image from 32 pixels on


def quick(shape: tuple[int, int, int] = SHAPE, **changes) -> ProgressiveTriangle:
    torch.manual_seed(0)
    return build(ENTRY, shape, {**QUICK, **changes}).train()


def start(model: ProgressiveTriangle, level: int, fading: bool) -> int:
    return next(phase.start for phase in model.phases if (phase.level, phase.fading) == (level, fading))


# Every level


def test_sides():
    assert sides((3, 1024, 1024)) == [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert sides((1, 28, 28)) == [7, 14, 28]
    for shape in ((3, 4, 4), (3, 63, 63), (3, 32, 64)):
        with pytest.raises(ValueError, match="expected square images of a side such as 28, 32"):
            sides(shape)


def test_full_size_networks():
    """The generator has the 23.1 million parameters of ProGAN's."""
    with torch.device("meta"):
        model = ProgressiveTriangle((3, 1024, 1024), Hparams())
    assert [block[-1].weight.shape[0] for block in model.generator.blocks] == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    counts = [sum(p.numel() for p in net.parameters()) for net in (model.generator, model.energy_net, model.encoder)]
    assert counts[0] == pytest.approx(23.1e6, rel=1e-3)
    assert counts[2] == counts[1] - 513 + 2 * 512 * 513


def test_every_level_up_to_1024_builds_steps_and_is_saved(tmp_path: Path):
    """At each level all networks work at its size, new layers move, and its weights draw the same from a file."""
    shape, hparams = (3, 1024, 1024), {**QUICK, "batch_sizes": [2] + [1] * 8}
    torch.manual_seed(0)
    model = build(ENTRY, shape, hparams).to(memory_format=torch.channels_last).train()
    assert model.sides[-1] == 1024
    batches = Batches(noise_images(2, (3, 64, 64)).repeat(16, 2).repeat(16, 3), 2, 0, CPU, model.span)
    seen: set[tuple[int, ...]] = set()
    for net in (model.energy_net, model.encoder):
        net.register_forward_pre_hook(lambda _, args: seen.add(tuple(args[0].shape[2:])))
    for phase in model.phases:
        side, t = model.sides[phase.level], phase.start + 1  # at the start of fading, the new layers rest
        assert model.phase(t) == (side, phase.fading)
        if phase.fading or side <= 128:  # what remains when the largest levels have faded in is part of their fading
            seen.clear()
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            losses = Stepper(model, batches, 0, "fp32")(t)
            assert losses.values.isfinite().all()
            assert seen == {(side, side)}
            moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
            for net in ("generator.to_rgb", "energy_net.trunk.from_rgb", "encoder.trunk.from_rgb"):
                heads = {int(name.split(".")[-2]) for name in moved if name.startswith(net)}
                assert heads == ({phase.level - 1, phase.level} if phase.fading else {phase.level}), net
        if not phase.fading:
            model.begin(t)
            spec = TrainSpec("noise", "grown", ENTRY, shape, hparams, 100, 2, 0)
            save_weights(tmp_path / "weights.safetensors", model.state_dict(), spec)
            loaded, _ = load_model(tmp_path / "weights.safetensors")
            with torch.no_grad():
                image = loaded.generate(torch.ones(1, 5))
                assert image.shape == (1, *shape)
                assert torch.equal(image, model.generate(torch.ones(1, 5)))
    assert evaluation.eval_batch_size(model) == 1


def up_to(x: Tensor, side: int) -> Tensor:
    while x.shape[2] < side:
        x = up(x)
    return x


# The schedule: a function of images seen


def test_schedule():
    model = quick()
    assert [phase.start for phase in model.phases] == STARTS
    assert [model.phase(t) for t in (0, 1, 2, 4, 5, 6, 7, 12, 17, 18, 999)] == [
        *[(4, False)] * 2,
        *[(8, True)] * 2,
        *[(8, False)] * 2,
        (16, True),
        *[(32, True)] * 2,
        *[(32, False)] * 2,
    ]
    spans = [model.span(t, 2) for t in range(25)]
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert [stop - start for start, stop in spans] == [2] * 12 + [1] * 13
    alphas = []
    for t in range(2, 6):
        model.begin(t)
        alphas.append(model.alpha.item())
    assert alphas == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert model.milestones(19) == [2, 7, 12]
    assert model.milestones(7) == [2]


def test_the_published_schedule():
    """ProGAN's table: iterations of each phase, images at the end of each level but for the rounding of a batch."""
    with torch.device("meta"):
        model = ProgressiveTriangle((3, 1024, 1024), Hparams())
    ends = {model.sides[p.level]: p.images for p in model.phases if p.fading}
    assert [round(ends[side] / 1000) for side in (8, 16, 32, 64, 128, 256, 512, 1024)] == [
        *(800, 2400, 4000, 5600, 7200, 8800, 10400, 12000)
    ]
    assert [phase.steps for phase in model.phases][:4] == [50_000] * 4
    assert model.phases[-1].batch_size == 3


def test_batch_size_of_the_specification_is_that_of_the_first_level():
    with pytest.raises(ValueError, match="expected batch_size 2, that of the first level in batch_sizes, found 16"):
        quick().span(0, 16)
    with pytest.raises(ValueError, match="expected batch_sizes for 10 levels"):
        quick((3, 2048, 2048))


def test_start_side_begins_at_a_later_level_and_the_full_size_is_no_growth():
    """The control of growth: the same networks with the same first weights, one phase, at full size."""
    later = quick(start_side=16)
    assert [later.phase(phase.start) for phase in later.phases] == [(16, False), (32, True), (32, False)]
    control, grown = quick(start_side=32), quick()
    assert [control.phase(phase.start) for phase in control.phases] == [(32, False)]
    assert control.span(3, 1) == (3, 4)  # the batch size is that of its level
    assert control.milestones(100) == []
    assert same(control.state_dict(), grown.state_dict())
    x = torch.rand(2, *SHAPE) * 2 - 1
    assert torch.equal(control.at_level(x), x)
    with pytest.raises(ValueError, match=r"expected start_side among \[4, 8, 16, 32\] or below, found 64"):
        quick(start_side=64)


# Fading


@pytest.mark.parametrize("level", [1, 2, 3])
def test_fading_begins_at_the_level_below_and_ends_at_the_new_one(level: int):
    """In all three networks and in the real images; in between everything moves with alpha."""
    model = quick()
    x, z = torch.rand(3, *SHAPE) * 2 - 1, torch.randn(3, 5)

    def maps(t: int, alpha: float | None = None) -> list[Tensor]:
        model.begin(t)
        if alpha is not None:
            model.alpha.fill_(alpha)
        with torch.no_grad():
            return [model.generate(z), model.infer(x), model.energy(x), up_to(model.at_level(x), 32)]

    below = maps(start(model, level, True) - 1)
    first = maps(start(model, level, True))
    assert model.alpha.item() == 0
    new = maps(start(model, level, False))
    last = maps(start(model, level, True), 1.0)
    half = maps(start(model, level, True), 0.5)
    for old, begun, middle, ended, grown in zip(below, first, half, last, new, strict=True):
        assert torch.allclose(old, begun, atol=1e-6)
        assert torch.equal(ended, grown)
        assert not torch.allclose(old, grown, atol=1e-4)
        assert not torch.allclose(middle, grown, atol=1e-5)
        assert not torch.allclose(middle, old, atol=1e-5)


def test_real_images_of_a_level_are_means_over_squares():
    model = quick()
    x = torch.rand(2, *SHAPE)
    model.begin(start(model, 1, False))
    squares = x.reshape(2, 3, 8, 4, 8, 4).mean((3, 5))
    assert torch.allclose(model.at_level(x), squares, atol=1e-6)
    model.begin(start(model, 1, True) + 1)
    faded = squares / 3 + 2 / 3 * up(down(squares))
    assert torch.allclose(model.at_level(x), faded, atol=1e-6)


# Layers


def test_equalised_learning_rate_and_pixel_norm():
    torch.manual_seed(0)
    layer = Conv(64, 32, 3)
    assert layer.weight.std().item() == pytest.approx(1.0, abs=0.02)
    x = torch.randn(4, 64, 8, 8)
    inside = layer(x)[:, :, 1:-1, 1:-1]
    assert inside.std().item() == pytest.approx(2**0.5, rel=0.05)
    assert torch.allclose(normalise_pixels(3 * x).square().mean(1), torch.ones(4, 8, 8), atol=1e-4)


def test_reconstruction_weighs_the_same_at_every_level(monkeypatch):
    """An error of the same size at each pixel costs the same, whatever the level: 3 x 32 x 32 times its square.

    The curve shows the error itself, as those of all other systems do.
    """
    model = quick(latent_weight=0.0)
    losses = still(model, monkeypatch)
    for level, side in enumerate(model.sides):
        t = start(model, level, False)
        model.begin(t)
        cost, curve = [], []
        for grey in (0.0, 0.5):
            drawn = torch.full((2, 3, side, side), grey)
            monkeypatch.setattr(model, "draw", lambda z, drawn=drawn: drawn)
            curve.append(model.step(torch.zeros(2, *SHAPE), t)["rec"].item())
            cost.append(losses["encoder"].item())
        assert cost[1] - cost[0] == pytest.approx(3 * 32 * 32 * 0.25, rel=1e-5)
        assert curve == [0.0, pytest.approx(3 * side * side * 0.25)]


def test_images_are_mirrored_by_seed_and_iteration():
    """Half of them, each whole and left to right; the same at every repetition of an iteration, and none on request."""

    def shown(mirror: bool, t: int) -> Tensor:
        model, seen = quick(mirror=mirror, batch_sizes=[64] * 9, fade_kimg=1.0), []
        model.energy_net.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
        stored = noise_images(64, SHAPE)
        Stepper(model, lambda t: torch.from_numpy(stored), 7, "fp32")(t)
        return seen[0]

    plain, once, again, other = shown(False, 0), shown(True, 0), shown(True, 0), shown(True, 1)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    kept = (once == plain).flatten(1).all(1)
    assert torch.equal(once[~kept], plain[~kept].flip(3))
    assert 16 < kept.sum() < 48


# Optimisers and averages


def test_optimisers_forget_when_a_phase_starts():
    model = quick()
    batches = Batches(noise_images(8, SHAPE), 2, 0, CPU, model.span)
    for t in range(8):
        model.begin(t)
        counts = {int(state["step"]) for o in model.optimizers.values() for state in o.state.values()}
        moments = [state["exp_avg_sq"].any() for o in model.optimizers.values() for state in o.state.values()]
        if t in STARTS:
            assert counts <= {0}
            assert not any(moments)
        else:
            assert max(counts) == t - max(s for s in STARTS if s < t)
        Stepper(model, batches, 0, "fp32")(t)


def test_averages_start_at_the_initial_weights_of_a_new_level():
    model = quick(ema_decay=0.5)
    batches, average = Batches(noise_images(8, SHAPE), 2, 0, CPU, model.span), EMA(model)
    name = "generator.blocks.1.0.weight"
    initial = model.state_dict()[name].clone()
    for t in range(6):
        Stepper(model, batches, 0, "fp32")(t)
        average.update(model, t)
        assert torch.equal(average.weights[name], initial) == (t <= 2)  # at its first iteration alpha is 0
    assert average.weights["reached"].item() == 2
    assert average.weights["alpha"].item() == 1.0


# Continuation


@pytest.mark.parametrize("after", [1, 2, 4, 5, 12, 15])
def test_stops_around_the_change_of_a_level_change_nothing(after: int, tmp_path: Path):
    spec = TrainSpec("noise", "grown", ENTRY, SHAPE, QUICK, 20, 2, 1)

    def fit(folder: Path, snapshots: SnapshotDict, **options) -> engine.Outcome:
        folder.mkdir(exist_ok=True)
        paths = {"state_path": folder / "state.pt", "events_path": folder / "events.jsonl", "run_id": "run"}
        return engine.fit(
            lambda: build(ENTRY, SHAPE, QUICK),
            noise_images(9, SHAPE),
            steps=spec.steps,
            batch_size=spec.batch_size,
            seed=spec.seed,
            device=CPU,
            snapshots=snapshots,
            **paths,
            **options,
        )

    kept, others = SnapshotDict(), SnapshotDict()
    whole = fit(tmp_path / "whole", kept)
    with pytest.raises(engine.Interrupted, match=f"iteration {after},"):
        fit(tmp_path / "parts", others, stop=stopping_after(after))
    parts = fit(tmp_path / "parts", others)
    assert same(whole.weights, parts.weights)
    assert whole.curve == parts.curve
    assert sorted(kept.kept) == [2, 7, 12]
    assert same(kept.kept, others.kept)
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")]
    assert same(states[0]["optimizers"], states[1]["optimizers"])


def test_weights_of_a_level_are_evaluated_at_that_level():
    model = quick()
    model.begin(start(model, 2, False))
    loaded = quick()
    loaded.load_state_dict(model.state_dict())
    assert loaded.now == model.now
    z = torch.randn(2, 5)
    with torch.no_grad():
        image = loaded.eval().generate(z)
    assert image.shape == (2, *SHAPE)
    assert torch.equal(image, up(down(image)))  # 16 pixels, enlarged
    assert np.array_equal(evaluation.to_uint8(image).numpy(), evaluation.decode(loaded, z))
