"""Checks while planning of what would otherwise fail after a job has started: options of datasets, settings of systems.

Every check uses values alone: it reads no raw file and does not import torch. `plan.check_configuration` checks each
entry by itself. The checks here compare entries with each other, and with the modules that they name.
"""

import ast
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from dtri.data.contents import Contents
from dtri.experiment import TrainSpec, hparam_defaults
from workflow import configuration, jobcode, plan, specs
from workflow.fingerprint import closure, imported_names, path_of

SMALLEST_SIDE = 28  # of images for a domain classifier: dtri.metrics.classifier.SMALLEST_SIDE
NETWORKS = "dtri.networks.convolutional"
ANY_SHAPE = (3, 32, 32)  # at which options of a set of any shape are checked, before a system asks for its own
# The range of a hyperparameter of that name, in every system: (lowest, highest, whether the highest is allowed).
RANGES = {
    **dict.fromkeys(("beta1", "beta2", "ema_decay", "dropout"), (0, 1, False)),
    **dict.fromkeys(("reinit", "gamma"), (0, 1, True)),
}


def check_configuration() -> None:
    """Check every dataset and system, and every run that a preset asks for.

    Raises:
        ValueError: an entry cannot work; the message names file, line and key of the first.
    """
    plan.check_configuration()
    for name, entry in configuration.datasets().items():
        if entry.holdout_of:
            _check_holdout(name, entry)
        else:
            _check_contents(name, entry.image_shape or ANY_SHAPE)
    for name, model in configuration.models().items():
        _check_model_class(name, model.entry)
    for name, preset in configuration.presets().items():
        _check_stand_ins(name)
        for run in dict.fromkeys(specs.Run(one.preset, one.dataset, one.model, 0) for one in plan.runs(preset)):
            if preset.extractor == "domain":
                _check_extractor(run.dataset)
            check_run(run)
        for cell in (cell for table in plan.TABLES for cell in plan.table(table).cells if cell.against):
            run = plan.target(preset, cell, 0).run
            if run and (against := specs.measured_on(preset, cell.against, specs.dataset(run.dataset))):
                check_dataset(against)


def check_target(target: str) -> None:
    """Check what a path below results/ asks for, which no table may need; other words pass.

    Raises:
        ValueError: it cannot be made; the message names what is known, or file, line and key of the entry.
    """
    plan.check_target(target)
    match target.split("/"):
        case ("results", "data", name, _, *_):
            check_dataset(name)
            if "classifier." in target:
                _check_extractor(name)
        case ("results", preset, data, system, seed, *rest) if preset in configuration.presets() and seed.startswith(
            "seed"
        ):
            check_run(specs.Run(preset, data, system, 0))
            if rest[:1] == ["metrics"] and len(rest) == 2:
                _check_metric(rest[1].removesuffix(".json"))
            if against := re.search(r"(?:^scores/|^metrics/auroc_)(\w+?)(?:__\w+)?\.", "/".join(rest)):
                check_dataset(against[1])
            if target.endswith("_domain.json"):
                _check_extractor(data)


def _check_metric(name: str) -> None:
    networks = ("inception", *plan.UNPUBLISHED)
    known = [f"{metric}_{network}" for metric in configuration.GENERATION_METRICS for network in networks]
    known += [metric for metric in jobcode.WRITERS if metric != "auroc"]
    if name not in known and not name.startswith("auroc_"):
        raise ValueError(f"unknown metric {name!r} (known: {', '.join([*known, 'auroc_<dataset>'])})")


def check_dataset(name: str) -> None:
    """ValueError where the module of a dataset cannot make it at its shape and with its options."""
    data = specs.dataset(name)
    if data.config.holdout_of:
        check_dataset(data.config.holdout_of)
    else:
        _check_contents(data.family, data.image_shape)


def contents(name: str, image_shape: tuple[int, int, int]) -> Contents | None:
    """What a dataset's module says of the dataset at that shape; None where the module has no `check`.

    Raises:
        ValueError: the module cannot make the dataset; the message names the entry and its option.
    """
    entry = configuration.datasets()[name]
    check = getattr(importlib.import_module(entry.module), "check", None)
    with _located("datasets.yaml", name, {(name, "options"): entry.options}):
        return check(image_shape, entry.options) if check else None


def _check_holdout(name: str, entry: configuration.DatasetConfig) -> None:
    """A hold-out is made of its source alone, so any other setting would be ignored."""
    for key in ("module", "options", "classes", "variant_of", "test_only"):
        if getattr(entry, key):
            with _located("datasets.yaml", name, {(name,): {key: None}}):
                raise ValueError(
                    f"expected no {key!r} of a hold-out, which its source has, found {getattr(entry, key)!r}"
                )
    trainable = [other for other, one in configuration.datasets().items() if one.image_shape and not one.test_only]
    if entry.holdout_of not in trainable:
        with _located("datasets.yaml", name, {(name,): {"holdout_of": None}}):
            raise ValueError(f"expected 'holdout_of' a set with training images, found {entry.holdout_of!r}")


def _check_model_class(name: str, entry: str) -> None:
    module, _, class_name = entry.partition(":")
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text("utf-8"))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    if not found.bases:
        with _located("models.yaml", name, {(name,): {"entry": None}}):
            raise ValueError(f"expected a subclass of Model as 'entry', found {entry!r}")


def _check_stand_ins(name: str) -> None:
    """A stand-in for a dataset that systems are trained on has to have training images."""
    for paper, ours in configuration.preset(name).stand_ins.items():
        if paper in configuration.datasets() and ours is not None:
            replaced, entry = configuration.datasets()[paper], configuration.datasets()[ours]
            trained = not replaced.any_shape and not replaced.test_only
            if trained and (entry.any_shape or entry.test_only):
                with _located("presets.yaml", name, {(name, "stand_ins"): {paper: ours}}):
                    raise ValueError(f"expected a set with training images for {paper!r}, found {ours!r}")


def _check_contents(name: str, image_shape: tuple[int, int, int]) -> None:
    entry, made = configuration.datasets()[name], contents(name, image_shape)
    if made is None:
        return
    with _located("datasets.yaml", name, {}):
        if entry.image_shape and not entry.test_only and "train" not in made.splits:
            raise ValueError(f"expected training images or test_only, found the splits {', '.join(made.splits)}")
        if "test" not in made.splits:
            raise ValueError(f"expected test images, found the splits {', '.join(made.splits)}")
        if entry.classes and not made.classes:
            raise ValueError("expected labels, since classes are true, found none")


def _check_extractor(name: str) -> None:
    """Where a dataset has labels, its images have to be large enough for the domain classifier."""
    source = specs.dataset(name).classes_of
    if not source:
        return  # the table says so in the cell
    data = specs.dataset(source)
    if min(data.image_shape[1:]) < SMALLEST_SIDE:
        with _located("datasets.yaml", data.family, {(data.family,): {"image_shape": None}}):
            raise ValueError(
                f"expected 'image_shape' of at least {SMALLEST_SIDE} pixels for the domain classifier, found "
                f"{list(data.image_shape)}"
            )


def check_run(run: specs.Run) -> None:
    """ValueError where a system cannot be built for a dataset, or cannot take its first step."""
    check_dataset(run.dataset)
    spec, entry = specs.train_spec(run), configuration.model(run.model)
    family = specs.dataset(run.dataset).family
    places = {(run.model, "hparams"): entry.hparams}
    if family in entry.datasets:
        places = {(run.model, "datasets", family, "hparams"): entry.datasets[family].hparams, **places}
    hparams = {name: default for name, (_, default) in hparam_defaults(spec.entry).items()} | spec.hparams
    with _located("models.yaml", run.model, places):
        _check_side(spec)
        for name, value in hparams.items():
            _check_range(name, value)
        _check_relations(spec, hparams)


def _check_side(spec: TrainSpec) -> None:
    sides = network_sides(spec.entry.partition(":")[0])
    if sides and spec.image_shape[1] not in sides:
        raise ValueError(
            f"expected square images of side {' or '.join(map(str, sides))} for {spec.entry}, found "
            f"{list(spec.image_shape)} of {spec.dataset}"
        )


@cache
def network_sides(module: str) -> tuple[int, ...]:
    """Image sides that a system's shared networks are designed for; () where it uses none of them.

    They are read from the source of the networks, which is not imported.
    """
    tree = ast.parse(path_of(NETWORKS).read_text("utf-8"))
    sized, before = {"image_side"}, set()
    while sized != before:
        before = set(sized)
        sized |= {
            node.name
            for node in tree.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef)
            and any(isinstance(inner, ast.Name) and inner.id in before for inner in ast.walk(node))
        }
    used = {name for one in closure([module]) if one != NETWORKS for name in imported_names(one)}
    if not {f"{NETWORKS}.{name}" for name in sized} & used:
        return ()
    return next(ast.literal_eval(node.value) for node in tree.body if _assigns(node, "IMAGE_SIDES"))


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets)


def _check_range(name: str, value: Any) -> None:
    if name in RANGES:
        low, high, included = RANGES[name]
        if not low <= value <= high or (value == high and not included):
            end = "]" if included else ")"
            raise ValueError(f"expected hyperparameter {name!r} in [{low}, {high}{end}, found {value!r}")
    if name.endswith("_range") and not value[0] < value[1]:
        raise ValueError(f"expected hyperparameter {name!r} to be [lower, upper], found {list(value)}")


def _check_relations(spec: TrainSpec, h: dict[str, Any]) -> None:
    """Check hyperparameters against each other, the batch size and the image shape."""
    if "buffer_size" in h and h["buffer_size"] < spec.batch_size:
        raise ValueError(
            f"expected hyperparameter 'buffer_size' of at least the batch size {spec.batch_size}, found "
            f"{h['buffer_size']}"
        )
    if "decay_from" in h and h["decay_from"] >= h["decay_until"]:
        raise ValueError(
            f"expected hyperparameter 'decay_from' below decay_until {h['decay_until']}, found {h['decay_from']}"
        )
    if "start_side" in h:
        _check_growth(spec, h["start_side"], h["batch_sizes"])


def _check_growth(spec: TrainSpec, start_side: int, batch_sizes: list[int]) -> None:
    """Check a system that grows by doubling its side and has a batch size for each level."""
    sides = [spec.image_shape[1]]
    while sides[0] % 2 == 0 and sides[0] // 2 >= 4:
        sides.insert(0, sides[0] // 2)
    if len(sides) < 2:
        raise ValueError(f"expected images whose side can be halved to 4 pixels or more, found {sides[0]}")
    if len(batch_sizes) < len(sides):
        raise ValueError(f"expected hyperparameter 'batch_sizes' for {len(sides)} levels, found {list(batch_sizes)}")
    if start_side > sides[-1]:
        raise ValueError(f"expected hyperparameter 'start_side' of at most {sides[-1]}, found {start_side}")
    first = next(level for level, side in enumerate(sides) if side >= start_side)
    if batch_sizes[first] != spec.batch_size:
        raise ValueError(
            f"expected batch_size {batch_sizes[first]}, that of the first level in batch_sizes, found {spec.batch_size}"
        )
    odd = [size for size in batch_sizes[first : len(sides)] if size % spec.processes]
    if odd:
        raise ValueError(
            f"expected hyperparameter 'batch_sizes' divisible by {spec.processes} processes, found {odd[0]}"
        )


@contextmanager
def _located(file: str, name: str, places: dict[tuple[str, ...], dict[str, Any]]) -> Iterator[None]:
    """Put file, line and key in front of a message about the entry `name`.

    The key is the first of the settings at `places` that the message names, or whose value it quotes. Else it is the
    entry itself.
    """
    try:
        yield
    except ValueError as error:
        text = str(error)
        settings = [((*keys, one), value) for keys, values in places.items() for one, value in values.items()]
        named = [keys for keys, _ in settings if repr(keys[-1]) in text]
        quoted = [keys for keys, value in settings if isinstance(value, str) and repr(value) in text]
        where = configuration.where(file, *next(iter([*named, *quoted]), (name,)))
        raise ValueError(f"{where}: {text}") from error
