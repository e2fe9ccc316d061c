r"""Turn raw files, or an already prepared dataset, into a prepared dataset (uint8 arrays, index, meta.json).

    python -m workflow.commands.prepare --module dtri.data.digits --name digits --image-shape 1,28,28 \
        --raw downloads/digits --out results/data/digits
    python -m workflow.commands.prepare --holdout-of results/data/mnist --digit 4 --name mnist_holdout4 \
        --out results/data/mnist_holdout4
"""

import argparse
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from filelock import FileLock

from dtri.data import overlap, rawfiles, saving
from dtri.messages import printable
from workflow.commands.cli import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--module", help="dataset module, e.g. dtri.data.digits")
    either.add_argument("--holdout-of", type=Path, help="folder of a prepared, labelled dataset")
    parser.add_argument("--name", required=True, help="name of the dataset")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--image-shape", help="C,H,W (with --module)")
    parser.add_argument("--options", default="{}", help="JSON object of the module's options")
    parser.add_argument("--raw", type=Path, help="drop folder (with --module)")
    parser.add_argument("--seed", type=int, default=0, help="of the module's random choices")
    parser.add_argument("--code", help="of what prepares it, noted in meta.json")
    parser.add_argument("--digit", type=int, help="the class to hold out (with --holdout-of)")
    args = parser.parse_args(argv)

    for name in ("image_shape", "raw") if args.module else ("digit",):
        if getattr(args, name) is None:
            kind = "--module" if args.module else "--holdout-of"
            raise ValueError(f"expected --{name.replace('_', '-')} with {kind}, found none")
    with _alone(args.out):
        arrays = _prepare_module(args) if args.module else _prepare_holdout(args)
        made_by = {"code": args.code} if args.code else {}
        arrays = replace(arrays, source={**arrays.source, **made_by})
        saving.save(arrays, args.out, args.name, lambda images: _overlap(arrays, images))
    return 0


def _overlap(arrays: saving.Arrays, images: dict[str, np.ndarray]) -> dict[str, int]:
    """{"n_test_in_train": how many test images are training images too, by their pixels}, which is also printed.

    {} for a dataset without training images.
    """
    if not {"train", "test"} <= set(images):
        return {}
    pairs = overlap.repeated(images["test"], images["train"])
    if pairs:
        line = overlap.report(pairs, arrays.indices["test"], arrays.indices["train"], arrays.names)
        print(f"note: {printable(line)}", flush=True)
    return {"n_test_in_train": len(pairs)}


def _alone(out: Path) -> FileLock:
    """A lock that waits for another process that prepares the same folder, such as a killed workflow's orphan."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(out.parent / f".{out.name}.lock")  # not in `out`: a mistake leaves nothing there


def dataset_module(name: str) -> ModuleType:
    """The module of a dataset; ValueError when it is none."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"expected a dataset module such as dtri.data.mnist, found {name!r}: {error}") from error
    missing = [part for part in ("FILES", "prepare") if not hasattr(module, part)]
    if missing:
        raise ValueError(
            f"expected FILES and prepare in a dataset module, found no {' and no '.join(missing)} in {name}"
        )
    return module


def _prepare_module(args: argparse.Namespace) -> saving.Arrays:
    module = dataset_module(args.module)
    rawfiles.verify_raw(args.raw, module.FILES)
    scratch = (args.out,) if getattr(module, "UNPACKS", False) else ()
    return module.prepare(args.raw, _shape(args.image_shape), _options(args.options), args.seed, *scratch)


def _prepare_holdout(args: argparse.Namespace) -> saving.Arrays:
    from dtri.data.holdout import prepare_holdout

    return prepare_holdout(saving.verify(args.holdout_of), args.digit)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected C,H,W such as 1,28,28, found {text!r} (--image-shape)") from None


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected a JSON object, found {text!r}: {error} (--options)") from None
    if not isinstance(options, dict):
        raise ValueError(f"expected a JSON object, found {text!r} (--options)")
    return options


if __name__ == "__main__":
    sys.exit(run(main))
