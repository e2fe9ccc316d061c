"""A real TeX for tests of fragments."""

import shutil
import subprocess
from pathlib import Path

import pytest

ENGINES = ("pdflatex", "xelatex")


def typeset(fragment: str, width: str, folder: Path) -> str:
    """The log of a fragment's document with lines of `width`, set without an error; skips where there is no TeX."""
    engine = next(filter(None, map(shutil.which, ENGINES)), None)
    if engine is None:
        pytest.skip(f"no TeX here: {' or '.join(ENGINES)}, with booktabs")
    head = f"\\documentclass[10pt]{{article}}\\usepackage[textwidth={width}]{{geometry}}"
    body = f"\\usepackage{{booktabs,graphicx,longtable}}\\begin{{document}}\n{fragment}\\end{{document}}\n"
    (folder / "document.tex").write_text(head + body, "utf-8")
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "document.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout
