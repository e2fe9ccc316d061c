"""Datasets and runs by name, and the specification of each run: configuration of the system, capped by the preset.

Read while Snakemake parses: no torch, no pandas.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dtri.experiment import N_SNAPSHOTS, TrainSpec, check_sampler
from workflow import configuration
from workflow.configuration import Comparison, DatasetConfig, ModelConfig, ModelOverride, Preset, datasets, presets

# Datasets: a configured name, `<family><digit>` of a hold-out family, or `<name>_<C>x<H>x<W>` where any shape goes.


@dataclass(frozen=True)
class Dataset:
    """A dataset as it lies on disk: `name` is its folder, `family` its entry in datasets.yaml."""

    name: str
    family: str
    config: DatasetConfig
    image_shape: tuple[int, int, int]
    digit: int | None = None

    @property
    def folder(self) -> str:
        return f"results/data/{self.name}"

    @property
    def trainable(self) -> bool:
        return not self.config.any_shape and not self.config.test_only

    @property
    def files(self) -> list[str]:
        """Files that preparing writes."""
        names = ["train.npy"] * self.trainable + ["test.npy"] + ["test_leaky.npy"] * (self.digit is not None)
        return [f"{self.folder}/{name}" for name in (*names, "index.npz", "meta.json")]

    @property
    def base(self) -> str:
        """The entry of datasets.yaml that names the drop folder."""
        return self.config.variant_of or self.family

    @property
    def terms(self) -> tuple[str, bool]:
        """(terms of use of the images, whether they let images be passed on), of the entry or of its source."""
        if self.config.holdout_of and not self.config.terms:
            return dataset(self.config.holdout_of).terms
        entry = self.config if self.config.terms else datasets()[self.base]
        return entry.terms, entry.share_images

    @property
    def classes_of(self) -> str:
        """The dataset whose labels train the domain extractor; "" where there are none."""
        if self.config.holdout_of:
            return dataset(self.config.holdout_of).classes_of
        return self.name if self.config.classes else ""


@cache
def dataset(name: str) -> Dataset:
    """The dataset of that name; ValueError, naming the known datasets, where there is none."""
    known = datasets()
    if name in known and known[name].image_shape:
        return Dataset(name, name, known[name], known[name].image_shape)
    if match := re.fullmatch(r"(\w+?)(\d)", name):
        family = known.get(match[1])
        if family is not None and family.holdout_of:
            source = dataset(family.holdout_of)
            return Dataset(name, match[1], family, source.image_shape, int(match[2]))
    if match := re.fullmatch(r"(\w+?)_(\d+)x(\d+)x(\d+)", name):
        family = known.get(match[1])
        if family is not None and family.any_shape:
            return Dataset(name, match[1], family, (int(match[2]), int(match[3]), int(match[4])))
    forms = [f"{n}<digit>" if c.holdout_of else f"{n}_<C>x<H>x<W>" if c.any_shape else n for n, c in known.items()]
    raise ValueError(f"unknown dataset {name!r} (known: {', '.join(forms)})")


def measured_on(preset: Preset, paper_dataset: str, like: Dataset | None = None) -> str | None:
    """The dataset that stands for the paper's in this preset; None where the configuration has none.

    Args:
        preset: whose stand-ins apply.
        paper_dataset: key of the paper's dataset.
        like: dataset whose image shape is needed. A dataset of any shape is made at it; a test set of another shape
            does not count.
    """
    stand_ins = preset.stand_ins
    name = stand_ins.get(paper_dataset, paper_dataset)
    match = re.fullmatch(r"(\w+?)(\d)", name or "")
    if match and match[1] in datasets() | stand_ins:
        family = stand_ins.get(match[1], match[1])
        name = family and family + match[2]
    if name is None:
        return None
    entry = datasets().get(name)
    if entry is not None and like is not None:
        if entry.any_shape:
            return f"{name}_{'x'.join(map(str, like.image_shape))}"
        if entry.test_only and entry.image_shape != like.image_shape:
            return None
    try:
        return dataset(name).name
    except ValueError:
        return None


# Runs


@dataclass(frozen=True)
class Run:
    """One training run and its folder."""

    preset: str
    dataset: str
    model: str
    seed: int

    @property
    def folder(self) -> str:
        return f"results/{self.preset}/{self.dataset}/{self.model}/seed{self.seed}"


def _overrides(entry: ModelConfig, data: Dataset) -> ModelOverride:
    """What models.yaml sets for a dataset, or else for the dataset that it is a variant of."""
    return entry.datasets.get(data.family) or entry.datasets.get(data.base) or ModelOverride()


def train_spec(run: Run) -> TrainSpec:
    """The run's specification: configuration of the model, overridden by dataset, capped by the preset.

    Raises:
        ValueError: preset, system or dataset are unknown, the dataset has no training images, or a setting is
            impossible.
    """
    configuration.preset(run.preset), configuration.model(run.model)
    if not dataset(run.dataset).trainable:
        raise ValueError(f"dataset {run.dataset!r} is for out-of-distribution tests only, it has no training images")
    try:
        return merged(run)
    except ValueError as error:
        raise ValueError(f"models.yaml: {run.model} on {dataset(run.dataset).family}: {error}") from error


def merged(run: Run) -> TrainSpec:
    """As `train_spec`, for any dataset, with messages that name no file."""
    chosen, entry, data = configuration.preset(run.preset), configuration.model(run.model), dataset(run.dataset)
    overrides = _overrides(entry, data)
    steps = overrides.steps or entry.steps
    if chosen.max_steps:
        steps = chosen.max_steps.of(run.model, steps, holdout=data.digit is not None)
    hparams = {**entry.hparams, **overrides.hparams, **chosen.hparams.get(run.model, {})}
    if chosen.width != 1.0:
        hparams["width"] = chosen.width * hparams.get("width", 1.0)
    return TrainSpec(
        dataset=run.dataset,
        model=run.model,
        entry=entry.entry,
        image_shape=data.image_shape,
        hparams=hparams,
        steps=steps,
        batch_size=overrides.batch_size or entry.batch_size,
        seed=run.seed,
        precision=chosen.precision,
        threads=chosen.threads,
        late_every=_late_every(steps) if data.digit is not None else 0,
        processes=overrides.processes or entry.processes,
        sync_batch_norm=entry.sync_batch_norm if overrides.sync_batch_norm is None else overrides.sync_batch_norm,
    )


def _late_every(steps: int) -> int:
    """Iterations between the last snapshots of a hold-out run, for averages over the last epochs.

    They are a fiftieth of the run, an epoch: 500 for 25,000 iterations. 0 for a run shorter than N_SNAPSHOTS
    iterations.
    """
    return max(1, steps // 50) if steps >= N_SNAPSHOTS else 0


def sampler(run: Run) -> dict[str, Any]:
    """Arguments of the system's Markov chains at evaluation, where they are configured; no training reads them."""
    entry, data = configuration.model(run.model), dataset(run.dataset)
    arguments = {**entry.sampler, **_overrides(entry, data).sampler}
    try:
        check_sampler(entry.entry, arguments)
    except ValueError as error:
        raise ValueError(f"models.yaml: {run.model} on {data.family}: {error}") from error
    return arguments


def comparisons(run: Run) -> list[Comparison]:
    """How the run's samples are compared with images, capped by the preset.

    The tables' comparison comes first; equal ones appear once.
    """
    protocol, cap = dataset(run.dataset).config.generation, configuration.preset(run.preset).max_samples
    wanted = [Comparison(**one.model_dump(exclude={"also"})) for one in (protocol, *protocol.also)]
    capped = (one.model_copy(update={"n_samples": min(one.n_samples, cap or one.n_samples)}) for one in wanted)
    return list(dict.fromkeys(capped))


def n_samples(run: Run) -> int:
    """The number of samples that the largest comparison needs."""
    return max(one.n_samples for one in comparisons(run))


def run_at(path: Path) -> Run | None:
    """The run in whose folder a record lies; None where it lies elsewhere, as copies do."""
    match path.parts[-7:]:
        case ("results", name, data, system, seed, "metrics", _) if name in presets():
            return Run(name, data, system, int(seed.removeprefix("seed")))
    return None
