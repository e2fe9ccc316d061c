"""A clone of this checkout whose demo preset is cut to seconds per job, and what works or lies in it. Linux only."""

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Every system keeps one run on digits, those of Table 4 one hold-out too.
LEFT_OUT = ("celeba", "lsun_bedroom", "imagenet32", "svhn", "dtd", "celeba32")
HOLDOUTS_LEFT_OUT = (1, 5, 7, 9)
# Keys of a record or summary that say how its making went, not what was made.
VOLATILE = ("seconds", "train_seconds", "images_per_s", "peak_memory_mib", "attempts", "provenance", "seal")
COMMAND = r"workflow(?:\.commands\.|\.forkserver )(\w+)"  # of a job
COSTS = ("train_seconds", "measure_seconds")  # columns of a table


@dataclass(frozen=True)
class Job:
    """One command of the workflow's plan; `label` is "rule dataset/model" or "rule dataset"."""

    rule: str
    label: str
    command: str  # name of the module in workflow.commands
    arguments: tuple[str, ...]


def make(clone: Path, steps: int) -> None:
    """Clone HEAD, with the changes of tracked files that are not committed, and cut the demo."""
    git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
    if changes := git(ROOT, "diff", "--binary", "HEAD"):
        git(clone, "apply", given=changes)
    path = clone / "workflow" / "config" / "presets.yaml"
    presets = yaml.safe_load(path.read_text())
    demo = presets["demo"]
    demo |= {"width": 0.05, "max_samples": 64, "max_steps": {"default": steps, "holdout": steps}}
    demo["stand_ins"] |= dict.fromkeys(LEFT_OUT) | {f"mnist_holdout{digit}": None for digit in HOLDOUTS_LEFT_OUT}
    path.write_text(json.dumps(presets))  # JSON is YAML


def git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(["git", *arguments], cwd=folder, input=given, stdout=subprocess.PIPE, check=True).stdout


def plan(clone: Path, targets: Iterable[str]) -> list[Job]:
    """The jobs that Snakemake would run, in an order in which they can run one after another."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", "--cores", "1", *targets]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True)
    jobs = []
    for block in re.split(r"\n(?=(?:local)?rule \w+:)", done.stdout + done.stderr)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)[1]
        shell = re.search(rf"^Shell command: (?:exec )?python -m {COMMAND} (.*?)(?: > \S+ 2>&1)?$", block, re.M)
        if shell is None:
            raise ValueError(f"expected a command of the workflow for rule {rule}, found none in:\n{block}")
        wildcards = dict(re.findall(r"(\w+)=(\w+)", (re.search(r"wildcards: (.*)", block) or [""])[0]))
        place = "/".join(wildcards[name] for name in ("dataset", "model", "table") if name in wildcards)
        arguments = shlex.split(shell[2].replace("$DTRI_DOWNLOADS", "downloads"))
        jobs.append(Job(rule, f"{rule} {place}".strip(), shell[1], tuple(arguments)))
    return jobs


def products(clone: Path) -> dict[str, str]:
    """{path below results/: sha256} of everything that the same work makes again to the byte.

    Of records and tables without what they say about time, attempts and the checkout.
    """
    root = clone / "results"
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.startswith("reference/") or path.name.startswith((".", "state.", "fetch")) or "/features/" in name:
            continue
        if path.suffix == ".json":
            found[name] = _hash(json.dumps(_steady(json.loads(path.read_text())), sort_keys=True).encode())
        elif re.fullmatch(r"table\d\.csv", path.name):
            found[name] = _hash(_without_costs(path))
        elif path.suffix in (".safetensors", ".npy", ".npz", ".csv"):
            found[name] = _hash(path.read_bytes())
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _steady(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in VOLATILE}


def _without_costs(path: Path) -> bytes:
    import pandas as pd

    return pd.read_csv(path).drop(columns=list(COSTS), errors="ignore").to_csv(index=False).encode()


def snakemake(clone: Path, targets: Iterable[str], cores: int) -> subprocess.Popen:
    """The command that is given again and again, in a process group of its own."""
    with (clone / "snakemake.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", str(cores), *targets],
            cwd=clone,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def processes(clone: Path) -> dict[int, str]:
    """{pid: command line} of all that work in the clone, this process apart: jobs, orphans, Snakemake."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if Path(os.readlink(entry / "cwd")).is_relative_to(clone):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def job_of(command: str) -> str | None:
    """Name of the command that a process runs, such as "train"; None for others, the shells around jobs included."""
    match = re.match(rf"\S*python\S* -m {COMMAND}", command)
    return match[1] if match else None


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
