"""What runs again after an edit, and what `explain` says of it: all of one small preset and a table of another.

Works on a copy of the repository whose products are stand-ins that `snakemake --touch` has accepted as made.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dtri.experiment import TrainSpec
from dtri.sealed import write_sealed
from tests.test_browser import BROWSER, FLAGS
from workflow import configuration, costs, plan, reasons, reruns, specs
from workflow.commands import explain
from workflow.commands.explain import Job
from workflow.fingerprint import closure

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # edits within a second would meet stale bytecode

TARGETS = ("demo", "results/lite/table1.csv", "results/lite/figures/samples.png")
SMALL = f"""  width: 0.05
  max_steps: {{default: 2, holdout: 2}}
  max_samples: 32
  extractor: domain
  stand_ins: {json.dumps(configuration.presets()["demo"].stand_ins)}
"""
PRESETS = f"""
demo:
  label: first
  seeds: [0]
{SMALL}
lite:
  label: second
  seeds: [0]
{SMALL}
paper:
  label: third
  seeds: [0, 1, 2]
  extractor: inception
"""

# Runs in the copy: stand-ins for every product, training summaries and records with true hashes.
MAKE = """
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from dtri.report.records import Record
from dtri.sealed import write_sealed
from workflow import configuration, jobcode, plan, specs
from workflow.commands import explain, provenance

def record(run, path):
    metric = "auroc" if path.stem.startswith("auroc") else re.sub("_domain$", "", path.stem)
    data = [run.dataset, *([path.stem.removeprefix("auroc_")] if metric == "auroc" else [])]
    extra = {}
    if metric in configuration.GENERATION_METRICS:
        extra["comparisons"] = [one.model_dump() for one in specs.comparisons(run)]
        extra |= {"extractor_sha256": "network", "sampler": specs.sampler(run)}
    if metric == "landscape_purity":
        extra["settings"] = asdict(configuration.preset(run.preset).landscape)
    return Record(
        **asdict(run), metric=metric, value=0.5, status="done", n_samples=9, n_reference=9, protocol="p", extractor="",
        spec=specs.train_spec(run).hash, train_code=jobcode.model_code("train", run.model),
        code=jobcode.measure_code(metric, run.model), data={name: name for name in data}, device="cpu", seconds=1.0,
        provenance=provenance.provenance(), extra=extra,
    )

for job in explain.dry_run(sys.argv[1:]):
    for path in map(Path, job.output):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
        if path.name == "meta.json":
            data = specs.dataset(path.parent.name)
            path.write_text(json.dumps({"content": data.name, "source": {"code": jobcode.data_code(data)}}))
        elif path.name == "fetch.json":
            path.write_text("{}")
        elif path.name == "classifier.json":
            name, code = path.parent.name, jobcode.code("classifier")
            write_sealed(path, {"dataset": name, "data": name, "code": code, "sha256": "network"})
        elif path.name == "train.json":
            run, spec = job.run, specs.train_spec(job.run)
            made = {"spec": json.loads(spec.to_json()), "spec_hash": spec.hash, "data": {run.dataset: run.dataset}}
            made |= {"code": jobcode.model_code("train", run.model), "provenance": provenance.provenance()}
            made |= {"status": "done", "images_per_s": 1000.0, "device": "cpu (test)"}
            write_sealed(path, {**asdict(run), **made})
        elif path.parent.name == "metrics":
            record(job.run, path).write(path)
"""
# Runs in the copy: what is stale by what products say of their making.
STALE = """
from pathlib import Path
from workflow import configuration, jobcode, plan, specs, status
for path in sorted(Path("results").rglob("*.json")):
    if status.judged(path)[0]:
        print(path)
"""


def call(folder: Path, *command: str) -> str:
    """stdout and stderr of a command that must succeed."""
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=400)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    return text


def git(folder: Path, *arguments: str) -> str:
    return call(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree, committed, with all targets up to date."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout: the list of files, and commits to compare with")
    folder = tmp_path_factory.mktemp("reruns") / "main"
    names = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith(("results/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "workflow" / "config" / "presets.yaml").write_text(PRESETS)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "as copied")
    # Bytecode that is valid by the hash of its source: only edited modules are compiled at every start.
    compiled = ("-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "dtri", "workflow", "baselines")
    call(folder, sys.executable, *compiled)
    call(folder, sys.executable, "-c", MAKE, *TARGETS)
    call(folder, sys.executable, "-m", "snakemake", "--touch", "--forceall", "--cores", "1", *TARGETS)
    return folder


def jobs_after(folder: Path, *options: str) -> list[Job]:
    """What Snakemake would make again, which is what tables, verify and explain call stale."""
    text = call(folder, sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", *TARGETS, *options)
    jobs = explain.parse(text)
    vouching = {path for job in jobs for path in job.output if path.endswith(".json") and job.rule != "fetch"}
    stale = set(call(folder, sys.executable, "-c", STALE).split())
    assert stale == {path for path in vouching if (folder / path).exists()}
    return jobs


@contextmanager
def edited(folder: Path, edits: dict[str, Callable[[str], str]]) -> Iterator[None]:
    """Files with changed texts while the block runs."""
    before = {name: (folder / name).read_text() for name in edits}
    try:
        for name, edit in edits.items():
            after = edit(before[name])
            assert after != before[name], name
            (folder / name).write_text(after)
        yield
    finally:
        for name, text in before.items():
            (folder / name).write_text(text)


def code(text: str) -> str:
    return text + "\nADDED = 1\n"


def without_effect(text: str) -> str:
    """Comments, blank lines, and more of a docstring where there is one."""
    text = re.sub(r'\A"""', '"""Reworded. ', text)
    return "# a comment\n\n" + re.sub(r"\n\n\n", "\n\n\n# another\n\n\n", text) + "\n\n# the end\n"


def swap(old: str, new: str, count: int = -1) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, count)


def reaches(model: str, module: str) -> bool:
    """Whether a configured system's code reaches a module."""
    return model in configuration.models() and module in closure([configuration.model(model).entry.partition(":")[0]])


def rules(jobs: list[Job]) -> set[str]:
    return {job.rule for job in jobs}


def values(jobs: list[Job], wildcard: str, rule: str = "") -> set[str]:
    return {job.wildcards[wildcard] for job in jobs if wildcard in job.wildcards and rule in ("", job.rule)}


MODELS = {run.model for run in plan.runs(configuration.preset("demo"))}
REPORTS = {"table", "figure", "overview", "claims"}
MEASURING = {"sample", "grid", "interpolate", "reconstruct", "score", "landscape", "generation", "auroc", "auprc"}
DATA = {"fetch", "prepare", "prepare_holdout", "prepare_ood", "classifier"}


def test_nothing_runs_again_for_other_devices_or_folders(copy: Path) -> None:
    assert jobs_after(copy, "--config", "device=cpu", "downloads=elsewhere", "offline=true") == []


def test_nothing_runs_again_where_a_preset_names_its_device(copy: Path) -> None:
    with edited(copy, {"workflow/config/presets.yaml": swap("seeds: [0]\n", "seeds: [0]\n  device: cpu\n")}):
        assert jobs_after(copy) == []


def test_nothing_runs_again_for_comments_docstrings_and_times(copy: Path) -> None:
    names = [
        str(path.relative_to(copy))
        for room in ("dtri", "baselines", "workflow")
        for path in (copy / room).rglob("*.py")
    ]
    sources = [name for name in names if not name.endswith("__init__.py")]
    configuration = [f"workflow/config/{name}.yaml" for name in ("datasets", "models", "presets")]
    edits = dict.fromkeys(sources, without_effect) | dict.fromkeys(configuration, lambda text: f"# a comment\n{text}\n")
    edits["Snakefile"] = edits["workflow/rules/train.smk"] = lambda text: f"{text}\n# a comment\n"
    with edited(copy, edits):
        times = {path: path.stat().st_mtime_ns for path in (copy / "results" / "data").rglob("*")}
        for path in times:
            os.utime(path)
        try:
            assert jobs_after(copy) == []
        finally:
            for path, time in times.items():
                os.utime(path, ns=(time, time))


def test_nothing_runs_again_where_only_the_products_came_along(copy: Path) -> None:
    """Which `explain` tells: Snakemake would not see other code."""
    (copy / ".snakemake").rename(copy / "kept")
    try:
        assert jobs_after(copy) == []
        text = call(copy, sys.executable, "-m", "workflow.commands.explain", "results/demo/table2.csv")
        assert re.match(r"\d+ products came without Snakemake's notes of their making \(results/", text)
        assert text.endswith("\nnothing would run\n")
    finally:
        shutil.rmtree(copy / ".snakemake", ignore_errors=True)
        (copy / "kept").rename(copy / ".snakemake")


def test_nothing_runs_again_for_the_wording_of_rules(copy: Path) -> None:
    """Options in another order, a param less, an empty one more; but a number that stands in a command counts."""
    reworded = {
        "workflow/rules/sample.smk": swap(
            "--device {resources.device} --threads {threads}", "--threads {threads} --device {resources.device}"
        ),
        "workflow/rules/report.smk": swap("        caption=params.figure_caption,\n", "        nothing='',\n"),
    }
    with edited(copy, reworded):
        assert jobs_after(copy) == []
    with edited(copy, {"workflow/rules/sample.smk": swap("--n 64", "--n 36")}):
        assert rules(jobs_after(copy)) == {"grid", "figure", "overview"}


def test_literals_of_a_command() -> None:
    text = (
        "python -m x --grid --n 64 --model {input.model} --late --split test leaky --out a/{wildcards.b} > {log} 2>&1"
    )
    assert reruns.literals(text) == [["--grid"], ["--late"], ["--n", "64"], ["--split", "test", "leaky"]]
    assert reruns.literals("cp {input.csv} results/ > {log} 2>&1") == []


def test_a_figure_is_drawn_again_alone(copy: Path) -> None:
    with edited(copy, {"workflow/figures/samples.py": code}):
        jobs = jobs_after(copy)
    assert {job.output for job in jobs} == {
        tuple(f"results/{preset}/figures/samples.{ending}" for ending in ("pdf", "png")) for preset in ("demo", "lite")
    }


def test_a_table_is_rendered_again_alone(copy: Path) -> None:
    with edited(copy, {"workflow/tables/table1.py": code}):
        jobs = jobs_after(copy)
    assert rules(jobs) == REPORTS
    assert values(jobs, "figure") == {"systems"}  # which shows the systems of the tables
    assert values(jobs, "table") == {"table1"}
    assert values(jobs, "preset") == {"demo", "lite"}


def test_a_baseline_retrains_itself_and_its_readers(copy: Path) -> None:
    with edited(copy, {"baselines/dcgan.py": code}):
        jobs = jobs_after(copy)
    assert values(jobs, "model") == {"dcgan"}
    assert len([job for job in jobs if job.rule == "train"]) == 2  # presets
    assert {"train", "sample", "generation", "table"} <= rules(jobs) <= {"train"} | MEASURING | REPORTS
    assert values(jobs, "table") == {"table1"} | ({"table3"} if "auroc" in rules(jobs) else set())


def test_the_engine_retrains_everything(copy: Path) -> None:
    with edited(copy, {"dtri/engine.py": code}):
        jobs = jobs_after(copy)
    assert values(jobs, "model", "train") == MODELS
    assert rules(jobs) & DATA == set()
    outputs = {path for job in jobs for path in job.output if path.endswith("train.json")}
    assert outputs == {str(path.relative_to(copy)) for path in copy.glob("results/*/*/*/seed*/train.json")}


def test_a_measurement_is_made_again_without_training(copy: Path) -> None:
    with edited(copy, {"dtri/metrics/ranking.py": code}):
        jobs = jobs_after(copy)
    assert {"auroc", "auprc"} <= rules(jobs) <= {"auroc", "auprc"} | REPORTS
    assert values(jobs, "table") == {"table3", "table4"}


def test_data_code_reaches_everything_of_its_dataset(copy: Path) -> None:
    with edited(copy, {"dtri/data/uniform.py": code}):
        jobs = jobs_after(copy)
    assert {job.wildcards["dataset"] for job in jobs if job.rule in DATA} == {"uniform_1x28x28"}
    assert rules(jobs) <= {"fetch", "prepare_ood", "score", "auroc"} | REPORTS
    assert values(jobs, "scored") == {"uniform_1x28x28"}


def test_a_feature_network_is_trained_again_with_what_it_measured(copy: Path) -> None:
    with edited(copy, {"dtri/metrics/classifier.py": code}):
        jobs = jobs_after(copy)
    assert {"classifier", "generation", "landscape"} <= rules(jobs)
    assert "train" not in rules(jobs)


def test_a_hyperparameter_retrains_its_system(copy: Path) -> None:
    with edited(copy, {"workflow/config/models.yaml": swap(".vae:VAE\n", ".vae:VAE\n  hparams: {lr: 0.001}\n")}):
        jobs = jobs_after(copy)
    assert values(jobs, "model") == {"vae"}
    assert values(jobs, "model", "train") == {"vae"}


def test_temporary_products_are_those_of_the_rules() -> None:
    """What `accept` lets be absent is what Snakemake removes."""
    rules = "".join(path.read_text("utf-8") for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    removed = {Path(output).name for output in re.findall(r'temp\("([^"]+)"\)', rules)}
    assert removed == set(plan.TEMPORARY)


def test_a_sampler_draws_again_without_training(copy: Path) -> None:
    edit = swap("label: CoopNet\n", "label: CoopNet\n  sampler: {steps: 3}\n")
    with edited(copy, {"workflow/config/models.yaml": edit}):
        jobs = jobs_after(copy)
    assert values(jobs, "model") == {"coopnet"}
    assert rules(jobs) == {"sample", "grid", "generation", *REPORTS}
    assert values(jobs, "table") == {"table1"}


def test_interpolations_are_drawn_of_those_that_the_figure_shows(copy: Path) -> None:
    with edited(copy, {"workflow/commands/interpolate.py": code}):
        jobs = jobs_after(copy)
    assert rules(jobs) == {"interpolate", "figure"}
    assert values(jobs, "model") == {"divergence_triangle", "joint_vae_ebm", "divergence_triangle_progressive"}


def test_a_preset_touches_no_other(copy: Path) -> None:
    with edited(copy, {"workflow/config/presets.yaml": swap("default: 2", "default: 3", 1)}):
        jobs = jobs_after(copy)
    assert values(jobs, "preset") == {"demo"}
    assert values(jobs, "dataset", "train") == {"digits", "digits_32"}  # hold-outs have a limit of their own
    trained = {run.model for run in plan.runs(configuration.preset("demo")) if run.dataset in ("digits", "digits_32")}
    assert values(jobs, "model", "train") == trained


def test_another_seed_trains_that_seed(copy: Path) -> None:
    with edited(copy, {"workflow/config/presets.yaml": swap("seeds: [0]", "seeds: [0, 1]", 1)}):
        jobs = jobs_after(copy)
    assert values(jobs, "seed") == {"1"}
    assert values(jobs, "preset") == {"demo"}
    measuring = MEASURING - {"grid", "interpolate"}  # figures show the first seed, a claim reads landscapes of all
    assert rules(jobs) == {"train", *REPORTS, *measuring, *({"score_holdout"} & rules(jobs))}


def test_labels_are_printed_again(copy: Path) -> None:
    edits = {
        "workflow/config/presets.yaml": swap("label: first", "label: other"),
        "workflow/config/models.yaml": swap("label: VAE", "label: Variational auto-encoder"),
        "workflow/config/datasets.yaml": swap("label: CIFAR-10", "label: Pictures"),
    }
    with edited(copy, edits):
        jobs = jobs_after(copy)
    assert rules(jobs) == REPORTS
    assert {job.output[0] for job in jobs if job.rule == "table"} == {f"results/demo/table{k}.csv" for k in range(1, 5)}


# Accepting what is there


@contextmanager
def restored(folder: Path) -> Iterator[None]:
    """Products and Snakemake's notes as they were, when the block ends."""
    for name in ("results", ".snakemake"):
        shutil.copytree(folder / name, folder / "kept" / name)
    try:
        yield
    finally:
        for name in ("results", ".snakemake"):
            shutil.rmtree(folder / name)
            (folder / "kept" / name).rename(folder / name)
        (folder / "kept").rmdir()


def test_accepted_results_are_so_for_everybody_and_for_that_change_alone(copy: Path) -> None:
    targets, python = ("results/demo/table1.csv", "results/demo/table2.csv"), [sys.executable, "-m"]
    target = targets[1]

    def dry() -> list[Job]:
        return explain.parse(call(copy, *python, "snakemake", "--dry-run", "--cores", "1", *targets))

    def verified() -> dict[str, str]:
        folder = "results/demo/digits/vae"
        done = subprocess.run(
            [*python, "workflow.commands.verify", folder, "--all"],
            cwd=copy,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        return dict(line.split(":")[0].split()[1::-1] for line in done.stdout.splitlines() if " results/" in line)

    def shown() -> str:
        return call(
            copy, *python, "workflow.commands.table", "table2", "--preset", "demo", "--partial", "--out", "results/demo"
        )

    run = "results/demo/digits/vae/seed0"
    with restored(copy), edited(copy, {"dtri/engine.py": code, "dtri/data/digits.py": code}):
        for name in plan.TEMPORARY:
            for path in copy.rglob(name):
                path.unlink()
        assert "train" in rules(dry())
        text = call(copy, *python, "workflow.commands.accept", *targets, "--reason", "renamed", "--who", "me")
        assert re.search(rf"^accepted  {run}/train.json: training code \w{{16}} -> \w{{16}}$", text, re.M)
        assert "accepted  results/data/digits/meta.json: data digits code " in text
        assert dry() == []
        text = call(copy, *python, "workflow.commands.explain", target)
        assert text == "nothing would run: everything is up to date\n"
        assert {verified()[f"{run}/{name}"] for name in ("train.json", "metrics/rmse.json")} == {"accepted"}
        table = (copy / target).read_text()
        shown()
        assert (copy / target).read_text() == table
        assert "stale" not in table
        assert re.search(r"accepted \(seed 0\): training code \w{16} -> \w{16}, by me on [\d-]+: renamed", table)
        noted = json.loads((copy / run / "accepted.json").read_text())
        assert {entry["product"] for entry in noted["accepted"]} >= {"train.json", "metrics/rmse.json"}
        with edited(copy, {"dtri/engine.py": lambda text: text + "MORE = 1\n"}):
            assert "train" in rules(dry())
            assert verified()[f"{run}/train.json"] == "stale"
            shown()
            assert "stale" in (copy / target).read_text()


def test_touched_is_not_accepted(copy: Path) -> None:
    """Snakemake believes `--touch`; explain says what it does not know."""
    target = "results/demo/table2.csv"
    with restored(copy), edited(copy, {"dtri/engine.py": code}):
        call(copy, sys.executable, "-m", "snakemake", "--touch", "--cores", "1", target)
        text = call(copy, sys.executable, "-m", "workflow.commands.explain", target)
    assert re.match(r"\d+ products are stale, and Snakemake does not know: results/", text)
    assert text.endswith("nothing would run\n")


def test_replaced_raw_files_are_not_accepted(copy: Path) -> None:
    """Nor passed over by explain, wherever the drop folder is."""
    digest, other = hashlib.sha256(b"fetched").hexdigest(), copy / "elsewhere" / "digits" / "raw.bin"
    target = ["results/data/digits/meta.json", "--downloads", "elsewhere"]
    with restored(copy):
        other.parent.mkdir(parents=True)
        other.write_bytes(b"other")
        listed = {"raw.bin": {"file": "raw.bin", "sha256": digest}}
        (copy / "results/data/digits/fetch.json").write_text(json.dumps(listed))
        text = call(copy, sys.executable, "-m", "workflow.commands.explain", *target)
        command = [sys.executable, "-m", "workflow.commands.accept", *target, "--reason", "r"]
        done = subprocess.run(command, cwd=copy, env=ENVIRONMENT, capture_output=True, text=True)
        shutil.rmtree(copy / "elsewhere")
    assert re.search(r"^  fetch +1   1 changed$", text, re.M)
    assert done.returncode == 2
    assert "expected the raw files that results/data/digits/fetch.json lists, found others in elsewhere" in done.stderr


def test_what_is_not_there_is_not_accepted(copy: Path) -> None:
    with restored(copy), edited(copy, {"dtri/engine.py": code}):
        (copy / "results/demo/digits/vae/seed0/train.json").unlink()
        command = [sys.executable, "-m", "workflow.commands.accept", "results/demo/table2.csv", "--reason", "r"]
        done = subprocess.run(command, cwd=copy, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 2
        assert "expected all products to be there, found none at results/demo/digits/vae/seed0/" in done.stderr
        assert list(copy.rglob("accepted.json")) == []


# What was deleted


DELETED = {  # product -> the rule that makes it anew
    "demo/digits/vae/seed0/train.json": "train",
    "demo/digits/dcgan/seed0/model.safetensors": "train",
    "demo/digits/alice/seed0/train.csv": "train",
    "demo/digits/wake_sleep/seed0/metrics/rmse.json": "reconstruct",
    "demo/digits/svae/seed0/metrics/mse.json": "reconstruct",
    "demo/digits/ali/seed0/reconstructions.npy": "reconstruct",
    "demo/digits_holdout4/vae/seed0/scores/digits_holdout4__test.npz": "score_holdout",
    "demo/digits/joint_vae_ebm/seed0/scores/uniform_1x28x28__test.npz": "score",
    "demo/digits/wgan/seed0/metrics/kid_domain.json": "generation",
    "data/digits/meta.json": "prepare",
    "data/digits/classifier.json": "classifier",
    "data/photos_1x28x28/meta.json": "prepare_ood",
    "data/digits_32/index.npz": "prepare",
    "data/digits_holdout4/test_leaky.npy": "prepare_holdout",
    "demo/table4.html": "table",
    "demo/figures/growth.pdf": "figure",
}


def test_what_was_deleted_is_made_anew(copy: Path) -> None:
    with restored(copy):
        for name in DELETED:
            (copy / "results" / name).unlink()
        text = call(copy, sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", *TARGETS)
    made = {path: job for job in explain.parse(text) for path in job.output}
    found = {name: made[f"results/{name}"] for name in DELETED if f"results/{name}" in made}
    assert {name: (job.rule, job.why) for name, job in found.items()} == {
        name: (rule, "not made yet") for name, rule in DELETED.items()
    }


# The report


def test_the_report_opens_in_a_browser_without_network(copy: Path) -> None:
    """Its three kinds of pages are on the menu, its text beside them, every product in it with its labels."""
    if BROWSER is None:
        pytest.skip("no chromium here: Debian's package of that name")
    call(copy, sys.executable, "-m", "snakemake", "demo", "--report", "report.html")
    options = [f"--user-data-dir={copy / 'browser'}", "--virtual-time-budget=20000", "--dump-dom"]
    shown = call(copy, BROWSER, *FLAGS, *options, (copy / "report.html").as_uri())
    for title in ("Overview", "Tables", "Figures"):
        assert f"<span>{title}</span>" in shown
    assert "Start with <strong>Overview</strong>" in shown
    (copy / "report.html").unlink()
    shutil.rmtree(copy / "browser")
    for label in (plan.table("table1").title, "every cell, claims, figures, cost, findings"):
        assert label in shown


def test_a_report_of_what_there_is(copy: Path) -> None:
    """While a figure, a table and a product behind another are missing; what is left out is named."""
    command = [sys.executable, "-m", "workflow.commands.report", "--preset", "demo", "--out", "some.html"]
    missing = ("results/demo/figures/samples.png", "results/demo/table3.html")
    with restored(copy):
        for name in (*missing, "results/demo/digits/vae/seed0/train.json"):
            (copy / name).unlink()
        text = call(copy, *command)
        shown = (copy / "some.html").read_text()
        (copy / "some.html").unlink()
        shutil.rmtree(copy / "results" / "demo" / "figures")
        for path in [*(copy / "results" / "demo").glob("*.html"), copy / "results" / "demo" / "claims.png"]:
            path.unlink()
        done = subprocess.run(command, cwd=copy, env=ENVIRONMENT, capture_output=True, text=True)
    n = len(plan.TABLES) + len(plan.FIGURES) + 3  # claims, their figure, the overview
    assert text.splitlines()[0] == f"some.html: {n - 2} of {n} tables, figures and pages"
    assert {line.removeprefix("not there yet: ") for line in text.splitlines()[1:]} == set(missing)
    assert plan.table("table1").title in shown
    assert (done.returncode, done.stderr) == (2, "error: expected a table or figure below results/demo, found none\n")


# What explain says


def test_explain_names_modules_keys_and_costs(copy: Path) -> None:
    edits = {
        "dtri/objectives/gaussian.py": code,
        "workflow/config/models.yaml": swap(".vae:VAE\n", ".vae:VAE\n  hparams: {lr: 0.001}\n"),
    }
    with edited(copy, edits):
        text = call(copy, sys.executable, "-m", "workflow.commands.explain", "results/demo/table2.csv")
    commit = git(copy, "rev-parse", "HEAD")[:7]
    head, _, rest = text.partition("what differs from the products on disk\n")
    differs, _, cost = rest.partition("cost of training\n")
    changed = {cell.model for cell in plan.table("table2").cells if reaches(cell.model, "dtri.objectives.gaussian")}
    assert changed >= {"vae", "divergence_triangle"}
    assert re.search(rf"^  train +{len(changed)}   {len(changed)} changed$", head, re.M)
    vae = re.search(r"  train results/demo/digits/vae/seed0\n((?:    .*\n)+)", differs)
    assert re.fullmatch(
        r"    hparams\.lr default -> 0\.001\n"
        rf"    training code \w{{16}} -> \w{{16}}: dtri\.objectives\.gaussian \(since {commit}\)\n",
        vae[1],
    )
    assert "dtri.engine" not in text
    assert "dcgan" not in text
    runs = [specs.Run("demo", "digits", model, 0) for model in sorted(changed)]
    hours = 2 * 100 / 1000 / 3600
    total = sum(2 * specs.train_spec(run).batch_size / 1000 / 3600 for run in runs)
    assert f"1 x {hours:.2g} h  demo vae on digits\n" in cost
    assert "as measured, 1000 images/s on cpu (test)" in cost
    assert f"  sum: {total:.2g} CPU hours" in cost


def test_explain_has_nothing_to_say_when_nothing_runs(copy: Path) -> None:
    text = call(copy, sys.executable, "-m", "workflow.commands.explain", "results/demo/table2.csv")
    assert text == "nothing would run: everything is up to date\n"


DRY_RUN = """
[Sat Nov 21 03:42:19 2026]
localrule fetch:
    output: results/data/digits/fetch.json
    jobid: 3
    reason: Missing output files: results/data/digits/fetch.json
    wildcards: dataset=digits
    resources: tmpdir=/tmp
[Sat Nov 21 03:42:19 2026]
rule train:
    input: results/data/digits/train.npy
    output: results/demo/digits/vae/seed0/model.safetensors, results/demo/digits/vae/seed0/train.json
    reason: Input files updated by another job: a; Params have changed since last execution: before: 'x' now: 'y'
    wildcards: preset=demo, dataset=digits, model=vae, seed=0
rule demo:
    input: results/demo/table1.csv
    reason: Input files updated by another job: results/demo/table1.csv
Job stats:
job    count
"""


def test_dry_runs_are_read() -> None:
    fetch, train = explain.parse(DRY_RUN)
    assert (fetch.rule, fetch.output, fetch.why) == ("fetch", ("results/data/digits/fetch.json",), "not made yet")
    assert train.wildcards == {"preset": "demo", "dataset": "digits", "model": "vae", "seed": "0"}
    assert train.run.folder == "results/demo/digits/vae/seed0"
    assert len(train.output) == 2
    assert train.why == "changed"


SPEC = TrainSpec("digits", "vae", "baselines.vae:VAE", (1, 28, 28), {"width": 0.25}, 3600, 100, 0)


def test_a_run_of_another_checkout_is_not_compared() -> None:
    made = {"code": "0" * 16, "provenance": {"commit": "1" * 40, "dirty": False}}
    assert reasons._changed_modules(("baselines.vae",), made) == "changed modules unknown, no commit 1111111 here"
    made["provenance"] = {"commit": None, "dirty": None}
    assert reasons._changed_modules(("baselines.vae",), made).endswith("made outside a git checkout")


def test_what_measuring_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last record of a job has its seconds; stand-ins without any count as none."""
    monkeypatch.chdir(tmp_path)
    for seed, values in enumerate(({"seconds": 4.0}, {"seconds": 20.0}, {"seconds": 60.0}, {})):
        write_sealed(Path(f"results/demo/digits/vae/seed{seed}/metrics/prc_domain.json"), values)
    jobs = [Job("generation"), Job("generation"), Job("auprc"), Job("train")]
    assert list(costs.measuring(job.rule for job in jobs)) == [
        "      2 x 20 s  generation, median of 3 jobs",
        "      1 x unknown  auprc, none was measured yet",
    ]
    write_sealed(Path("results/reference/lite/records/mnist/vae/seed0/metrics/auprc.json"), {"seconds": 12.0})
    assert list(costs.measuring(["auprc"])) == [
        "      1 x about 12 s  auprc, none was measured yet; median of 1 committed jobs of reduced presets on a CPU"
    ]
