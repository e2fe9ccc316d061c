"""What a record says about its making: versions, commit, lock file, device."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = (".py", ".smk", ".yaml")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, Python's included."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def provenance(root: Path = ROOT) -> dict[str, Any]:
    """This checkout's git commit, whether its files differ from it, and the lock file's sha256.

    Sources that git does not know yet or is told to ignore count: a new module is code too. Commit and `dirty` are None
    where `root` is not the top of a checkout. That holds for sources unpacked below another repository. `own` has both
    of every package of the user's own that this process has loaded, where there is any.
    """
    lock, top = root / "requirements.lock", git(root, "rev-parse", "--show-toplevel")
    is_checkout = top is not None and Path(top).resolve() == root.resolve()
    made = {
        **(_state(root) if is_checkout else {"commit": None, "dirty": None}),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None,
    }
    own = {name: _state(folder) for name, folder in own_packages().items()}
    return made | ({"own": own} if own else {})


def _state(folder: Path) -> dict[str, Any]:
    """The commit of the checkout that a folder lies in, and whether files differ; both None outside a checkout."""
    untracked = ("--untracked-files=all", "--ignored=matching")  # of ignored folders, their names alone
    status = git(folder, "status", "--porcelain", *untracked, "--", ".")
    return {
        "commit": git(folder, "rev-parse", "--verify", "HEAD"),
        "dirty": None if status is None else any(map(_differs, status.splitlines())),
    }


def own_packages() -> dict[str, Path]:
    """Loaded packages from outside this checkout, Python's library and site-packages, with their folders."""
    ours, found = (ROOT, Path(sysconfig.get_path("stdlib")).resolve()), {}
    for name, module in sorted(sys.modules.items()):
        stated = Path(getattr(module, "__file__", None) or "builtin")
        path = stated.resolve()
        if not stated.is_absolute():  # builtin, or made in memory, as torch.ops is
            continue
        if path.suffix == ".py" and name != "__main__" and not any(folder in path.parents for folder in ours):
            if not {"site-packages", "dist-packages"}.isdisjoint(path.parts):
                continue
            found.setdefault(name.partition(".")[0], path.parent)
    return found


def _differs(line: str) -> bool:
    """Whether a line of `git status --porcelain` names a tracked file, or a source that is not tracked."""
    return not line.startswith(("??", "!!")) or line.rstrip('"').endswith(SOURCES)


def git(root: Path, *arguments: str) -> str | None:
    """What git says of `root`, whichever repository the environment names; None where it fails."""
    named = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in named}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, env=environment, capture_output=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(done.stdout).strip()
