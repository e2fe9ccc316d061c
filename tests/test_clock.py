"""Times in the future: nothing that was made is removed, and nothing is made twice."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("results/data/uniform_1x4x4")


def snakemake(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--cores", "1", *options]
    done = subprocess.run([*command, f"{FOLDER}/meta.json"], cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_an_input_from_the_future(tmp_path: Path) -> None:
    """The job ends with its products, and the same command has nothing to do."""
    fetched = tmp_path / FOLDER / "fetch.json"
    fetched.parent.mkdir(parents=True)
    fetched.write_text("{}")
    os.utime(fetched, (time.time() + 1e8,) * 2)
    assert "have been removed" not in snakemake(tmp_path)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / FOLDER).glob("*.*")}
    assert {path.name for path in made} == {"fetch.json", "test.npy", "index.npz", "meta.json"}
    assert fetched.stat().st_mtime <= time.time()
    assert "Nothing to be done" in snakemake(tmp_path)
    os.utime(fetched, (time.time() + 1e8,) * 2)  # once more, of a finished job
    assert "Nothing to be done" in snakemake(tmp_path)
