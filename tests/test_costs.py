"""The cost model: counted work against closed forms, the committed counts against the configuration, predicted against
measured rates of the committed records."""

import csv
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from bench import counted as counting_command
from dtri import counting, experiment
from dtri.costs import CARDS, CPU, WITHOUT_AVX512, Work, card_of
from dtri.experiment import TrainSpec
from workflow import configuration, counted

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"


# Counting


def test_operations_bytes_and_kernels_of_a_layer():
    layer = nn.Linear(5, 7, bias=False, device="meta")
    with counting.WorkCounter() as counter:
        layer(torch.empty(3, 5, device="meta")).sum().backward()
    # Forward, and the gradient of the weight: both 2 x 3 x 5 x 7; the sum and its gradient are no products.
    assert counter.operations == 2 * 2 * 3 * 5 * 7
    assert counter.kernels >= 3
    assert counter.bytes >= 4 * 2 * (3 * 5 + 5 * 7 + 3 * 7)


def test_work_is_that_of_the_cpu():
    """Tensors without content are counted as tensors with content are."""
    spec = TrainSpec("d", "vae", "baselines.vae:VAE", (1, 28, 28), {"width": 0.05}, 100, 4, 0)
    counted_work = counting_command.count(spec)
    torch.manual_seed(0)
    model = experiment.build(spec.entry, spec.image_shape, spec.hparams).train()
    with counting.WorkCounter() as counter:
        model.step(torch.rand(4, 1, 28, 28), 0)
    assert counter.operations == counted_work.operations


def test_phases_count_as_often_as_they_come():
    """WGAN's generator moves at every fifth iteration; growth spends its iterations at several sizes."""
    shape, hparams = (1, 28, 28), {"width": 0.05}
    five = counting.iteration("baselines.wgan:WGAN", shape, {**hparams, "n_critic": 5}, 4, 1000).operations
    one = counting.iteration("baselines.wgan:WGAN", shape, {**hparams, "n_critic": 1}, 4, 1000).operations
    assert five < one
    grown = "dtri.models.divergence_triangle_progressive:ProgressiveTriangle"
    growth = {"width": 0.05, "batch_sizes": [4] * 9, "fade_kimg": 0.4, "stable_kimg": 0.4}
    short, long = (counting.iteration(grown, (1, 32, 32), growth, 4, steps).operations for steps in (100, 2000))
    assert short < long / 3


# The committed counts


def test_the_committed_counts_are_of_this_configuration():
    """`python -m bench.counted` makes workflow/counted.json anew."""
    rows = counting_command.planned()
    assert [row for preset in configuration.presets() for row in counted.planned(preset)] == rows
    assert all(counted.work(row.spec) is not None for row in rows)
    assert len(json.loads(counted.FILE.read_text("utf-8"))["work"]) == len({counted.key(row.spec) for row in rows})


@pytest.mark.parametrize("name", sorted({row.spec.model for row in counted.planned("demo")}))
def test_the_committed_counts_are_of_this_code(name: str):
    row = next(row for row in counted.planned("demo") if row.spec.model == name)
    assert counted.work(row.spec) == pytest.approx(counting_command.count(row.spec), rel=1e-6)


def test_planning_reads_counts_without_torch():
    code = "import sys; from workflow import counted; counted.planned('paper'); print('torch' in sys.modules, end='')"
    lean = "; print([name for name in ('pydantic', 'yaml', 'snakemake') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + lean], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False[]\n"


# Predictions


@dataclass(frozen=True)
class Measured:
    """Seconds of an iteration of committed records that did the same work, and what is predicted."""

    name: str
    seconds: list[float]
    predicted: float


def benchmarks() -> list[Measured]:
    """bench.step: an idle machine, side by side."""
    found, works = [], {}
    for file in ("systems-cpu", "cpu-epyc-2"):
        with open(REFERENCE / "bench" / f"{file}.csv", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                if row["loop"].startswith("engine"):
                    entry, side, batch = configuration.model(row["model"]), int(row["side"]), int(row["batch_size"])
                    hparams = {**entry.hparams, "width": float(row["width"])}
                    setup = entry.entry, (3, side, side), hparams, batch, 1000
                    work = works.setdefault(str(setup), None) or counting.iteration(*setup)
                    works[str(setup)] = work
                    precision, threads = row["loop"].split()[-1], int(row["threads"])
                    predicted = CPU.seconds(work, precision, threads)
                    name = f"{file} {row['model']} {precision}"
                    found.append(Measured(name, [batch / float(row["images_per_s"])], predicted))
    return found


def trainings() -> list[Measured]:
    """Training runs beside other work: runs of the same work differ by up to 2.9 times, so the fastest counts.

    The processor of the landscapes and of the lite tables lacks AVX-512.
    """
    groups: dict[str, list[dict]] = {}
    for path in sorted(REFERENCE.rglob("*train.json")):
        made = json.loads(path.read_text("utf-8"))
        if made["device"].startswith("cpu"):
            spec = made["spec"]
            groups.setdefault(f"{spec['image_shape']} {spec['model']} {spec['hparams']}", []).append(made)
            made["factor"] = WITHOUT_AVX512 if {"landscape", "lite-jpeg", "lite-mnist"} & set(path.parts) else 1.0
    found = []
    for name, runs in groups.items():
        spec = runs[0]["spec"]
        setup = (spec["entry"], tuple(spec["image_shape"]), spec["hparams"], spec["batch_size"], spec["steps"])
        predicted = CPU.seconds(counting.iteration(*setup), spec["precision"], spec["threads"])
        seconds = [made["seconds"] / made["step"] / made["factor"] for made in runs]
        found.append(Measured(name, seconds, predicted))
    return found


@pytest.mark.parametrize("records", [benchmarks, trainings])
def test_predictions_are_within_a_factor_of_two_of_every_record(records):
    found = records()
    assert len(found) >= 10
    ratios = {one.name: one.predicted / min(one.seconds) for one in found}
    assert {name: ratio for name, ratio in ratios.items() if not 0.5 < ratio < 2} == {}
    assert 0.8 < statistics.geometric_mean(ratios.values()) < 1.25


def test_every_configured_system_has_a_prediction_on_every_card():
    for card in CARDS:
        for row in counted.planned("paper"):
            assert 0 < card.seconds(counted.work(row.spec)) < 3600


def test_a_narrow_network_is_not_as_much_faster_as_its_operations_are_fewer():
    """A GPU is bound by memory and launches there."""
    wide = next(row for row in counted.planned("paper") if row.spec.model == "divergence_triangle")
    narrow = next(row for row in counted.planned("demo") if row.spec.model == "divergence_triangle")
    works = [counted.work(row.spec) for row in (wide, narrow)]
    h100 = card_of("NVIDIA H100 80GB HBM3")
    assert works[0].operations / works[1].operations > 100
    assert h100.seconds(works[0]) / h100.seconds(works[1]) < 100


def test_the_terms_of_a_prediction():
    card = card_of("NVIDIA A100-SXM4-40GB")
    assert card.seconds(Work(card.share * 19.5e12, 0, 0)) == pytest.approx(1)
    assert card.seconds(Work(card.share * 312e12, 0, 0), "bf16") == pytest.approx(1)
    assert card.seconds(Work(0, card.bandwidth_share * card.bandwidth, 0)) == pytest.approx(1)
    assert card.seconds(Work(0, 0, 1e6), threads=8) == pytest.approx(1e6 * card.launch)
    assert CPU.seconds(Work(1e12, 0, 0), threads=2) == pytest.approx(CPU.seconds(Work(5e11, 0, 0)))
    with pytest.raises(ValueError, match="expected a precision among fp32 on T4, found bf16"):
        card_of("Tesla T4").seconds(Work(1, 1, 1), "bf16")


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", "A100"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("cpu (AMD EPYC)", "CPU core"),
        ("NVIDIA GeForce GT 710", None),
    ],
)
def test_cards_by_name(device: str, name: str | None):
    found = card_of(device)
    assert (found and found.name) == name
