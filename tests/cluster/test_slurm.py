"""A part of the demo through profiles/slurm on a real Slurm, with everything that ends a job before its time.

Trainings are held by SIGSTOP while Slurm's clocks run, so that no processor has to be kept busy for so long.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.cluster import slurm

ROOT = Path(__file__).resolve().parents[2]
RUNS = ("results/demo/digits/vae/seed0", "results/demo/digits/dcgan/seed0")
TARGETS = (f"{RUNS[0]}/metrics/mse.json", f"{RUNS[1]}/grid.npy")
STEPS = 500
PROFILE = ("--workflow-profile", "workflow/profiles/slurm")
# Asked sooner than a busy cluster wants to be, and GPUs for jobs that compute on the CPU.
SITE = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")
EXTRA = yaml.safe_load((ROOT / "profiles" / "slurm" / "profile.yaml").read_text())["set-resources"]["train"]
RESOURCES = {"train:gpu": 1, "train:runtime": 30, "sample:gpu": 1, **{f"train:{k}": v for k, v in EXTRA.items()}}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(slurm.missing()), reason=f"Slurm is not installed: no {', '.join(slurm.missing())}"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurm.Cluster]:
    with slurm.cluster() as up:
        yield up


def checkout(folder: Path) -> Path:
    """The workflow, its demo preset with short runs."""
    for room in ("dtri", "baselines", "workflow", "profiles"):
        shutil.copytree(ROOT / room, folder / room, symlinks=True)
    shutil.copy(ROOT / "Snakefile", folder)
    presets = folder / "workflow" / "config" / "presets.yaml"
    budget = f"{{default: {STEPS}, holdout: {STEPS}}}"
    text, found = re.subn(r"(?m)(^demo:\n(?:  .*\n)*?  max_steps: ).*$", rf"\g<1>{budget}", presets.read_text())
    assert found == 1
    presets.write_text(text)
    return folder


def give(folder: Path, environment: dict[str, str], *options: str) -> subprocess.Popen:
    with (folder / "snakemake.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *TARGETS, *options],
            cwd=folder,
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finish(snakemake: subprocess.Popen, folder: Path) -> str:
    """What Snakemake said; fails when it failed."""
    code = snakemake.wait(slurm.TIMEOUT_S)
    text = (folder / "snakemake.log").read_text()
    assert code == 0, text
    return text


class Training:
    """A training run of the workflow in `folder`, and the job that is at work on it."""

    def __init__(self, cluster: slurm.Cluster, folder: Path, run: str):
        self.cluster, self.run, self.path = cluster, run, folder / run
        self.pid, self.environment = 0, {}

    def events(self, kind: str) -> list[dict]:
        path = self.path / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def hold(self, attempt: int) -> None:
        """Stop the process of this attempt as soon as it trains."""
        self.cluster.wait(f"attempt {attempt} of {self.run}", lambda: len(self.events("start")) == attempt)
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0") if entry.name.isdigit() else []
                if words[1:4] != ["-m", "workflow.forkserver", "train"] or self.run not in words:
                    continue
                if Path(os.readlink(entry / "cwd")) / self.run == self.path:
                    self.pid = int(entry.name)
                    os.kill(self.pid, signal.SIGSTOP)
                    lines = (entry / "environ").read_bytes().decode().split("\0")
                    self.environment = dict(line.split("=", 1) for line in lines if "=" in line)
                    return
            except OSError:
                continue
        raise AssertionError(f"no process trains {self.run}")

    @property
    def job(self) -> str:
        return self.environment["SLURM_JOB_ID"]

    @property
    def state(self) -> str:
        return self.cluster.ask("squeue", "-h", "--states=all", "-j", self.job, "-o", "%T").strip()

    def warned(self) -> bool:
        """Whether SIGUSR1 waits for the held process; also when the process is gone."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except FileNotFoundError:
            return True
        pending = re.findall(r"^(?:Sig|Shd)Pnd:\s+(\w+)", status, re.M)
        return any(int(mask, 16) >> (signal.SIGUSR1 - 1) & 1 for mask in pending)

    def wake(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def saved(self) -> int:
        """The iteration at which the first attempt was interrupted, its state saved."""
        self.cluster.wait(f"{self.run} to be saved", lambda: bool(self.events("interrupted")))
        return self.events("interrupted")[0]["t"]


def test_every_way_a_job_ends_early(cluster: slurm.Cluster, tmp_path: Path) -> None:
    """Each attempt continues the one before; the result has the bytes of a run without Slurm and without trouble."""
    folder, undisturbed = checkout(tmp_path / "slurm"), checkout(tmp_path / "undisturbed")
    options = (*PROFILE, *SITE, "--set-resources", *(f"{k}={v}" for k, v in RESOURCES.items()))
    snakemake = give(folder, cluster.environment, *options)
    local = give(undisturbed, dict(os.environ), "--cores", "1")
    both = [Training(cluster, folder, run) for run in RUNS]
    try:
        for training in both:
            training.hold(attempt=1)

        # What was asked for has arrived: a GPU each, not the same; memory; a time limit.
        assert {training.environment["CUDA_VISIBLE_DEVICES"] for training in both} == {"0", "1"}
        for training in both:
            shown = cluster.ask("scontrol", "show", "job", training.job)
            assert "TimeLimit=00:30:00" in shown
            assert "mem=10000M" in shown
            assert "TresPerJob=gres:gpu:1" in shown
            assert training.state == "RUNNING"

        # The node's daemon dies and comes back: its jobs do not notice.
        cluster.kill_node(jobs=False)
        cluster.start_node()
        assert [training.state for training in both] == ["RUNNING"] * 2

        # The time limit nears: Slurm warns the trainings, which save and stop before the limit.
        for training in both:
            minutes = int(cluster.ask("squeue", "-h", "-j", training.job, "-O", "TimeUsed").split(":")[0]) + 2
            cluster.ask("scontrol", "update", f"JobId={training.job}", f"TimeLimit={minutes}")
        for training in both:
            cluster.wait(f"the warning of job {training.job}", training.warned)
            training.wake()
        reached = [training.saved() for training in both]
        assert min(reached) > 0
        for training in both:
            cluster.wait(f"the end of job {training.job}", lambda t=training: t.state not in ("RUNNING", "COMPLETING"))
        assert [training.state for training in both] == ["FAILED"] * 2  # by their own exit code, not TIMEOUT

        # Both were submitted again and continue. One is cancelled, then the node loses power under the other.
        for training in both:
            training.hold(attempt=2)
        assert [training.events("start")[1]["t"] for training in both] == reached
        cluster.ask("scancel", both[0].job)
        cluster.wait("the end of the cancelled job", lambda: both[0].state == "CANCELLED")
        cluster.kill_node(jobs=True)
        cluster.start_node()
        said = finish(snakemake, folder)
        finish(local, undisturbed)
    except BaseException:
        print((folder / "snakemake.log").read_text(), cluster.logs())
        raise
    finally:
        for process in (snakemake, local):
            process.kill()
            process.wait()
    assert "status is: 'FAILED'" in said
    assert "status is: 'CANCELLED'" in said
    assert "NODE_FAIL" in said
    for training, t in zip(both, reached):
        assert training.events("start")[2]["t"] >= t
        assert json.loads((training.path / "train.json").read_text())["attempts"] == 3
        weights = "model.safetensors"
        assert (training.path / weights).read_bytes() == (undisturbed / training.run / weights).read_bytes()
    assert "Nothing to be done" in finish(give(folder, cluster.environment, *options, "--dry-run"), folder)


def test_a_submission_that_fails(cluster: slurm.Cluster, tmp_path: Path) -> None:
    """One message of Slurm's, nothing made."""
    folder = checkout(tmp_path)
    refused = give(folder, cluster.environment, *PROFILE, *SITE, "--default-resources", "slurm_partition=nowhere")
    assert refused.wait(slurm.TIMEOUT_S) == 1
    text = (folder / "snakemake.log").read_text()
    assert "SLURM sbatch failed" in text
    assert "invalid partition specified: nowhere" in text
    assert not list(folder.glob("results/**/*.npy"))
