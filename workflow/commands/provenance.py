"""What a record says about its making: versions, commit, lock file, device."""

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, Python's included."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def provenance() -> dict[str, Any]:
    """Git commit and whether tracked files differ from it (None outside a checkout), and the lock file's sha256."""
    lock = ROOT / "requirements.lock"
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if (status := _git("status", "--porcelain", "-uno")) is None else bool(status),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None,
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
