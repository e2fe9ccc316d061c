"""What a job's code is: a hash over the sources it reaches, without comments, docstrings and blank space.

    python -m workflow.fingerprint baselines.dcgan      lists what is counted, one `hash lines module` a line

The same function computes imports for the rebuild graph and for tests/test_architecture.py.
"""

import ast
import atexit
import contextlib
import hashlib
import io
import json
import os
import sys
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FIRST_PARTY = ("dtri", "baselines", "workflow", "bench")
# They talk to people or choose a device, and make no number of a product (docs/determinism.md): no hash counts them.
UNHASHED = (
    "dtri.messages",
    "dtri.progress",
    "dtri.device",
    "dtri.slots",
    "workflow.commands.cli",
    "workflow.commands.provenance",
)


def path_of(module: str, root: Path = ROOT) -> Path | None:
    """The file of a first-party module or package; None when there is none."""
    base = root / Path(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _file(module: str, root: Path) -> Path:
    path = path_of(module, root)
    if path is None:
        raise ValueError(f"no module {module!r} below {root.name}/")
    return path


class Source(NamedTuple):
    """What is read of a source file: `names` that it may import, and the first 16 hex digits of its normalised text."""

    names: list[str]
    digest: str


@cache
def _read(module: str, root: Path) -> Source:
    text = _file(module, root).read_text("utf-8")
    key = hashlib.sha256(text.encode()).hexdigest()
    known = _memory()
    if key not in known:
        known[key] = Source(sorted(_imported(text)), hashlib.sha256(normalised(text).encode()).hexdigest()[:16])
    return Source(*known[key])


@cache
def _memory() -> dict[str, Source]:
    """What was read before of sources, by their sha256; kept on the disk, since parsing all takes most of a second.

    Of this file's own code and this Python alone: either may read otherwise. A memory that was damaged, or cannot be
    read or written, is done without.
    """
    own = hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode()).hexdigest()[:16]
    path = ROOT / ".snakemake" / f"sources-{own}.json"
    try:
        checksum, _, text = path.read_text("utf-8").partition("\n")
        known = json.loads(text) if checksum == hashlib.sha256(text.encode()).hexdigest() else {}
    except (OSError, ValueError):
        known = {}
    before = len(known)

    def keep() -> None:
        if len(known) > before:
            with contextlib.suppress(OSError):
                path.parent.mkdir(exist_ok=True)
                partial = path.with_suffix(f".{os.getpid()}")
                text = json.dumps(known)
                partial.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}", "utf-8")
                os.replace(partial, path)

    atexit.register(keep)
    return known


def _imported(text: str) -> Iterator[str]:
    """Names that may be modules, of all imports in a source, also inside functions."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_names(module: str, root: Path = ROOT) -> list[str]:
    """Names that `module` imports from modules, `package.module.name`."""
    return _read(module, root).names


@cache
def imports(module: str, root: Path = ROOT) -> frozenset[str]:
    """First-party modules that `module` imports, anywhere in its file (also inside functions)."""
    names = (name for name in _read(module, root).names if name.split(".")[0] in FIRST_PARTY)
    found = (name if path_of(name, root) else name.rpartition(".")[0] for name in names)
    return frozenset(name for name in found if path_of(name, root))


def closure(modules: Iterable[str], root: Path = ROOT) -> list[str]:
    """All first-party modules reached from `modules`, themselves included, sorted."""
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting.extend(imports(module, root))
    return sorted(reached)


def hashed(modules: Iterable[str], root: Path = ROOT) -> list[str]:
    """The modules of `closure` that a hash of code counts."""
    return [module for module in closure(modules, root) if module not in UNHASHED]


def lines(modules: Iterable[str], root: Path = ROOT) -> int:
    """Lines of code that the hash of `modules` counts: without comments, docstrings and blank lines."""
    return sum(_n_lines(module, root) for module in hashed(modules, root))


def _n_lines(module: str, root: Path) -> int:
    return len(normalised(_file(module, root).read_text("utf-8")).splitlines())


def normalised(text: str) -> str:
    """Source text without comments, docstrings, blank lines and trailing blanks; inside strings all of these count.

    Cut by position from the text itself: `ast.unparse` and `ast.dump` differ between Python versions, this does not.
    """
    source = text.split("\n")
    lines, inside = list(source), set()  # rows whose end lies inside a string
    opened: list[int] = []  # rows where the f-strings that are open began
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        (row, column), name = token.start, tokenize.tok_name[token.type]
        if name == "COMMENT":
            lines[row - 1] = lines[row - 1][:column]
        elif name == "STRING":
            inside.update(range(row, token.end[0]))
        elif name in ("FSTRING_START", "TSTRING_START"):  # Python 3.12 and later
            opened.append(row)
        elif name in ("FSTRING_END", "TSTRING_END"):
            inside.update(range(opened.pop(), token.end[0]))
    for node in _docstrings(ast.parse(text)):
        first, last = node.lineno - 1, node.end_lineno - 1
        before = source[first].encode()[: node.col_offset].decode()
        after = lines[last][len(source[last].encode()[: node.end_col_offset].decode()) :]
        lines[first : last + 1] = [before + after, *[""] * (last - first)]
        inside.difference_update(range(first + 1, last + 1))
    kept = (line if row in inside else line.rstrip() for row, line in enumerate(lines, start=1))
    return "\n".join(line for row, line in enumerate(kept, start=1) if line or row in inside)


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            value = getattr(node.body[0], "value", None)
            if isinstance(node.body[0], ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value


def module_hash(module: str, root: Path = ROOT) -> str:
    """16 hex digits of a module's normalised source."""
    return _read(module, root).digest


@cache
def fingerprint(modules: tuple[str, ...], root: Path = ROOT) -> str:
    """16 hex digits over (name, content) of every module reached but those that are UNHASHED."""
    text = "\n".join(f"{module_hash(module, root)} {module}" for module in hashed(modules, root))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: python -m workflow.fingerprint MODULE [MODULE ...]", file=sys.stderr)
        return 2
    try:
        for module in hashed(sys.argv[1:]):
            print(module_hash(module), f"{_n_lines(module, ROOT):5}", module)
        print(fingerprint(tuple(sys.argv[1:])), f"{lines(sys.argv[1:]):5}", "(together)")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
