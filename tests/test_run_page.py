"""Pages of runs: everything that is known of a training, from the files in its folder that exist."""

import base64
import html
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtri.report import run_page
from dtri.report.records import Record
from dtri.report.run_page import Judged, Run
from dtri.sealed import write_sealed
from workflow import specs
from workflow.commands import overview
from workflow.plan import run_page as address

MADE = {
    "preset": "demo",
    "dataset": "digits",
    "model": "vae",
    "seed": 0,
    "status": "done",
    "step": 20,
    "code": "c0de",
    "spec_hash": "5bec",
    "data": {"digits": "da7a"},
    "device": "cpu (test)",
    "seconds": 36.0,
    "hparams": {"lr": 0.0003},
    "spec": {"steps": 20, "image_shape": [1, 8, 8]},
    "versions": {"torch": "2"},
    "provenance": {"commit": "abc123", "dirty": False, "lock": "10c4"},
    "parameters": 64269,
    "gpu_hours": None,
    "files": {"model.safetensors": "3e19"},
    "attempts": 1,
}
RECORD = Record(
    preset="demo",
    dataset="digits",
    model="vae",
    seed=0,
    metric="auroc",
    value=0.75,
    status="done",
    n_samples=360,
    n_reference=2000,
    protocol="AUROC of an energy",
    extractor="",
    spec="5bec",
    train_code="c0de",
    code="m",
    data={},
    device="cpu",
    seconds=0.5,
    extra={"against": "photos", "ci_low": 0.7, "ci_high": 0.8},
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with all that a page shows."""
    generator = np.random.default_rng(0)
    np.save(tmp_path / "grid.npy", generator.integers(0, 256, (40, 1, 8, 8), np.uint8))
    np.save(tmp_path / "reconstructions.npy", generator.integers(0, 256, (2, 40, 3, 8, 8), np.uint8))
    (tmp_path / "train.csv").write_text("step,rec,kl\n10,4.0,\n20,2.0,nan\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "train.log").write_text("\n".join(f"line <{i}>" for i in range(100)))
    return Run(tmp_path, "VAE", Judged(MADE, (), ()), (Judged(RECORD, (), ()),))


def pictures(page: str) -> list[Image.Image]:
    data = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in data]


def test_a_page_shows_everything_that_is_known(run: Run) -> None:
    page = run_page.page(run, "demo: digits", [run])
    text = html.unescape(page)
    for words in ("AUROC against photos", "0.75", "0.7 to 0.8", "360", "2000", "AUROC of an energy", "lr 0.0003"):
        assert words in text
    for words in ("abc123", "sha256 10c4", "c0de", "5bec", "sha256 da7a", "cpu (test)", "36.0", "torch 2", "64269"):
        assert words in text
    assert "trained as this checkout would train it" in text
    assert [picture.size for picture in pictures(page)] == [(8 * 9 - 1, 4 * 9 - 1)] * 2
    assert re.findall(r"line <\d+>", text) == [f"line <{i}>" for i in range(88, 100)]
    assert 'href="../overview.html"' in page
    assert 'href="index.html"' in page


def test_a_curve_has_a_line_per_term_that_is_finite_somewhere(run: Run) -> None:
    page = run_page.page(run, "", [run])
    assert re.findall(r'polyline points="(.*?)"', page) == ["150.0,0.0 300.0,90.0"]
    assert "2 to 4" in page


def test_rows_of_reconstructions_stand_below_their_originals(run: Run) -> None:
    originals, rebuilt = np.zeros((16, 1, 8, 8), np.uint8), np.full((16, 1, 8, 8), 200, np.uint8)
    np.save(run.folder / "reconstructions.npy", np.stack([originals, rebuilt]))
    sheet = np.asarray(pictures(run_page.page(run, "", [run]))[1])
    assert sheet[4::9, 4].tolist() == [[0] * 3, [200] * 3, [0] * 3, [200] * 3]


def test_what_is_not_there_stops_no_page(run: Run) -> None:
    shutil.rmtree(run.folder)
    page = run_page.page(replace(run, records=()), "", [run])
    assert "nothing measured yet" in page
    assert "no log" in page
    assert pictures(page) == []


def test_images_that_are_not_finite_are_told(run: Run) -> None:
    np.save(run.folder / "grid.npy", np.zeros((0, 1, 8, 8), np.uint8))
    np.save(run.folder / "reconstructions.npy", np.zeros((2, 0, 1, 8, 8), np.uint8))
    assert run_page.page(run, "", [run]).count("<p>diverged: not finite</p>") == 2


def test_what_is_stale_or_accepted_says_why(run: Run) -> None:
    stale = replace(run, training=Judged(MADE, ("training code",), ()), records=(Judged(RECORD, ("data",), ()),))
    page = run_page.page(stale, "", [stale])
    assert '<span class="state stale">' in page
    assert "otherwise: training code." in page
    assert "<td>stale: data</td>" in page
    accepted = replace(run, training=Judged(MADE, (), ("a comment, by me",)))
    assert "a comment, by me." in run_page.page(accepted, "", [accepted])


def test_seeds_lead_to_each_other_and_the_list_to_all(run: Run) -> None:
    other = replace(run, training=Judged({**MADE, "seed": 1, "status": "diverged"}, (), ()))
    assert re.findall(r'href="(digits[^"]*)"', run_page.page(run, "", [run, other])) == ["digits.vae.seed1.html"]
    listed = run_page.index([run, other], "")
    assert re.findall(r'href="(digits[^"]*)"', listed) == ["digits.vae.seed0.html", "digits.vae.seed1.html"]
    assert "2 trainings, 1 of them done" in listed
    assert '<span class="state diverged">' in listed


def test_the_command_writes_a_page_per_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a system that no configuration knows too; the page of a run that is no more goes."""
    monkeypatch.chdir(tmp_path)
    summary = Path("results/demo/digits/mine/seed0/train.json")
    write_sealed(summary, {**MADE, "model": "mine"})
    (known,) = overview.runs("demo")
    assert (known.label, known.state) == ("mine", "stale")
    folder = Path("results/demo/runs")
    overview.write_runs(folder, [known], "demo")
    page = Path(address(specs.Run("demo", "digits", "mine", 0)))
    assert page.parent == folder
    assert "unknown model 'mine'" in html.unescape(page.read_text())
    summary.unlink()
    overview.write_runs(folder, overview.runs("demo"), "demo")
    assert not page.exists()
    assert "0 trainings" in (folder / "index.html").read_text()
