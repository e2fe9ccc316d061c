"""What words of a command line mean: a folder below results/ stands for all that can be made in it."""

from collections.abc import Iterator
from pathlib import Path

from workflow import checks, configuration, plan, specs


def expand(word: str) -> list[str]:
    """The files that a word asks for: all that can be made in a folder, else the word itself.

    The folder is a preset's, a dataset's, a system's, a sweep's or a run's.

    Raises:
        ValueError: a part of a path below results/ is unknown; the message names what is known.
    """
    checks.check_target(word)
    match Path(word).parts:
        case ("results", "data", name):
            return specs.dataset(name).files
        case ("results", name) if not Path(name).suffix and name not in configuration.RESERVED:
            return plan.preset_products(configuration.preset(name))
        case ("results", preset, data, system) if is_folder(system) and preset not in configuration.RESERVED:
            seeds = configuration.preset(preset).seeds
            return [
                path
                for one in plan.variants(system)
                for seed in seeds
                for path in metrics(specs.Run(preset, data, one, seed))
            ]
        case ("results", preset, data, system, seed) if seed.removeprefix("seed").isdecimal():
            return metrics(specs.Run(preset, data, system, int(seed.removeprefix("seed"))))
    return [word]


def is_folder(system: str) -> bool:
    """Whether a word is a system or a sweep, and no file; a number in a system's name may have a dot."""
    return system in configuration.models() or not Path(system).suffix


def metrics(run: specs.Run) -> list[str]:
    """The records of a run: what tables ask for, and what the maps of its system make possible (`possible`)."""
    asked = (path for name in plan.TABLES for path in plan.table_records(configuration.preset(run.preset), name))
    names = [path for path in asked if path.startswith(f"{run.folder}/")]
    names += [f"{run.folder}/metrics/{name}.json" for name in possible(run)]
    return list(dict.fromkeys(names))


def possible(run: specs.Run) -> Iterator[str]:
    """Names of the records that the maps of a run's system give, on the sets that tables use."""
    preset, data = configuration.preset(run.preset), specs.dataset(run.dataset)
    has = configuration.maps(configuration.model(run.model).entry)
    if has & {"generate", "sample"} and (preset.extractor != "domain" or data.classes_of):
        yield from (f"{metric}_{preset.extractor}" for metric in configuration.GENERATION_METRICS)
    if has >= {"generate", "infer"}:
        yield from ("rmse", "mse")
    if "energy" in has and data.digit is not None:
        yield from ("auprc", "auprc_leaky")
    elif "energy" in has:
        others = dict.fromkeys(cell.against for name in plan.TABLES for cell in plan.table(name).cells if cell.against)
        against = (specs.measured_on(preset, other, data) for other in others)
        yield from (f"auroc_{other}" for other in dict.fromkeys(against) if other not in (None, run.dataset))
