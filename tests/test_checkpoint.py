"""Saved states and weights: atomic, self-describing, and clear errors when they do not fit."""

import json
import resource
import stat

import pytest
import safetensors.torch
import torch

from dtri import checkpoint, experiment
from dtri.experiment import TrainSpec
from dtri.trained import load_model
from dtri.weights import replace_file, save_weights, tensors_hash
from tests.toys import same

SPEC = TrainSpec("noise", "toy", "tests.toys:Toy", (1, 4, 4), {"bad_step": 3}, steps=5, batch_size=2, seed=0)


def toy(spec: TrainSpec = SPEC):
    return experiment.build(spec.entry, spec.image_shape, spec.hparams)


def test_state_round_trip(tmp_path):
    model = toy()
    model.step(torch.randn(2, 1, 4, 4), 0)
    saved = {
        "run_id": "a",
        "t": 7,
        "curve": [{"step": 3, "loss": 0.1}],
        "last_finite": ({"w": torch.randn(2)}, 3),
        "model": model.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in model.optimizers.items()},
    }
    checkpoint.save_state(tmp_path / "state.pt", saved)
    loaded, message = checkpoint.load_state(tmp_path / "state.pt", "a")
    assert same(loaded, saved)
    assert message == f"continuing {tmp_path / 'state.pt'} at iteration 7"


def test_state_of_another_run_absent_or_damaged(tmp_path):
    path = tmp_path / "state.pt"
    assert checkpoint.load_state(path, "a") == (None, "no saved state")
    checkpoint.save_state(path, {"run_id": "b", "t": 1})
    state, message = checkpoint.load_state(path, "a")
    assert state is None
    assert "belongs to another specification, code or data" in message
    torch.save({"t": 1}, path)
    assert checkpoint.load_state(path, "b")[0] is None


def flipped(content: bytes) -> bytes:
    """One bit of a tensor changed: torch.load itself would not notice."""
    middle = content.index(torch.arange(99.0).numpy().tobytes()) + 100
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "cut": lambda content: content[:-50],
    "half": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"\x80\x02garbage",
    "empty": lambda content: b"",
    "flipped": flipped,
}


def state(t: int) -> dict:
    return {"run_id": "a", "t": t, "w": torch.arange(99.0)}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_falls_back_to_the_one_before(damage, tmp_path):
    """The damaged one is kept under another name and never takes the place of a good one."""
    path, previous = tmp_path / "state.pt", tmp_path / "state.previous.pt"
    for t in (1, 2, 3):
        checkpoint.save_state(path, state(t))
    assert {file.name for file in tmp_path.iterdir()} == {path.name, previous.name}
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    found, message = checkpoint.load_state(path, "a")
    assert same(found, state(2))
    assert f"{path} is unreadable (" in message
    assert message.endswith(f"; continuing {previous} at iteration 2")
    checkpoint.save_state(path, state(4))
    assert [checkpoint.load_state(file, "a")[0]["t"] for file in (path, previous)] == [4, 2]


def test_both_states_damaged(tmp_path):
    path = tmp_path / "state.pt"
    for t in (1, 2):
        checkpoint.save_state(path, state(t))
    for file in (path, checkpoint.previous_path(path)):
        file.write_bytes(b"")
    found, message = checkpoint.load_state(path, "a")
    assert found is None
    assert message.count("unreadable") == 2
    assert message.endswith(", starting over")
    assert checkpoint.load_state(path, "a") == (None, "no saved state")


def test_killed_between_the_two_renames(tmp_path):
    path = tmp_path / "state.pt"
    checkpoint.save_state(path, state(1))
    path.replace(checkpoint.previous_path(path))
    assert checkpoint.load_state(path, "a")[0]["t"] == 1


def test_the_state_of_the_same_run_before_another_one(tmp_path):
    """A specification that is changed and changed back continues where it was."""
    path = tmp_path / "state.pt"
    checkpoint.save_state(path, state(7))
    checkpoint.save_state(path, state(1) | {"run_id": "b"})
    found, message = checkpoint.load_state(path, "a")
    assert found["t"] == 7
    assert "belongs to another" in message


def test_states_run_no_code(tmp_path):
    """A pickle that would call a function on loading is refused."""

    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    torch.save({"run_id": "a", "t": 1, "x": Evil()}, tmp_path / "state.pt")
    state, message = checkpoint.load_state(tmp_path / "state.pt", "a")
    assert state is None
    assert "unreadable" in message
    assert not (tmp_path / "ran").exists()


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save({"w": torch.zeros(9999)}, path),
        lambda path: safetensors.torch.save_file({"w": torch.zeros(9999)}, path),
        lambda path: path.write_bytes(bytes(39_996)),
    ],
    ids=["torch", "safetensors", "bytes"],
)
def test_a_full_disk_is_one_error_that_names_the_file(write, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, before[1]))  # stands for a disk without space
    try:
        with pytest.raises(OSError, match=rf"expected to write {path}, found: .* bytes free on that disk\)"):
            replace_file(path, write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_write_are_replaced(tmp_path):
    (tmp_path / ".file.0a1b2c3d.partial").write_text("half of it, from a killed process, and rather long")
    replace_file(tmp_path / "file", lambda temporary: temporary.write_text("new"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "new"


def test_files_are_readable_by_others(tmp_path):
    save_weights(tmp_path / "model.safetensors", toy().state_dict(), SPEC)
    checkpoint.save_state(tmp_path / "state.pt", {"run_id": "a"})
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}


def test_weights_round_trip(tmp_path):
    model = toy()
    save_weights(tmp_path / "model.safetensors", model.state_dict(), SPEC)
    loaded, spec = load_model(tmp_path / "model.safetensors")
    assert spec == SPEC
    assert loaded.h.bad_step == 3
    assert same(dict(loaded.state_dict()), dict(model.state_dict()))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_equal_weights_are_equal_bytes(tmp_path):
    """Also across processes: safetensors writes several header keys in a random order, so there is one."""
    weights = toy().state_dict()
    contents = set()
    for i in range(20):
        save_weights(tmp_path / f"{i}", weights, SPEC)
        contents.add((tmp_path / f"{i}").read_bytes())
    assert len(contents) == 1
    with safetensors.safe_open(tmp_path / "0", "pt") as file:
        assert json.loads(file.metadata()["run"])["spec"]["entry"] == SPEC.entry
        assert len(file.metadata()) == 1


def test_one_changed_bit_of_the_weights_is_noticed(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, toy().state_dict(), SPEC)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"expected weights with sha256 \w+ in {path}, found \w+; delete it"):
        load_model(path)


def test_the_hash_of_weights_knows_names_types_and_shapes():
    tensor = torch.arange(4, dtype=torch.int32)
    alike = [
        {"a": tensor},
        {"b": tensor},
        {"a": tensor.view(torch.float32)},
        {"a": tensor.reshape(2, 2)},
        {"a": tensor[:2], "b": tensor[2:]},
        {"a": tensor[0]},
    ]
    assert len({tensors_hash(tensors) for tensors in alike}) == len(alike)
    assert tensors_hash({"a": tensor, "b": tensor[0]}) == tensors_hash({"b": tensor[0].clone(), "a": tensor.clone()})


def test_weights_that_do_not_load(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match=r"expected trained weights in .*model.safetensors"):
        load_model(path)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(ValueError, match=r"expected a safetensors file in .*model.safetensors"):
        load_model(path)
    safetensors.torch.save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="expected a training spec in the header"):
        load_model(path)
    save_weights(path, {"average": torch.zeros(()), "weight": torch.zeros(1, 5, 4)}, SPEC)
    with pytest.raises(ValueError, match=r"weight of shape \(1, 4, 4\), found \(1, 5, 4\)"):
        load_model(path)
    save_weights(path, {"average": torch.zeros(())}, SPEC)
    with pytest.raises(ValueError, match="found absent"):
        load_model(path)
