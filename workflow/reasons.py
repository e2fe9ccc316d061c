"""Why a product is stale, in detail: which keys of its specification and which modules of its code differ.

That it is stale, `workflow.status` says. Changed modules are found by comparing this checkout with the commit that the
product names.
"""

import json
import tarfile
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from dtri.sealed import read_sealed
from workflow import jobcode, specs, status
from workflow.commands.provenance import git
from workflow.fingerprint import FIRST_PARTY, ROOT, fingerprint, hashed, module_hash


def details(path: Path) -> Iterator[str]:
    """One line per unaccepted difference of a product; of a specification, one line per key."""
    found = status.unaccepted(path)
    made = read_sealed(path, "a product") if found else {}
    for one in found:
        if one.what == "training specification" and isinstance(made["spec"], dict):
            yield from _spec_changes(made["spec"], json.loads(specs.train_spec(_run(made)).to_json()))
        elif one.what in ("training code", "measuring code"):
            run = _run(made)
            training = one.what == "training code"
            modules = jobcode.train_modules(run) if training else jobcode.measure_modules(made["metric"], run.model)
            yield f"{one}: {_changed_modules(modules, {**made, 'code': one.old})}"
        else:
            yield str(one) if one.new else one.what


def _run(made: dict[str, Any]) -> specs.Run:
    return specs.Run(made["preset"], made["dataset"], made["model"], made["seed"])


def _spec_changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    old, new = _flat(old), _flat(new)
    for key in sorted(old | new):
        if old.get(key) != new.get(key):
            yield f"{key} {old.get(key, 'default')} -> {new.get(key, 'default')}"


def _flat(spec: dict[str, Any]) -> dict[str, Any]:
    hparams = {f"hparams.{name}": value for name, value in spec["hparams"].items()}
    return {**{name: value for name, value in spec.items() if name != "hparams"}, **hparams}


def _changed_modules(modules: tuple[str, ...], made: dict[str, Any]) -> str:
    """Names of the modules that changed since the commit that a record names, and how sure that is."""
    commit, dirty = made["provenance"]["commit"], made["provenance"]["dirty"]
    then = _checkout(commit) if commit else None
    if then is None:
        return f"changed modules unknown, {f'no commit {commit[:7]} here' if commit else 'made outside a git checkout'}"
    try:
        old = {name: module_hash(name, then) for name in hashed(modules, then)}
    except ValueError as error:
        return f"changed modules unknown, {error} at {commit[:7]}"
    new = {name: module_hash(name) for name in hashed(modules)}
    names = ", ".join(
        f"{name}{'' if name in old and name in new else ' (new)' if name in new else ' (gone)'}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    )
    if fingerprint(modules, then) == made["code"]:
        return f"{names} (since {commit[:7]})"
    doubt = "made with uncommitted edits" if dirty else "hashed by another version of workflow.fingerprint"
    return f"{names or 'no module'} since {commit[:7]}, but {doubt}"


_folders: list[tempfile.TemporaryDirectory] = []  # removed when the process ends


@cache
def _checkout(commit: str) -> Path | None:
    """Our Python files at a commit, in a temporary folder; None where git does not know the commit."""
    rooms = git(ROOT, "ls-tree", "--name-only", commit)
    if rooms is None:
        return None
    _folders.append(tempfile.TemporaryDirectory())
    folder = Path(_folders[-1].name)
    archive = folder / "sources.tar"
    names = [room for room in FIRST_PARTY if room in rooms.split()]
    if git(ROOT, "archive", "--format=tar", f"--output={archive}", commit, *names) is None:
        return None
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder
