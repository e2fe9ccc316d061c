"""Text is UTF-8 whatever the locale says: a scan of the sources, and commands where the locale is plain ASCII."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workflow.fingerprint import FIRST_PARTY

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for room in FIRST_PARTY for path in (ROOT / room).rglob("*.py"))
ASCII = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def unspecified(source: str) -> Iterator[int]:
    """Lines that read or write text in the encoding of the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or {k.arg for k in node.keywords} & {"encoding", "fileobj"}:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        method = isinstance(node.func, ast.Attribute)
        if method and name in ("read_text", "write_text") and len(node.args) < 1 + (name == "write_text"):
            yield node.lineno
        if name in ("open", "fdopen"):
            position = 0 if method and name == "open" else 1
            given = [node.args[position]] if len(node.args) > position else []
            given += [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
            mode = given[0].value if given and isinstance(given[0], ast.Constant) else None
            is_text = mode is not None and set(str(mode)) <= set("rwaxt+")
            if is_text or (not given and not node.args[position:] and not (method and node.args)):
                yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_text_has_an_encoding(path: Path) -> None:
    assert list(unspecified(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    ["p.read_text()", "p.write_text(t)", "open(p)", "open(p, 'w')", "p.open()", "p.open('a')", "os.fdopen(h, 'w')"],
)
def test_the_scan_finds(source: str) -> None:
    assert list(unspecified(source)) == [1]


@pytest.mark.parametrize(
    "source",
    ["p.read_text('utf-8')", "p.write_text(t, 'utf-8')", "open(p, 'rb')", "p.open('wb')", "Image.open(f)"]
    + ["open(p, encoding='utf-8')", "write_text(path, text)", "tarfile.open(p, 'r:*')", "os.fdopen(h, 'wb')"],
)
def test_the_scan_passes(source: str) -> None:
    assert list(unspecified(source)) == []


@pytest.mark.parametrize(
    "command",
    [
        ["workflow.commands.table", "table4", "--preset", "demo", "--partial"],
        ["workflow.fingerprint", "baselines.bigan"],
        ["snakemake", "--dry-run", "--cores", "1", "--snakefile", str(ROOT / "Snakefile"), "results/demo/table2.csv"],
    ],
    ids=["table", "fingerprint", "snakemake"],
)
def test_commands_where_the_locale_is_ascii(command: list[str], tmp_path: Path) -> None:
    """Labels such as "BiGAN-σ" are read, and printed as far as the terminal has them."""
    environment = {**ASCII, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
