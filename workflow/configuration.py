"""The YAML files as typed entries: what datasets, models and presets there are, checked key by key.

Read while Snakemake parses: no torch, no pandas.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from dtri.experiment import check_hparams, check_sampler
from dtri.landscape.settings import Settings as LandscapeSettings
from dtri.report.cells import PAPER_NAMES
from workflow import overlay, settings_file
from workflow.fingerprint import closure, imports, path_of

CONFIG = Path(__file__).parent / "config"
GENERATION_METRICS = ("fid", "is", "kid", "prc")
FEWEST_IMAGES = 10  # for sample quality: dtri.metrics.generation.IS_SPLITS
RESERVED = ("data", "figures", "reference", "logs")  # folders below results/, so no names of entries
VARIANT = "[a-z0-9_]+(-[A-Za-z0-9_]+=[A-Za-z0-9_.+-]+)+"  # name of a system that a sweep makes
COUNTS = ("n", "limit", "n_source", "holdout")  # options of dataset modules that are whole numbers from 1 on


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _label(text: str) -> str:
    if not text.strip() or not text.isprintable() or "$" in text:
        raise ValueError("expected one line of text without $, which figures take for mathematics")
    return text


Label = Annotated[str, AfterValidator(_label)]


class Comparison(Strict):
    """How many samples are compared with which images of the dataset: the first `n_reference` of a split, or all."""

    n_samples: int = Field(ge=FEWEST_IMAGES)
    reference: Literal["train", "test"] = "train"
    n_reference: int | None = Field(None, ge=FEWEST_IMAGES)


class GenerationProtocol(Comparison):
    """The comparison behind the tables' numbers; `also` are others of the same samples, reported beside it."""

    also: tuple[Comparison, ...] = ()


class DatasetConfig(Strict):
    """An entry of datasets.yaml; workflow/config/README.md explains its keys."""

    label: Label
    terms: Annotated[str, AfterValidator(lambda text: text and _label(text))] = ""
    share_images: bool = False
    module: str = ""
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    any_shape: bool = False
    test_only: bool = False
    classes: bool = False
    holdout_of: str = ""
    variant_of: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    generation: GenerationProtocol = GenerationProtocol(n_samples=10000)

    @model_validator(mode="after")
    def _one_kind(self) -> "DatasetConfig":
        kinds = [bool(self.holdout_of), self.any_shape, self.image_shape is not None]
        if sum(kinds) != 1:
            raise ValueError("expected exactly one of image_shape, any_shape, holdout_of")
        if not self.holdout_of and not self.module:
            raise ValueError("expected module")
        if self.test_only and self.image_shape is None:
            raise ValueError("expected test_only beside image_shape alone")
        if self.share_images and not self.terms:
            raise ValueError("expected the terms that allow share_images")
        return self


class ModelOverride(Strict):
    """What models.yaml sets for a system on one dataset."""

    steps: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    processes: PositiveInt | None = None
    sync_batch_norm: bool | None = None
    hparams: dict[str, Any] = Field(default_factory=dict)
    sampler: dict[str, Any] = Field(default_factory=dict)


class ModelConfig(Strict):
    """A system of models.yaml; workflow/config/README.md explains its keys."""

    label: Label
    entry: str
    steps: PositiveInt
    batch_size: PositiveInt
    processes: PositiveInt = 1
    sync_batch_norm: bool = True
    hparams: dict[str, Any] = Field(default_factory=dict)
    sampler: dict[str, Any] = Field(default_factory=dict)
    datasets: dict[str, ModelOverride] = Field(default_factory=dict)
    tables: tuple[str, ...] = ()


class Sweep(Strict):
    """A configured system, once for each combination of values of one or several hyperparameters."""

    variants_of: str
    hparams: dict[str, Any] = Field(min_length=1)
    tables: tuple[str, ...] = ()

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        """Hyperparameters by the name of the variant, such as `vae-lr=0.0003`.

        Raises:
            ValueError: a value stands twice or cannot be part of a name, or a hyperparameter has no value.
        """
        choices = [value if isinstance(value, list) else [value] for value in self.hparams.values()]
        found: dict[str, dict[str, Any]] = {}
        for values in product(*choices):
            hparams = dict(zip(self.hparams, values, strict=True))
            name = "-".join([self.variants_of, *(f"{key}={_shown(value)}" for key, value in hparams.items())])
            if name in found or not re.fullmatch(VARIANT, name):
                raise ValueError(f"expected distinct values of numbers, letters, digits and _, found {self.hparams}")
            found[name] = hparams
        if not found:
            raise ValueError(f"expected values of every hyperparameter, found {self.hparams}")
        return found


def _shown(value: Any) -> str:
    """A value as part of a variant's name; a list as 8x4x2."""
    return "x".join(map(_shown, value)) if isinstance(value, list) else json.dumps(value).strip('"')


class MaxSteps(Strict):
    """Upper limits of training iterations.

    On a hold-out a run takes `holdout_share` of its schedule, and at most `holdout` iterations. On other datasets the
    limit is the system's in `models`, else `default`.
    """

    default: PositiveInt
    holdout: PositiveInt
    holdout_share: PositiveFloat = 1.0
    models: dict[str, PositiveInt] = Field(default_factory=dict)

    def of(self, model: str, steps: int, holdout: bool) -> int:
        """The iterations of a run; a sweep's variant has the limit of the system that it varies.

        Args:
            model: name of the system or variant.
            steps: iterations of its schedule.
            holdout: whether the dataset is a hold-out.
        """
        if holdout:
            return min(max(1, round(self.holdout_share * steps)), self.holdout)
        return min(steps, self.models.get(model.partition("-")[0], self.default))


class PresetConfig(Strict):
    """An entry of presets.yaml; workflow/config/README.md explains its keys."""

    label: Label
    caveat: Annotated[str, AfterValidator(lambda text: text and _label(text))] = ""
    seeds: tuple[int, ...] = Field(min_length=1)
    width: float = Field(1.0, gt=0, le=100)
    max_steps: MaxSteps | None = None
    hparams: dict[str, dict[str, Any]] = Field(default_factory=dict)  # by system; they override models.yaml
    max_samples: int | None = Field(None, ge=FEWEST_IMAGES)
    stand_ins: dict[str, str | None] = Field(default_factory=dict)
    extractor: Literal["inception", "domain", "imagenet_lite"]
    label_free_extractor: Literal["imagenet_lite"] | None = None
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    threads: int = Field(1, ge=1, le=1024)
    landscape: LandscapeSettings = LandscapeSettings()

    @model_validator(mode="after")
    def _seeds(self) -> "PresetConfig":
        if any(seed < 0 for seed in self.seeds) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"expected distinct non-negative seeds, found {list(self.seeds)}")
        return self


class Preset(PresetConfig):
    """A preset, and its name: the first folder below results/."""

    name: str


def _sources(file: str) -> list[settings_file.SettingsFile]:
    """The committed file of that name, then the overlays' files."""
    beside = [folder / file for folder in overlay.folders() if (folder / file).exists()]
    own = [settings_file.read(path, f"{path.parent.name}/{file}") for path in beside]
    return [settings_file.read(CONFIG / file), *own]


def where(file: str, name: str, *keys: str | int) -> str:
    """File, line and key of an entry, for a message; of files of the same name, the one that has the entry."""
    sources = _sources(file)
    if re.fullmatch(VARIANT, name):
        name = next((key for key, names in sweeps().items() if name in names), name)
    return next((one for one in sources if name in one.entries), sources[0]).where(name, *keys)


def _load(file: str, kind: type[Strict]) -> dict[str, Any]:
    """Entries by name; ValueError, naming file, line and key, for the first entry that is impossible."""
    overlay.importable()  # entries may name modules that lie there
    sources = _sources(file)
    if not sources[0].entries:
        raise ValueError(f"expected at least one entry in {sources[0].name}, found none")
    loaded = {}
    for source in sources:
        for name, entry in source.entries.items():
            if name in loaded:
                raise ValueError(
                    f"{source.where(name)}: expected a new name, found {name!r} in {where(file, name)} too"
                )
            if not re.fullmatch("[a-z0-9_]+", name) or name in RESERVED:
                raise ValueError(f"{source.where(name)}: expected a name of a-z, 0-9 and _ but {', '.join(RESERVED)}")
            is_sweep = kind is ModelConfig and isinstance(entry, dict) and "variants_of" in entry
            loaded[name] = parsed(source, name, entry, Sweep if is_sweep else kind)
    return loaded


def parsed(source: settings_file.SettingsFile, name: str, entry: Any, kind: type[Strict]) -> Any:
    """An entry of a file as a `kind`; ValueError, naming file, line and key, for an impossible one."""
    try:  # as JSON, in which a list may be a tuple, and true is no number
        return kind.model_validate_json(json.dumps(entry), strict=True)
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a misspelled key says more
        given = first.get("input")
        found = "" if isinstance(given, dict) else f", found {given!r}"  # of an entry the message says it
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{source.where(name, *first['loc'])}: {message}{found}") from error


@cache
def datasets() -> dict[str, DatasetConfig]:
    return _load("datasets.yaml", DatasetConfig)


@cache
def models() -> dict[str, ModelConfig]:
    """Systems by name; variants of sweeps follow the others."""
    loaded = _load("models.yaml", ModelConfig)
    found = {name: entry for name, entry in loaded.items() if isinstance(entry, ModelConfig)}
    systems = dict(found)
    for name, sweep in loaded.items():
        if isinstance(sweep, Sweep):
            with at("models.yaml", name, "variants_of"):
                check_known("model", sweep.variants_of, systems)
            with at("models.yaml", name, "hparams"):
                variants = sweep.variants
            for key, hparams in variants.items():
                found[key] = _variant(systems[sweep.variants_of], hparams, sweep.tables)
    return found


def _variant(system: ModelConfig, hparams: dict[str, Any], tables: tuple[str, ...]) -> ModelConfig:
    """A system with other hyperparameters on every dataset, and with a line in other tables."""
    label = ", ".join([system.label, *(f"{key}={_shown(value)}" for key, value in hparams.items())])
    on = {
        name: override.model_copy(update={"hparams": {**override.hparams, **hparams}})
        for name, override in system.datasets.items()
    }
    merged = {**system.hparams, **hparams}
    return system.model_copy(update={"label": label, "hparams": merged, "datasets": on, "tables": tables})


def sweeps() -> dict[str, list[str]]:
    """Names of the systems that every sweep makes, in the order of its values."""
    loaded = _load("models.yaml", ModelConfig)
    return {name: list(entry.variants) for name, entry in loaded.items() if isinstance(entry, Sweep)}


@cache
def presets() -> dict[str, Preset]:
    return {name: Preset(name=name, **dict(entry)) for name, entry in _load("presets.yaml", PresetConfig).items()}


def check_known(kind: str, name: str, names: Iterable[str]) -> None:
    """ValueError, listing `names`, where `name` is none of them; `kind` says in words what they name."""
    if name not in names:
        raise ValueError(f"unknown {kind} {name!r} (known: {', '.join(names)})")


def preset(name: str) -> Preset:
    check_known("preset", name, presets())
    return presets()[name]


def model(name: str) -> ModelConfig:
    check_known("model", name, models())
    return models()[name]


def check_entries() -> None:
    """ValueError naming file, line, key and what is known, when an entry is unknown or impossible."""
    read = datasets(), models(), presets()
    for entries, check in zip(read, (_check_dataset, _check_model, _check_preset), strict=True):
        for name, entry in entries.items():
            check(name, entry)


@contextmanager
def at(file: str, *keys: str) -> Iterator[None]:
    """Put file, line and key in front of a message about an entry."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where(file, *keys)}: {error}") from error


def _check_dataset(name: str, data: DatasetConfig) -> None:
    here = partial(at, "datasets.yaml", name)
    if data.variant_of:
        with here("variant_of"):
            check_known("dataset", data.variant_of, datasets())
    if data.holdout_of:
        with here("holdout_of"):
            check_known("dataset with classes", data.holdout_of, [n for n, d in datasets().items() if d.classes])
        return
    with here("module"):
        known = known_options(data.module)
        closure([data.module])
    for option, value in data.options.items():
        with here("options", option):
            if known is not None and option not in known:
                raise ValueError(f"unknown option {option!r} of {data.module} (known: {', '.join(known) or 'none'})")
            if option in COUNTS and (type(value) is not int or value < 1):
                raise ValueError(f"expected a positive whole number, found {value!r}")
            if option == "archive" and str(value).startswith("-"):
                raise ValueError(f"expected a name that does not begin as an option does, found {value!r}")
            if option == "sha256" and not re.fullmatch("[0-9a-f]{64}", str(value)):
                raise ValueError(f"expected 64 hexadecimal digits, found {value!r}")
    if data.image_shape:
        with here("image_shape"):
            channels, height, width = data.image_shape
            if channels not in (1, 3) or height != width or height >> max(height.bit_length() - 3, 0) < 4:
                raise ValueError(
                    "expected 1 or 3 channels and a square whose side is 4 to 7 times a power of two, "
                    f"found {list(data.image_shape)}"
                )


@cache
def known_options(module: str) -> tuple[str, ...] | None:
    """Options that a dataset module takes; None where its text does not list them.

    They are what the module passes to `checks.check_options`. Where its `prepare` ends in a call of another module,
    they are the other module's options.

    Raises:
        ValueError: there is no such module.
    """
    path = path_of(module)
    if path is None:
        raise ValueError(f"expected a module with `prepare`, found {module!r}")
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "checks.check_options":
            return _written_out(node.args[1], tree)
    prepare = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "prepare"), None)
    match prepare and prepare.body[-1]:
        case ast.Return(ast.Call(ast.Attribute(ast.Name(left_to)))):
            reached = (name for name in sorted(imports(module)) if name.rpartition(".")[2] == left_to)
            return next((known_options(name) for name in reached), None)
    return None


def _written_out(value: ast.expr, tree: ast.Module) -> tuple[str, ...] | None:
    """A tuple in the source, or the tuple that a name stands for; None where it is computed."""
    if isinstance(value, ast.Name):
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == value.id for target in targets):
                return _written_out(node.value, tree)
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None


def _check_model(name: str, entry: ModelConfig) -> None:
    with at("models.yaml", name, "entry"):
        module = entry.entry.partition(":")[0]
        if path_of(module) is None:
            raise ValueError(f"expected a model entry 'module:Class' of these sources, found {entry.entry!r}")
        closure([module])
        check_hparams(entry.entry, {})
    trainable = [n for n, d in datasets().items() if not d.any_shape and not d.test_only]
    for family, override in {"": entry, **entry.datasets}.items():
        keys = (name, "datasets", family) if family else (name,)
        with at("models.yaml", *keys):
            check_known("dataset", family or trainable[0], trainable)
        for kind, check in (("hparams", check_hparams), ("sampler", check_sampler)):
            for argument, value in getattr(override, kind).items():
                with at("models.yaml", *keys, kind, argument):
                    check(entry.entry, {argument: value})


def _check_preset(name: str, chosen: PresetConfig) -> None:
    for capped in chosen.max_steps.models if chosen.max_steps else ():
        with at("presets.yaml", name, "max_steps", "models", capped):
            check_known("model", capped, models())
    for model, hparams in chosen.hparams.items():
        with at("presets.yaml", name, "hparams", model):
            check_known("model", model, models())
        for argument, value in hparams.items():
            with at("presets.yaml", name, "hparams", model, argument):
                if argument == "width":
                    raise ValueError("expected the preset's own width, which scales all systems, found one of a system")
                check_hparams(models()[model].entry, {argument: value})
    for paper, ours in chosen.stand_ins.items():
        with at("presets.yaml", name, "stand_ins", paper):
            if ours is None and paper[:-1] in datasets() and paper[-1].isdigit() and datasets()[paper[:-1]].holdout_of:
                continue  # one digit of a family is left out
            check_known("dataset", paper, dict.fromkeys([*datasets(), *PAPER_NAMES]))
            if ours is not None:
                check_known("dataset", ours, datasets())
                if bool(datasets()[ours].holdout_of) != bool(datasets().get(paper, datasets()[ours]).holdout_of):
                    raise ValueError(f"expected a hold-out family for a hold-out family alone, found {ours!r}")


def maps(entry: str) -> set[str]:
    """Names of the maps that a model class `module:Class` defines, itself or in a base class of the same file."""
    module, _, name = entry.partition(":")
    tree = ast.parse(path_of(module).read_text("utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found: set[str] = set()
    waiting = [name]
    while waiting:
        if node := classes.get(waiting.pop()):
            found |= {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
            waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
    return found & {"generate", "infer", "energy", "sample"}


def measurable(entry: str) -> set[str]:
    """Metrics that the maps of a model class make possible."""
    has = maps(entry)
    return {
        *(GENERATION_METRICS if has & {"generate", "sample"} else ()),
        *(("rmse", "mse") if has >= {"generate", "infer"} else ()),
        *(("auroc", "auprc", "auprc_leaky") if "energy" in has else ()),
    }
