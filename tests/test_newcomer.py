"""The recipe of a baseline, from nothing to one number, in a copy of this checkout: as a newcomer follows it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli import ROOT
from workflow import configuration
from workflow.commands import new

NAME = "my_own_method"
RECORD = f"results/demo/digits/{NAME}/seed0/metrics/fid_domain.json"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this checkout that git would commit."""
    folder = tmp_path_factory.mktemp("newcomer")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", ":!results", ":!.venv"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "results").mkdir()
    return folder


def python(folder: Path, *words: str) -> str:
    environment = {**os.environ, "DTRI_DEVICE": "cpu", "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_from_nothing_to_one_number(copy: Path) -> None:
    """The file and the entry, the three commands that follow, and what tests of all systems would say."""
    before = (copy / "workflow/config/models.yaml").read_text("utf-8")
    printed = python(copy, "workflow.cli", "new", "baseline", NAME)
    assert (copy / "workflow/config/models.yaml").read_text("utf-8").startswith(before), "comments and entries stay"
    number, contract, row = (line.partition(":")[2].strip() for line in printed.splitlines()[-3:])

    assert number == f"dtri run {RECORD}"
    python(copy, "workflow.cli", *number.split()[1:], "--cores", "2")
    assert (copy / RECORD).exists()

    assert contract.startswith("python -m pytest ")
    tested = python(copy, *contract.split()[2:], "-p", "no:cacheprovider")
    assert "failed" not in tested

    table = python(copy, "workflow.cli", *row.split()[1:])
    assert any("digits" in line and NAME in line and "fid_domain" in line for line in table.splitlines())


@pytest.mark.parametrize("name", ["My", "2nd", "a-b", "class", "../vae", ""])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a name of a-z, 0-9 and _ that begins with a letter, found"):
        new.check_name(name)


def test_names_that_are_taken_are_refused() -> None:
    for name in configuration.models():
        with pytest.raises(ValueError, match=f"expected a new name, found '{name}'"):
            new.check_name(name)
