"""Recorded iterations: replays of every system equal eager iterations, and what a recording cannot hold is noticed.

The recorder is tests/fake_cuda_graph.py, which needs no GPU and bakes in what a CUDA graph bakes in.
"""

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from dtri import engine, proof, recording
from dtri.batches import Batches
from dtri.model import Model
from dtri.stepper import Stepper
from tests import fake_cuda_graph, test_contract
from tests.toys import Hparams, Toy, noise_images, same, stopping_after
from workflow import configuration

CPU = torch.device("cpu")
SHAPE = (1, 4, 4)


def trained(model: Model, batches: Batches, n: int, recorder, precision: str = "fp32"):
    """(state, losses of n iterations, what the phases' modes are for, phases replayed)"""
    reasons: list[str] = []
    for optimizer in model.optimizers.values():
        recording.make_recordable(optimizer, CPU)
    stepper = Stepper(model, batches, 0, precision, recorder, lambda *told: reasons.append(told[-1]), steps=1000)
    losses = [stepper(t) for t in range(n)]
    replayed = {phase for phase, replay in stepper.replays.items() if replay is not None}
    return model.state_dict(), losses, reasons, replayed


@pytest.mark.parametrize("name", configuration.models())
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_replays_equal_eager_iterations(name: str, precision: str):
    def run(recorder):
        model = test_contract.build(name, (1, 28, 28))
        model.to(memory_format=model.memory_format)
        rare = {"wgan", "wgan_gp", "meg"}  # whose second phase comes every fifth iteration
        return trained(model, test_contract.stored_batches((1, 28, 28)), 16 if name in rare else 4, recorder, precision)

    (eager, eager_losses, *_), (state, losses, reasons, replayed) = run(None), run(fake_cuda_graph.record)
    assert set(reasons) == {"equal to eager iterations to the bit"}
    assert replayed == {test_contract.build(name, (1, 28, 28)).phase(t) for t in range(len(losses))}
    assert same(eager, state)
    assert [one.names for one in losses] == [one.names for one in eager_losses]
    assert same([one.values for one in losses], [one.values for one in eager_losses])


class Scheduled(Toy):
    """Its learning rate and the weight of its loss follow a schedule."""

    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__(image_shape, h)
        self.register_buffer("slope", torch.zeros(()), persistent=False)

    def learning_rates(self, t: int) -> dict[str, float]:
        return {"toy": 1e-2 / (t + 1)}

    def begin(self, t: int) -> None:
        self.slope.fill_(1.0 + t)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        loss = self.slope * self.energy(x).mean()
        self.descend("toy", loss)
        return {"loss": loss.detach()}


class Baked(Toy):
    """Reads the iteration where a recording cannot follow."""

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        return super().step(x * (1 + t), t)


class Seldom(Toy):
    """Reads a number of the host that changes at every hundredth iteration."""

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        return super().step(x * 0.999 ** (t // 100), t)


class HostNoise(Toy):
    """Draws noise on the host, from a generator that nobody seeds."""

    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__(image_shape, h)
        self.rng = np.random.default_rng(0)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        return super().step(x + 0.01 * torch.from_numpy(self.rng.standard_normal(x.shape, dtype=np.float32)), t)


class OwnNoise(Toy):
    """Draws noise from a generator of its own."""

    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__(image_shape, h)
        self.generator = torch.Generator().manual_seed(0)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        return super().step(x + 0.01 * torch.randn(x.shape, generator=self.generator), t)


class StaleRate(Toy):
    """Sets its learning rate, a number of Python, within the step; it falls by 1 % at every hundredth iteration."""

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        return {"toy": SGD([self.weight], 1e-3)}

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        for group in self.optimizers["toy"].param_groups:
            group["lr"] = 1e-3 * 0.99 ** (t // 100)
        return super().step(x, t)


class Replacing(Toy):
    """Puts a new tensor in the place of a buffer."""

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        losses = super().step(x, t)
        self.average = self.average + 1
        return losses


class Remembering(Toy):
    """Remembers a tensor that is no buffer."""

    last: Tensor | None = None

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        losses = super().step(x if self.last is None else x + self.last, t)
        self.last = x.mean()
        return losses


class Asking(Toy):
    """Asks the host for a value."""

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        return super().step(x / x.abs().max().item(), t)


def toys(kind: type[Toy], recorder):
    torch.manual_seed(0)
    batches = Batches(noise_images(10, SHAPE), 3, seed=0, device=CPU)
    return trained(kind(SHAPE, Hparams()), batches, 8, recorder)


def test_schedules_reach_replays():
    eager, state = toys(Scheduled, None), toys(Scheduled, fake_cuda_graph.record)
    assert same(eager[0], state[0])
    assert state[3] == {0}
    assert [one.values.item() for one in state[1]] == [one.values.item() for one in eager[1]]


def test_the_fake_graph_bakes_in_what_a_graph_bakes_in(monkeypatch):
    monkeypatch.setattr(proof, "compare", lambda *_: proof.Verdict(True, "believed"))
    eager, state = toys(Baked, None), toys(Baked, fake_cuda_graph.record)
    assert state[3] == {0}
    assert not same(eager[0], state[0])


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Baked, "differs from eager iterations: largest difference"),
        (Seldom, "differs from eager iterations: largest difference"),
        (StaleRate, "differs from eager iterations: largest difference"),
        (HostNoise, "differs from eager iterations, which do not repeat themselves either"),
        (OwnNoise, "differs from eager iterations, which do not repeat themselves either"),
        (Remembering, "differs from eager iterations"),
        (Replacing, "not recorded: average is not updated in place"),
        (Asking, "not recorded: aten._local_scalar_dense.default asks the host for a value"),
    ],
)
def test_planted_faults_stay_eager(kind: type[Toy], told: str):
    _, _, (reason,), replayed = toys(kind, fake_cuda_graph.record)
    assert reason.startswith(told)
    assert replayed == set()


@pytest.mark.parametrize("kind", [Baked, Seldom, StaleRate, Replacing, Asking])
def test_a_phase_that_stays_eager_has_the_numbers_of_an_eager_run(kind: type[Toy]):
    eager, state = toys(kind, None), toys(kind, fake_cuda_graph.record)
    assert same(eager[0], state[0])
    assert same([one.values for one in state[1]], [one.values for one in eager[1]])


def test_kernels_that_do_not_repeat_themselves_are_compared_within_a_tolerance(monkeypatch):
    """As of atomic additions: the last bits of a gradient are random."""
    rng = np.random.default_rng(0)

    def rounded(self: Toy, player: str, loss: Tensor, clip_norm: float | None = None) -> None:
        (gradient,) = torch.autograd.grad(loss, self.weight)
        with torch.no_grad():
            self.weight -= 1e-3 * gradient * (1 + size * rng.standard_normal())

    monkeypatch.setattr(Toy, "descend", rounded)
    size = 1e-6
    assert toys(Toy, fake_cuda_graph.record)[2][0].startswith("equal to eager iterations within 0.005 of their updates")
    size = 0.1
    assert "differs from eager iterations, which do not" in toys(Toy, fake_cuda_graph.record)[2][0]


def test_the_difference_names_its_tensor():
    _, _, (reason,), _ = toys(StaleRate, fake_cuda_graph.record)
    assert reason.endswith("in weight")


def test_replays_are_compared_late_in_the_phase():
    assert proof.others(lambda t: 0, 5, 1000) == (6, 999)
    assert proof.others(lambda t: t % 5 == 4, 4, 1000) == (9, 999)
    assert proof.others(lambda t: t >= 500, 5, 100_000) == (6, 64)
    assert proof.others(lambda t: t, 5, 1000) == (5, 5)
    assert proof.others(lambda t: 0, 999, 1000) == (999, 999)


def fit(folder: Path, recorder, **options) -> engine.Outcome:
    folder.mkdir(exist_ok=True)
    paths = {"state_path": folder / "state.pt", "events_path": folder / "events.jsonl"}
    sizes = {"steps": 60, "batch_size": 3, "seed": 1, "device": CPU, "run_id": "run"}
    return engine.fit(
        lambda: Toy(SHAPE, Hparams()), noise_images(10, SHAPE), **paths, **sizes, recorder=recorder, **options
    )


@pytest.mark.parametrize("after", [1, 21, 50])
def test_a_recorded_run_continues_as_if_never_stopped(after: int, tmp_path: Path):
    whole = fit(tmp_path / "whole", fake_cuda_graph.record)
    with pytest.raises(engine.Interrupted):
        fit(tmp_path / "parts", fake_cuda_graph.record, stop=stopping_after(after))
    parts = fit(tmp_path / "parts", fake_cuda_graph.record)
    assert same(whole.weights, parts.weights)
    assert whole.curve == parts.curve


@pytest.mark.parametrize(("first", "then"), [(fake_cuda_graph.record, None), (None, fake_cuda_graph.record)])
def test_a_run_continues_recorded_or_eager_whatever_it_was(first, then, tmp_path: Path):
    """Optimisers differ (fused or not), so the numbers do by rounding."""
    whole = fit(tmp_path / "whole", first)
    with pytest.raises(engine.Interrupted):
        fit(tmp_path / "parts", first, stop=stopping_after(30))
    parts = fit(tmp_path / "parts", then)
    torch.testing.assert_close(whole.weights, parts.weights, rtol=1e-5, atol=1e-6)
    assert parts.step == 60


def test_a_run_says_how_it_trained(tmp_path: Path):
    outcome = fit(tmp_path / "recorded", fake_cuda_graph.record)
    why = "equal to eager iterations to the bit"
    assert outcome.modes == {"0": f"recorded, {why}"}
    events = [json.loads(line) for line in (tmp_path / "recorded" / "events.jsonl").read_text("utf-8").splitlines()]
    (event,) = (event for event in events if event["event"] == "recorded")
    assert (event["phase"], event["why"]) == ("0", why)
    assert fit(tmp_path / "eager", None).modes == {"0": "eager"}


def test_a_run_that_goes_on_eagerly_says_so(tmp_path: Path):
    with pytest.raises(engine.Interrupted):
        fit(tmp_path, fake_cuda_graph.record, stop=stopping_after(30))
    assert fit(tmp_path, None).modes == {"0": "eager"}
