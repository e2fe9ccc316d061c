"""What the critics of pairs need: ALICE, SVAE, BiGAN and ALI as they are, and with one change each.

    python -m bench.critics --data results/data/digits --z-dim 10 --to results/critics
    python -m bench.critics --data results/data/mnist --to results/critics --only "alice, as it is" --seeds 0

Trains each variant once per seed, at an eighth of the width, in batches of 32 training images. Each run adds a row to
critics.csv; a run that has its row is not repeated. critics.png shows images of every run in the folder. Nothing here
reads a test image. Runs on the CPU with one thread.
Columns: `critic` is the critic's loss over the last 50 iterations (2 log 2 = 1.386 where it knows nothing). `rmse` is
of reconstructions. `std` is the standard deviation of a pixel over samples of the prior, averaged over pixels.
`frechet` is the squared Frechet distance between samples and training images in 14 x 14 pixels. All three use batch
statistics, as training does; with the suffix _running they use batch norm's running averages. `z_share` is the standard
deviation of the critic's change when the latents of data pairs are permuted, over the critic's standard deviation.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from baselines.ali import ALI
from dtri import evaluation, experiment, images
from dtri.batches import Batches
from dtri.data import store
from dtri.metrics.frechet import Gaussian, distance
from dtri.model import Model
from dtri.networks.additive_critic import NOISE_DIM
from dtri.networks.joint_critic import JointCritic
from dtri.numerics import set_numerics
from dtri.report import grids, style
from dtri.stepper import Stepper
from workflow.commands.cli import run

ENTRIES = {"alice": "baselines.alice:ALICE", "svae": "baselines.svae:SVAE"}
ENTRIES |= {"bigan": "baselines.bigan:BiGAN", "ali": "baselines.ali:ALI"}
WIDTH, BATCH, COMPARED, LAST = 0.125, 32, 1000, 50
SHOWN = 10  # number of samples shown, and of images with their reconstructions


@dataclass(frozen=True)
class Variant:
    """A system with other hyperparameters, or whose model `change` alters before it trains."""

    system: str
    name: str
    change: Callable[[Model], None] = lambda model: None
    hparams: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.system}, {self.name}"


class NoisyJointCritic(JointCritic):
    """Our joint network with noise beside x and z, as in the released one."""

    def __init__(self, image_shape: tuple[int, int, int], z_dim: int):
        channels, *sides = image_shape
        super().__init__((channels + 1, *sides), z_dim + NOISE_DIM, WIDTH, spectral_norm=False, batch_norm=True)

    def features(self, x: Tensor, z: Tensor) -> Tensor:
        noise = torch.empty(len(x), NOISE_DIM), torch.empty_like(x[:, :1])
        beside_z, beside_x = (part.uniform_(-1, 1) if self.training else part.zero_() for part in noise)
        return super().features(torch.cat([x, beside_x], dim=1), torch.cat([z, beside_z], dim=1))


def one_batch(model: Model) -> None:
    model.judge = MethodType(ALI.judge, model)


def without_noise(model: Model) -> None:
    model.critic.noise = torch.zeros_like


def joint_network(model: Model) -> None:
    model.critic = JointCritic(model.image_shape, model.z_dim, WIDTH, spectral_norm=False, batch_norm=True)


def joint_network_with_noise(model: Model) -> None:
    model.critic = NoisyJointCritic(model.image_shape, model.z_dim)


def xavier_critic(model: Model) -> None:
    for layer in model.critic.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)


def by_width(model: Model) -> None:
    """Weights with standard deviation .02 at full width and larger when narrower: layers' outputs keep their scale."""
    for layer in model.critic.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02 / WIDTH**0.5)


VARIANTS = (
    Variant("alice", "as it is"),
    Variant("alice", "one batch", one_batch),
    Variant("alice", "no noise in the critic", without_noise),
    Variant("alice", "joint network", joint_network),
    Variant("alice", "joint network with noise", joint_network_with_noise),
    Variant("alice", "lambda 1", hparams={"cycle_weight": 1.0}),
    Variant("alice", "Xavier's weights in the critic", xavier_critic),
    Variant("svae", "as it is"),
    Variant("svae", "joint network", joint_network),
    Variant("bigan", "as it is"),
    Variant("bigan", "ten times the learning rate", hparams={"lr": 1e-4}),
    Variant("ali", "as it is"),
    Variant("ali", "batch norm in the critic", hparams={"critic_batch_norm": True}),
    Variant("ali", "Xavier's weights in the critic", xavier_critic),
    Variant("ali", "weights by the width in the critic", by_width),
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset of 28x28 images")
    parser.add_argument(
        "--to", required=True, type=Path, help="folder of critics.csv, critics.png and every run's images"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[v.title for v in VARIANTS], metavar="VARIANT")
    parser.add_argument("--z-dim", type=int, help="in place of each system's")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.only) - {v.title for v in VARIANTS}:
        raise ValueError(f"expected variants among {[v.title for v in VARIANTS]}, found {sorted(unknown)}")

    set_numerics(1, "fp32")
    dataset = store.load(arguments.data)
    stored = np.array(dataset.images("train"))
    more = {} if arguments.z_dim is None else {"z_dim": arguments.z_dim}
    arguments.to.mkdir(parents=True, exist_ok=True)
    table = arguments.to / "critics.csv"
    for seed in arguments.seeds:
        for variant in VARIANTS:
            key = {"data": dataset.name, "z_dim": arguments.z_dim or "", "steps": arguments.steps}
            key |= {"system": variant.system, "variant": variant.name, "seed": seed}
            if variant.title in arguments.only and not _has(table, key):
                row, shown = measured(variant, stored, arguments.steps, seed, more)
                np.save(_images_of(arguments.to, key), shown)
                _append(table, key | row)
                print(key | row, flush=True)
    draw(arguments.to)
    return 0


def measured(
    variant: Variant, stored: np.ndarray, steps: int, seed: int, more: dict[str, Any]
) -> tuple[dict[str, float], np.ndarray]:
    """Train: (numbers, images), the images uint8 [3 SHOWN, C, H, W]: samples, training images, their reconstructions.

    Args:
        variant: what trains.
        stored:  training images, uint8 [N, C, H, W].
        steps:   iterations.
        seed:    seed of the run.
        more:    further hyperparameters.
    """
    torch.manual_seed(seed)
    hparams = {"width": WIDTH, **more, **variant.hparams}
    model = experiment.build(ENTRIES[variant.system], stored.shape[1:], hparams).train()
    variant.change(model)
    model = model.to(memory_format=torch.channels_last)
    step = Stepper(model, Batches(stored, BATCH, seed, torch.device("cpu")), seed, "fp32")
    begun, curve = time.process_time(), []
    for t in range(steps):
        losses = step(t)
        curve.append(losses.values[losses.names.index("loss_critic")].item())
    x = images.to_float(torch.from_numpy(stored[:COMPARED]))
    z = torch.randn(COMPARED, model.z_dim, generator=torch.Generator().manual_seed(0))
    row = {"critic": float(np.mean(curve[-LAST:])), "z_share": z_share(model.eval(), x)}
    running, _ = quality(model, x, z)
    own, made = quality(model.train(), x, z)
    row |= own | {f"{name}_running": value for name, value in running.items()}
    row = {name: float(f"{value:.4g}") for name, value in row.items()}
    return row | {"seconds": round(time.process_time() - begun)}, evaluation.to_uint8(made).numpy()


@torch.no_grad()
def z_share(model: Model, x: Tensor) -> float:
    z = model.infer(x)
    a = model.critic(x, z)
    other = model.critic(x, z[torch.randperm(len(z), generator=torch.Generator().manual_seed(0))])
    return ((a - other).std() / a.std()).item()


@torch.no_grad()
def quality(model: Model, x: Tensor, z: Tensor) -> tuple[dict[str, float], Tensor]:
    """Numbers of samples g(z), z: [N, d], and of reconstructions of x: [N, C, H, W]; and SHOWN images of each kind."""
    made = torch.cat([model.generate(part) for part in z.split(100)])
    rebuilt = torch.cat([model.generate(model.infer(part)) for part in x.split(100)])
    of_made, of_data = (Gaussian.of(avg_pool2d(part, 2).flatten(1)) for part in (made, x))
    row = {
        "rmse": (rebuilt - x).square().mean().sqrt().item(),
        "std": made.std(0).mean().item(),
        "frechet": distance(of_made, of_data),
    }
    return row, torch.cat([part[:SHOWN] for part in (made, x, rebuilt)])


def draw(folder: Path) -> None:
    """Draw critics.png: per run in critics.csv one row of samples, then images beside their reconstructions."""
    rows = _rows(folder / "critics.csv")
    rows.sort(
        key=lambda row: ([(v.system, v.name) for v in VARIANTS].index((row["system"], row["variant"])), row["seed"])
    )
    drawn = style.figure(8.0, 0.6 + 0.31 * len(rows))
    for axes, row in zip(drawn.subplots(len(rows), 1, squeeze=False).ravel(), rows):
        made, x, rebuilt = np.split(np.load(_images_of(folder, row)), 3)
        pairs = np.stack([x, rebuilt], axis=1).reshape(-1, *x.shape[1:])
        grids.show(axes, np.concatenate([made, pairs]), 3 * SHOWN)
        label = f"{row['system']}, seed {row['seed']}, critic {float(row['critic']):.2g}\n{row['variant']}"
        axes.text(-0.01, 0.5, label, transform=axes.transAxes, ha="right", va="center", fontsize=5)
    drawn.supxlabel(
        f"{SHOWN} samples of the prior; then {SHOWN} training images, each with its reconstruction", fontsize=7.5
    )
    style.save(drawn, folder / "critics")


def _images_of(folder: Path, key: dict[str, Any]) -> Path:
    name = "-".join(str(key[part]) for part in ("data", "z_dim", "steps", "system", "variant", "seed"))
    return folder / f"{name.replace(' ', '_')}.npy"


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _has(table: Path, key: dict[str, Any]) -> bool:
    return any(all(row[name] == str(value) for name, value in key.items()) for row in _rows(table))


def _append(table: Path, row: dict[str, Any]) -> None:
    new = not table.exists()
    with table.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    sys.exit(run(main))
