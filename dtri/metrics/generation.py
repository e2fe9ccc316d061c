"""Sample quality against a reference set: FID, Inception Score, KID, precision and recall.

All metrics come from one pass over each set of images. dtri/metrics/frechet.py has a faster route to the Frechet
distance; torch-fidelity computes the others. Distances are computed in float64 from float32 features. torch-fidelity's
own command keeps FID's mean in float32, so its values differ by rounding.

The reference is read as a stream. All its features enter mean and covariance. If it has more than `KEPT` images, KID,
precision and recall use a fixed random subset of them.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import (
    KEY_METRIC_F_SCORE,
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    prc_features_to_metric,
)

from dtri.files import write_atomic
from dtri.metrics import frechet
from dtri.metrics.features import Extractor

IS_SPLITS = 10
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
PRC_NEIGHBOURS = 3
PRC_LIMIT = (
    10_000  # images of either set: all distances of 50,000 images would take 10 GB, and hardly sharpen the value
)
KEPT = 50_000  # number of the reference's features that are kept
BLOCK = 8192  # images of the reference that pass the network before their features are accounted for
NOISE_LIMIT = 10_000  # images of uniform noise, whose FID any trained system must beat
PRC_ROWS = 1000  # rows of a distance matrix held at a time


FEW_PER_SPLIT = 100  # images per split, below which an Inception Score says more about their number
FEW_PER_SUBSET = 100  # the same for images per subset of KID


@dataclass(frozen=True)
class Score:
    """One metric: its value, how it was measured, the images that were used, and secondary numbers.

    `warning` says why the value may mean little; it is "" where nothing speaks against the value.
    """

    value: float
    protocol: str
    n_samples: int
    n_reference: int
    extra: dict[str, float] = field(default_factory=dict)
    warning: str = ""


@dataclass(frozen=True)
class Reference:
    """Features of a set of `n` images: their Gaussian, and float32 [m, d] of at most `KEPT` of the images."""

    n: int
    gaussian: frechet.Gaussian
    features: Tensor


@dataclass(frozen=True)
class Generation:
    """The metrics of one set of samples. `extractor` is the label of the feature network.

    `fid` has the FID of uniform noise in `extra`. `inception_score` has 10 splits, and no reference; its `extra` holds
    its std and the one-split value. `kid` is a mean over subsets with the std in `extra`. `precision` has recall and
    f_score in `extra`.
    """

    fid: Score
    inception_score: Score
    kid: Score
    precision: Score
    n_samples: int
    n_reference: int
    extractor: str


def measure(
    samples: np.ndarray,
    reference: np.ndarray,
    extractor: Extractor,
    cache_root: Path | None = None,
    batch_size: int = 64,
    seed: int = 2020,
) -> Generation:
    """Compare samples with a reference.

    Args:
        samples: uint8 [N, C, H, W].
        reference: uint8 [M, C, H, W].
        extractor: the feature network.
        cache_root: folder for features of the reference, in files named by the images and the extractor.
        batch_size: images that pass the network together.
        seed: seed of splits and subsets.

    Raises:
        ValueError: the shapes differ, or there are fewer than 10 samples or reference images.
    """
    return measure_each(samples, [(len(samples), reference)], extractor, cache_root, batch_size, seed)[0]


def measure_each(
    samples: np.ndarray,
    comparisons: Sequence[tuple[int, np.ndarray]],
    extractor: Extractor,
    cache_root: Path | None = None,
    batch_size: int = 64,
    seed: int = 2020,
) -> list[Generation]:
    """Run `measure` for each (n, reference) of `comparisons`: the first n samples against that reference.

    Features of the samples are extracted once. The other arguments and the errors are as in `measure`.
    """
    for n, reference in comparisons:
        if samples.shape[1:] != reference.shape[1:] or min(n, len(samples), len(reference)) < IS_SPLITS:
            raise ValueError(
                f"expected samples and reference of one shape, at least {IS_SPLITS} of each, "
                f"found {samples.shape} and {reference.shape}"
            )
        if n > len(samples):
            raise ValueError(f"expected at least {n} samples, found {len(samples)}")
    features = extractor.features(samples, batch_size)
    rng_seed = seed % 2**32
    shape = (min(len(samples), NOISE_LIMIT), *samples.shape[1:])
    noise = np.random.default_rng(rng_seed).integers(0, 256, shape, dtype=np.uint8)
    noisy = _reference(noise, extractor, cache_root, batch_size).gaussian
    found = []
    for n, images in comparisons:
        ours = {layer: values[:n] for layer, values in features.items()}
        reference = _reference(images, extractor, cache_root, batch_size)
        level = {"noise": frechet.distance(noisy, reference.gaussian)}
        sampled = ours[extractor.feature_layer]
        repeated = _repeated("samples", samples[:n]) or _repeated("reference images", images)
        scores = {
            "fid": replace(fid(sampled, reference.gaussian, reference.n), extra=level),
            "inception_score": inception_score(ours[extractor.logit_layer], rng_seed),
            "kid": kid(sampled, reference.features, rng_seed, reference.n),
            "precision": precision(sampled, reference.features, rng_seed, reference.n),
        }
        warned = {name: replace(one, warning=_joined(one.warning, repeated)) for name, one in scores.items()}
        found.append(Generation(**warned, n_samples=n, n_reference=reference.n, extractor=extractor.label))
    return found


def content_hash(images: np.ndarray) -> str:
    """sha256 of uint8 images and their shape."""
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()


def _joined(*warnings: str) -> str:
    return "; ".join(filter(None, warnings))


def _repeated(what: str, images: np.ndarray) -> str:
    """A warning where fewer than half of the images are distinct; "" otherwise."""
    distinct = len({hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest() for image in images})
    return f"only {distinct} distinct images among {len(images)} {what}" if 2 * distinct < len(images) else ""


def _reference(images: np.ndarray, extractor: Extractor, cache_root: Path | None, batch_size: int) -> Reference:
    """The features of a reference [M, C, H, W], from the cache where they are in it."""
    layer, n = extractor.feature_layer, len(images)
    content = content_hash(images)

    def computed() -> dict[str, np.ndarray]:
        kept = np.ones(n, bool)
        if n > KEPT:
            drawn = np.random.default_rng(int(content[:16], 16)).choice(n, KEPT, replace=False)
            kept = np.isin(np.arange(n), drawn)
        moments, features = frechet.Moments(), []
        for first in range(0, n, BLOCK):
            values = extractor.features(images[first : first + BLOCK], batch_size)[layer]
            moments.add(values)
            features.append(values[torch.from_numpy(kept[first : first + BLOCK])])
        gaussian = moments.gaussian()
        tensors = {"features": torch.cat(features), "mean": gaussian.mean, "covariance": gaussian.covariance}
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    name = f"n{n}-{content[:16]}-{extractor.name}-{extractor.version[:16]}-{layer}-{KEPT}.npz"
    arrays = _cached(cache_root / name, computed) if cache_root else computed()
    features, mean, covariance = (torch.from_numpy(arrays[name]) for name in ("features", "mean", "covariance"))
    return Reference(n, frechet.Gaussian(mean, covariance), features)


def _cached(path: Path, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in a file, which holds the sha256 of the rest and then an .npz.

    They are computed where the file is missing or damaged. A message says so where they cannot be written.
    """
    with suppress(OSError), path.open("rb") as file:
        expected = file.read(hashlib.sha256().digest_size)
        if hashlib.file_digest(file, "sha256").digest() == expected:
            file.seek(len(expected))
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
    arrays = compute()
    content = io.BytesIO()
    np.savez(content, **arrays)
    checksum = hashlib.sha256(content.getbuffer()).digest()
    try:
        write_atomic(path, lambda file: file.writelines([checksum, content.getbuffer()]))
    except OSError as error:  # the disk is full or the folder read-only, but the features are known
        print(f"{path}: not kept: {error}")
    return arrays


def fid(sampled: Tensor, reference: frechet.Gaussian, n_reference: int) -> Score:
    """Frechet distance of features [N, d] to the Gaussian of a reference with `n_reference` images."""
    n, d = sampled.shape
    value = frechet.distance(frechet.Gaussian.of(sampled), reference)
    protocol = f"Frechet distance of {d}-d features, {n} samples against {n_reference} reference images, divisor N-1"
    warning = ""
    if min(n, n_reference) <= d:
        protocol += "; covariance rank-deficient (no more images than dimensions)"
        warning = f"{min(n, n_reference)} images for a covariance of {d} dimensions: it is rank-deficient"
    return Score(value, protocol, n, n_reference, warning=warning)


def inception_score(logits: Tensor, seed: int) -> Score:
    """exp of the mean KL(p(y|x) || p(y)) from logits [N, K], averaged over 10 splits that `seed` draws.

    It lies between 1 and K, and cannot exceed the number of images of a split.
    """
    n, n_classes = logits.shape
    enough = max(FEW_PER_SPLIT, n_classes)
    logits = logits.double()
    # A probability that underflows to 0 for every image makes 0 * log(0 / 0); exp(-500) does not.
    logits = (logits - logits.max(dim=1, keepdim=True).values).clamp(min=-500)
    split = isc_features_to_metric(logits, splits=IS_SPLITS, shuffle=True, rng_seed=seed)
    whole = isc_features_to_metric(logits, splits=1, shuffle=False)
    return Score(
        split[KEY_METRIC_ISC_MEAN],
        f"mean over {IS_SPLITS} splits of {n} shuffled samples, {n_classes} outputs; std over splits with ddof 0",
        n,
        0,
        {"std": split[KEY_METRIC_ISC_STD], "one_split": whole[KEY_METRIC_ISC_MEAN]},
        f"only {n // IS_SPLITS} images in a split, for {n_classes} outputs" if n < IS_SPLITS * enough else "",
    )


def kid(sampled: Tensor, reference: Tensor, seed: int, n_reference: int | None = None) -> Score:
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3, averaged over subsets; it may be slightly negative.

    Args:
        sampled: features [N, d] of samples.
        reference: features [M, d] of reference images.
        seed: seed of the subsets.
        n_reference: number of images from which the M were drawn.
    """
    n, m = len(sampled), len(reference)
    size = min(KID_SUBSET_SIZE, n // 2, m // 2)  # at most half of the smaller set, or all subsets would be the same
    options = {"kid_subsets": KID_SUBSETS, "kid_subset_size": size, "rng_seed": seed, "verbose": False}
    found = kid_features_to_metric(sampled.double(), reference.double(), **options)
    return Score(
        found[KEY_METRIC_KID_MEAN],
        f"mean over {KID_SUBSETS} subsets of {size} from {n} samples and {_of(m, n_reference)} reference images, cubic "
        "kernel, unbiased; std over subsets with ddof 0",
        n,
        m,
        {"std": found[KEY_METRIC_KID_STD], "subsets": KID_SUBSETS, "subset_size": size},
        f"only {size} images in a subset" if size < FEW_PER_SUBSET else "",
    )


def _of(m: int, n: int | None) -> str:
    """Text such as "500", or "500 of 900" where n is larger."""
    return f"{m} of {n}" if n is not None and m < n else str(m)


def precision(sampled: Tensor, reference: Tensor, seed: int, n_reference: int | None = None) -> Score:
    """Fraction of samples inside the reference's k-nearest-neighbour manifold, and its converse, recall (k = 3).

    Args:
        sampled: features [N, d] of samples.
        reference: features [M, d] of reference images.
        seed: seed of the draw of images where a set has more than `PRC_LIMIT`.
        n_reference: number of images from which the M were drawn.
    """
    rng = np.random.default_rng(seed)
    chosen = [_at_most(features, PRC_LIMIT, rng).double() for features in (sampled, reference)]
    options = {"prc_neighborhood": PRC_NEIGHBOURS, "prc_batch_size": PRC_ROWS, "save_cpu_ram": True, "verbose": False}
    found = prc_features_to_metric(*chosen, **options)
    n, m = len(chosen[0]), len(chosen[1])
    return Score(
        found[KEY_METRIC_PRECISION],
        f"k = {PRC_NEIGHBOURS} nearest neighbours, {n} of {len(sampled)} samples "
        f"and {m} of {n_reference or len(reference)} reference images",
        n,
        m,
        {"recall": found[KEY_METRIC_RECALL], "f_score": found[KEY_METRIC_F_SCORE]},
    )


def _at_most(features: Tensor, limit: int, rng: np.random.Generator) -> Tensor:
    """All rows, or `limit` rows drawn without replacement, in their order."""
    if len(features) <= limit:
        return features
    return features[np.sort(rng.choice(len(features), limit, replace=False))]
