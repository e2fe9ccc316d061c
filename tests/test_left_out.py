"""Why a set of results has no number: read from a file, shown as a footnote, complete in what is committed."""

import csv
import re
from pathlib import Path

import pytest

from dtri.report.cells import CellResult, Table
from dtri.report.render import render
from dtri.report.tidy import tidy
from tests.test_report import current, make_cell, row_of
from workflow import left_out
from workflow.commands import table

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
COMMITTED = {"lite-jpeg": ("table1", "table2", "table3"), "lite-mnist": ("table4",)}
ENTRY = "slow:\n  systems: [igebm]\n  datasets: [cifar10_jpeg]\n  metrics: [auroc]\n  why: takes a day\n"
CELL = make_cell(metric="auroc", against="svhn", model="igebm", direction="higher")
NOTHING = CellResult(None, measured_on="cifar10_jpeg", comparable=False, reason="a stand-in")


def entries(text: str, tmp_path: Path) -> tuple[left_out.LeftOut, ...]:
    path = tmp_path / "left_out.yaml"
    path.write_text(text)
    return left_out.read(path)


@pytest.mark.parametrize(
    "change,reason",
    [
        (("", ""), "takes a day"),
        (("  datasets: [cifar10_jpeg]\n", ""), "takes a day"),
        (("  metrics: [auroc]\n", ""), "takes a day"),
        (("igebm", "igebm, vae"), "takes a day"),
        (("igebm", "vae"), "a stand-in"),
        (("cifar10_jpeg", "cifar10"), "a stand-in"),
        (("auroc", "rmse"), "a stand-in"),
        (("  why", "  seeds: [1, 2]\n  why"), "a stand-in"),
        (("  why", "  seeds: [0]\n  why"), "takes a day"),
    ],
)
def test_an_entry_covers_what_it_names(change: tuple[str, str], reason: str, tmp_path: Path):
    found = left_out.explained(NOTHING, CELL, 0, entries(ENTRY.replace(*change), tmp_path))
    assert (found.reason, found.expected) == (reason, reason == "a stand-in")


def test_what_was_measured_or_cannot_be_keeps_its_own_reason(tmp_path: Path):
    some = entries(ENTRY, tmp_path)
    impossible = CellResult(None, expected=False, reason="no labels", measured_on="cifar10_jpeg")
    measured = CellResult(object(), measured_on="cifar10_jpeg")
    assert [left_out.explained(one, CELL, 0, some) for one in (impossible, measured)] == [impossible, measured]


def test_seeds_without_a_value_say_why_beside_those_with_one(tmp_path: Path):
    some = entries(ENTRY.replace("  why", "  seeds: [1, 2]\n  why"), tmp_path)
    found = [current(0.6), *(left_out.explained(NOTHING, CELL, seed, some) for seed in (1, 2))]
    row = row_of(found, CELL)
    assert (row["status"], row["reason"]) == ("partial", "no value (seed 1, 2): takes a day")


@pytest.mark.parametrize("fmt", ["md", "tex", "html"])
def test_the_reason_is_a_footnote_of_the_cell(fmt: str, tmp_path: Path):
    shown = Table("table3", "One cell", (CELL,))

    def text(some: tuple[left_out.LeftOut, ...]) -> str:
        frame = tidy(shown, "lite_jpeg", (0, 1), lambda cell, seed: left_out.explained(NOTHING, cell, seed, some))
        return render(shown, frame, "lite", fmt)

    explained, bare = text(entries(ENTRY, tmp_path)), text(())
    assert ("takes a day" in explained, "takes a day" in bare) == (True, False)
    assert "not run" in explained
    assert "not run" in bare


@pytest.mark.parametrize(
    "old,new,words",
    [
        ("igebm", "igbm", ("left_out.yaml, line 2", "slow.systems", "unknown model 'igbm'")),
        ("cifar10_jpeg", "cifar", ("line 3", "slow.datasets", "unknown dataset 'cifar'")),
        ("auroc", "aurok", ("line 4", "slow.metrics", "unknown metric 'aurok'", "auprc, auprc_leaky, auroc, fid")),
        ("  why: takes a day\n", "", ("line 1", "slow.why")),
        ("  why", "  reason", ("line 5", "slow.reason")),
        ("takes a day", "slow; a day", ("line 5", "slow.why", "'; '")),
        ("[igebm]", "[]", ("line 2", "slow.systems")),
    ],
)
def test_an_impossible_entry_names_its_line(old: str, new: str, words: tuple[str, ...], tmp_path: Path):
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        entries(ENTRY.replace(old, new), tmp_path)


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        table.main(["table3", "--preset", "demo", "--partial", "--left-out", str(tmp_path / "none.yaml")])


@pytest.mark.parametrize("folder", COMMITTED)
def test_every_committed_cell_has_a_number_or_a_reason(folder: str):
    """And every reason is needed: an entry that explains no cell was forgotten when its runs were made."""
    whys = {one.why for one in left_out.read(REFERENCE / folder / "left_out.yaml")}
    used = set()
    for name in COMMITTED[folder]:
        with (REFERENCE / folder / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert rows
        for row in rows:
            missing = row["outcome"] in ("missing", "partial")
            reasons = re.sub(r"no value \(seed [\d, ]+\): ", "", row["reason"]).split("; ")
            assert not missing or row["reason"] not in ("", "not run"), (name, row["dataset"], row["model"])
            used |= whys & set(reasons)
    assert used == whys
