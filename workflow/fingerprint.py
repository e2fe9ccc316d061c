"""What a job's code is: a hash over the sources it reaches, without comments, docstrings and blank space.

    python -m workflow.fingerprint baselines.dcgan      lists what is counted, one `hash lines module` a line

The same function computes imports for the rebuild graph and for tests/test_architecture.py.

A user's own code outside this checkout counts too. Its sources outside site-packages count like ours, and so do the
packages around them. A user's package that is installed counts by name and version, with all of ours that it imports.
Any other library that the user's code imports counts by name and version, unless requirements.lock has it. Imports that
cannot be followed are refused: computed names, and modules that are not Python source.
"""

import ast
import atexit
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FIRST_PARTY = ("dtri", "baselines", "workflow", "bench")
# They talk to people or choose a device, and change no number of a product (docs/determinism.md): no hash counts them.
UNHASHED = (
    "dtri.messages",
    "dtri.progress",
    "dtri.device",
    "dtri.slots",
    "workflow.commands.cli",
    "workflow.commands.provenance",
)


def path_of(module: str, root: Path = ROOT) -> Path | None:
    """The file of a module or package of this checkout, or of the user's own; None where there is none."""
    return _here(module, root) or (_elsewhere(module) if root == ROOT else None)


def _here(module: str, root: Path) -> Path | None:
    base = root / Path(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@cache
def _elsewhere(module: str) -> Path | None:
    """The source of a module outside this checkout and outside the standard library; None where there is none.

    Raises:
        ValueError: the module is not Python source.
    """
    if module.partition(".")[0] in sys.stdlib_module_names:
        return None
    spec = _spec(module)
    if spec is None or spec.origin is None:  # a folder without __init__.py has no origin
        return None
    if not spec.origin.endswith(".py"):
        raise ValueError(f"expected Python source of {module}, found {Path(spec.origin).name}")
    return Path(spec.origin)


def _spec(module: str) -> ModuleSpec | None:
    """Where a module lies, found without running packages.

    Of our packages it searches only the folders that an overlay adds to them.
    """
    top, *rest = module.split(".")
    if top in FIRST_PARTY:
        package = sys.modules.get(module.rpartition(".")[0])
        return PathFinder.find_spec(module, list(getattr(package, "__path__", []))[1:])
    try:
        spec, name = importlib.util.find_spec(top), top
    except (ImportError, ValueError):  # ValueError: a module that was made by hand has none
        return None
    for part in rest:
        name = f"{name}.{part}"
        spec = spec and PathFinder.find_spec(name, spec.submodule_search_locations or [])
    return spec


def _is_installed(path: Path) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def _is_library(top: str) -> bool:
    """Whether a package that is not ours was installed; an editable installation is no library."""
    spec = None if top in FIRST_PARTY else _spec(top)
    folders = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or [])]
    return any(_is_installed(Path(folder)) for folder in folders)


def _is_own(module: str, root: Path) -> bool:
    """Whether a module is the user's own: neither a file of ours nor a library by version."""
    return "==" not in module and (module.partition(".")[0] not in FIRST_PARTY or _here(module, root) is None)


@cache
def _distribution(module: str) -> str:
    """`name==version` of the installed package that has a module; ValueError where no package says so."""
    top = module.partition(".")[0]
    try:
        return f"{_canonical(top)}=={importlib.metadata.version(top)}"
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get(top)
    if not names:
        raise ValueError(f"expected {module} outside site-packages or installed as a package, found neither")
    return f"{_canonical(names[0])}=={importlib.metadata.version(names[0])}"


@cache
def _locked() -> frozenset[str]:
    """Names of the libraries in requirements.lock; no hash counts their versions, which records name."""
    lock = ROOT / "requirements.lock"
    names = re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text("utf-8"), re.M) if lock.exists() else []
    return frozenset(map(_canonical, names))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _file(module: str, root: Path) -> Path:
    path = path_of(module, root)
    if path is None:
        raise ValueError(f"no module {module!r} below {root.name}/ or on Python's path")
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
    """Sources that were read before, by their sha256; kept on disk, since parsing all takes most of a second.

    The file holds for this module's code and this Python alone, since others may read sources otherwise. Where it is
    damaged, or cannot be read or written, sources are parsed again.
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
    """Names in all imports of a source, also inside functions; they may be modules."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}{'.' if node.module else ''}{alias.name}" for alias in node.names)


def imported_names(module: str, root: Path = ROOT) -> list[str]:
    """Names that `module` imports, as `package.module.name`; relative imports are made absolute."""
    names = [] if "==" in module else _read(module, root).names
    if not any(name.startswith(".") for name in names):
        return names
    package = module if _file(module, root).name == "__init__.py" else module.rpartition(".")[0]
    return [importlib.util.resolve_name(name, package) if name.startswith(".") else name for name in names]


@cache
def imports(module: str, root: Path = ROOT) -> frozenset[str]:
    """Modules that `module` imports and that a hash counts, anywhere in its file (also inside functions).

    For a module of this checkout these are first-party modules. For the user's own code they are also the packages
    around it, and libraries.
    """
    names = imported_names(module, root)
    if _is_own(module, root):
        _check_written_out(module, root)
        parts = module.split(".")
        around = (".".join(parts[:n]) for n in range(1, len(parts)) if parts[0] not in FIRST_PARTY)
        return frozenset(filter(None, (_counted(name, parts[0], root) for name in (*names, *around))))
    names = [name for name in names if name.split(".")[0] in FIRST_PARTY]
    found = (name if path_of(name, root) else name.rpartition(".")[0] for name in names)
    return frozenset(name for name in found if path_of(name, root))


def _counted(name: str, importer: str, root: Path) -> str | None:
    """The module or library that a hash counts for a name that the package `importer` imports.

    None for the standard library and the lock file. None too for what is not here: either the code catches its absence,
    or the job fails.
    """
    top = name.partition(".")[0]
    if top != importer and _is_library(top):
        library = _distribution(top)
        return None if library.partition("==")[0] in _locked() else library
    return next((one for one in (name, name.rpartition(".")[0]) if one and path_of(one, root)), None)


def _check_written_out(module: str, root: Path) -> None:
    """ValueError where the user's own source imports or runs code that cannot be known from its text."""
    path = _file(module, root)
    for node in ast.walk(ast.parse("" if _is_installed(path) else path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            is_builtin = isinstance(node.func, ast.Name) and name in ("exec", "eval", "__import__")
            if is_builtin or name in ("import_module", "run_module", "run_path"):
                raise ValueError(
                    f"expected imports that are written out in {module}, so that changes of the code are seen, "
                    f"found {name} in line {node.lineno}"
                )


def closure(modules: Iterable[str], root: Path = ROOT) -> list[str]:
    """All modules reached from `modules`, themselves included, sorted: ours, the user's, and `name==version`."""
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
    return 0 if "==" in module else len(normalised(_file(module, root).read_text("utf-8")).splitlines())


def normalised(text: str) -> str:
    """Source text without comments, docstrings, blank lines and trailing blanks; strings keep all of these.

    The text is cut by position, since `ast.unparse` and `ast.dump` differ between Python versions.
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
    """16 hex digits of a module's normalised source; of a user's installed package, of its name and version."""
    if "==" in module:
        return hashlib.sha256(module.encode()).hexdigest()[:16]
    if _is_own(module, root) and _is_installed(_file(module, root)):
        return module_hash(_distribution(module))
    return _read(module, root).digest


@cache
def fingerprint(modules: tuple[str, ...], root: Path = ROOT) -> str:
    """16 hex digits over (name, content) of every module reached, without UNHASHED ones."""
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
