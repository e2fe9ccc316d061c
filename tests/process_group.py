"""Two processes of one run, for tests/test_distributed.py.

torchrun --nproc-per-node 2 -m tests.process_group FOLDER
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtri import distributed, engine, experiment
from dtri.process_group import ProcessGroup
from dtri.sampling.replay import ReplayBuffer
from tests.toys import Hparams, Toy, noise_images, stopping_after
from workflow import configuration

SHAPE = (3, 32, 32)
BATCH = 8  # of both processes together
STEPS = 6  # WGAN moves its generator in the sixth
SMALL = {  # where a system has these
    "width": 0.05,
    "langevin_steps": 2,
    "chains": BATCH,
    "buffer_size": 16,
    "fade_kimg": 2e-3 * BATCH,
    "stable_kimg": 1e-3 * BATCH,
    "batch_sizes": [BATCH] * 9,
}


def build(name: str, processes: int):
    """A small system; what counts chains per iteration counts those of one process."""
    entry = configuration.models()[name]
    small = {key: value for key, value in SMALL.items() if key in experiment.hparam_defaults(entry.entry)}
    if "chains" in small:
        small["chains"] = BATCH // processes
    return experiment.build(entry.entry, SHAPE, {**entry.hparams, **small})


def fit(make, folder: Path, group: distributed.SingleProcess = distributed.SINGLE_PROCESS, **options) -> engine.Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {
        "steps": STEPS,
        "batch_size": BATCH,
        "seed": 1,
        "device": torch.device("cpu"),
        "state_path": folder / "state.pt",
        "events_path": folder / "events.jsonl",
        "run_id": "run",
        "group": group,
        **options,
    }
    return engine.fit(make, noise_images(30, SHAPE), **arguments)


class Clipped(Toy):
    """Toy whose gradients are large and clipped by their norm, and which remembers images."""

    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__(image_shape, h)
        self.replay = ReplayBuffer(image_shape, 16, 0.3)

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        loss = self.energy(x + 0.1 * torch.randn_like(x)).mean()
        self.descend("toy", loss, clip_norm=1.0)
        self.replay.store(x)
        return {"loss": loss.detach()}


class Straying(Toy):
    """Toy whose weights move by noise that is not the same in every process."""

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        with torch.no_grad():
            self.weight += 0.1 * torch.randn_like(self.weight)
        return super().step(x, t)


class Normed(Toy):
    """Toy with batch norm, dropout and a gradient of a gradient."""

    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__(image_shape, h)
        self.norm = nn.BatchNorm2d(image_shape[0])
        self.optimizers["toy"].add_param_group({"params": list(self.norm.parameters())})

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        x = x.clone().requires_grad_(True)
        u = self.energy(F.dropout(self.norm(x), 0.3))
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        loss = 1e-4 * u.mean() + 1e-4 * slope.square().sum((1, 2, 3)).mean()
        self.descend("toy", loss)
        return {"loss": loss.detach()}


TOYS = {"clipped": Clipped, "normed": Normed}


def toy(name: str):
    return lambda: TOYS[name](SHAPE, Hparams())


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with distributed.process_group(sync_batch_norm=True) as group:
        for name in configuration.models():
            _keep(folder / name, fit(lambda name=name: build(name, 2), folder / name, group), group)
        for name in TOYS:
            _keep(folder / name, fit(toy(name), folder / name, group, steps=30), group)
        stop = stopping_after(7) if group.is_main_process else lambda: None  # a signal that one process receives alone
        try:
            fit(toy("clipped"), folder / "parts", group, steps=30, stop=stop)
        except engine.Interrupted as interrupted:
            _write(folder / "interrupted.json", str(interrupted), group)
        _keep(folder / "parts", fit(toy("clipped"), folder / "parts", group, steps=30), group)
        try:
            fit(lambda: Straying(SHAPE, Hparams()), folder / "straying", group, steps=30)
        except RuntimeError as error:
            _write(folder / "straying.json", str(error), group)
        local = ProcessGroup(group.rank, group.world_size, sync_batch_norm=False)
        _keep(folder / "local", fit(lambda: build("dcgan", 2), folder / "local", local), local)


def _keep(folder: Path, outcome: engine.Outcome, group: distributed.SingleProcess) -> None:
    torch.save({"curve": outcome.curve, "weights": outcome.weights}, folder / f"outcome{group.rank}.pt")


def _write(path: Path, text: str, group: distributed.SingleProcess) -> None:
    if group.is_main_process:
        path.write_text(json.dumps(text))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
