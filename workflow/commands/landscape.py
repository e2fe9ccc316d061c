"""Map the energy landscape of a trained model: basins of minima and the barriers between them.

The command writes an .npz for the figure, a CSV and a record. The CSV has the number of basins by magnetisation and
threshold. The record's value is the purity of the basins. Where energies or images are not finite, the record is a
diverged run's, and the other files have no basins. Killing the command at any moment and giving it again continues it.
"""

import argparse
import csv
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from dtri import checkpoint, evaluation, finite, images, trained
from dtri.data import checks, store
from dtri.device import describe_device
from dtri.experiment import canonical_json, text_hash
from dtri.files import digest, write_bytes, write_text
from dtri.landscape import energy, mapping, tree
from dtri.landscape.settings import Settings
from dtri.metrics import classifier as domain_classifier
from dtri.metrics.purity import purity
from dtri.model import Model
from dtri.numerics import hold_device
from dtri.seeding import derive
from workflow.commands.cli import run
from workflow.commands.measuring import Measurement, variant

REFERENCE = 2000  # test images whose energies give the unit; training images whose latents give the region
SHOWN = 8  # members of each basin that a figure may show
PROTOCOL = (
    "share of starts in the basins kept that have the commonest label of their basin; labels of training images and "
    "of the images behind reconstructions are the dataset's, those of samples the domain classifier's"
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="weights, model.safetensors of a run")
    parser.add_argument("--train", required=True, type=Path, help="train.json of the run")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset with labels")
    parser.add_argument("--classifier", required=True, type=Path, help="domain classifier, for labels alone")
    parser.add_argument("--spec", required=True, help="settings, JSON")
    parser.add_argument("--code", required=True)
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; DTRI_DEVICE overrides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", required=True, type=Path, help="where to save what is done")
    parser.add_argument("--out", required=True, type=Path, help="basins, members and barriers, .npz")
    parser.add_argument("--sensitivity", required=True, type=Path, help=".csv")
    parser.add_argument("--record", required=True, type=Path)
    arguments = parser.parse_args(argv)

    settings = Settings.parse(arguments.spec)
    dataset = store.load(arguments.data)
    arguments.state.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(arguments.state.with_name(f".{arguments.state.name}.lock"))
    with lock, hold_device(arguments.device, arguments.threads) as device:
        job = Measurement(arguments.train, arguments.code, {}, describe_device(device), "torch", "numpy")
        model, spec = trained.load(arguments.model, device, "standing")
        for map_name in ("energy", "generate", "infer"):
            evaluation.require(model, map_name)
        if dataset.image_shape != spec.image_shape:
            raise ValueError(f"expected images {spec.image_shape}, found {dataset.image_shape} in {arguments.data}")
        classifier = domain_classifier.load(arguments.classifier)
        weights = digest(arguments.model, "sha256")
        identity = text_hash(canonical_json(settings.of_walks), arguments.code, dataset.content, weights)
        state, why = checkpoint.load_state(arguments.state, identity)
        print(f"{arguments.out}: {why}", flush=True)

        def save(known: dict[str, Tensor]) -> None:
            checkpoint.save_state(arguments.state, {"run_id": identity, "t": len(known), "known": known})

        seed = derive("landscape", spec.dataset, spec.model, spec.seed)
        memory = mapping.Memory(seed, device, state["known"] if state else None, save)
        test = images.to_float(torch.from_numpy(dataset.images("test")[:REFERENCE].copy()).to(device))
        decode = model.generate if settings.space == "latent" else lambda x: x
        try:
            scaled, mean, std = energy.normalised(model.energy, test)
            points, labels = starts(model, dataset, settings, seed, classifier)
            regions, norms = candidate_regions(model, dataset.images("train"), settings)
            found = mapping.map_energy(lambda x: scaled(decode(x)), points, settings, memory, regions)
            arrays = _arrays(found, decode, device, classifier)
        except finite.NonFinite as error:
            print(f"{arguments.out}: diverged: {error}")
            _diverged(job, arguments, str(error))
            return 0
        write_bytes(arguments.out, arrays)
        write_text(arguments.sensitivity, _csv(found.sensitivity))
        extra = {**found.found, "latent_norms": norms, "energy_mean": mean, "energy_std": std}
        extra |= {"settings": asdict(settings)}
        _record(job, arguments.record, found, labels, seed, extra)
    return 0


def _diverged(job: Measurement, arguments: argparse.Namespace, why: str) -> None:
    """Products without basins, and a record that says why."""
    content = io.BytesIO()
    np.savez(content, members=np.empty(0, np.int64), found=np.array(json.dumps({"diverged": why})))
    write_bytes(arguments.out, content.getvalue())
    write_text(arguments.sensitivity, "")
    job.diverge(why)
    job.record(arguments.record, "landscape_purity", None, n_samples=0, n_reference=0, protocol=PROTOCOL)


def candidate_regions(
    model: Model, train: np.ndarray, settings: Settings
) -> tuple[list[energy.Region], dict[str, float] | None]:
    """Regions to map, the smallest first.

    For latents they are balls that hold the latents of the training images; for images, all images.

    Args:
        model: with `infer`, for latents.
        train: training images, uint8 [N, C, H, W].
        settings: the space, and for latents how large the balls are.

    Returns:
        The regions, and for latents the quantiles .01, .5, .99 and `region_quantile` of |mu(x)|.
    """
    if settings.space == "image":
        return [energy.box(-1.0, 1.0)], None
    norms = evaluation.encode(model, train[:REFERENCE]).norm(dim=1).double()
    quantiles = {f"{q:g}": norms.quantile(q).item() for q in (0.01, 0.5, 0.99, settings.region_quantile)}
    radius = settings.region_margin * norms.quantile(settings.region_quantile).item()
    return [energy.ball(radius * 2**k) for k in range(settings.region_doublings + 1)], quantiles


def starts(
    model: Model, dataset: store.Dataset, settings: Settings, seed: int, classifier: domain_classifier.Classifier
) -> tuple[Tensor, np.ndarray]:
    """Points [S, *] where descents begin, and their labels int64 [S].

    Samples come first, then images, then reconstructions. A sample has the label that the classifier gives it. Images
    and reconstructions have the dataset's label.

    Args:
        model: with `generate` and `infer`.
        dataset: with training images and labels.
        settings: how many starts of each kind, and whether points are latents or images.
        seed: of the latents and of the choice of images.
        classifier: labels the samples.

    Raises:
        NonFinite: a start is not finite.
    """
    device = next(model.parameters()).device
    n, m = settings.from_samples, settings.from_images + settings.from_reconstructions
    train = dataset.images("train")
    draw = checks.generator(derive("landscape starts", seed))
    chosen = np.sort(draw.choice(len(train), min(m, len(train)), replace=False))
    draw.shuffle(chosen)
    with torch.no_grad():
        z = evaluation.latents(n, model.z_dim, derive("landscape samples", seed)).to(device)
        samples = model.generate(z) if n else torch.empty(0, *model.image_shape, device=device)
        x = images.to_float(torch.from_numpy(train[chosen].copy()).to(device))
        real, rebuilt = x[: settings.from_images], evaluation.reconstruct(model, x[settings.from_images :])
        labelled = _labelled(classifier, evaluation.to_uint8(samples).cpu()) if n else np.empty(0, np.int64)
        if settings.space == "latent":
            points = torch.cat([z, model.infer(real), model.infer(rebuilt)])
        else:
            points = torch.cat([samples, real, rebuilt])
    finite.check("starts", points)
    return points, np.concatenate([labelled, dataset.labels("train")[chosen]])


@torch.no_grad()
def _labelled(classifier: domain_classifier.Classifier, stored: Tensor) -> np.ndarray:
    """uint8 images [n, C, H, W] -> the classifier's labels [n]."""
    return torch.cat([classifier(part)[1].argmax(1) for part in stored.split(500)]).numpy()


@torch.no_grad()
def _pictures(points: np.ndarray, decode, device: torch.device) -> Tensor:
    """Points to images, uint8 [n, C, H, W], on the CPU."""
    parts = torch.from_numpy(points).to(device).split(250)
    return torch.cat([evaluation.to_uint8(decode(part)).cpu() for part in parts])


def _arrays(found: mapping.Landscape, decode, device: torch.device, classifier: domain_classifier.Classifier) -> bytes:
    """The content of the .npz: members, energies, images, the classifier's labels and barriers of the kept basins.

    Basins stand by increasing energy; `order` gives the order of the tree's leaves.
    """
    joins = tree.merges(found.heights)
    order = tree.leaf_order(len(found.kept), joins)
    shape = _pictures(found.minima[:1], decode, device).shape[1:]
    pictures = np.zeros((len(found.kept), SHOWN, *shape), np.uint8)
    energies = np.full((len(found.kept), SHOWN), np.nan)
    for g, members in enumerate(found.kept):
        first = members[:SHOWN]
        pictures[g, : len(first)] = _pictures(found.minima[first], decode, device).numpy()
        energies[g, : len(first)] = found.energies[first]
    content = io.BytesIO()
    np.savez(
        content,
        images=pictures,  # uint8 [G, 8, C, H, W], the lowest member first
        energies=energies,  # [G, 8]
        members=np.array([len(members) for members in found.kept], np.int64),
        starts=np.array([np.isin(found.minimum_of_start, members).sum() for members in found.kept], np.int64),
        order=np.array(order, np.int64),
        merges=np.array([[join.height, join.left, join.right] for join in joins]).reshape(-1, 3),
        path_barrier=found.path_barrier,
        line_barrier=found.line_barrier,
        heights=found.heights,
        labels=_labelled(classifier, _pictures(found.minima, decode, device)),
        minimum_energies=found.energies,
        found=np.array(json.dumps(found.found)),
    )
    return content.getvalue()


def _csv(rows: list[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _record(job: Measurement, path: Path, found: mapping.Landscape, labels: np.ndarray, seed: int, extra: dict) -> None:
    """Write the record: purity over the starts that fell into kept basins.

    Its value is None where no basin is large enough to keep.
    """
    basin = {minimum: g for g, members in enumerate(found.kept) for minimum in members}
    group = np.array([basin.get(int(minimum), -1) for minimum in found.minimum_of_start])
    inside = group >= 0
    value = purity(group[inside], labels[inside], derive("purity", seed)) if inside.any() else None
    pairs = np.triu_indices(len(found.kept), 1)
    extra |= {
        "purity": asdict(value) if value else None,
        "kept_basins": len(found.kept),
        "pairs": len(pairs[0]),
        "pairs_with_a_path": int(np.isfinite(found.path_barrier[pairs]).sum()),
        "pairs_lower_on_a_line": int((found.line_barrier < found.path_barrier)[pairs].sum()),
        "sensitivity": found.sensitivity,
    }
    if value:
        extra["variants"] = {
            "permuted labels": variant(
                value.chance, value.n, len(found.kept), "mean purity of the same basins over permutations of the labels"
            ),
            "one basin": variant(value.largest_class, value.n, 1, "share of the commonest label"),
        }
    job.record(
        path,
        "landscape_purity",
        value.value if value else None,
        n_samples=int(inside.sum()),
        n_reference=len(found.kept),
        protocol=PROTOCOL,
        extra=extra,
    )


if __name__ == "__main__":
    sys.exit(run(main))
