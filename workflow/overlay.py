"""The user's own configuration beside the committed one: systems, datasets, presets, tables, figures, claims.

`workflow/config/local` is read where it exists, and git ignores it. The folder that `--overlay DIR` names is read too.
Either may hold datasets.yaml, models.yaml, presets.yaml, and Python files below tables/, figures/ and claims/. A name
that exists elsewhere already is an error. Python files right in the folder can be imported, as the entry of a system
for instance. Jobs find the folder by an environment variable.
"""

import importlib
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / "workflow" / "config" / "local"
VARIABLE = "DTRI_OVERLAY"
FILES = ("datasets.yaml", "models.yaml", "presets.yaml")
TAKEN = ("all", "claims", "overview", "report")  # pages of a preset beside its tables


def use(folder: str) -> None:
    """Read `folder` too, in this process and in those that it starts; ValueError where there is none."""
    path = Path(os.path.expanduser(folder)).resolve()
    if not path.is_dir():
        raise ValueError(f"expected a folder as overlay, found none at {folder}")
    os.environ[VARIABLE] = str(path)


def folders() -> list[Path]:
    """The folders of overlays; ValueError for a settings file in them that nothing would read."""
    given = os.environ.get(VARIABLE)
    found = [*([LOCAL] if LOCAL.is_dir() else []), *([Path(given)] if given else [])]
    for folder in found:
        for path in (*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))):
            if path.name not in FILES:
                raise ValueError(f"expected {', '.join(FILES)} in {folder}, found {path.name}")
    return found


def importable() -> None:
    """Let Python find modules of overlays, after all others: here, and in processes that start from here."""
    found = [str(folder) for folder in folders()]
    known = [os.path.abspath(one) for one in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path.extend(one for one in found if one not in sys.path)
    if found:
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys((*known, *found)))


def extended(kind: str, committed: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the modules of workflow.`kind`, the committed ones first, then the overlays', importable from now on.

    Raises:
        ValueError: a name is taken, or is not the name of a module.
    """
    package, names = importlib.import_module(f"workflow.{kind}"), list(committed)
    for folder in (folder / kind for folder in folders() if (folder / kind).is_dir()):
        if str(folder) not in package.__path__:
            package.__path__.append(str(folder))
        for path in sorted(folder.glob("*.py")):
            name, where = path.stem, f"{folder.parent.name}/{kind}/{path.name}"
            if name in names or (ROOT / "workflow" / kind / path.name).exists() or name in TAKEN:
                raise ValueError(f"{where}: expected a new name, found {name!r} among the {kind}")
            if not re.fullmatch("[a-z][a-z0-9_]*", name):
                raise ValueError(
                    f"{where}: expected a name of a-z, 0-9 and _ that begins with a letter, found {name!r}"
                )
            names.append(name)
    return tuple(names)
