"""Make targets: files below results/, rules such as `demo`, or folders of runs, systems, datasets and presets.

    dtri run results/demo/table1.csv
    dtri run results/demo/digits/vae/seed0 --cores 2          all that can be measured of a run
    dtri run results/lite/table4.csv --downloads ~/raw --offline

Other options are Snakemake's and reach it as they are: --dry-run, --quiet, --resources gpu=4,
--workflow-profile workflow/profiles/slurm. Targets come first, since some options take lists.
"""

import argparse
import os
import sys
from collections.abc import Callable

from workflow import overlay, specs, targets
from workflow.commands import cli
from workflow.fingerprint import ROOT

MOST_CORES = 8  # taken by default
SAY_CORES = ("--cores", "-c", "--jobs", "-j", "--workflow-profile", "--profile")  # options that say how many


def main(argv: list[str] | None = None) -> int:
    parser = _parser(__doc__)
    arguments, words = parser.parse_known_args(argv)
    if not words or words[0].startswith("-"):
        raise ValueError("expected a TARGET as the first word, found none (dtri run --help)")
    return _snakemake([target for word in words for target in targets.expand(word)], arguments)


def fetch(argv: list[str] | None = None) -> int:
    """Check the raw files of datasets by their checksums and download the missing ones."""
    return _of_datasets(fetch.__doc__, lambda data: [f"{data.folder}/fetch.json"], argv)


def prepare(argv: list[str] | None = None) -> int:
    """Turn raw files into prepared datasets below results/data."""
    return _of_datasets(prepare.__doc__, lambda data: data.files, argv)


def _of_datasets(text: str, products: Callable[[specs.Dataset], list[str]], argv: list[str] | None) -> int:
    parser = _parser(text)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="a key of datasets.yaml, or mnist_holdout4")
    arguments, options = parser.parse_known_args(argv)
    wanted = [path for name in arguments.datasets for path in products(specs.dataset(name))]
    return _snakemake([*wanted, *options], arguments)


def _parser(text: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s TARGET... [--downloads DIR] [--device auto|cpu|gpu] [--offline] [--overlay DIR] [of Snakemake]",
    )
    parser.add_argument("--downloads", help="drop folder of raw files; default: downloads")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), help="where jobs compute; default: the preset's")
    parser.add_argument("--offline", action="store_true", help="never download")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="further settings, as Snakemake's")
    return parser


def _snakemake(words: list[str], arguments: argparse.Namespace) -> int:
    """Become Snakemake, so that signals reach it; this process is replaced."""
    given = {name: getattr(arguments, name) for name in ("downloads", "device", "offline")}
    given["overlay"] = os.environ.get(overlay.VARIABLE)
    config = [*arguments.config, *(f"{name}={value}" for name, value in given.items() if value)]
    cores = [] if any(word.startswith(SAY_CORES) for word in words) else ["--cores", str(_cores())]
    options = ["--snakefile", str(ROOT / "Snakefile"), *cores, *(["--config", *config] if config else [])]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *words, *options])
    raise AssertionError("os.execv does not return")


def _cores() -> int:
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_CORES)


if __name__ == "__main__":
    sys.exit(cli.run(main))
