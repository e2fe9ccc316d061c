"""Recorded iterations: replays of every system equal eager iterations, and what a recording cannot hold is noticed.

The recorder is tests/fake_cuda_graph.py, which needs no GPU and bakes in what a CUDA graph bakes in.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dtri import engine, recording
from dtri.batches import Batches
from dtri.model import Model
from dtri.stepper import Stepper
from tests import fake_cuda_graph, test_contract
from tests.toys import Hparams, Toy, noise_images, same, stopping_after
from workflow import configuration

CPU = torch.device("cpu")
SHAPE = (1, 4, 4)


def trained(model: Model, batches: Batches, n: int, recorder, precision: str = "fp32"):
    """(state, losses of n iterations, reasons against recording, phases replayed)"""
    reasons: list[str] = []
    for optimizer in model.optimizers.values():
        recording.make_recordable(optimizer, CPU)
    stepper = Stepper(model, batches, 0, precision, recorder, reasons.append)
    losses = [stepper(t) for t in range(n)]
    replayed = {phase for phase, replay in stepper.replays.items() if replay is not None}
    return model.state_dict(), losses, reasons, replayed


@pytest.mark.parametrize("name", configuration.models())
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_replays_equal_eager_iterations(name: str, precision: str):
    def run(recorder):
        model = test_contract.build(name, (1, 28, 28)).to(memory_format=torch.channels_last)
        rare = {"wgan", "wgan_gp", "meg"}  # whose second phase comes every fifth iteration
        return trained(model, test_contract.stored_batches((1, 28, 28)), 16 if name in rare else 4, recorder, precision)

    (eager, eager_losses, *_), (state, losses, reasons, replayed) = run(None), run(fake_cuda_graph.record)
    assert reasons == []
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


def test_the_tape_bakes_in_what_a_graph_bakes_in():
    eager, state = toys(Baked, None), toys(Baked, fake_cuda_graph.record)
    assert state[3] == {0}
    assert not same(eager[0], state[0])


def test_what_cannot_be_recorded_stays_eager_with_a_reason():
    eager, state = toys(Asking, None), toys(Asking, fake_cuda_graph.record)
    assert same(eager[0], state[0])
    assert state[3] == set()
    (reason,) = state[2]
    assert reason.startswith("phase 0 runs eagerly, it cannot be recorded: ")
    assert "asks the host" in reason


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
