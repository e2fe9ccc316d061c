"""Does noise on generated images, or a faster critic, let the energy of "Ours" find strange images strange?

    python -m bench.noise --data results/data --noise 0 .05 .1 .15 .2 --lr-critic 1e-4
    python -m bench.noise --data results/data --noise 0 --lr-critic 3e-4 4e-4

Trains JointVAEEBM for each pair of values and each seed, and appends a row per checkpoint to `study.csv`. A row has the
AUROC of held-out images against each set (data positive, score f(x, mu(x))), the RMSE of their reconstructions, the
high-frequency power of images, f's dependence on z, and the fraction of log variances beyond their lower bound. Then
the command writes `study.md` and `study.png` from all rows. Existing rows are not measured again: a stopped command
continues. Weights are averaged as in every run: at iteration t the engine's warm-up averages over about t / 10.

Rule of selection, written before any result. The last 1,000 training images are never trained on: the first half are
the data, the second half is corrupted (`CORRUPTIONS`). No set of Table 3 takes part. The score of a run is its mean
AUROC over corruptions and over checkpoints of the later half of the training (iterations 200 and 300). A setting is
recommended beside the default under two conditions. The 95 % t-interval of its paired difference in score (same seed)
from the default lies above 0, and its mean RMSE is at most .01 higher. Of several, the largest mean score wins.

The hypothesis: a critic learns to prefer high frequencies while samples have less of them than data. Then AUROC on
uniform noise is below one half where the generated images that the critic sees have less high-frequency power than
data, and near one where they have more.
"""

import argparse
import copy
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from dtri import experiment, images
from dtri.batches import Batches
from dtri.ema import EMA
from dtri.models.joint_vae_ebm import JointVAEEBM
from dtri.numerics import set_numerics
from dtri.objectives import dependence
from dtri.report import style
from dtri.seeding import derive
from dtri.stepper import Stepper
from workflow.commands.cli import run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENTRY = "dtri.models.joint_vae_ebm:JointVAEEBM"
SIDE, BATCH, STEPS, EVERY, COMPARED = 28, 32, 300, 100, 500
KEYS = ["width", "noise", "lr_critic", "seed"]
DEFAULT = (0.0, 1e-4)  # noise, lr_critic
REPORTED = {"uniform": "uniform_3x32x32", "textures": "dtd10_3x32x32", "faces": "celeba10k_faces_3x32x32"}
Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def blur(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace pixels by means over 3x3 pixels, with repeated edges."""
    padded = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (1, 1), (1, 1)), "edge")
    height, width = x.shape[2:]
    shifts = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return stored(np.mean(shifts, 0))


def salt_and_pepper(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make one pixel in twenty black or white."""
    at = rng.random((len(x), 1, *x.shape[2:]))
    return np.where(at < 0.025, 0, np.where(at > 0.975, 255, x)).astype(np.uint8)


def contrast(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Halve the deviations from each image's mean."""
    mean = x.mean((1, 2, 3), keepdims=True)
    return stored(mean + (x - mean) / 2)


def gaussian(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise of standard deviation .1, on the scale [-1, 1]."""
    return stored(x + 12.75 * rng.standard_normal(x.shape))


def pixels(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put the pixels of each image in random order."""
    return patches(x, rng, 1)


def patches(x: np.ndarray, rng: np.random.Generator, side: int = 7) -> np.ndarray:
    """Put the squares of `side` pixels of each image in random order."""
    n, channels, height, width = x.shape
    grid = height // side, width // side
    cut = x.reshape(n, channels, grid[0], side, grid[1], side).transpose(0, 2, 4, 1, 3, 5)
    cut = cut.reshape(n, -1, channels, side, side)
    order = rng.permuted(np.tile(np.arange(cut.shape[1]), (n, 1)), axis=1)
    cut = cut[np.arange(n)[:, None], order].reshape(n, *grid, channels, side, side)
    return cut.transpose(0, 3, 1, 4, 2, 5).reshape(x.shape)


def jpeg(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Encode as JPEG of quality 10, with colours at full resolution."""
    coded = []
    for image in x.transpose(0, 2, 3, 1):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "jpeg", quality=10, subsampling=0)
        coded.append(np.asarray(Image.open(file)))
    return np.stack(coded).transpose(0, 3, 1, 2)


def stored(x: np.ndarray) -> np.ndarray:
    return x.round().clip(0, 255).astype(np.uint8)


CORRUPTIONS: dict[str, Corruption] = {
    "blur": blur,
    "salt_and_pepper": salt_and_pepper,
    "contrast": contrast,
    "gaussian": gaussian,
    "pixels": pixels,
    "patches": patches,
    "jpeg": jpeg,
}


HEAD = f"""# "Ours": noise on generated images and the critic's learning rate

Written by `python -m bench.noise` from `study.csv`. CIFAR-10 (JPEG copies, central {SIDE}x{SIDE} pixels), {STEPS}
iterations of {BATCH} images. Mean ± standard deviation over seeds of each run's mean after iteration {STEPS // 2}.

* `score`: mean AUROC over {len(CORRUPTIONS)} corruptions of held-out training images, the only column that selects
* `difference`: its paired difference from noise {DEFAULT[0]:g}, lr_critic {DEFAULT[1]:g}, with a 95 % t-interval
* `uniform`, `textures`, `faces`: AUROC of test images against the sets of Table 3
* `use_of_z`: mean change of f when latents are exchanged among images over the standard deviation of f
* `at_bound`: share of log variances beyond their lower bound
* `power`: high-frequency power of the generated images that the critic sees over data's"""
BY_CORRUPTION = "AUROC of each corruption, the parts of `score`:"


def high_frequency_power(x: np.ndarray) -> float:
    """Variance of pixels [N, C, H, W] at frequencies above a quarter of a cycle per pixel."""
    spectrum = np.abs(np.fft.fft2(x)) ** 2 / np.prod(x.shape[2:]) ** 2
    vertical, horizontal = (np.fft.fftfreq(side) for side in x.shape[2:])
    return float((spectrum * (np.hypot(vertical[:, None], horizontal) > 0.25)).sum((2, 3)).mean())


class Sets:
    """Images that a checkpoint is judged on, uint8 [COMPARED, C, H, W] each, and images to train on."""

    def __init__(self, folder: Path):
        train = np.ascontiguousarray(centre(np.load(folder / "cifar10_jpeg/train.npy", mmap_mode="r")))
        held_out = train[-2 * COMPARED :]
        self.train, self.data = train[: -2 * COMPARED], held_out[:COMPARED]
        rng = np.random.default_rng(derive("bench.noise"))
        self.corrupted = {name: corrupt(held_out[COMPARED:], rng) for name, corrupt in CORRUPTIONS.items()}
        self.reported = {
            name: evenly(np.load(folder / dataset / "test.npy", mmap_mode="r")) for name, dataset in REPORTED.items()
        }
        self.test = evenly(np.load(folder / "cifar10_jpeg/test.npy", mmap_mode="r"))


def evenly(x: np.ndarray) -> np.ndarray:
    """COMPARED images spread over the whole array, since sets are sorted by class."""
    return centre(x[np.linspace(0, len(x) - 1, COMPARED).astype(int)])


def centre(x: np.ndarray) -> np.ndarray:
    """The SIDE x SIDE centre of images [N, C, H, W]: a step at 28 pixels costs half of a step at 32."""
    cut = (x.shape[-1] - SIDE) // 2
    return x[..., cut : cut + SIDE, cut : cut + SIDE]


def train(width: float, noise: float, lr_critic: float, seed: int, sets: Sets) -> list[dict]:
    """Train one run; returns a row per checkpoint.

    Args:
        width:     multiplies all channels.
        noise:     standard deviation of the noise on generated images.
        lr_critic: the critic's learning rate.
        seed:      seed of the run.
        sets:      images to train on and to judge on.
    """
    hparams = {"width": width, "noise": noise, "lr_critic": lr_critic}
    torch.manual_seed(derive("init", seed))
    model, evaluated = (build(hparams, sets.train.shape[1:]) for _ in range(2))
    batches = Batches(sets.train, BATCH, seed, torch.device("cpu"), model.span)
    average, step = EMA(model), Stepper(model.train(), batches, seed, "fp32")
    rows = []
    for t in range(STEPS):
        step(t)
        average.update(model, t)
        if (t + 1) % EVERY == 0:
            evaluated.load_state_dict(average.snapshot(model))
            rows.append(hparams | {"seed": seed, "t": t + 1} | measure(evaluated.eval(), model, sets))
    return rows


def build(hparams: dict, shape: tuple[int, int, int]) -> JointVAEEBM:
    return experiment.build(ENTRY, tuple(shape), hparams).to(memory_format=torch.channels_last)


@torch.no_grad()
def measure(model: JointVAEEBM, training: JointVAEEBM, sets: Sets) -> dict[str, float]:
    """`model` has the averaged weights; `training` draws samples as the critic sees them, by batch statistics."""

    def energies(x: np.ndarray) -> np.ndarray:
        return torch.cat([model.energy(part) for part in floats(x).split(100)]).numpy()

    data, test = energies(sets.data), energies(sets.test)
    row = {f"auroc_{name}": auroc(data, energies(x)) for name, x in sets.corrupted.items()}
    row |= {f"auroc_{name}": auroc(test, energies(x)) for name, x in sets.reported.items()}
    x = floats(sets.data)
    mu, logvar = (torch.cat(parts) for parts in zip(*(model.encoder(part) for part in x.split(100)), strict=True))
    rebuilt = torch.cat([model.generate(part) for part in mu.split(100)])
    generator = copy.deepcopy(training.generator)  # the copy stays in training mode; the original's averages stay
    z = torch.randn(COMPARED, model.z_dim, generator=torch.Generator().manual_seed(derive("bench.noise")))
    samples = torch.cat([generator(part) for part in z.split(BATCH)])
    return row | {
        "rmse": (rebuilt - x).square().mean().sqrt().item(),
        "use_of_z": dependence.share(*model.critic.exchanged(x, mu)).item(),
        "at_bound": (logvar < model.h.logvar_range[0] + math.log(2)).float().mean().item(),
        "power_samples": high_frequency_power(samples.numpy()),
        "power_data": high_frequency_power(x.numpy()),
    }


def floats(x: np.ndarray) -> torch.Tensor:
    return images.to_float(torch.from_numpy(x)).contiguous(memory_format=torch.channels_last)


def auroc(data: np.ndarray, strange: np.ndarray) -> float:
    """P(energy of data < energy of a strange image)."""
    return float(roc_auc_score(np.repeat([0, 1], [len(data), len(strange)]), np.concatenate([data, strange])))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder of prepared datasets")
    parser.add_argument("--to", type=Path, default=Path("results/reference/noise"))
    parser.add_argument("--width", type=float, default=0.125, help="factor on all channels")
    parser.add_argument("--noise", nargs="+", type=float, default=[DEFAULT[0]], help="standard deviation of e")
    parser.add_argument("--lr-critic", nargs="+", type=float, default=[DEFAULT[1]])
    parser.add_argument("--seeds", nargs="*", type=int, default=list(range(5)), help="none: report what is there")
    arguments = parser.parse_args(argv)

    set_numerics(1, "fp32")
    sets, table = Sets(arguments.data), arguments.to / "study.csv"
    arguments.to.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for noise in arguments.noise:
            for lr_critic in arguments.lr_critic:
                if (arguments.width, noise, lr_critic, seed) in done(table):
                    continue
                rows = pd.DataFrame(train(arguments.width, noise, lr_critic, seed, sets))
                rows.to_csv(table, mode="a", header=not table.exists(), index=False, float_format="%.5g")
                print(f"width {arguments.width}, noise {noise}, lr_critic {lr_critic}, seed {seed}: done", flush=True)
    report(table)
    return 0


def done(table: Path) -> set[tuple[float, float, float, int]]:
    """Runs whose rows are in the table."""
    if not table.exists():
        return set()
    return set(pd.read_csv(table)[KEYS].itertuples(index=False, name=None))


def report(table: Path) -> None:
    """Write `study.md` and `study.png` beside the table of all rows."""
    rows = tidied(pd.read_csv(table))
    tables = (summarised(rows), by_corruption(rows))
    texts = (HEAD, tables[0].to_markdown(index=False), BY_CORRUPTION, tables[1].to_markdown(index=False))
    table.with_suffix(".md").write_text("\n\n".join((*texts, correlations(rows))) + "\n", encoding="utf-8")
    draw(rows).savefig(table.with_suffix(".png"), dpi=110, metadata={"Software": None})


def tidied(rows: pd.DataFrame) -> pd.DataFrame:
    """Add `score`, the mean AUROC over corruptions, and `power`, of the images that the critic sees over data's."""
    score = rows[[f"auroc_{name}" for name in CORRUPTIONS]].mean(axis=1)
    power = (rows.power_samples + rows.noise**2 * high_frequency_share(SIDE)) / rows.power_data
    return rows.assign(score=score, power=power)


def high_frequency_share(side: int) -> float:
    """Expected `high_frequency_power` of white noise of variance 1."""
    frequencies = np.fft.fftfreq(side)
    return float((np.hypot(frequencies[:, None], frequencies) > 0.25).mean())


def summarised(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per setting: mean and standard deviation over seeds of runs' averages after half of the iterations."""
    late = later(rows)
    lines = []
    for (width, noise, lr_critic), runs in late.groupby(KEYS[:-1]):
        default = late[(late.width == width) & (late.noise == DEFAULT[0]) & (late.lr_critic == DEFAULT[1])]
        paired = runs.merge(default, on="seed", suffixes=("", "_default"))
        line = named(width, noise, lr_critic) | {"seeds": len(runs), "score": spread(runs.score)}
        line["difference"] = interval(paired.score - paired.score_default)
        for column in (*(f"auroc_{name}" for name in REPORTED), "rmse", "use_of_z", "at_bound", "power"):
            line[column.removeprefix("auroc_")] = spread(runs[column])
        lines.append(line)
    return pd.DataFrame(lines)


def by_corruption(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per setting: AUROC of each corruption, as in `summarised`."""
    return pd.DataFrame(
        named(*setting) | {name: spread(runs[f"auroc_{name}"]) for name in CORRUPTIONS}
        for setting, runs in later(rows).groupby(KEYS[:-1])
    )


def later(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per run: means over its checkpoints after half of the iterations."""
    return rows[rows.t > STEPS / 2].groupby(KEYS, as_index=False).mean()


def named(width: float, noise: float, lr_critic: float) -> dict[str, str]:
    return {"width": f"1/{1 / width:.0f}", "noise": f"{noise:g}", "lr_critic": f"{lr_critic:g}"}


def spread(values: pd.Series) -> str:
    """Mean ± standard deviation; for a single run "(1)" replaces the deviation."""
    if len(values) < 2:
        return f"{values.mean():.3f} (1)"
    return f"{values.mean():.3f} ± {values.std():.3f}"


def interval(values: pd.Series) -> str:
    """Mean and 95 % t-interval; "" for a single run and for the default itself."""
    if len(values) < 2 or not values.any():
        return ""
    half = student.ppf(0.975, len(values) - 1) * values.std() / math.sqrt(len(values))
    return f"{values.mean():+.3f} [{values.mean() - half:+.3f}, {values.mean() + half:+.3f}]"


def correlations(rows: pd.DataFrame) -> str:
    """Spearman's rank correlation of AUROC on uniform noise with `power`, over all rows and over rows without noise."""
    found = []
    for what, some in (("all checkpoints", rows), ("checkpoints without noise", rows[rows.noise == 0])):
        rho = some.auroc_uniform.corr(some.power, method="spearman")
        found.append(f"{rho:+.2f} over {len(some)} {what}")
    return f"Rank correlation of AUROC on uniform noise with the power that the critic sees: {', '.join(found)}."


def draw(rows: pd.DataFrame) -> "Figure":
    """Curves over iterations: for every setting the mean over seeds, and a band of one standard deviation."""
    drawn = style.figure(10, 3.6)
    panels = {
        "auroc_uniform": "AUROC, uniform noise",
        "score": "AUROC, corrupted images",
        "power": "high-frequency power, fakes / data",
    }
    settings = rows.groupby(KEYS[:-1])
    colours = style.palette(settings.ngroups)
    for axes, (column, label) in zip(drawn.subplots(1, 3), panels.items(), strict=True):
        for colour, ((width, noise, lr_critic), runs) in zip(colours, settings, strict=True):
            over = runs.groupby("t")[column]
            mean, deviation = over.mean(), over.std()
            name = ", ".join(f"{key} {value}" for key, value in named(width, noise, lr_critic).items())
            axes.plot(mean.index, mean, color=colour, marker="o", markersize=3, label=name)
            axes.fill_between(mean.index, mean - deviation, mean + deviation, color=colour, alpha=0.12, linewidth=0)
        axes.axhline(1 if column == "power" else 0.5, color="grey", linestyle=":", linewidth=0.8)
        axes.set(xlabel="iteration", title=label)
        if column == "power":
            axes.set_yscale("log")
    handles, labels = axes.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside right center", fontsize=7)
    return drawn


if __name__ == "__main__":
    sys.exit(run(main))
