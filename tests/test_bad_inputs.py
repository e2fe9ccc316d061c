"""Bad inputs: one line that begins with `error:` and says what was expected and found, exit code 2, nothing written.

The cases and the page that lists them are in tests/bad_inputs.py; raw files of datasets (truncated, missing, of another
size) in tests/test_data.py and tests/test_fetch.py.
"""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import bad_inputs
from tests.bad_inputs import CASES, CONFIGURATIONS, ROOT, said, sample, score, train
from workflow import configuration


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad things to hand to commands."""
    return bad_inputs.furnish(tmp_path_factory.mktemp("room"))


@pytest.fixture(scope="module")
def documented() -> dict[str, str]:
    return bad_inputs.documented()


def one_line(argv: list[str]) -> str:
    command = importlib.import_module(f"workflow.commands.{argv[0]}")
    return said(lambda: command.main(argv[1:]))


@pytest.mark.parametrize("name", [*CASES, *CONFIGURATIONS])
def test_bad_input(
    name: str, room: Path, documented: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the page says it."""
    monkeypatch.delenv("DTRI_DEVICE", raising=False)
    before = sorted(room.rglob("*"))
    line = bad_inputs.provoke(name, room, tmp_path)
    fragments = CASES[name][1] if name in CASES else CONFIGURATIONS[name][3]
    assert [fragment for fragment in fragments if fragment not in line] == [], line
    general = bad_inputs.general(line, room, tmp_path)
    assert documented.get(name) == general, "write it anew: python -m tests.bad_inputs > docs/errors.md"
    files = {path.name for path in tmp_path.rglob("*") if path.is_file() and "config" not in path.parts}
    assert files - {".lock", ".mine.lock", "events.jsonl"} == set(), "half-written"
    assert sorted(room.rglob("*")) == before


def test_the_page_lists_these_cases_and_no_others(documented: dict[str, str]) -> None:
    assert list(documented) == [*CASES, *CONFIGURATIONS]
    assert len(documented) >= 70


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("command", ["train", "sample", "score"])
def test_a_gpu_where_there_is_none(command: str, room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTRI_DEVICE", "gpu")
    line = one_line({"train": train, "sample": sample, "score": score}[command](room, tmp_path))
    assert "expected a GPU" in line
    assert "--config device=cpu" in line
    assert list(tmp_path.iterdir()) == []


def test_one_run_started_as_several_tasks(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert "expected one process per run" in one_line(train(room, tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def snakemake(folder: Path, *arguments: str) -> list[str]:
    """Output lines of a dry run that must fail."""
    options = ["--dry-run", "--cores", "1", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, *options], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert list(folder.glob("results*")) == []
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        (("demo", "--config", "stpes=3"), ("--config stpes", "known keys: downloads, device, offline")),
        (("demo", "--config", "device=tpu"), ("--config device", "'cpu' or 'gpu'", "'tpu'")),
        (
            ("results/demo/digits/nosuchmodel/seed0/train.json",),
            ("unknown model 'nosuchmodel'", "known: divergence_triangle", "vae", "dcgan"),
        ),
    ],
    ids=["unknown key", "unknown device", "unknown model"],
)
def test_snakemake_says_it_in_one_line(arguments: tuple[str, ...], fragments: tuple[str, ...], tmp_path: Path) -> None:
    lines = snakemake(tmp_path, *arguments)
    assert [line for line in lines if all(fragment in line for fragment in fragments)], "\n".join(lines)


def test_a_command_by_itself(tmp_path: Path) -> None:
    """As a user meets it: exit code 2, one line, no traceback."""
    command = [sys.executable, "-m", "workflow.commands.table", "table1", "--preset", "fast"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: unknown preset 'fast' (known: {', '.join(configuration.presets())})\n"
