"""The training loop: order of the data, exact continuation, divergence, records of its own doing."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dtri import engine
from dtri.batches import Batches
from dtri.ema import EMA
from dtri.sampling.replay import ReplayBuffer
from dtri.seeding import derive
from dtri.stepper import Stepper
from tests.toys import Hparams, SnapshotDict, Toy, noise_images, same, stopping_after

CPU = torch.device("cpu")
SHAPE = (1, 4, 4)
HEALTHY = Hparams()


def fit(folder: Path, steps: int = 100, h: Hparams = HEALTHY, **options) -> engine.Outcome:
    folder.mkdir(exist_ok=True)
    arguments = {
        "steps": steps,
        "batch_size": 3,
        "seed": 1,
        "device": CPU,
        "state_path": folder / "state.pt",
        "events_path": folder / "events.jsonl",
        "run_id": "run",
        **options,
    }
    return engine.fit(lambda: Toy(SHAPE, h), noise_images(10, SHAPE), **arguments)


def interrupt(folder: Path, after: int, reason: str = "signal", **options) -> None:
    with pytest.raises(engine.Interrupted) as caught:
        fit(folder, stop=stopping_after(after, reason), **options)
    assert caught.value.reason == reason


def events(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def state(folder: Path) -> dict:
    return torch.load(folder / "state.pt", weights_only=True)


# Averaged weights


class Averaged(Toy):
    """Toy that notes its weights after every step."""

    ema_decay = 0.7
    seen: list[torch.Tensor]

    def step(self, x, t):
        losses = super().step(x, t)
        self.seen.append(self.weight.detach().clone())
        return losses


def test_a_run_ends_with_the_moving_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Averaged, "seen", [], raising=False)
    monkeypatch.setattr("tests.test_engine.Toy", Averaged)
    outcome = fit(tmp_path, steps=30)
    torch.manual_seed(derive("init", 1))
    average = Averaged(SHAPE, HEALTHY).weight.detach().clone()
    for t, weight in enumerate(Averaged.seen):
        decay = min(0.7, (t + 1) / (t + 10))
        average = decay * average + (1 - decay) * weight
    assert torch.allclose(outcome.weights["weight"], average, atol=1e-6)
    assert not torch.allclose(outcome.weights["weight"], Averaged.seen[-1], atol=1e-6)
    assert torch.equal(state(tmp_path)["model"]["weight"], Averaged.seen[-1])  # training goes on from the latest


def test_singular_vectors_are_not_averaged():
    model = Toy(SHAPE, HEALTHY)
    model.ema_decay = 0.5
    model.layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(5, 4))
    average = EMA(model)
    for t in range(5):
        model.layer(torch.randn(2, 5))
        average.update(model, t)
    vector = average.weights["layer.parametrizations.weight.0._u"]
    assert torch.equal(vector, model.layer.parametrizations.weight[0]._u)
    assert vector.norm().item() == pytest.approx(1.0, abs=1e-5)


def test_an_average_does_not_go_on_following_a_tensor_that_was_replaced():
    """It looks for its tensors once."""
    model = Toy(SHAPE, HEALTHY)
    model.ema_decay = 0.5
    average = EMA(model)
    average.snapshot(model)
    model.average = model.average + 1
    with pytest.raises(ValueError, match="expected a step to update average in place, found another tensor"):
        average.snapshot(model)


# Memory: what a run needs to continue, and the weights it ends with do not hold


class Remembering(Toy):
    """Toy whose images are mixed with those it saw before."""

    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__(image_shape, h)
        self.replay = ReplayBuffer(image_shape, 7, 0.3)

    def step(self, x, t):
        old = self.replay.draw(len(x))
        self.replay.store(x)
        return super().step(x + old, t)


@pytest.mark.parametrize("after", [1, 20, 33])
def test_a_run_continues_with_its_memory(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.test_engine.Toy", Remembering)
    whole = fit(tmp_path / "whole")
    interrupt(tmp_path / "parts", after)
    parts = fit(tmp_path / "parts")
    assert same(whole.weights, parts.weights)
    assert whole.curve == parts.curve
    memories = [state(tmp_path / name)["buffers"] for name in ("whole", "parts")]
    assert same(*memories)
    assert memories[0].keys() == {"replay.chains", "replay.stored", "replay.overflow"}
    assert memories[0]["replay.stored"].item() == 300
    assert memories[0]["replay.chains"].any()


class Overflowing(Remembering):
    """The images that it stores are not finite from iteration 5 on, and its losses do not show it."""

    def step(self, x, t):
        self.replay.store(x * (math.inf if t == 5 else 1.0))
        return super(Remembering, self).step(x, t)


def test_memory_that_is_not_finite_ends_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As black images the chains would go on."""
    monkeypatch.setattr("tests.test_engine.Toy", Overflowing)
    outcome = fit(tmp_path)
    assert (outcome.status, outcome.term, outcome.bad_step) == ("diverged", "memory", engine.CHECK_EVERY)


class Infinite(Toy):
    """An average that grows beyond all numbers at iteration 5, and no loss that shows it."""

    def step(self, x, t):
        losses = super().step(x, t)
        self.average.fill_(math.inf if t == 5 else 0.0)
        return losses


def test_infinite_weights_end_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.test_engine.Toy", Infinite)
    monkeypatch.setattr(engine, "CHECK_EVERY", 6)
    outcome = fit(tmp_path)
    assert (outcome.status, outcome.term, outcome.bad_step) == ("diverged", "weights", 6)


def test_memory_is_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nor is it copied with the last weights seen finite, or averaged."""
    monkeypatch.setattr("tests.test_engine.Toy", Remembering)
    monkeypatch.setattr(Remembering, "ema_decay", 0.9)
    weights = {"weight", "average"}
    assert fit(tmp_path).weights.keys() == weights
    assert state(tmp_path)["model"].keys() == state(tmp_path)["ema"].keys() == weights


# Batches


def test_every_image_once_per_epoch():
    """Ten images in batches of three: epochs end within batches, and none is dropped."""
    batches = Batches(noise_images(10, SHAPE), 3, seed=5, device=CPU)
    stream = torch.cat([batches.indices(t) for t in range(20)])  # six epochs
    epochs = stream.split(10)
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 6


def test_batch_larger_than_the_set():
    indices = Batches(noise_images(4, SHAPE), 10, seed=0, device=CPU).indices(0)
    assert indices.shape == (10,)
    assert sorted(indices[:4].tolist()) == sorted(indices[4:8].tolist()) == [0, 1, 2, 3]


def test_batches_depend_on_seed_and_t_alone():
    stored = noise_images(10, SHAPE)
    forward = Batches(stored, 3, seed=5, device=CPU)
    order = [forward(t) for t in range(12)]
    for t in (11, 0, 7, 3, 4):  # a fresh object, any order
        assert torch.equal(Batches(stored, 3, seed=5, device=CPU)(t), order[t])
        assert torch.equal(forward(t), order[t])
    backward = Batches(stored, 3, seed=5, device=CPU)
    for t in reversed(range(12)):
        assert torch.equal(backward(t), order[t])
    other = Batches(stored, 3, seed=6, device=CPU)
    assert not all(torch.equal(other.indices(t), forward.indices(t)) for t in range(3))


def test_mapped_and_resident_images_give_the_same_batches(tmp_path, monkeypatch):
    np.save(tmp_path / "images.npy", noise_images(10, (3, 4, 4)))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    resident = Batches(mapped, 3, seed=5, device=CPU)
    monkeypatch.setattr("dtri.batches.RESIDENT_BYTES", 0)
    streamed = Batches(mapped, 3, seed=5, device=CPU)
    assert resident.resident is not None
    assert streamed.resident is None
    for t in (0, 1, 2, 5, 6, 3):  # in order, when the next batch was read ahead, and not
        assert torch.equal(streamed(t), resident(t))
        assert torch.equal(streamed(t), torch.from_numpy(mapped[streamed.indices(t).numpy()]))


# A model with phases: batches of several sizes, a schedule in a buffer, weights kept on the way


class Phased(Toy):
    """Batches of five before iteration 6, of two from there on; the learning rate falls in a buffer."""

    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__(image_shape, h)
        self.register_buffer("scale", torch.zeros(()))

    def span(self, t, batch_size):
        assert batch_size == 3
        start = 5 * min(t, 6) + 2 * max(t - 6, 0)
        return start, start + (5 if t < 6 else 2)

    def milestones(self, steps):
        return [t for t in (6, 50) if t < steps]

    def begin(self, t):
        self.scale.fill_(1 / (1 + t))

    def step(self, x, t):
        assert len(x) == (5 if t < 6 else 2)
        assert self.scale.item() == pytest.approx(1 / (1 + t))
        return super().step(self.scale * x, t)


def test_batches_of_several_sizes_leave_no_image_out():
    model, batches = Phased(SHAPE, HEALTHY), Batches(noise_images(10, SHAPE), 3, seed=5, device=CPU)
    uniform = torch.cat([batches.indices(t) for t in range(20)])
    batches.span = model.span
    sizes = [len(batches.indices(t)) for t in range(21)]
    assert sizes == [5] * 6 + [2] * 15
    assert torch.equal(torch.cat([batches.indices(t) for t in range(21)]), uniform)


@pytest.mark.parametrize("after", [4, 6, 7, 33])
def test_a_model_with_phases_continues_exactly(after, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_engine.Toy", Phased)
    kept = {"whole": SnapshotDict(), "parts": SnapshotDict()}
    whole = fit(tmp_path / "whole", snapshots=kept["whole"])
    interrupt(tmp_path / "parts", after, snapshots=kept["parts"])
    parts = fit(tmp_path / "parts", snapshots=kept["parts"])
    assert same(whole.weights, parts.weights)
    assert list(kept["whole"].kept) == [6, 50]
    assert same(kept["whole"].kept, kept["parts"].kept)
    seen = events(tmp_path / "whole")[-2]
    assert seen["images_per_s"] == pytest.approx((30 + 2 * 94) / seen["seconds"], rel=0.1)


def test_empty_set_is_an_error():
    with pytest.raises(ValueError, match="expected training images"):
        Batches(noise_images(0, SHAPE), 3, seed=0, device=CPU)


class Plain(Toy):
    """Toy that computes in the plain layout, and notes the layout of its images."""

    memory_format = torch.contiguous_format
    seen: list[bool]

    def step(self, x, t):
        self.seen.append(x.is_contiguous())
        return super().step(x, t)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_have_the_layout_of_the_model(layout, monkeypatch):
    monkeypatch.setattr(Plain, "seen", [], raising=False)
    monkeypatch.setattr(Plain, "memory_format", layout)
    model = Plain((3, 4, 4), HEALTHY)
    stepper = Stepper(model, Batches(noise_images(6, (3, 4, 4)), 3, seed=0, device=CPU), 0, "fp32")
    stepper(0)
    assert Plain.seen == [layout == torch.contiguous_format]


def test_an_outcome_counts_the_images_up_to_its_iteration(tmp_path, monkeypatch):
    assert fit(tmp_path / "done", steps=7).images_seen == 21
    monkeypatch.setattr("tests.test_engine.Toy", Phased)
    assert fit(tmp_path / "phases").images_seen == 30 + 2 * 94


# Continuation


@pytest.mark.parametrize("stops", [(1,), (20,), (25,), (7, 8, 30), (99,)])
def test_stops_anywhere_change_nothing(stops, tmp_path):
    whole = fit(tmp_path / "whole")
    for after in stops:
        interrupt(tmp_path / "parts", after if after == stops[0] else 1)
    parts = fit(tmp_path / "parts")
    assert same(whole.weights, parts.weights)
    assert whole.curve == parts.curve
    first, second = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert all(same(first[key], second[key]) for key in ("t", "model", "optimizers", "curve", "sums", "count"))


def test_weights_before_the_end_are_handed_over_and_stops_change_none(tmp_path):
    both = SnapshotDict([30, 55, 100]), SnapshotDict([30, 55, 100])
    outcome = fit(tmp_path / "whole", snapshots=both[0])
    interrupt(tmp_path / "parts", 40, snapshots=both[1])
    fit(tmp_path / "parts", snapshots=both[1])
    whole, parts = (snapshots.kept for snapshots in both)
    assert list(whole) == list(parts) == [30, 55, 100]
    assert all(same(whole[t], parts[t]) for t in whole)
    assert same(whole[100], outcome.weights)
    assert same(whole[55], fit(tmp_path / "shorter", steps=55).weights)


@pytest.mark.parametrize("gone", [2, 8])
def test_weights_before_the_end_that_are_gone_are_made_again(gone, tmp_path, capsys):
    """A finished run would not pass their iterations again: it starts over, once one before its state is missing."""
    snapshots = SnapshotDict([2, 8])
    options, kept = {"steps": 10, "snapshots": snapshots}, snapshots.kept
    fit(tmp_path, **options)
    expected, lost = dict(kept), kept.pop(gone)
    capsys.readouterr()
    fit(tmp_path, **options)
    assert f"the kept weights of iteration {gone} are gone, starting over" in capsys.readouterr().out
    assert same(kept[gone], lost)
    assert same(kept, expected)
    fit(tmp_path, **options)
    assert "continuing" in capsys.readouterr().out


def test_a_finished_run_given_again_returns_the_same(tmp_path):
    first = fit(tmp_path)
    again = fit(tmp_path)
    assert (again.status, again.step, again.attempts) == ("done", 100, 2)
    assert same(first.weights, again.weights)
    assert first.curve == again.curve


def test_stop_at_the_last_iteration_is_no_interruption(tmp_path):
    assert fit(tmp_path, steps=30, stop=stopping_after(30)).status == "done"


def test_deadline(tmp_path):
    interrupt(tmp_path, 13, reason="deadline")
    assert state(tmp_path)["t"] == 13
    assert events(tmp_path)[-1]["reason"] == "deadline"


def test_seeds_differ(tmp_path):
    assert not same(fit(tmp_path / "a").weights, fit(tmp_path / "b", seed=2).weights)


def test_state_of_another_run_is_ignored_with_a_message(tmp_path, capsys):
    interrupt(tmp_path / "other", 40, run_id="other", seed=2)
    (tmp_path / "this").mkdir()
    (tmp_path / "this" / "state.pt").write_bytes((tmp_path / "other" / "state.pt").read_bytes())
    capsys.readouterr()
    outcome = fit(tmp_path / "this")
    assert "belongs to another specification, code or data, starting over" in capsys.readouterr().out
    assert "belongs to another" in events(tmp_path / "this")[0]["message"]
    assert same(outcome.weights, fit(tmp_path / "whole").weights)


@pytest.mark.parametrize("damage", [b"", b"not a state", None])
def test_damaged_state_starts_over_with_a_message(damage, tmp_path, capsys):
    interrupt(tmp_path / "parts", 40)
    path = tmp_path / "parts" / "state.pt"
    path.write_bytes(path.read_bytes()[:2000] if damage is None else damage)
    capsys.readouterr()
    outcome = fit(tmp_path / "parts")
    assert "is unreadable" in capsys.readouterr().out
    assert same(outcome.weights, fit(tmp_path / "whole").weights)


# Divergence


@pytest.mark.parametrize("bad_step", [1, 7, 20, 21, 25, 39, 40, 100])
def test_bad_loss_is_found_at_its_iteration(bad_step, tmp_path):
    outcome = fit(tmp_path, h=Hparams(bad_step))
    assert (outcome.status, outcome.bad_step, outcome.term) == ("diverged", bad_step, "second")
    assert outcome.step == (bad_step - 1) // engine.CHECK_EVERY * engine.CHECK_EVERY
    assert all(torch.isfinite(tensor).all() for tensor in outcome.weights.values())
    assert all(math.isfinite(value) for row in outcome.curve for value in row.values())
    assert all(row["step"] < bad_step for row in outcome.curve)
    last = events(tmp_path)[-1]
    assert (last["event"], last["step"], last["term"]) == ("diverged", bad_step, "second")
    # The weights are those of a healthy run after as many iterations.
    if outcome.step:
        assert same(outcome.weights, fit(tmp_path / "healthy", steps=outcome.step).weights)


def test_buffers_count_as_weights(tmp_path):
    """A buffer that no loss shows (batch norm's averages) is found too, at the next check."""
    outcome = fit(tmp_path, h=Hparams(25, "buffer"))
    assert (outcome.status, outcome.bad_step, outcome.term, outcome.step) == ("diverged", 40, "weights", 20)
    assert torch.isfinite(outcome.weights["average"])


def test_bad_weights_show_in_the_next_loss(tmp_path):
    outcome = fit(tmp_path, h=Hparams(25, "weights"))
    assert (outcome.status, outcome.bad_step, outcome.step) == ("diverged", 26, 20)


@pytest.mark.parametrize("where", ["loss", "weights", "buffer"])
@pytest.mark.parametrize("after", [5, 20, 24, 25, 27])
def test_a_stop_does_not_change_how_a_run_diverges(after, where, tmp_path):
    h = Hparams(31, where) if after < 31 and where == "loss" else Hparams(25, where)
    whole = fit(tmp_path / "whole", h=h)
    try:
        fit(tmp_path / "parts", h=h, stop=stopping_after(after))
    except engine.Interrupted:
        parts = fit(tmp_path / "parts", h=h)
    else:
        parts = fit(tmp_path / "again", h=h, stop=stopping_after(after))  # diverged before the stop
    assert (whole.status, whole.bad_step, whole.term, whole.step) == (
        parts.status,
        parts.bad_step,
        parts.term,
        parts.step,
    )
    assert same(whole.weights, parts.weights)
    assert whole.curve == parts.curve


# Records


def test_states_are_saved_at_the_cadence(tmp_path):
    fit(tmp_path, steps=200, save_every=60)
    assert [e["t"] for e in events(tmp_path) if e["event"] == "saved"] == [60, 120, 180, 200]


def test_states_are_saved_as_time_passes(tmp_path):
    fit(tmp_path, steps=100, save_every_s=0.0)
    assert [e["t"] for e in events(tmp_path) if e["event"] == "saved"] == [20, 40, 60, 80, 100]


@pytest.mark.parametrize("jump", [-1e6, 1e6, math.nan])
def test_a_clock_that_jumps_neither_stops_saving_nor_changes_a_run(jump, tmp_path, monkeypatch):
    """Back, forth, or at random; the time a run took is never negative."""
    expected = fit(tmp_path / "steady").weights
    with monkeypatch.context() as faked:
        steady, draw, reads = engine.time.monotonic, np.random.default_rng(0), iter(range(10**6))
        moved = (lambda: jump * (next(reads) > 5)) if math.isfinite(jump) else (lambda: draw.normal(0, 1e6))
        faked.setattr(engine.time, "monotonic", lambda: steady() + moved())
        faked.setattr(engine.time, "time", lambda: draw.normal(0, 1e9))
        interrupt(tmp_path / "jumping", 50)
        outcome = fit(tmp_path / "jumping")
    assert same(outcome.weights, expected)
    assert outcome.seconds >= 0
    saved = [event["t"] for event in events(tmp_path / "jumping") if event["event"] == "saved"]
    assert {50, 100} < set(saved)  # and once more because of the jump
    assert all(event.get("seconds", 0) >= 0 for event in events(tmp_path / "jumping"))
    assert all(event.get("seconds_left", 0) >= 0 for event in events(tmp_path / "jumping"))


def test_a_damaged_history_is_no_obstacle(tmp_path):
    interrupt(tmp_path, 50)
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b"\xff\x00 half a line")
    assert same(fit(tmp_path).weights, fit(tmp_path / "whole").weights)


def test_a_death_between_saves_loses_only_what_came_after(tmp_path):
    """The engine dies at t = 70 (as by kill -9: nothing is saved on the way out) and goes on from t = 60."""

    def stop():
        stop.count += 1
        if stop.count == 70:
            raise KeyboardInterrupt

    stop.count = 0
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", stop=stop, save_every=30)
    assert state(tmp_path / "parts")["t"] == 60
    outcome = fit(tmp_path / "parts")
    assert outcome.attempts == 2
    assert events(tmp_path / "parts")[-3]["t"] == 60
    whole = fit(tmp_path / "whole")
    assert same(outcome.weights, whole.weights)
    assert outcome.curve == whole.curve


def test_events_are_appended_and_numbered(tmp_path):
    interrupt(tmp_path, 10)
    before = (tmp_path / "events.jsonl").read_text()
    (tmp_path / "state.pt").unlink()  # as if the attempt had died before its first save
    interrupt(tmp_path, 10)
    fit(tmp_path)
    assert (tmp_path / "events.jsonl").read_text().startswith(before)
    log = events(tmp_path)
    assert [(e["event"], e["attempt"]) for e in log] == [
        ("start", 1),
        ("saved", 1),
        ("interrupted", 1),
        ("start", 2),
        ("saved", 2),
        ("interrupted", 2),
        ("start", 3),
        ("saved", 3),
        ("done", 3),
    ]
    assert log[0].keys() >= {"t", "seconds", "message", "run_id", "device", "steps", "time"}
    assert log[3]["t"] == 0
    assert log[6]["t"] == 10
    assert log[-1]["seconds"] >= log[6]["seconds"] >= log[4]["seconds"] > 0  # seconds are those of all attempts


@pytest.mark.parametrize("steps", [1, 3, 100, 200, 201, 450, 999])
def test_the_curve_has_about_200_rows_of_means(steps, tmp_path, monkeypatch):
    seen = []
    step = Toy.step

    def recorded(self, x, t):
        losses = step(self, x, t)
        seen.append(losses["first"].item())
        return losses

    monkeypatch.setattr(Toy, "step", recorded)
    curve = fit(tmp_path, steps=steps).curve
    assert len(curve) <= engine.CURVE_ROWS
    assert len(curve) >= min(steps, engine.CURVE_ROWS // 2)
    ends = [row["step"] for row in curve]
    assert ends[-1] == steps
    for start, row in zip([0, *ends], curve):
        assert list(row) == ["step", "first", "second"]
        assert row["first"] == pytest.approx(np.mean(seen[start : row["step"]]), rel=1e-6)


def test_schedules_are_functions_of_t(tmp_path, monkeypatch):
    """A continued run uses the rate of its iteration, not of its attempt."""
    used = []
    step = Toy.step

    def recorded(self, x, t):
        used.append(self.optimizers["toy"].param_groups[0]["lr"])
        return step(self, x, t)

    monkeypatch.setattr(Toy, "learning_rates", lambda self, t: {"toy": 0.1 / (1 + t)})
    monkeypatch.setattr(Toy, "step", recorded)
    interrupt(tmp_path, 5)
    fit(tmp_path, steps=8)
    assert used == [0.1 / (1 + t) for t in range(8)]


# Runs written out by hand


def seed_of(*names: str | int) -> int:
    """The first 63 bits of the sha256 of the names as JSON."""
    text = json.dumps(list(names), separators=(",", ":"))
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) // 2


def batch_by_hand(t: int, seed: int) -> torch.Tensor:
    """Three of ten images, from an endless row of permutations."""
    permutations = [
        torch.randperm(10, generator=torch.Generator().manual_seed(seed_of("order", seed, epoch)))
        for epoch in range(20)
    ]
    return torch.from_numpy(noise_images(10, SHAPE))[torch.cat(permutations)[3 * t : 3 * t + 3]].float() / 127.5 - 1


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_is_what_its_seeds_say(seed, tmp_path):
    """First weights, order of images and noise of every iteration by their names; losses and last weights of Adam."""
    outcome = fit(tmp_path, steps=30, seed=seed)
    torch.manual_seed(seed_of("init", seed))
    weight = torch.randn(SHAPE).requires_grad_()
    first, second, losses = torch.zeros(SHAPE), torch.zeros(SHAPE), []
    for t in range(30):
        torch.manual_seed(seed_of("step", seed, t))
        x = batch_by_hand(t, seed)
        loss = ((x + 0.1 * torch.randn(x.shape)) * weight).sum((1, 2, 3)).square().mean()
        (gradient,) = torch.autograd.grad(loss, weight)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        step = first / (1 - 0.9 ** (t + 1)) / ((second / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
        weight = (weight - 0.01 * step).detach().requires_grad_()
        losses.append(loss.item())
    assert [row["step"] for row in outcome.curve] == list(range(1, 31))
    assert [row["first"] for row in outcome.curve] == pytest.approx(losses, rel=1e-4)
    assert torch.allclose(outcome.weights["weight"], weight, atol=1e-4)


class Normed(Averaged):
    """Its images pass a batch norm, whose averages it notes."""

    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__(image_shape, h)
        self.norm = torch.nn.BatchNorm2d(1, affine=False)

    def step(self, x, t):
        self.norm(x)
        self.seen.append((self.norm.running_mean.clone(), self.norm.running_var.clone()))
        return super(Averaged, self).step(x, t)


def test_averages_of_batch_norm_are_averaged_like_weights(tmp_path, monkeypatch):
    """Copies of the last ones would belong to other weights."""
    monkeypatch.setattr(Normed, "seen", [], raising=False)
    monkeypatch.setattr("tests.test_engine.Toy", Normed)
    weights = fit(tmp_path, steps=25).weights
    average = [0.0, 1.0]
    for t, found in enumerate(Normed.seen):
        rate = 1 - min(0.7, (t + 1) / (t + 10))
        average = [(1 - rate) * old + rate * new.item() for old, new in zip(average, found, strict=True)]
    assert [weights[f"norm.{name}"].item() for name in ("running_mean", "running_var")] == pytest.approx(
        average, abs=1e-6
    )
    assert abs(average[0] - Normed.seen[-1][0].item()) > 1e-4
    assert weights["norm.num_batches_tracked"] == 25


def test_weights_before_the_end_are_averages_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Averaged, "seen", [], raising=False)
    monkeypatch.setattr("tests.test_engine.Toy", Averaged)
    snapshots = SnapshotDict([12])
    fit(tmp_path, steps=30, snapshots=snapshots)
    torch.manual_seed(seed_of("init", 1))
    average = torch.randn(SHAPE)
    for t, weight in enumerate(Averaged.seen[:12]):
        decay = min(0.7, (t + 1) / (t + 10))
        average = decay * average + (1 - decay) * weight
    assert torch.allclose(snapshots.kept[12]["weight"], average, atol=1e-6)
    assert not torch.allclose(snapshots.kept[12]["weight"], Averaged.seen[11], atol=1e-4)


@pytest.mark.parametrize("precision, made", [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_step_computes_in_its_precision(precision, made, tmp_path, monkeypatch):
    kinds = []
    step = Toy.step

    def noted(self, x, t):
        kinds.append((x.flatten(1) @ x.flatten(1).T).dtype)
        return step(self, x, t)

    monkeypatch.setattr(Toy, "step", noted)
    fit(tmp_path, steps=2, precision=precision)
    assert kinds == [made] * 2


def test_a_run_reports_while_it_works_and_reports_change_no_weight(tmp_path, monkeypatch, capsys):
    silent = fit(tmp_path / "silent")
    assert "progress" not in [event["event"] for event in events(tmp_path / "silent")]  # ten seconds never pass
    capsys.readouterr()
    monkeypatch.setattr("dtri.progress.EVERY_S", 0.0)
    telling = fit(tmp_path / "telling")
    said = [event for event in events(tmp_path / "telling") if event["event"] == "progress"]
    assert [event["t"] for event in said] == list(range(1, 101))
    assert {"steps", "images_per_s", "seconds_left", "losses"} <= said[50].keys()
    assert said[50]["losses"] == telling.curve[39] | {"step": 40}  # of the last look at the losses
    assert said[-1]["seconds_left"] == 0
    out = capsys.readouterr().out
    assert "iteration 51/100, " in out
    assert " s left; first " in out
    header, *rows = (tmp_path / "telling" / "train.csv").read_text().splitlines()
    assert header == ",".join(telling.curve[0])
    assert len(rows) == 80  # the curve before the last look at the losses
    same(silent.weights, telling.weights)
