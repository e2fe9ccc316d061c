"""Methods, data and presets of one's own, from nothing to numbers, in a copy of this checkout: as newcomers do it."""

import json
import os
import subprocess
import sys
from functools import partial
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


MODELS = """
own_sweep:
  variants_of: own_method
  hparams: {decoder_variance: [0.01, 0.1]}
"""
PRESETS = """
own:
  label: own preset
  seeds: [0]
  width: 0.125
  max_steps: {default: 4, holdout: 4}
  max_samples: 20
  extractor: domain
"""


@pytest.mark.slow
def test_ones_own_beside_a_committed_checkout(copy: Path, tmp_path: Path) -> None:
    """A method in a package of one's own, a sweep, a preset and all numbers; the checkout stays as it is."""
    files = {path: path.read_bytes() for path in copy.rglob("*") if path.suffix in (".py", ".yaml", ".smk")}
    own = tmp_path / "own"
    own.mkdir()
    (own / "presets.yaml").write_text(PRESETS)
    dtri = partial(python, copy, "workflow.cli")
    printed = dtri("new", "baseline", "own_method", "--overlay", str(own))
    assert f"--overlay {own}" in printed
    entries = (own / "models.yaml").read_text()
    entries = entries.replace("own_method:OwnMethod", "own_package.method:OwnMethod").rstrip()
    (own / "models.yaml").write_text(f"{entries}\n  tables: [table2]\n{MODELS}")
    package = own / "own_package"
    package.mkdir()
    (own / "own_method.py").rename(package / "method.py")
    (package / "scale.py").write_text("FACTOR = 2\n")
    text = (package / "method.py").read_text().replace("rec + 2 *", "rec + FACTOR *")
    (package / "method.py").write_text(
        text.replace("from torch", "from own_package.scale import FACTOR\nfrom torch", 1)
    )
    git = ["git", "-c", "user.name=own", "-c", "user.email=own@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "mine"]):
        subprocess.run([*git, *words], cwd=own, check=True)

    names = ["own_method-decoder_variance=0.01", "own_method-decoder_variance=0.1"]
    wanted = [f"results/own/digits/{name}/seed0/metrics/rmse.json" for name in names]
    overlaid = ("--overlay", str(own))
    dtri("run", *wanted, "--cores", "2", *overlaid)
    made = json.loads((copy / wanted[0]).parents[1].joinpath("train.json").read_text())
    assert made["provenance"]["own"]["own_package"]["dirty"] is False
    assert "2 done" in dtri("status", "own", *overlaid)

    compared = dtri("compare", "own_sweep", "--preset", "own", "--metric", "rmse", *overlaid)
    assert all(name in compared for name in names)
    dtri("run", "results/own/all.csv", *overlaid)
    listed = (copy / "results/own/all.csv").read_text()
    assert all(f"digits,{name},rmse" in listed for name in names)
    assert "own method" in dtri("table", "table2", "--preset", "own", "--partial", *overlaid)

    (package / "scale.py").write_text("FACTOR = 3\n")
    assert "changed" in dtri("plan", wanted[0], *overlaid), "what the package imports is in the hash of code"
    assert {path: path.read_bytes() for path in files if path.exists()} == files


@pytest.mark.parametrize("name", ["My", "2nd", "a-b", "class", "../vae", ""])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a name of a-z, 0-9 and _ that begins with a letter, found"):
        new.check_name(name)


def test_names_that_are_taken_are_refused() -> None:
    for name in configuration.models():
        with pytest.raises(ValueError, match=f"expected a new name, found '{name}'"):
            new.check_name(name)
