"""The table files against the published numbers, their geometry, and the notes that must stand beside them."""

import csv
import re
import subprocess
import sys
from math import log
from pathlib import Path

import pytest

from dtri.report.cells import DASH_IN_PAPER, NOT_IN_PAPER, Cell, CellResult, Table, printed
from dtri.report.tidy import tidy
from workflow.commands import columns, findings
from workflow.tables.table1 import TABLE as TABLE1
from workflow.tables.table2 import TABLE as TABLE2
from workflow.tables.table3 import TABLE as TABLE3
from workflow.tables.table4 import TABLE as TABLE4

ROOT = Path(__file__).resolve().parents[1]
PAPER_VALUES = ROOT.parent / "shared" / "reference" / "paper_values"
TABLES = (TABLE1, TABLE2, TABLE3, TABLE4)
KNOWN_MODELS = {
    *(
        "vae",
        "dcgan",
        "wgan",
        "coopnet",
        "alice",
        "svae",
        "sngan",
        "ali",
        "wake_sleep",
        "cegan",
        "igebm",
        "meg",
        "bigan",
    ),
    *("joint_vae_ebm", "joint_vae_ebm_plus", "joint_vae_ebm_control", "divergence_triangle"),
}
DATASETS = {"CIFAR-10": "cifar10", "CelebA": "celeba", "LSUN-bedroom": "lsun_bedroom"}
AGAINST = {"SVHN": "svhn", "Uniform": "uniform", "Texture": "dtd", "CelebA": "celeba32"}
MODELS = {
    "VAE": "vae",
    "DCGAN": "dcgan",
    "WGAN": "wgan",
    "CoopNet": "coopnet",
    "ALICE": "alice",
    "SVAE": "svae",
    "SNGAN": "sngan",
    "ALI": "ali",
    "WS": "wake_sleep",
    "CEGAN": "cegan",
    "EBM": "igebm",
    "MEG": "meg",
    "BiGAN-sigma": "bigan",
    "Ours(+)": "joint_vae_ebm_plus",
    "Divergence triangle (paper B)": "divergence_triangle",
}


def key(cell: Cell) -> tuple[str, ...]:
    return cell.paper, cell.metric, cell.dataset, cell.model, cell.against, cell.score


def published_rows() -> list[dict[str, str]]:
    if not PAPER_VALUES.is_dir():
        pytest.skip(f"the transcribed papers are not beside this checkout ({PAPER_VALUES})")
    rows = [row for path in sorted(PAPER_VALUES.glob("*.csv")) for row in csv.DictReader(path.open())]
    assert len(rows) > 100
    return rows


def row_key(row: dict[str, str]) -> tuple[str, ...]:
    ours = "joint_vae_ebm" if row["paper"] == "A" else "divergence_triangle"
    model = ours if row["model"] == "Ours" else MODELS[row["model"]]
    if row["metric"] == "AUROC":
        return row["paper"], "auroc", "cifar10", model, AGAINST[row["dataset"]], ""
    holdout = row["dataset"].removeprefix("MNIST holdout ")
    dataset = f"mnist_holdout{holdout}" if row["metric"] == "AUPRC" else DATASETS[row["dataset"]]
    return row["paper"], row["metric"].lower(), dataset, model, "", ""


def test_every_published_value_is_transcribed_as_printed():
    cells = {key(cell): cell for table in TABLES for cell in table.cells}
    for row in published_rows():
        cell = cells[row_key(row)]
        text = f"{row['value']} ± {row['std']}" if row["std"] else row["value"] or "-"
        assert cell.published_text == text, row
        assert cell.published == (float(row["value"]) if row["value"] else None), row
        assert cell.published_std == (float(row["std"]) if row["std"] else None), row
        assert cell.direction == row["direction"], row


def test_nothing_is_published_that_the_papers_do_not_print():
    known = {row_key(row) for row in published_rows()}
    for table in TABLES:
        for cell in table.cells:
            assert (key(cell) in known) == (cell.published_text != ""), key(cell)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_cells_are_distinct_and_consistent(table: Table):
    assert len({key(cell) for cell in table.cells}) == len(table.cells)
    assert len({(c.paper, c.metric, c.row, c.column) for c in table.cells}) == len(table.cells)
    assert {(c.paper, c.metric) for c in table.cells} == {(p, m) for p, m, _ in table.headings}
    for cell in table.cells:
        assert (cell.published, cell.published_std) == printed(cell.published_text)
        assert cell.direction in ("lower", "higher")
        assert cell.model in KNOWN_MODELS
        assert cell.published is not None or cell.note in ("not in the paper", "'-' in the paper")
        assert cell.published is None or cell.tolerance > 0
        assert not cell.bold or cell.published is not None


def test_the_two_papers_ours_are_not_swapped():
    cells = {key(cell): cell for cell in (*TABLE1.cells, *TABLE2.cells)}
    assert cells["A", "fid", "celeba", "joint_vae_ebm", "", ""].published == 24.7
    assert cells["B", "fid", "celeba", "divergence_triangle", "", ""].published == 31.92
    assert cells["A", "rmse", "cifar10", "joint_vae_ebm", "", ""].published == 0.177
    assert cells["A", "rmse", "cifar10", "joint_vae_ebm_plus", "", ""].published == 0.184
    assert ("B", "fid", "celeba", "joint_vae_ebm", "", "") not in cells


def test_impossible_and_below_chance_cells_say_so():
    notes = {(cell.row, cell.model): cell.note for cell in TABLE4.cells if cell.metric == "auprc" and not cell.score}
    impossible = {place for place, note in notes.items() if "minimum possible" in note}
    assert impossible == {("1", "vae"), ("7", "vae"), ("9", "vae")}
    assert all("chance" in notes["1", model] for model in ("meg", "bigan", "joint_vae_ebm"))
    assert notes["4", "joint_vae_ebm"] == ""


def test_critics_of_unknown_sign_are_shown_both_ways():
    """Below the printed row those without published numbers: no score is chosen by its AUROC."""
    rows = list(dict.fromkeys((cell.model, cell.score, cell.row) for cell in TABLE3.cells))
    for model, name in (("alice", "ALICE"), ("svae", "SVAE")):
        place = rows.index((model, "", name))
        assert rows[place + 1] == (model, "reversed", f"{name}, sign reversed")
        assert rows[place + 2] == (model, "batch_statistics", f"{name}, BN batch statistics")
    assert sum(bool(score) for _, score, _ in rows) == 4
    assert any("sign reversed" in note for note in TABLE3.notes)


def test_minimum_auprc_follows_from_the_share_of_anomalies():
    chance, minimum = (dict(column.values) for column in TABLE4.references[:2])
    for row, text in chance.items():
        p = float(text)
        assert 1 + (1 - p) * log(1 - p) / p == pytest.approx(float(minimum[row]), abs=1e-3)


def test_table_files_import_only_the_standard_library_and_the_report_cells():
    names = [f"workflow.tables.{table.name}" for table in TABLES]
    code = f"import sys, {', '.join(names)}; print(sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "'dtri'" in run.stdout
    for heavy in ("torch", "numpy", "pandas", "matplotlib", "yaml"):
        assert f"'{heavy}'" not in run.stdout


@pytest.mark.parametrize(
    "text,expected", [("72", (72.0, None)), ("0.281 ± 0.035", (0.281, 0.035)), ("-", (None, None)), ("", (None, None))]
)
def test_printed(text: str, expected: tuple[float | None, float | None]):
    assert printed(text) == expected


def test_the_page_of_findings_says_what_the_tables_say():
    assert (ROOT / "docs" / "findings.md").read_text() == findings.page()
    notes = {note for table in TABLES for note in table.notes} | {cell.note for table in TABLES for cell in table.cells}
    assert [note for note in notes if note not in findings.page() and note not in (NOT_IN_PAPER, DASH_IN_PAPER)] == []


def test_the_page_of_columns_says_what_a_csv_has():
    text = (ROOT / "docs" / "columns.md").read_text()
    assert text == columns.page()
    frame = tidy(TABLE1, "paper", (0,), lambda *_: CellResult(None))
    assert re.findall(r"^\| `(\w+)`", text, re.MULTILINE) == list(frame.columns)
    for name, kind in re.findall(r"^\| `(\w+)` \| ([a-z ]+) \|", text, re.MULTILINE):
        assert (frame[name].dtype.kind == "f") == (kind == "number"), name
