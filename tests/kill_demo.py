"""Kill the workflow again and again, give the same command again, and compare what it makes. Linux; not run by pytest.

    python -m tests.kill_demo --kills 10

Works on fresh clones of this checkout, changes of tracked files included, in a temporary folder. One makes
results/demo/table1.csv undisturbed. In the other, at random moments, SIGKILL hits one job ("job": the trainer where one
runs), Snakemake and all its jobs ("tree"), or Snakemake alone, whose jobs go on as orphans ("snakemake"). When all is
finished before the last kill, it is deleted and made again. Prints a JSON summary; exit code 1 when a byte of the table
or of a trained network differs.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = "results/demo/table1.csv"
POLL_S = 0.2
VICTIMS = ("snakemake", "tree", "job")  # in turns


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200, help="training iterations of the demo preset in the clones")
    parser.add_argument("--cores", type=int, default=min(os.cpu_count() or 1, 8))
    parser.add_argument("--seed", type=int, default=0, help="of the choice of moments")
    parser.add_argument("--keep", action="store_true", help="leave the clones where they are")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="dtri-kill-")).resolve()
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    try:
        for clone in (undisturbed, killed):
            _clone(clone, arguments.steps)
        start = time.monotonic()
        _finish(_give(undisturbed, arguments.cores), undisturbed)
        seconds = time.monotonic() - start
        expected = _products(undisturbed)
        print(f"undisturbed: {seconds:.0f} s, {len(expected)} files to compare", file=sys.stderr, flush=True)
        kills, rounds = _rounds(killed, expected, arguments, draw, seconds)
    finally:
        for clone in (undisturbed, killed):
            _kill(_processes(clone))
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    equal = all(not differing for differing in rounds)
    summary = {
        "commit": _git(ROOT, "rev-parse", "HEAD").decode().strip(),
        "uncommitted_changes": bool(_git(ROOT, "diff", "HEAD")),
        "target": TARGET,
        "steps": arguments.steps,
        "undisturbed_s": round(seconds, 1),
        "compared": sorted(expected),
        "kills": kills,
        "rounds": [{"equal": not differing, "differing": differing} for differing in rounds],
        "equal": equal,
    }
    print(json.dumps(summary, indent=1))
    return 0 if equal else 1


def _rounds(
    clone: Path, expected: dict[str, bytes], arguments: argparse.Namespace, draw: random.Random, seconds: float
) -> tuple[list[dict], list[list[str]]]:
    """The kills, and for every time that the table was finished the files that differ."""
    kills: list[dict] = []
    rounds: list[list[str]] = []
    while len(kills) < arguments.kills:
        process = _give(clone, arguments.cores)
        while len(kills) < arguments.kills:
            who, after = VICTIMS[len(kills) % len(VICTIMS)], draw.uniform(0.02, 0.6) * seconds
            what = _strike(process, clone, who, after)
            if what is None:
                break
            kills.append({"round": len(rounds) + 1, "who": who, "after_s": round(after, 1), "what": what})
            print(kills[-1], file=sys.stderr, flush=True)
            process.wait()
            process = _give(clone, arguments.cores)
        _finish(process, clone)
        found = _products(clone)
        rounds.append(sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)))
        print(f"finished after {len(kills)} kills; differing: {rounds[-1]}", file=sys.stderr, flush=True)
        _kill(_processes(clone))
        shutil.rmtree(clone / "results")
    return kills, rounds


def _strike(snakemake: subprocess.Popen, clone: Path, who: str, after: float) -> list[str] | None:
    """After so many seconds, kill; names of the jobs at work then. None when Snakemake ended first."""
    limit = time.monotonic() + after
    while snakemake.poll() is None:
        jobs = {pid: name for pid, command in _processes(clone).items() if (name := _job(command))}
        if time.monotonic() > limit and jobs:
            break
        time.sleep(POLL_S)
    else:
        return None
    if who == "tree":
        _kill({snakemake.pid: "", **_processes(clone)})
    elif who == "snakemake":
        snakemake.kill()
    else:
        victim = min(jobs, key=lambda pid: jobs[pid] != "train")
        jobs = {victim: jobs[victim]}
        _kill(jobs)
    return sorted(jobs.values())


def _clone(clone: Path, steps: int) -> None:
    _git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
    if changes := _git(ROOT, "diff", "--binary", "HEAD"):
        _git(clone, "apply", given=changes)
    presets = clone / "workflow" / "config" / "presets.yaml"
    budget = f"{{default: {steps}, holdout: {steps}}}"
    text, found = re.subn(r"(?m)(^demo:\n(?:  .*\n)*?  max_steps: ).*$", rf"\g<1>{budget}", presets.read_text())
    if found != 1:
        raise ValueError(f"expected max_steps in the demo preset of {presets}")
    presets.write_text(text)


def _git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(["git", *arguments], cwd=folder, input=given, stdout=subprocess.PIPE, check=True).stdout


def _give(clone: Path, cores: int) -> subprocess.Popen:
    """The command that is given again and again."""
    with (clone / "snakemake.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", str(cores), TARGET],
            cwd=clone,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _finish(process: subprocess.Popen, clone: Path) -> None:
    if process.wait() != 0:
        tail = "\n".join((clone / "snakemake.log").read_text().splitlines()[-40:])
        raise RuntimeError(f"snakemake failed with exit code {process.returncode}:\n{tail}")


def _products(clone: Path) -> dict[str, bytes]:
    """The table and every trained network of the demo preset."""
    paths = [clone / TARGET, *(clone / "results" / "demo").rglob("model.safetensors")]
    return {str(path.relative_to(clone)): path.read_bytes() for path in paths}


def _processes(clone: Path) -> dict[int, str]:
    """{pid: command line} of all that work in the clone: jobs, orphans, Snakemake."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if Path(os.readlink(entry / "cwd")).is_relative_to(clone):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def _job(command: str) -> str | None:
    """Name of the command that a process runs, such as "train"; None for others, the shells around jobs included."""
    match = re.match(r"\S*python\S* -m workflow\.commands\.(\w+)", command)
    return match[1] if match else None


def _kill(processes: dict[int, str]) -> None:
    for pid in processes:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    sys.exit(main())
