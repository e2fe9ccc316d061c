"""What a job's code is: a hash over the sources it reaches, without comments, docstrings and blank space.

    python -m workflow.fingerprint baselines.dcgan      lists what is reached, one `hash module` a line

The same function computes imports for the rebuild graph and for tests/test_architecture.py.
"""

import ast
import hashlib
import io
import sys
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("dtri", "baselines", "workflow", "bench")


def path_of(module: str) -> Path | None:
    """The file of a first-party module or package; None when there is none."""
    base = ROOT / Path(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@cache
def imports(module: str) -> frozenset[str]:
    """First-party modules that `module` imports, anywhere in its file (also inside functions)."""
    path = path_of(module)
    if path is None:
        raise ValueError(f"no module {module!r} below {ROOT.name}/")
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if path_of(name) else node.module for name in names)
    return frozenset(name for name in found if name.split(".")[0] in ROOMS and path_of(name))


def closure(modules: Iterable[str]) -> list[str]:
    """All first-party modules reached from `modules`, themselves included, sorted."""
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting.extend(imports(module))
    return sorted(reached)


@cache
def normalised(path: Path) -> str:
    """Source text without comments, docstrings, blank lines and trailing blanks.

    Cut by position from the text itself: `ast.unparse` and `ast.dump` differ between Python versions, this does not.
    """
    text = path.read_text()
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                for row in range(first.lineno - 1, first.end_lineno or first.lineno):
                    lines[row] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


@cache
def module_hash(module: str) -> str:
    path = path_of(module)
    if path is None:
        raise ValueError(f"no module {module!r} below {ROOT.name}/")
    return hashlib.sha256(normalised(path).encode()).hexdigest()[:16]


@cache
def fingerprint(modules: tuple[str, ...]) -> str:
    """16 hex digits over (name, content) of every module reached."""
    text = "\n".join(f"{module_hash(module)} {module}" for module in closure(modules))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: python -m workflow.fingerprint MODULE [MODULE ...]", file=sys.stderr)
        return 2
    try:
        for module in closure(sys.argv[1:]):
            print(module_hash(module), module)
        print(fingerprint(tuple(sys.argv[1:])), "(together)")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
