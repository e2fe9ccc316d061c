"""Snakemake started from another folder, without the current folder on Python's path, or with the rules as a module."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
META = "results/data/uniform_1x4x4/meta.json"
MODULE = f"""
module dtri:
    snakefile: "{ROOT}/Snakefile"
    config: {{"device": "cpu"}}

use rule * from dtri

rule mine:
    default_target: True
    input: "{META}"
    output: "results/mine/of/another/shape.txt"
    shell: "cp {{input}} {{output}}"
"""


def snakemake(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-P", "-m", "snakemake", "--cores", "1", *arguments]
    environment["PYTHONSAFEPATH"] = "1"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("directory", [False, True])
def test_started_from_another_folder(directory: bool, tmp_path: Path) -> None:
    """Braces in the user's settings are no wildcards."""
    (tmp_path / "raw").mkdir()
    start, product = (tmp_path, tmp_path / "work" / META) if directory else (tmp_path, tmp_path / META)
    options = ["--directory", "work"] if directory else []
    snakemake(start, META, *options, "--snakefile", f"{ROOT}/Snakefile", "--config", "downloads=raw/{x}")
    assert product.exists()
    assert not (ROOT / META).exists()


def test_the_rules_as_a_module(tmp_path: Path) -> None:
    """The other workflow's own products below results/ are its own business."""
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "Snakefile").write_text(MODULE)
    snakemake(tmp_path, "results/mine/of/another/shape.txt")
    assert '"uniform_1x4x4"' in (tmp_path / "results/mine/of/another/shape.txt").read_text()
