"""Typed experiments: a training run as a value, and its model by name.

torch is imported only when a model is built, so that planning stays quick.
"""

import ast
import hashlib
import importlib
import importlib.util
import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtri.model import Model

PRECISIONS = ("fp32", "tf32", "bf16")
N_SNAPSHOTS = 10  # sets of weights at the end of a run whose scores paper A and MEG average


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no blanks. Equal specs have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def text_hash(*texts: str) -> str:
    """sha256 over the texts, as 64 hex digits."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@dataclass(frozen=True)
class TrainSpec:
    """Everything a training run reads from the configuration.

    `entry` is "module:Class", and `hparams` overrides defaults of the module's `Hparams`. `threads` is the number of
    CPU threads: it belongs to the spec because sums in another order round differently. With `late_every` > 0 the
    weights of `N_SNAPSHOTS` iterations are kept, `late_every` iterations apart, the last ones at the end. `processes`
    share every batch. Batch norm computes statistics over all of them or, without `sync_batch_norm`, over the rows of
    each process (dtri/process_group.py).
    """

    dataset: str
    model: str
    entry: str
    image_shape: tuple[int, int, int]
    hparams: dict[str, Any]
    steps: int
    batch_size: int
    seed: int
    precision: str = "fp32"
    threads: int = 1
    late_every: int = 0
    processes: int = 1
    sync_batch_norm: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "threads", "processes"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"expected a positive integer for {name}, found {value!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"expected a non-negative integer for seed, found {self.seed!r}")
        if not isinstance(self.late_every, int) or not 0 <= self.late_every * N_SNAPSHOTS <= self.steps:
            raise ValueError(
                f"expected late_every in 0..{self.steps // N_SNAPSHOTS} for {self.steps} steps, "
                f"found {self.late_every!r}"
            )
        if self.batch_size % self.processes:
            raise ValueError(f"expected a batch size divisible by {self.processes} processes, found {self.batch_size}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"expected precision in {PRECISIONS}, found {self.precision!r}")
        check_hparams(self.entry, self.hparams)

    @property
    def final_snapshots(self) -> list[int]:
        """Iterations before the end whose weights are kept."""
        return [self.steps - k * self.late_every for k in range(N_SNAPSHOTS - 1, 0, -1)] if self.late_every else []

    def to_json(self) -> str:
        return canonical_json(asdict(self))

    @property
    def hash(self) -> str:
        return text_hash(self.to_json())

    @classmethod
    def from_json(cls, text: str) -> "TrainSpec":
        """The spec that `to_json` wrote; ValueError when a key is unknown or missing."""
        try:
            fields = json.loads(text)
            return cls(**{**fields, "image_shape": tuple(fields["image_shape"])})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"expected a training spec as JSON, found {text[:200]!r} ({error})") from error


def run_id(spec: TrainSpec, code: str, data: str) -> str:
    """Identity of a run: spec, code hash and data hash."""
    return text_hash(spec.hash, code, data)


def hparam_defaults(entry: str) -> dict[str, tuple[str, Any]]:
    """{name: (annotation, default)} of `Hparams` in the module of `entry`."""
    return _defaults(entry, "Hparams")


@cache
def _defaults(entry: str, kind: str) -> dict[str, tuple[str, Any]]:
    """Fields of the class `kind` in the module of `entry`, read from the source without an import."""
    module, _, class_name = entry.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if not class_name or spec is None or spec.origin is None:
        raise ValueError(f"expected a model entry 'module:Class', found {entry!r}")
    classes = [node for node in ast.parse(Path(spec.origin).read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    if class_name not in {node.name for node in classes}:
        raise ValueError(f"no class {class_name} in {module} (has: {', '.join(node.name for node in classes)})")
    fields = next((node.body for node in classes if node.name == kind), [])
    return {
        field.target.id: (ast.unparse(field.annotation), ast.literal_eval(field.value))
        for field in fields
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value is not None
    }


def check_hparams(entry: str, overrides: dict[str, Any]) -> None:
    """ValueError where `Hparams` lacks a name, or its field excludes the value.

    A value needs the type and the sign of its default. It is finite, and one of the choices of a `Literal`. An `int`
    whose default is positive must be positive; `Annotated[int, "may be 0"]` permits 0.
    """
    _check("hyperparameter", entry, hparam_defaults(entry), overrides)


def check_sampler(entry: str, overrides: dict[str, Any]) -> None:
    """The same check for `Sampler`, which only systems have whose samples are the ends of Markov chains."""
    _check("sampler argument", entry, _defaults(entry, "Sampler"), overrides)


def _check(what: str, entry: str, known: dict[str, tuple[str, Any]], overrides: dict[str, Any]) -> None:
    for name, value in overrides.items():
        if name not in known:
            raise ValueError(f"unknown {what} {name!r} for {entry} (known: {', '.join(known) or 'none'})")
        annotation, default = known[name]
        where = f"{what} {name!r} of {entry}"
        if isinstance(default, tuple):
            if not isinstance(value, list | tuple) or len(value) != len(default):
                raise ValueError(f"expected {annotation} for {where}, found {value!r}")
            for expected, one in zip(default, value, strict=True):
                _check_one(type(expected).__name__, expected, one, f"every one of {where}")
        else:
            _check_one(annotation, default, value, where)


def _check_one(annotation: str, default: Any, value: Any, where: str) -> None:
    """ValueError where `value` has another type or sign than `default`, or is none of the choices."""
    if annotation.startswith("Literal"):
        if value not in ast.literal_eval(annotation.removeprefix("Literal")):
            raise ValueError(f"expected {annotation.removeprefix('Literal')} for {where}, found {value!r}")
        return
    kind = type(default).__name__
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise ValueError(f"expected {kind} for {where}, found {value!r}")
    if isinstance(default, bool | str):
        return
    if not math.isfinite(value):
        raise ValueError(f"expected a finite {kind} for {where}, found {value!r}")
    if annotation == "int" and value < 1 <= default:
        raise ValueError(f"expected a positive int for {where}, found {value!r}")
    if value < 0 <= default:
        raise ValueError(f"expected a non-negative {kind} for {where}, found {value!r}")


def build(entry: str, image_shape: tuple[int, int, int], overrides: dict[str, Any]) -> "Model":
    """The untrained model of a spec; torch's default generator draws its weights. ValueError for bad hyperparameters.

    Args:
        entry:       "module:Class".
        image_shape: (C, H, W).
        overrides:   hyperparameters that differ from the defaults.
    """
    check_hparams(entry, overrides)
    module, _, class_name = entry.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, class_name)(tuple(image_shape), loaded.Hparams(**_tuples(overrides)))


def set_sampler(model: "Model", entry: str, overrides: dict[str, Any]) -> None:
    """Give a model the `Sampler` of its module with `overrides`; ValueError where its module has no such argument."""
    check_sampler(entry, overrides)
    if overrides:
        model.sampler = importlib.import_module(entry.partition(":")[0]).Sampler(**_tuples(overrides))


def _tuples(overrides: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in overrides.items()}
