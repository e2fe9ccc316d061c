"""What every configured model promises, at every supported image shape. New models are found by themselves."""

import contextlib
import random
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dtri import engine, evaluation, experiment, images
from dtri.batches import Batches
from dtri.experiment import TrainSpec
from dtri.model import Model, has
from dtri.trained import load_model
from dtri.weights import save_weights
from tests.toys import noise_images, same, stopping_after
from workflow import configuration

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64)]
CPU = torch.device("cpu")
BATCH = 6
SMALL = {"width": 0.05, "langevin_steps": 2, "chains": BATCH, "buffer_size": 10}  # where a model has these
GROWTH = {"fade_kimg": 3e-3 * BATCH, "stable_kimg": 2e-3 * BATCH, "batch_sizes": [BATCH] * 9}  # 3 and 2 iterations

every_model = pytest.mark.parametrize("name", configuration.models())
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))


def spec(name: str, shape: tuple[int, int, int]) -> TrainSpec:
    """A small run. MEG's weights N(0, 0.02) leave narrower networks so silent that gradients of offsets cancel."""
    entry = configuration.models()[name]
    small = {name: value for name, value in (SMALL | GROWTH).items() if name in experiment.hparam_defaults(entry.entry)}
    hparams = {**entry.hparams, **small, **({"width": 0.2} if name == "meg" else {})}
    return TrainSpec("noise", name, entry.entry, shape, hparams, steps=12, batch_size=BATCH, seed=3)


def build(name: str, shape: tuple[int, int, int], seed: int = 0) -> Model:
    torch.manual_seed(seed)
    chosen = spec(name, shape)
    model = experiment.build(chosen.entry, chosen.image_shape, chosen.hparams).train()
    if has(model, "sample"):
        experiment.set_sampler(model, chosen.entry, {"steps": 2})
    return model


def stored_batches(shape: tuple[int, int, int]) -> Batches:
    return Batches(noise_images(20, shape), BATCH, seed=0, device=CPU)


def batches(shape: tuple[int, int, int]) -> Callable[[int], torch.Tensor]:
    """Batch t as `step` takes it."""
    stored = stored_batches(shape)
    return lambda t: images.to_float(stored(t)).contiguous(memory_format=torch.channels_last)


def iterations(model: Model) -> list[int]:
    """The first four iterations, and two of every phase: steps of one phase take the same code path."""
    phases: dict[Hashable, list[int]] = {}
    for t in range(1000):
        phases.setdefault(model.phase(t), []).append(t)
    return sorted({*range(4), *(t for ts in phases.values() for t in ts[:2])})


def test_iterations_reach_every_phase():
    assert iterations(SimpleNamespace(phase=lambda t: 0)) == [0, 1, 2, 3]
    assert iterations(SimpleNamespace(phase=lambda t: t % 5 == 4)) == [0, 1, 2, 3, 4, 9]
    assert iterations(SimpleNamespace(phase=lambda t: min(t, 500))) == list(range(502))


class NoSync(TorchDispatchMode):
    """Raises where a tensor's value reaches the host. Optimisers are let off: they read their own step counters."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        if (name in self.FORBIDDEN or masked) and not _called_by_optimizer():
            raise AssertionError(f"the step waits for a tensor's value ({func})")
        return func(*args, **(kwargs or {}))


def _called_by_optimizer() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if "/torch/optim/" in Path(frame.f_code.co_filename).as_posix():
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def host_untouched(monkeypatch):
    """No value crosses to the host and no generator but torch's is drawn from."""

    def forbidden(*_):
        raise AssertionError("the step copies a tensor to the host")

    numpy_before, python_before = np.random.get_state(), random.getstate()  # noqa: NPY002 - the global state is meant
    with NoSync(), monkeypatch.context() as patched:
        for method in ("tolist", "numpy", "__array__", "cpu"):
            patched.setattr(torch.Tensor, method, forbidden)
        yield
    assert random.getstate() == python_before, "the step draws from Python's generator"
    numpy_after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(numpy_before[1], numpy_after[1]), "the step draws from NumPy's generator"
    assert numpy_before[2] == numpy_after[2], "the step draws from NumPy's generator"


@pytest.mark.parametrize(
    "read",
    [lambda x: x.mean().item(), lambda x: float(x.mean()), lambda x: 1 if x.mean() > 0 else 0, lambda x: x[x > 0]]
    + [lambda x: x.tolist(), lambda x: x.numpy(), lambda x: random.random(), lambda x: np.random.rand()],  # noqa: NPY002
)
def test_the_guard_notices(read, monkeypatch):
    x = torch.ones(3)
    with pytest.raises(AssertionError), host_untouched(monkeypatch):
        read(x)


@every_shape
@every_model
def test_step(name, shape, monkeypatch):
    """Finite losses under the same names at every t, no host in between, and every network moves."""
    model, batch = build(name, shape), batches(shape)
    params = dict(model.named_parameters())
    owned = [p for optimizer in model.optimizers.values() for group in optimizer.param_groups for p in group["params"]]
    assert len(owned) == len(set(owned)), "a parameter belongs to two optimisers"
    assert set(owned) == set(params.values()), "a parameter belongs to no optimiser"
    before = {n: p.detach().clone() for n, p in params.items()}
    touched: set[str] = set()
    names = None
    for t in iterations(model):
        rates = model.learning_rates(t)
        assert rates.keys() <= model.optimizers.keys()
        assert all(isinstance(rate, float) and rate > 0 for rate in rates.values())
        torch.manual_seed(t)
        model.begin(t)
        x = batch(t)
        with host_untouched(monkeypatch):
            losses = model.step(x, t)
        assert all(p.requires_grad for p in params.values()), "a parameter stays frozen after the step"
        assert "step" not in losses  # the curve's first column
        names = names or list(losses)
        assert list(losses) == names
        for term, value in losses.items():
            assert value.shape == (), term
            assert not value.requires_grad, f"{term} keeps the graph of the step alive"
            assert torch.isfinite(value), (term, t)
        touched |= {n for n, p in params.items() if p.grad is not None and p.grad.any()}
    moved = {n for n, p in params.items() if not torch.equal(p, before[n])}
    assert touched <= moved
    # A critic's offset cancels in f(real) - f(fake) where no unit behind it changes sign between the two, which for
    # all but the last depends on the processor's rounding. Nothing else may rest.
    resting = params.keys() - moved
    assert all(n.endswith(".bias") and params[n].grad is not None for n in resting), resting
    assert len(resting) <= 2


@every_shape
@every_model
def test_maps(name, shape):
    """The maps that exist have the shapes and ranges of the contract, in evaluation mode and deterministically."""
    model = build(name, shape).eval()
    assert model.image_shape == shape
    assert any(has(model, map_name) for map_name in ("generate", "infer", "energy"))
    assert has(model, "sample") == hasattr(model, "sampler")
    x, z = batches(shape)(0), torch.randn(BATCH, model.z_dim)
    with torch.no_grad():
        if has(model, "generate"):
            y = model.generate(z)
            assert y.shape == (BATCH, *shape)
            assert y.abs().max() <= 1
            assert torch.equal(y, model.generate(z))
        if has(model, "sample"):
            first, second, other = (model.sample(z, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
            assert first.shape == (BATCH, *shape)
            assert torch.equal(first, second)
            assert not torch.equal(first, other)
        if has(model, "generate") or has(model, "sample"):
            assert evaluation.sample(model, 5, seed=1).dtype == np.uint8
            assert np.array_equal(evaluation.sample(model, 5, seed=1), evaluation.sample(model, 5, seed=1))
        if has(model, "infer"):
            assert model.infer(x).shape == (BATCH, model.z_dim)
            assert torch.equal(model.infer(x), model.infer(x))
        if has(model, "energy"):
            assert model.energy(x).shape == (BATCH,)
            assert model.energy(x).dtype == torch.float32
            assert torch.equal(model.energy(x), model.energy(x))
        if has(model, "anomaly_scores"):
            scores, again = model.anomaly_scores(x), model.anomaly_scores(x)
            assert not scores.keys() & {"energy", "sse", "reversed"}
            assert all(score.shape == (BATCH,) for score in scores.values())
            assert same(scores, again)


@every_model
def test_missing_map_is_an_error(name):
    model = build(name, SHAPES[0])
    for map_name in ("generate", "infer", "energy", "sample"):
        if has(model, map_name):
            evaluation.require(model, map_name)
        else:
            with pytest.raises(ValueError, match=f"expected a model with the map '{map_name}'"):
                evaluation.require(model, map_name)


@every_model
def test_same_seed_same_model(name):
    first, second, other = (build(name, SHAPES[1], seed) for seed in (0, 0, 1))
    assert same(first.state_dict(), second.state_dict())
    assert not same(first.state_dict(), other.state_dict())


@every_shape
@every_model
def test_only_the_moving_player_gets_gradients(name, shape, monkeypatch):
    """Of a model that grows, every parameter gets one in some phase."""
    model = build(name, shape)
    grows = hasattr(model, "at_level")
    players: list[str] = []
    used: set[str] = set()
    descend = model.descend

    def checked(player: str, *args, **kwargs) -> None:
        model.zero_grad(set_to_none=True)
        descend(player, *args, **kwargs)
        players.append(player)
        own = {p for group in model.optimizers[player].param_groups for p in group["params"]}
        for n, p in model.named_parameters():
            if p in own:
                assert p.grad is not None or grows, f"{n} gets no gradient while {player} moves"
                used.update([n] if p.grad is not None else [])
            else:
                assert p.grad is None, f"{n} gets a gradient that is thrown away while {player} moves"

    monkeypatch.setattr(model, "descend", checked)
    moved: dict[Hashable, list[str]] = {}
    for t in iterations(model):
        players.clear()
        model.begin(t)
        model.step(batches(shape)(t), t)
        same_phase = moved.setdefault(model.phase(t), list(players))
        assert players == same_phase, f"other players move at iteration {t} than before in phase {model.phase(t)!r}"
    assert {player for names in moved.values() for player in names} == set(model.optimizers)
    assert used == {n for n, _ in model.named_parameters()}


@every_shape
@every_model
def test_interrupted_equals_uninterrupted(name, shape, tmp_path):
    """Bitwise: weights, optimiser states and curve. And the saved model draws the same samples."""
    chosen, stored = spec(name, shape), noise_images(20, shape)

    def fit(folder: Path, **options) -> engine.Outcome:
        folder.mkdir(exist_ok=True)
        return engine.fit(
            lambda: experiment.build(chosen.entry, shape, chosen.hparams),
            stored,
            steps=chosen.steps,
            batch_size=chosen.batch_size,
            seed=chosen.seed,
            device=CPU,
            state_path=folder / "state.pt",
            events_path=folder / "events.jsonl",
            run_id="run",
            **options,
        )

    whole = fit(tmp_path / "whole")
    with pytest.raises(engine.Interrupted, match="iteration 5"):
        fit(tmp_path / "parts", stop=stopping_after(5))
    parts = fit(tmp_path / "parts")
    assert (whole.status, whole.step) == (parts.status, parts.step) == ("done", 12)
    assert same(whole.weights, parts.weights)
    assert whole.curve == parts.curve
    states = [torch.load(tmp_path / folder / "state.pt", weights_only=True) for folder in ("whole", "parts")]
    for key in ("t", "model", "buffers", "optimizers", "curve", "sums", "count"):
        assert same(states[0][key], states[1][key]), key

    trained = build(name, shape, seed=9)
    trained.to(memory_format=trained.memory_format)  # as when loaded
    trained.load_state_dict(whole.weights)
    save_weights(tmp_path / "model.safetensors", whole.weights, chosen)
    loaded, found = load_model(tmp_path / "model.safetensors")
    assert found == chosen
    if not has(trained, "generate") and not has(trained, "sample"):
        return
    if has(trained, "sample"):
        loaded.sampler = trained.sampler
    assert np.array_equal(evaluation.sample(trained.eval(), 7, seed=2), evaluation.sample(loaded, 7, seed=2))


@every_model
def test_step_on_another_device(name):
    """The meta device computes nothing, and refuses what a step makes on the CPU as a GPU would."""
    shape = SHAPES[0]
    model = build(name, shape).to("meta")
    for t in iterations(model)[:6]:
        model.begin(t)
        losses = model.step(torch.empty(BATCH, *shape, device="meta"), t)
        assert {value.device.type for value in losses.values()} == {"meta"}


def test_the_other_device_notices_a_tensor_of_the_cpu():
    model = build("dcgan", SHAPES[0]).to("meta")
    x = torch.empty(BATCH, *SHAPES[0], device="meta")
    with pytest.raises((RuntimeError, ValueError), match="meta"):
        model.discriminator(model.generate(torch.randn(BATCH, model.z_dim))) + model.discriminator(x)
