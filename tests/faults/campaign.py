"""Kill every stage of every system again and again, give the same command again, and compare. Linux; not run by pytest.

    python -m tests.faults.campaign --kills 100 --out results/reference/faults

Works in a fresh clone of this checkout, changes of tracked files included, in a temporary folder. The demo preset is
cut to a few iterations of networks a twentieth as wide; every system keeps its runs, every stage its command.

jobs       The workflow's own commands in the order of its plan, each in a process forked from one that has imported
           PyTorch (which else takes most of the time), training saving every 6 iterations. First all undisturbed.
           Then all again from nothing, killed by SIGKILL, some trainings by SIGTERM or SIGINT, when they have used a
           random share of the CPU time they need. After some kills of a training its newest state is damaged too.
workflow   Snakemake over a part of the same plan, killed at random: one job, Snakemake alone, the server that forks
           its jobs, the whole process group; SIGTERM and SIGINT to the group.

Prints a line per kill; writes kills.csv and campaign.json to --out. Exit code 1 when a file is missing or differs from
the undisturbed one: weights, curves, samples, scores, records and tables, these without times.
"""

import argparse
import csv
import importlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.faults import clones, jobs

PART = [
    *(f"results/demo/digits/{model}/seed0/metrics/mse.json" for model in ("vae", "divergence_triangle")),
    "results/demo/digits/joint_vae_ebm/seed0/metrics/fid_domain.json",
    "results/demo/digits_holdout4/vae/seed0/metrics/auprc.json",
]
STRIKES = ("job", "snakemake", "server of jobs", "group", "SIGTERM to the group", "SIGINT to the group")
POLL_S = 0.02
LOG = Path("jobs.log")
SAVE_EVERY = 6
DAMAGED = 0.3  # share of the kills of a training after which its state is damaged


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of jobs")
    parser.add_argument("--workflow-kills", type=int, default=15, help="of Snakemake's runs")
    parser.add_argument("--steps", type=int, default=24, help="training iterations")
    parser.add_argument("--tables", type=int, nargs="+", default=[1, 2, 3, 4], help="what the jobs are for")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of moments")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", action="store_true", help="leave the clone where it is")
    parser.add_argument("--in-clone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_clone:
        return _campaign(arguments)
    folder = Path(tempfile.mkdtemp(prefix="dtri-faults-")).resolve()
    clone = folder / "main"
    try:
        clones.make(clone, arguments.steps)
        command = [sys.executable, "-m", "tests.faults.campaign", "--in-clone", *sys.argv[1:]]
        command += ["--out", str(arguments.out.resolve())]
        return subprocess.run(command, cwd=clone).returncode
    finally:
        clones.kill(clones.processes(clone))
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _campaign(arguments: argparse.Namespace) -> int:
    clone, draw = Path.cwd(), random.Random(arguments.seed)
    _load()
    planned = clones.plan(clone, [f"results/demo/table{k}.csv" for k in arguments.tables])
    started = time.monotonic()
    needed = {job: _complete(job) for job in planned}
    expected = clones.products(clone)
    undisturbed_s = time.monotonic() - started
    say(f"undisturbed: {len(planned)} jobs, {sum(needed.values()):.0f} s of CPU, {len(expected)} files to compare")

    kills: list[dict] = []
    differing = {}
    (clone / "results").rename(clone / "undisturbed")
    part = {name: value for name, value in expected.items() if _of_part(name)}
    while len(kills) < arguments.workflow_kills:
        kills += _round(clone, arguments.workflow_kills - len(kills), draw)
        differing[f"workflow, after {len(kills)} kills"] = _compare(clone, part)
        shutil.rmtree(clone / "results")
    for job, times in _shares(planned, arguments.kills, draw).items():
        for _ in range(times):
            kills.append(_kill_job(job, needed[job], draw))
        _complete(job)
    differing["jobs"] = _compare(clone, expected)

    summary = {
        "commit": clones.git(clone, "rev-parse", "HEAD").decode().strip(),
        "steps": arguments.steps,
        "seed": arguments.seed,
        "jobs": len(planned),
        "stages": dict(Counter(job.rule for job in planned)),
        "systems": sorted({job.label.rpartition("/")[2] for job in planned if job.rule == "train"}),
        "undisturbed_s": round(undisturbed_s),
        "undisturbed_cpu_s": round(sum(needed.values())),
        "seconds": round(time.monotonic() - started),
        "kills": len(kills),
        "kills_by": dict(Counter(f"{kill['part']}: {kill['how']}" for kill in kills)),
        "kills_of_stage": dict(Counter(kill["stage"] for kill in kills)),
        "states_damaged": sum(bool(kill["damage"]) for kill in kills),
        "compared": {"jobs": len(expected), "workflow": len(part)},
        "weights": {name: value for name, value in expected.items() if name.endswith("model.safetensors")},
        "tables": {name: value for name, value in expected.items() if name.startswith("demo/table")},
        "differing": differing,
        "equal": not any(differing.values()),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "kills.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kills[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kills)
    (arguments.out / "campaign.json").write_text(json.dumps(summary, indent=1) + "\n")
    say(f"{len(kills)} kills, equal: {summary['equal']}")
    return 0 if summary["equal"] else 1


def say(text: str) -> None:
    print(text, flush=True)


# Jobs


def _load() -> None:
    """Import once what the jobs import; they save their training state more often than usual."""
    import torch

    from dtri import engine
    from workflow import configuration, jobcode

    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # its modules come with the first one
    for name in sorted(set(jobcode.COMMAND.values())):
        importlib.import_module(name)
    for name in sorted({model.entry.partition(":")[0] for model in configuration.models().values()}):
        importlib.import_module(name)
    engine.fit, engine.CHECK_EVERY = partial(engine.fit, save_every=SAVE_EVERY), SAVE_EVERY


def _start(job: clones.Job) -> int:
    return jobs.start(job.command, job.arguments, LOG)


def _complete(job: clones.Job) -> float:
    """Run a job to its end; the CPU seconds it took. RuntimeError with the end of the log when it fails."""
    code, seconds = jobs.complete(_start(job))
    if code:
        tail = "\n".join(LOG.read_text().splitlines()[-15:])
        raise RuntimeError(f"{job.label} ended with {code}:\n{tail}")
    return seconds


def _shares(planned: list[clones.Job], kills: int, draw: random.Random) -> dict[clones.Job, int]:
    """How often each job is killed: all trainings first, then the others, then trainings again."""
    training = [job for job in planned if job.rule == "train"]
    others = [job for job in planned if job.rule != "train"]
    order = [*draw.sample(training, len(training)), *draw.sample(others, len(others))]
    order += [draw.choice(training) for _ in range(max(0, kills - len(order)))]
    chosen = Counter(order[:kills])
    return {job: chosen[job] for job in planned}


def _kill_job(job: clones.Job, needed: float, draw: random.Random) -> dict:
    """Kill a job at a random share of the CPU time it needs; one that ends before is started again, from nothing."""
    numbers = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT) if job.rule == "train" else ()
    number = draw.choice(numbers or (signal.SIGKILL,))
    missed = 0
    while True:
        after = draw.uniform(0.0, 0.95) * needed / (1 + missed)
        pid = _start(job)
        while clones.cpu_seconds(pid) < after and not jobs.ended(pid):
            time.sleep(POLL_S)
        clones.kill([pid], number)
        if jobs.complete(pid)[0]:
            break
        missed += 1  # it was done
        if job.rule == "train":  # and would be done at once, without a moment in which to kill it
            shutil.rmtree(job.arguments[job.arguments.index("--out") + 1])
    damage = reached = ""
    if job.rule == "train":
        run = Path(job.arguments[job.arguments.index("--out") + 1])
        reached = _reached(run)
        if (run / "state.pt").exists() and draw.random() < DAMAGED:
            damage = _damage(run / "state.pt", draw)
    how = signal.Signals(number).name
    kill = {"part": "jobs", "how": how, "stage": job.rule, "job": job.label, "cpu_s": round(after, 2)}
    kill |= {"of_cpu_s": round(needed, 2), "iteration": reached, "damage": damage}
    say(json.dumps(kill))
    return kill


def _reached(run: Path) -> int | str:
    """The last iteration that the run's history knows as saved."""
    path = run / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((json.loads(line)["t"] for line in lines if '"saved"' in line), default=0)


def _damage(state: Path, draw: random.Random) -> str:
    content = bytearray(state.read_bytes())
    how = draw.choice(("cut", "flipped", "removed"))
    if how == "removed":
        state.unlink()
    elif how == "cut":
        state.write_bytes(content[: draw.randrange(len(content))])
    else:
        content[draw.randrange(len(content) // 4, len(content) // 2)] ^= 1 << draw.randrange(8)
        state.write_bytes(content)
    return how


# The workflow


def _of_part(name: str) -> bool:
    """Whether a product belongs to the part of the plan that Snakemake is killed over."""
    folders = {target.removeprefix("results/").rpartition("/metrics/")[0] for target in PART}
    return any(name == f"{folder}/model.safetensors" for folder in folders) or f"results/{name}" in PART


def _round(clone: Path, most: int, draw: random.Random) -> list[dict]:
    """From nothing to the finished part, with at most so many kills on the way."""
    kills: list[dict] = []
    while True:
        process = clones.snakemake(clone, PART, 2)
        struck = _strike(process, clone, draw) if len(kills) < most else None
        code = process.wait()
        if struck is None:
            if code:
                tail = "\n".join((clone / "snakemake.log").read_text().splitlines()[-40:])
                raise RuntimeError(f"snakemake ended with {code}:\n{tail}")
            _wait_for_orphans(clone)
            return kills
        kills.append(struck)
        say(json.dumps(struck))


def _strike(process: subprocess.Popen, clone: Path, draw: random.Random) -> dict | None:
    """Strike a moment after the first few jobs have started; None when Snakemake ended before."""
    how, wanted, pause = draw.choice(STRIKES), draw.randint(1, 4), draw.uniform(0.0, 2.0)
    seen: set[int] = set()
    limit = math.inf
    while True:
        if process.poll() is not None:
            return None
        found = clones.processes(clone)
        at_work = {pid: name for pid, command in found.items() if (name := clones.job_of(command))}
        seen |= at_work.keys()
        if limit == math.inf and len(seen) >= wanted:
            limit = time.monotonic() + pause
        if at_work and time.monotonic() >= limit:
            break
        time.sleep(POLL_S)
    victim = draw.choice(sorted(at_work))
    if how == "job":
        clones.kill([victim])
    elif how == "snakemake":
        process.kill()
    elif how == "server of jobs":
        clones.kill(sorted(pid for pid, command in found.items() if "--serve" in command)[:1])
    else:
        number = {"group": signal.SIGKILL, "SIGTERM to the group": signal.SIGTERM}.get(how, signal.SIGINT)
        os.killpg(process.pid, number)
    stages = "+".join(sorted(at_work.values()))
    kill = {"part": "workflow", "how": how, "stage": at_work[victim], "job": stages}
    return kill | {"cpu_s": "", "of_cpu_s": "", "iteration": "", "damage": ""}


def _wait_for_orphans(clone: Path) -> None:
    while any(clones.job_of(command) for command in clones.processes(clone).values()):
        time.sleep(1)


def _compare(clone: Path, expected: dict[str, str]) -> list[str]:
    """Names of the products that are missing or differ."""
    found = clones.products(clone)
    differing = sorted(name for name, value in expected.items() if found.get(name) != value)
    say(f"compared {len(expected)} files; differing: {differing}")
    return differing


if __name__ == "__main__":
    sys.exit(main())
