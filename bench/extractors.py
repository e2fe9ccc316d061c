"""Which features order damaged images rightly, and which notice the least damage? For datasets without labels.

    python -m bench.extractors --data results/data --to results/extractors

Splits training images at random into a reference and a second set of equal size, and damages the latter (`LADDERS`).
Appends the squared Frechet distance of every damage and extractor to extractors.csv; a split that has its rows is not
repeated. extractors.md is written from all rows. No test image is read. Runs on the CPU with one thread.

Rule of selection, written before any result. An extractor is fit if along each ladder every step is farther than the
step before, clean images first, on every dataset and split. The most sensitive of the fit extractors is chosen. Its
sensitivity is the distance over the clean images' distance, as geometric mean over datasets and over the first steps of
the ladders. The choice is among the layers of EfficientNet-Lite0. The ladders warp and classes were added after the
first faces had been measured with the others, which change texture alone. The ladder parts was added after their
results.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor, nn

from dtri.data import store
from dtri.metrics import classifier, imagenet_lite
from dtri.metrics.features import ImagenetLiteExtractor
from dtri.metrics.frechet import Gaussian, distance
from dtri.numerics import set_numerics
from dtri.seeding import derive
from workflow.commands.cli import run

FOREIGN = {"celeba10k": "cifar10_jpeg", "cifar10_jpeg": "celeba10k", "mnist": "cifar10_jpeg"}  # dataset -> strangers
LADDERS = {
    "noise": ("noise 2", "noise 4", "noise 8"),
    "blur": ("blur .4", "blur .6", "blur 1"),
    "JPEG": ("JPEG 90", "JPEG 70", "JPEG 40"),
    "foreign": ("foreign 5 %", "foreign 20 %", "foreign 100 %"),
    "warp": ("warp 1.5 %", "warp 3 %", "warp 6 %"),
    "parts": ("parts 5 %", "parts 20 %", "parts 100 %"),
    "classes": ("without 1 class", "without 3 classes", "without 6 classes"),
}
STEPS = ("clean", *(step for steps in LADDERS.values() for step in steps))
LAYERS = {f"block{k}": d for k, d in {0: 16, 2: 24, 4: 40, 7: 80, 8: 112, 9: 112, 10: 112, 14: 192, 15: 320}.items()}
LAYERS |= {"head": 1280}  # layers of EfficientNet-Lite0: the last block of each width, and all blocks of 112
GRID = 4  # points of a warp per side; between them it is smooth
PIXELS = 16  # side of the reduced images whose pixels are features
KEYS = ["dataset", "n", "split"]
PLACE = ["network", "layer", "step"]
CASE = ["dataset", "n", "network", "layer", "split"]
Features = Callable[[np.ndarray], dict[str, Tensor]]  # uint8 [N, C, H, W] -> {layer: float32 [N, d]}
Network = tuple[tuple[str, ...], Features]  # (layers, function that computes their features)


HEAD = """# Extractors on damaged images

Written by `python -m bench.extractors` from `extractors.csv`; training images only. `clean`: squared Frechet distance
between two clean sets. Every other number is a distance over the clean one, mean ± standard deviation over random
splits. `out of order`: ladders in which, on some split, a step is not farther than the one before. `sensitivity`:
geometric mean over the first steps of all ladders. `s per 1,000`: processor seconds for 1,000 images, the smallest.
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help=f"folder of the prepared datasets {sorted(FOREIGN)}")
    parser.add_argument("--to", required=True, type=Path, help="folder of extractors.csv and extractors.md")
    parser.add_argument("--datasets", nargs="+", choices=sorted(FOREIGN), default=["celeba10k", "cifar10_jpeg"])
    parser.add_argument("--images", nargs="+", type=int, default=[1000, 4000], help="in each of the two sets")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--sides", nargs="*", type=int, default=[], help="also with images resized to these sides")
    parser.add_argument("--classifier-steps", type=int, default=1500)
    arguments = parser.parse_args(argv)

    set_numerics(1, "fp32")
    arguments.to.mkdir(parents=True, exist_ok=True)
    table = arguments.to / "extractors.csv"
    known = pd.read_csv(table) if table.exists() else pd.DataFrame(columns=[*KEYS, *PLACE])
    for name in arguments.datasets:
        dataset, foreign = (store.load(arguments.data / one) for one in (name, FOREIGN[name]))
        networks = dict(candidates(dataset, arguments.sides, arguments.classifier_steps))
        for n in arguments.images:
            for split in range(arguments.splits):
                key = dict(zip(KEYS, (name, n, split)))
                rows = known[(known[KEYS] == list(key.values())).all(axis=1)]
                sets = damaged(dataset, foreign, n, split)
                found = pd.DataFrame(measured(sets, networks, set(rows[PLACE].itertuples(index=False, name=None))))
                found = found.assign(**key)[[*KEYS, *found.columns]]
                found.to_csv(table, mode="a", header=not table.exists(), index=False, float_format="%.5g")
                print(key, flush=True)
    (arguments.to / "extractors.md").write_text(page(pd.read_csv(table)), encoding="utf-8")
    return 0


def candidates(dataset: store.Dataset, sides: list[int], steps: int) -> Iterator[tuple[str, Network]]:
    """(name, network) of every candidate; with labels also the domain classifier, trained on all training images.

    Args:
        dataset: the dataset to measure.
        sides:   sides to which images are resized for EfficientNet-Lite0.
        steps:   iterations of the classifier.
    """
    network = ImagenetLiteExtractor("imagenet_lite", [*LAYERS], str(imagenet_lite.weights()))
    yield "imagenet_lite", (tuple(LAYERS), partial(of_network, network))
    for side in sides:
        yield f"imagenet_lite at {side}", (tuple(LAYERS), partial(of_network, network, side=side))
    yield "random weights", (("block10",), partial(of_network, untrained(np.array(dataset.images("train")[:500]))))
    yield "pixels", ((f"{PIXELS}x{PIXELS}",), of_pixels)
    if n_classes := dataset.meta["n_classes"]:
        images, labels = np.array(dataset.images("train")), dataset.labels("train")
        trained = classifier.train_classifier(images, labels, n_classes, 0, steps)
        yield "domain", (("penultimate",), partial(of_classifier, trained))


def untrained(images: np.ndarray) -> ImagenetLiteExtractor:
    """EfficientNet-Lite0 with random weights; its batch norm has the means and variances of these images."""
    network = ImagenetLiteExtractor("untrained", ["block10"], str(imagenet_lite.weights()))
    torch.manual_seed(derive("bench.extractors", "untrained"))
    for layer in network.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the average then weights all batches equally
    of_network(network.train(), images)
    return network.eval()


@torch.no_grad()
def of_network(network: ImagenetLiteExtractor, images: np.ndarray, side: int | None = None) -> dict[str, Tensor]:
    found = []
    for part in torch.from_numpy(images).split(50):
        part = part.expand(-1, 3, -1, -1).float()
        if side is not None:
            part = F.interpolate(part, size=(side, side), mode="bilinear", antialias=True)
        found.append(network(part.contiguous(memory_format=torch.channels_last)))
    return dict(zip(network.features_list, map(torch.cat, zip(*found))))


def of_pixels(images: np.ndarray) -> dict[str, Tensor]:
    small = F.interpolate(torch.from_numpy(images).float(), size=(PIXELS, PIXELS), mode="bilinear", antialias=True)
    return {f"{PIXELS}x{PIXELS}": small.flatten(1)}


@torch.no_grad()
def of_classifier(network: classifier.Classifier, images: np.ndarray) -> dict[str, Tensor]:
    return {"penultimate": torch.cat([network(part)[0] for part in torch.from_numpy(images).split(500)])}


def damaged(dataset: store.Dataset, foreign: store.Dataset, n: int, split: int) -> dict[str, np.ndarray]:
    """The reference and the steps of all ladders, uint8 [n, C, H, W] each, from disjoint training images.

    Args:
        dataset: the dataset whose images are damaged.
        foreign: another dataset, whose images are the strangers.
        n:       images of each set.
        split:   number of the random split.
    """
    rng = np.random.default_rng(derive("bench.extractors", dataset.name, str(n), str(split)))
    images = dataset.images("train")
    if len(images) < 2 * n:
        raise ValueError(f"expected at least {2 * n} training images of {dataset.name}, found {len(images)}")
    chosen = rng.permutation(len(images))[: 2 * n]
    reference, clean = (np.array(images[np.sort(part)]) for part in np.split(chosen, 2))
    strangers = foreign.images("train")
    strangers = fitted(np.array(strangers[np.sort(rng.permutation(len(strangers))[:n])]), images.shape[1:])
    clean, normal = clean[rng.permutation(n)], rng.standard_normal(clean.shape, dtype=np.float32)
    sets = {"reference": reference, "clean": clean}
    sets |= {f"noise {level}": stored(clean + level * normal) for level in (2, 4, 8)}
    sets |= {f"blur {f'{radius:g}'.lstrip('0')}": each(clean, partial(blur, radius)) for radius in (0.4, 0.6, 1)}
    sets |= {f"JPEG {quality}": each(clean, partial(jpeg, quality)) for quality in (90, 70, 40)}
    for percent in (5, 20, 100):
        m = n * percent // 100
        sets[f"foreign {percent} %"] = np.concatenate([strangers[:m], clean[m:]])
        sets[f"parts {percent} %"] = np.concatenate([crossed(clean[:m]), clean[m:]])
    field = rng.standard_normal((n, 2, GRID, GRID), dtype=np.float32)
    sets |= {f"warp {percent:g} %": warped(clean, field * percent / 50) for percent in (1.5, 3, 6)}
    if dataset.meta["n_classes"]:
        order = rng.permutation(dataset.meta["n_classes"])
        others = np.setdiff1d(np.arange(len(images)), chosen[:n])
        for m, step in zip((1, 3, 6), LADDERS["classes"]):
            kept = others[~np.isin(dataset.labels("train")[others], order[:m])]
            sets[step] = np.array(images[np.sort(rng.permutation(kept)[:n])])
    return sets


def stored(x: np.ndarray) -> np.ndarray:
    return x.round().clip(0, 255).astype(np.uint8)


def fitted(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Images of another dataset, in the size and the number of colours `shape` (C, H, W)."""
    x = torch.from_numpy(images).float()
    x = x.mean(1, keepdim=True) if shape[0] == 1 else x.expand(-1, 3, -1, -1)
    return stored(F.interpolate(x, size=shape[1:], mode="bilinear", antialias=True).numpy())


def each(images: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Apply `change` to each image of uint8 [N, C, H, W]."""
    pictures = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    changed = np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures])
    return changed[:, None] if images.shape[1] == 1 else changed.transpose(0, 3, 1, 2)


def crossed(images: np.ndarray) -> np.ndarray:
    """Exchange quadrants crosswise: texture stays as it was, except for two seams, and no object is whole."""
    return np.roll(images, [side // 2 for side in images.shape[2:]], axis=(2, 3))


def warped(images: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Move pixels by a smooth field [N, 2, GRID, GRID], in half sides; the nearest pixel is taken, without blur."""
    x, shape = torch.from_numpy(images).float(), images.shape[2:]
    moved = F.interpolate(torch.from_numpy(field), size=shape, mode="bicubic").permute(0, 2, 3, 1)
    still = F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return stored(F.grid_sample(x, still + moved, "nearest", "border", align_corners=False).numpy())


def blur(radius: float, image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius))


def jpeg(quality: int, image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=quality, subsampling=0)
    return Image.open(file)


def measured(
    sets: dict[str, np.ndarray], networks: dict[str, Network], done: set[tuple[str, str, str]]
) -> Iterator[dict]:
    """Yield a row per network, layer and step, except for rows in `done`."""
    for network, (layers, features) in networks.items():
        lacking = {step: [k for k in layers if (network, k, step) not in done] for step in STEPS if step in sets}
        lacking = {step: wanted for step, wanted in lacking.items() if wanted}
        if not lacking:
            continue
        begun = time.process_time()
        reference = {layer: Gaussian.of(values) for layer, values in features(sets["reference"]).items()}
        seconds = (time.process_time() - begun) / len(sets["reference"]) * 1000
        for step, wanted in lacking.items():
            values = features(sets[step])
            for layer in wanted:
                found = distance(Gaussian.of(values[layer]), reference[layer])
                row = {"network": network, "layer": layer, "d": values[layer].shape[1], "step": step, "distance": found}
                yield row | {"seconds_per_1000": round(seconds, 2)}


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Distance over the clean images' distance: a column per step, a row per dataset, n, network, layer and split."""
    table = rows.pivot_table(index=CASE, columns="step", values="distance")
    return table.div(table["clean"], axis=0)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Whether every step is farther than the one before, per row of `ratios` and ladder; missing without the ladder."""
    found = {}
    for ladder, steps in LADDERS.items():
        if steps[0] in table:
            values = table[["clean", *steps]]
            rising = (values.diff(axis=1).iloc[:, 1:] > 0).all(axis=1)
            found[ladder] = rising.astype(object).where(values.notna().all(axis=1))
    return pd.DataFrame(found)


def sensitivity(table: pd.DataFrame) -> pd.Series:
    """Geometric mean over the first steps of the ladders, per row of `ratios`."""
    first = [steps[0] for steps in LADDERS.values() if steps[0] in table]
    return np.exp(np.log(table[first]).mean(axis=1))


def page(rows: pd.DataFrame) -> str:
    table = ratios(rows)
    ordered, sensed = in_order(table), sensitivity(table)
    lines = [HEAD]
    for (dataset, n), part in table.groupby(["dataset", "n"], sort=False):
        first = [steps[0] for steps in LADDERS.values() if steps[0] in part and part[steps[0]].notna().any()]
        strong = [steps[-1] for steps in LADDERS.values() if steps[0] in first]
        lines += ["", f"## {dataset}, {n} images against {n}", ""]
        columns = ["features", "d", "clean", *first, *strong, "out of order", "sensitivity", "s per 1,000"]
        lines += [f"| {' | '.join(columns)} |", f"|:-|{'-:|' * (len(columns) - 1)}"]
        order = rows[["network", "layer"]].drop_duplicates().itertuples(index=False, name=None)
        grouped = part.groupby(["network", "layer"])
        for network, layer in (names for names in order if names in grouped.groups):
            one = grouped.get_group((network, layer))
            raw = rows[(rows[[*KEYS[:2], "network", "layer"]] == [dataset, n, network, layer]).all(axis=1)]
            wrong = [name for name in ordered if (ordered.loc[one.index, name] == False).any()]  # noqa: E712
            cells = [f"{network}, {layer}", str(raw["d"].iloc[0]), spread(raw.loc[raw["step"] == "clean", "distance"])]
            cells += [spread(one[step]) for step in [*first, *strong]]
            cells += [", ".join(wrong) or "none", spread(sensed[one.index]), f"{raw['seconds_per_1000'].min():.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *selection(ordered, sensed)]
    return "\n".join(lines) + "\n"


def selection(ordered: pd.DataFrame, sensed: pd.Series) -> list[str]:
    """The result of the rule of selection for the rows that there are."""
    candidates = ordered[ordered.index.get_level_values("network") == "imagenet_lite"]
    wrong = (candidates == False).any(axis=1).groupby("layer").any()  # noqa: E712
    n_asked = ordered.groupby(["dataset", "n", "split"]).agg(lambda known: known.notna().any()).to_numpy().sum()
    whole = candidates.notna().groupby("layer").sum().sum(axis=1) == n_asked
    overall = np.exp(np.log(sensed[candidates.index]).groupby("layer").mean())
    lines = ["| layer of imagenet_lite | fit | sensitivity over all rows |", "|:-|:-|-:|"]
    fits = {k: "no" if wrong[k] else "yes" if whole[k] else "not measured on all" for k in LAYERS if k in overall}
    lines += [f"| {k} | {fit} | {overall[k]:.3g} |" for k, fit in fits.items()]
    fit = overall[~wrong & whole]
    return [*lines, "", f"By the rule: {fit.idxmax() if len(fit) else 'none is fit'}."]


def spread(values: pd.Series) -> str:
    """Mean ± standard deviation; "" where nothing was measured."""
    known = values.dropna()
    return (f"{known.mean():.3g}" if len(known) else "") + (f" ± {known.std():.1g}" if len(known) > 1 else "")


if __name__ == "__main__":
    sys.exit(run(main))
