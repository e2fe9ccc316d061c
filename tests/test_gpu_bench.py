"""bench.gpu without a GPU: every question is answered or marked, what was answered is kept, few packages are needed."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import evaluation, gpu, inception
from dtri import counting
from dtri.costs import CPU
from dtri.metrics import features
from workflow import counted

ROOT = Path(__file__).resolve().parents[1]
CPU_DEVICE = torch.device("cpu")
TRIANGLE = gpu.TRIANGLE


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> tuple[dict, str]:
    """(gpu.json, gpu.md) of a quick run on the CPU, in a process of its own."""
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench.gpu", "--quick", "--device", "cpu", "--threads", "1", "--minutes", "0.5"]
    done = subprocess.run([*command, "--out", str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "gpu.json").read_text("utf-8")), (folder / "gpu.md").read_text("utf-8")


def test_every_question_is_answered_or_marked(quick: tuple[dict, str]):
    found, text = quick
    assert {answer["question"] for answer in found["answers"]} == set(gpu.QUESTIONS)
    for answer in found["answers"]:
        assert answer["values"] or answer["note"], answer
        assert not answer["note"].startswith("failed"), answer
    asked = {
        (answer["subject"], answer["precision"]) for answer in found["answers"] if answer["question"] == "recording"
    }
    systems = {row.spec.model for row in counted.planned("paper")}
    assert asked == {(name, precision) for name in systems for precision in ("fp32", "bf16")}
    assert all(question in text for question in gpu.QUESTIONS)


def test_a_run_given_again_or_continued_is_equal(quick: tuple[dict, str]):
    (answer, *_) = [one for one in quick[0]["answers"] if one["question"] == "recording" and one["values"]]
    assert answer["values"]["again"] == answer["values"]["continued"] == "to the bit"
    assert answer["note"] == "recorded: needs a GPU"


def test_hours_are_told_for_every_table(quick: tuple[dict, str]):
    told = {one["subject"]: one for one in quick[0]["answers"] if one["question"] == "schedule"}
    assert {f"all of table{k}" for k in range(1, 5)} <= set(told)
    assert all(one["values"]["hours"] > 0 and "estimate" in one["note"] for one in told.values())


def test_few_packages_are_needed():
    """A compute node without the workflow's packages."""
    others = ("pydantic", "yaml", "snakemake", "torch_fidelity", "pandas", "matplotlib", "torchvision", "lmdb", "PIL")
    code = f"import sys; from bench import gpu; print([name for name in {others} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def bench(**measured: float) -> gpu.Bench:
    specs = gpu.systems([TRIANGLE, "vae"], quick=False)
    seconds = {(name, "fp32"): value for name, value in measured.items()}
    return gpu.Bench(CPU_DEVICE, 2, False, math.inf, specs, ("fp32",), {"fp32": 1.0}, seconds)


def test_what_fails_is_an_answer_and_the_next_question_follows(tmp_path, monkeypatch):
    def failing(bench):
        yield gpu.Answer("rates", "vae", "fp32", {"images/s": 1.0})
        raise RuntimeError("out of luck\nmore")

    monkeypatch.setitem(gpu.QUESTIONS, "rates", failing)
    report = gpu.Report(tmp_path, bench())
    for answer in gpu.answered("rates", bench()):
        report.add(answer)
        kept = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["answers"]
        assert len(kept) == len(report.answers)  # written at once
    assert kept[0]["values"] == {"images/s": 1.0}
    assert kept[1]["note"] == "failed: RuntimeError: out of luck"


def test_schedules_follow_measured_rates():
    slow = {TRIANGLE: 2.0, "vae": 0.5}
    answers = {answer.subject: answer for answer in gpu.schedule(bench(**slow))}
    assert answers[TRIANGLE].values["hours"] == pytest.approx(750_000 * 2 / 3600)
    assert answers[TRIANGLE].note == "as measured"
    half = {answer.subject: answer for answer in gpu.schedule(bench(**{name: s / 2 for name, s in slow.items()}))}
    assert half["all of table1"].values["hours"] == pytest.approx(answers["all of table1"].values["hours"] / 2)
    assert "by 2 measured systems" in answers["all of table1"].note


def test_without_measurements_schedules_follow_the_cost_model():
    spec = bench().specs["vae"]
    seconds, told = gpu._predicted(bench(), "fp32")
    assert seconds(spec) == pytest.approx(CPU.seconds(counted.work(spec), "fp32", 2))
    assert told == "estimate for CPU core, nothing measured"


def test_no_system_is_left_out_for_want_of_time():
    late = bench()
    late.deadline = 0.0
    answers = [*gpu.recording(late), *gpu.rates(late)]
    assert {answer.note for answer in answers} == {gpu.NO_TIME}
    assert [answer.subject for answer in answers] == [TRIANGLE, "vae", TRIANGLE, "vae"]


def test_unknown_systems_are_named():
    with pytest.raises(ValueError, match=r"expected systems among divergence_triangle, .*, found nothing"):
        gpu.systems(["nothing"], quick=True)


def test_the_inception_graph_has_as_many_operations_as_torch_fidelitys(tmp_path):
    theirs = features.inception_network(evaluation._random_inception(tmp_path)).eval()
    ours = inception.build(CPU_DEVICE)
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    operations = []
    for network in (ours, theirs):
        with torch.no_grad(), counting.WorkCounter() as counter:
            found = network(images)
        assert [list(part.shape) for part in found] == [[1, 2048], [1, 1008]]
        operations.append(counter.operations)
    assert operations[0] == pytest.approx(operations[1], rel=0.002)
