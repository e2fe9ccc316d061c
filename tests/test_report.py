"""Records to tidy rows and rendered tables: statuses, verdicts, spreads, and what must be visible in every format."""

import csv
import html
import io
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
import pytest

from dtri.arrays import read_arrays
from dtri.report.cells import LABEL_FREE, Cell, CellResult, ReferenceColumn, Table, with_label_free
from dtri.report.intervals import in_total, over_seeds
from dtri.report.layout import cost, layout
from dtri.report.records import Record
from dtri.report.render import render
from dtri.report.tidy import COLUMNS, tidy, verdict
from tests.tex import typeset
from workflow.tables.table1 import TABLE as TABLE1
from workflow.tables.table2 import TABLE as TABLE2
from workflow.tables.table3 import TABLE as TABLE3
from workflow.tables.table4 import TABLE as TABLE4

TABLES = (TABLE1, TABLE2, TABLE3, TABLE4)
TEXT_FORMATS = ("md", "tex", "html")
SEEDS = (0, 1, 2)
DEMO = "demo: digits stand in for every dataset"


def make_cell(**changes) -> Cell:
    base = {
        "paper": "A",
        "metric": "rmse",
        "dataset": "cifar10",
        "model": "vae",
        "row": "VAE",
        "column": "CIFAR-10",
        "published": 0.2,
        "published_text": "0.20",
        "direction": "lower",
        "tolerance": 0.01,
    }
    return Cell(**(base | changes))


def make_record(value: float | None, seed: int = 0, **changes) -> Record:
    base = {
        "preset": "paper",
        "dataset": "cifar10",
        "model": "vae",
        "seed": seed,
        "metric": "rmse",
        "value": value,
        "status": "diverged" if value is None else "measured",
        "n_samples": 10000,
        "n_reference": 10000,
        "protocol": "posterior mean",
        "extractor": "",
        "spec": "s",
        "train_code": "t",
        "code": "c",
        "data": {"cifar10": "d"},
        "device": "cpu",
        "seconds": 1.0,
    }
    return Record(**(base | changes))


def row_of(found: list[CellResult], cell: Cell | None = None) -> dict:
    """The tidy row of one cell whose seeds 0, 1, ... gave `found`."""
    cell = cell or make_cell()
    frame = tidy(Table("table9", "One cell", (cell,)), "paper", range(len(found)), lambda _, seed: found[seed])
    assert list(frame.columns) == list(COLUMNS)
    return frame.iloc[0].to_dict()


def current(value: float | None, **changes) -> CellResult:
    return CellResult(make_record(value, **changes), measured_on="cifar10")


def stale(value: float) -> CellResult:
    return CellResult(make_record(value), stale=("training code changed",), measured_on="cifar10")


NOTHING = CellResult(None, comparable=False, reason="demo preset")


@pytest.mark.parametrize(
    "found,status,values",
    [
        ([current(0.2), current(0.3)], "measured", "0.2;0.3"),
        ([current(0.2), NOTHING], "partial", "0.2"),
        ([NOTHING, NOTHING], "missing", ""),
        ([current(0.2), current(None), current(0.3)], "diverged 1/3", "0.2;0.3"),
        ([current(None), current(None)], "diverged 2/2", ""),
        ([stale(0.2), stale(0.3)], "stale", "0.2;0.3"),
        ([current(0.2), stale(0.9)], "partial", "0.2"),
        ([current(0.2), current(None), NOTHING], "diverged 1/3, partial", "0.2"),
        ([stale(0.9), NOTHING], "stale", "0.9"),
    ],
)
def test_status(found: list[CellResult], status: str, values: str):
    row = row_of(found)
    assert (row["status"], row["values"]) == (status, values)
    assert row["n_seeds"] == len(values.split(";")) * bool(values)


def test_a_run_that_diverged_after_training_says_why():
    why = "3 of 1000 samples are not finite"
    row = row_of([current(None, status="done", extra={"diverged": why}), current(0.2)])
    assert (row["status"], row["values"], row["reason"]) == ("diverged 1/2", "0.2", f"diverged: {why}")


def test_a_warning_is_marked_and_not_compared():
    """A constant energy gives a number, but not one to set beside the paper's."""
    extra = {"warning": "only 1 distinct scores among 90 images: ties decide this value", "average_precision": 0.01}
    cell = make_cell(metric="auprc", direction="higher")
    frame = tidy(Table("table9", "One cell", (cell,)), "paper", [0], lambda *_: current(0.2, extra=extra))
    row = frame.iloc[0].to_dict()
    assert (row["comparable"], row["verdict"], row["warning"]) == ("no", "not comparable", extra["warning"])
    assert row["average_precision"] == 0.01
    for fmt in TEXT_FORMATS:
        text = render(Table("table9", "One cell", (cell,)), frame, DEMO, fmt)
        assert extra["warning"] in text
        assert "doubtful" in text
        assert "AP 0.010" in text
    assert row_of([current(0.2)])["verdict"] == "reproduced"


def test_a_further_score_has_its_own_warning_and_average_precision():
    extra = {"scores": {"fm": 0.3, "sse": None}, "warning": "of the energy", "average_precision": 0.9}
    extra |= {"score_warnings": {"fm": "of fm", "sse": "1 NaN"}, "score_precisions": {"fm": 0.1}}
    row = row_of([current(0.5, extra=extra)], make_cell(score="fm"))
    assert (row["mean"], row["warning"], row["average_precision"]) == (0.3, "of fm", 0.1)
    row = row_of([current(0.5, extra=extra)], make_cell(score="sse"))
    assert (row["status"], row["warning"], row["reason"]) == ("diverged 1/1", "", "diverged: 1 NaN")


def test_mean_and_sample_deviation():
    row = row_of([current(0.1), current(0.2), current(0.6)])
    assert row["mean"] == pytest.approx(0.3)
    assert row["seed_std"] == pytest.approx(0.07**0.5)  # (0.04 + 0.01 + 0.09) / 2: ddof = 1
    assert pd.isna(row_of([current(0.1)])["seed_std"])


@pytest.mark.parametrize(
    "average,direction,expected",
    [
        (0.21, "lower", "reproduced"),
        (0.19, "higher", "reproduced"),
        (0.2101, "lower", "worse"),
        (0.2101, "higher", "better"),
        (0.18, "lower", "better"),
        (0.18, "higher", "worse"),
    ],
)
def test_verdict_follows_tolerance_and_direction(average: float, direction: str, expected: str):
    assert verdict(make_cell(direction=direction), average, comparable=True) == expected


def test_a_difference_equal_to_the_tolerance_counts_as_reproduced():
    assert verdict(make_cell(published=0.68, tolerance=0.05, direction="higher"), 0.63, True) == "reproduced"


def test_no_verdict_without_both_numbers():
    assert row_of([NOTHING])["verdict"] == ""
    assert row_of([current(None)])["verdict"] == ""
    assert row_of([stale(0.2)])["verdict"] == ""
    unpublished = row_of([current(0.2)], make_cell(published=None, published_text="-"))
    assert unpublished["verdict"] == ""
    assert pd.isna(unpublished["tolerance"])


def test_one_incomparable_seed_makes_the_row_incomparable():
    odd = CellResult(make_record(0.2), measured_on="digits", comparable=False, reason="digits stand in")
    row = row_of([current(0.2), odd])
    assert (row["verdict"], row["comparable"], row["reason"]) == ("not comparable", "no", "digits stand in")
    assert row["measured_on"] == "cifar10; digits"


def test_a_printed_value_that_this_split_cannot_give_is_not_compared_with():
    cell = make_cell(metric="auprc", published=0.104, direction="higher", tolerance=0.05)
    row = row_of([current(0.11, extra={"chance": 0.3556, "minimum": 0.2037})], cell)
    assert (row["verdict"], row["comparable"]) == ("not comparable", "no")
    assert "below the minimum possible" in row["reason"]
    possible = row_of([current(0.25, extra={"chance": 0.3556, "minimum": 0.09})], cell)
    assert (possible["verdict"], possible["reason"]) == ("better", "")


def test_reasons_of_what_is_missing_or_stale():
    assert row_of([CellResult(None, expected=False)])["reason"] == "not in the configuration"
    assert row_of([NOTHING])["reason"] == "not run"
    assert row_of([stale(0.2), current(0.2), stale(0.2)])["reason"] == "stale (seed 0, 2): training code changed"
    assert row_of([current(0.2)])["reason"] == ""


def test_a_verdict_needs_all_seeds():
    """One survivor of three reproduces nothing."""
    for found in ([current(0.2), current(None), current(None)], [current(0.2), current(0.2), NOTHING]):
        row = row_of(found)
        assert (row["verdict"], row["comparable"]) == ("", "yes")
        assert row["outcome"] in ("diverged", "partial")
        assert row["seeds"] == ";".join(str(seed) for seed, one in enumerate(found) if one == current(0.2))
    row = row_of([current(0.2)] * 3)
    assert (row["verdict"], row["outcome"], row["seeds"]) == ("reproduced", "reproduced", "0;1;2")


def test_no_verdict_where_the_printed_number_cannot_be_compared():
    row = row_of([current(0.2)], make_cell(incomparable="measured on crops"))
    assert (row["verdict"], row["comparable"], row["reason"]) == ("not comparable", "no", "measured on crops")
    assert row_of([NOTHING], make_cell(incomparable="measured on crops"))["reason"] == "not run"


def test_cells_that_the_notes_call_incomparable_never_get_a_verdict():
    """By system, set and metric: quoted numbers, other sets, unknown signs, another test composition."""
    found = {
        (cell.metric, cell.model, cell.against or cell.dataset)
        for table in TABLES
        for cell in table.cells
        if cell.incomparable
    }
    assert found == {
        *(("fid", model, "cifar10") for model in ("dcgan", "wgan", "sngan")),
        ("fid", "dcgan", "lsun_bedroom"),
        *(("auroc", "igebm", against) for against in ("svhn", "uniform", "dtd")),
        *(
            ("auroc", model, against)
            for model in ("alice", "svae")
            for against in ("svhn", "uniform", "dtd", "celeba32")
        ),
        *(("auprc", "vae", f"mnist_holdout{digit}") for digit in (1, 4, 5, 7, 9)),
    }
    for table in TABLES:
        frame = tidy(table, "paper", (0,), lambda cell, _: current(cell.published or 0.5, extra={"scores": {}}))
        for cell, row in zip(table.cells, frame.to_dict("records")):
            assert row["verdict"] != "reproduced" or not cell.incomparable


def test_the_printed_text_reaches_the_csv():
    table = Table("table9", "One cell", (make_cell(published=1.0, published_text="1.0"),))
    text = render(table, tidy(table, "paper", (0,), lambda *_: NOTHING), "paper", "csv")
    values = next(csv.DictReader(io.StringIO(text)))
    assert (values["published_text"], values["published"]) == ("1.0", "1")


def test_spreads_stand_apart():
    """Over seeds, over images, over sets of weights, and in total."""
    extras = [{"ci_low": 0.4, "ci_high": 0.6, "late_std": std} for std in (0.03, 0.04)]
    found = [current(value, seed=seed, extra=extras[seed]) for seed, value in enumerate((0.5, 0.6))]
    cell = make_cell(metric="auprc", direction="higher")
    row = row_of(found, cell)
    half = 12.706 * 0.1 / 2  # quantile of Student's t, 1 degree of freedom; |a - b| / 2 is the standard error
    assert (row["seed_low"], row["seed_high"]) == (
        pytest.approx(0.55 - half, abs=1e-4),
        pytest.approx(0.55 + half, abs=1e-4),
    )
    assert (row["image_low"], row["image_high"]) == (pytest.approx(0.4), pytest.approx(0.6))
    assert row["total_high"] - row["total_low"] > row["seed_high"] - row["seed_low"] > 0.2
    assert row["late_std"] == pytest.approx(((0.03**2 + 0.04**2) / 2) ** 0.5)
    table = Table("table9", "One cell", (cell,))
    text = render(table, tidy(table, "paper", (0, 1), lambda _, seed: found[seed]), "paper", "md")
    assert "0.550 ± 0.635 (2)<br>" in text
    assert "images ± 0.100" in text
    assert "weights ± 0.035" in text
    alone = row_of(found[:1], cell)
    assert (alone["image_low"], alone["late_std"]) == (0.4, 0.03)
    assert all(pd.isna(alone[name]) for name in ("seed_std", "seed_low", "seed_high", "total_low", "total_high"))


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("images", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_the_total_interval_covers(n: int, images: float):
    """Simulated: seeds of standard deviation 1, and one error by images for all of them, known from a bootstrap."""
    rng = np.random.default_rng(0)
    spread = images / n**0.5
    hits = []
    for values, error in zip(rng.normal(size=(4000, n)), rng.normal(scale=spread, size=4000)):
        values, half = (values + error).tolist(), 1.959964 * spread
        low, high = in_total(values, (-half, half))
        hits.append(low <= 0 <= high)
    assert 0.94 <= mean(hits) <= 0.98


def test_the_seed_interval_covers():
    draws = np.random.default_rng(0).normal(size=(4000, 3)).tolist()
    assert 0.93 <= mean(low <= 0 <= high for low, high in map(over_seeds, draws)) <= 0.97
    assert over_seeds([1.0]) is None
    assert in_total([1.0], (0.0, 2.0)) is None
    assert in_total([1.0, 1.0], (1.0, 1.0)) == (1.0, 1.0)


def test_recall_is_a_number_of_the_record_of_precision():
    cell = make_cell(metric="prc", score="recall", published=None, published_text="", direction="higher")
    row = row_of([current(0.9, extra={"recall": 0.3, "f_score": 0.45, "warning": "few images"})], cell)
    assert (row["mean"], row["score"], row["outcome"], row["warning"]) == (0.3, "recall", "own", "few images")
    assert row_of([current(0.9)], cell)["reason"] == "no recall in the record"


def test_gpu_hours_add_up_and_are_empty_on_a_cpu():
    assert row_of([current(0.2, gpu_hours=1.5), current(0.2, gpu_hours=0.25)])["gpu_hours"] == 1.75
    assert pd.isna(row_of([current(0.2)])["gpu_hours"])


def test_levels_and_differing_counts_are_kept():
    levels = {"chance": 0.35, "minimum": 0.2}
    row = row_of([current(0.4, extra=levels), current(0.4, extra=levels, n_samples=50)])
    assert (row["chance"], row["minimum"]) == (pytest.approx(0.35), pytest.approx(0.2))
    assert (row["n_samples"], row["n_reference"]) == ("10000; 50", "10000")


def varied(value: float) -> dict:
    return {"value": value, "n_samples": 7, "n_reference": 9, "protocol": "otherwise"}


def test_a_row_of_another_protocol_has_its_own_warning_and_says_where_it_diverged():
    variants = {"one": {**varied(0.5), "warning": "ties"}, "two": {**varied(0.5), "value": None, "diverged": "2 of 9"}}
    found = current(0.2, extra={"warning": "few images", "variants": variants})
    frame = tidy(Table("table9", "One cell", (make_cell(),)), "paper", [0], lambda *_: found)
    _, one, two = frame.to_dict("records")
    assert (one["warning"], one["mean"], one["status"]) == ("ties", 0.5, "measured")
    assert (two["warning"], two["values"], two["status"]) == ("", "", "diverged 1/1")
    assert two["reason"] == "another protocol: two; diverged: 2 of 9"


def test_other_protocols_are_rows_behind_the_cells_and_in_no_picture_of_the_table():
    found = [
        current(0.2, extra={"ci_low": 0.1, "ci_high": 0.3, "variants": {"one": varied(0.5), "two": varied(0.6)}}),
        current(0.2, extra={"ci_low": 0.2, "ci_high": 0.4, "variants": {"one": varied(0.7)}}),
        current(None),
    ]
    table = Table("table9", "Two cells", (make_cell(), make_cell(model="ali", row="ALI")))
    frame = tidy(table, "paper", range(3), lambda cell, seed: found[seed] if cell.model == "vae" else CellResult(None))
    assert list(frame["variant"]) == ["", "", "one", "two"]
    first, _, one, two = frame.to_dict("records")
    assert (first["image_low"], first["image_high"]) == (pytest.approx(0.15), pytest.approx(0.35))
    assert (one["model"], one["mean"], one["n_seeds"], one["n_samples"]) == ("vae", 0.6, 2, "7")
    assert (one["protocol"], one["verdict"], one["comparable"]) == ("otherwise", "", "no")
    assert "another protocol: one" in one["reason"]
    assert (two["mean"], two["n_seeds"], two["status"]) == (0.6, 1, "partial")
    assert "otherwise" in render(table, frame, DEMO, "csv")
    for fmt in TEXT_FORMATS:
        assert "otherwise" not in render(table, frame, DEMO, fmt)


def test_a_cell_may_show_another_score_of_the_same_record():
    cell = make_cell(metric="auroc", score="reversed", published=0.29, direction="higher", tolerance=0.05)
    levels = {"chance": 0.5, "minimum": 0.0, "scores": {"reversed": 0.3, "sse": 0.9}}
    row = row_of([current(0.7, extra=levels)], cell)
    assert (row["mean"], row["score"], row["verdict"]) == (0.3, "reversed", "reproduced")
    row = row_of([current(0.7, extra=levels), current(None)], cell)
    assert (row["mean"], row["score"], row["verdict"]) == (0.3, "reversed", "")
    assert (row["status"], row["n_seeds"], row["chance"]) == ("diverged 1/2", 1, 0.5)
    assert "score 'reversed' in place of the energy" in row["protocol"]
    own = row_of([current(0.7, extra=levels)], make_cell(metric="auroc"))
    assert (own["mean"], own["score"]) == (0.7, "")


def test_a_record_without_the_score_is_no_measurement():
    row = row_of([current(0.7, extra={"scores": {"sse": 0.9}})], make_cell(score="fm"))
    assert (row["status"], row["reason"], row["verdict"]) == ("missing", "no score 'fm' in the record", "")
    assert pd.isna(row["mean"])


def fake(table: Table, preset: str = "demo") -> pd.DataFrame:
    """A frame with every status: cells take turns."""

    def lookup(cell: Cell, seed: int) -> CellResult:
        turn = table.cells.index(cell) % 7
        where = {} if preset == "paper" else {"measured_on": "digits", "comparable": False, "reason": "digits stand in"}
        record = make_record((cell.published or 0.5) * (1 + 0.01 * seed), seed, extractor="inception 0123456789ab")
        if turn == 0 or (turn == 1 and seed == 2):
            return CellResult(None, reason="not run")
        if turn == 2 and seed == 0:
            return CellResult(make_record(None, seed), **where)
        return CellResult(record, stale=("data changed",) if turn == 3 else (), **where)

    return tidy(table, preset, SEEDS, lookup)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_csv_is_the_frame_in_the_order_of_the_table(table: Table):
    text = render(table, fake(table), DEMO, "csv")
    assert text == render(table, fake(table), DEMO, "csv")
    read = pd.read_csv(io.StringIO(text))
    assert list(read.columns) == list(COLUMNS)
    assert list(read["model"]) == [cell.model for cell in table.cells]
    assert set(read["preset"]) == {"demo"}
    assert set(read["verdict"].dropna()) == {"not comparable"}
    for cell, value in zip(table.cells, read["published"], strict=True):
        assert value == cell.published or (cell.published is None and pd.isna(value))


@pytest.mark.parametrize("fmt", TEXT_FORMATS)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_printed_number_its_label_and_notes_are_shown(table: Table, fmt: str):
    text = render(table, fake(table), DEMO, fmt)
    assert text == render(table, fake(table), DEMO, fmt)
    plain = plain_text(text, fmt)
    assert DEMO in plain
    printed = [cell.published_text for cell in table.cells]
    for number in set(printed) - {"", "-"}:
        assert len(re.findall(rf"(?<![\d.\[]){re.escape(number)}(?![\d.])", plain)) >= printed.count(number), number
    for words in (
        "partial",
        "diverged 1/3",
        "stale",
        "not run",
        "on digits",
        "digits stand in",
        "inception 0123456789ab",
    ):
        assert words in plain, words
    for note in table.notes:
        assert " ".join(note.split()) in plain


@pytest.mark.parametrize("fmt", TEXT_FORMATS)
def test_dashes_of_the_paper_are_kept_apart_from_cells_it_does_not_have(fmt: str):
    cells = (
        make_cell(published=None, published_text="-"),
        make_cell(model="ali", row="ALI", published=None, published_text=""),
    )
    table = Table("table9", "Blanks", cells)
    text = render(table, tidy(table, "paper", SEEDS, lambda *_: NOTHING), "paper", fmt)
    shown = {"md": ("| -<br>", "| ·<br>"), "tex": ("{-}", "{$\\cdot$}"), "html": (">-</span>", ">·</span>")}[fmt]
    assert all(text.count(form) == 1 for form in shown)


@pytest.mark.parametrize("fmt", TEXT_FORMATS)
def test_incomparable_numbers_stand_in_brackets_and_comparable_ones_do_not(fmt: str):
    table = Table("table9", "One cell", (make_cell(),))
    frames = {
        comparable: tidy(
            table,
            "paper",
            (0,),
            lambda *_, c=comparable: CellResult(make_record(0.345), comparable=c, reason="lite budgets"),
        )
        for comparable in (True, False)
    }
    assert "[0.3450 (1)]" in plain_text(render(table, frames[False], "lite", fmt), fmt)
    shown = plain_text(render(table, frames[True], "paper", fmt), fmt)
    assert "0.3450 (1)" in shown
    assert "[0.3450" not in shown
    assert "worse" in shown


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_summary_counts_every_cell_once(table: Table):
    for preset in ("demo", "paper"):
        line = layout(table, fake(table, preset), "").summary
        counted = re.match(r"(\d+) printed numbers: ([^;]*)(?:; (\d+) others: ([^;]*))?", line)
        n_printed = sum(cell.published is not None for cell in table.cells)
        assert int(counted[1]) == n_printed == sum(map(int, re.findall(r"\d+", counted[2])))
        others = len(table.cells) - n_printed
        assert int(counted[3] or 0) == others == sum(map(int, re.findall(r"\d+", counted[4] or "")))


@pytest.mark.parametrize("fmt", TEXT_FORMATS)
def test_what_holds_for_all_cells_is_said_once_above_them(fmt: str):
    cells = (make_cell(), make_cell(model="ali", row="ALI"), make_cell(dataset="celeba", column="CelebA"))
    table = Table("table9", "Three cells", cells)

    def lookup(cell: Cell, seed: int) -> CellResult:
        reason = "; ".join(["measured on a stand-in", "preset demo", *["few images"] * (cell.model == "ali")])
        return CellResult(make_record(0.3), measured_on="digits", comparable=False, reason=reason)

    text = render(table, tidy(table, "demo", (0,), lookup), "demo", fmt)
    plain = plain_text(text, fmt)
    for words in ("Measured on digits in place of CIFAR-10, CelebA.", "measured on a stand-in, preset demo."):
        assert plain.count(words) == 1, words
    assert plain.count("few images") == 1


def test_one_line_per_protocol_says_what_its_counts_count():
    cells = tuple(
        make_cell(metric="auprc", dataset=f"mnist_holdout{digit}", row=digit, model=model, column=model)
        for digit in "14"
        for model in ("vae", "meg")
    )
    table = Table("table9", "Anomalies", cells)

    def lookup(cell: Cell, seed: int) -> CellResult:
        n = 505 if cell.row == "1" else 404
        record = make_record(0.5, n_samples=n, n_reference=182, protocol=f"trapezoid over {n} images of {cell.dataset}")
        return CellResult(record, measured_on=cell.dataset, seen_in_training="80 % of the normal test images")

    assert layout(table, tidy(table, "paper", (0,), lookup), "paper").methods == (
        "AUPRC: trapezoid over n images of the dataset. mnist_holdout1: n = 505 test images, 182 of them anomalies; "
        "mnist_holdout4: n = 404 test images, 182 of them anomalies",
        "80 % of the normal test images",
    )


@pytest.mark.parametrize("fmt", TEXT_FORMATS)
def test_a_protocol_and_a_reason_stand_once_for_all_blocks_and_digits(fmt: str):
    """Two blocks of one metric, one per paper; the sets of a hold-out family that are not configured."""
    cells = (make_cell(), make_cell(paper="B"), *(make_cell(dataset=f"mnist_holdout{i}", column=i) for i in "159"))
    table = Table("table9", "Two papers", cells)

    def lookup(cell: Cell, seed: int) -> CellResult:
        if "holdout" in cell.dataset:
            return CellResult(None, expected=False, reason=f"dataset {cell.dataset} is not in the configuration")
        return CellResult(make_record(0.3, protocol="root of the mean"), measured_on=cell.dataset)

    plain = plain_text(render(table, tidy(table, "paper", (0,), lookup), "paper", fmt), fmt)
    assert plain.count("root of the mean") == 1
    assert plain.count("mnist_holdout<digit> is not in the configuration") == 1
    assert plain.count("is not in the configuration") == 1


def test_few_distinct_scores_are_told():
    table = Table("table9", "One cell", (make_cell(metric="auroc"),))
    for fraction, told in ((0.25, True), (0.99, False)):
        frame = tidy(table, "paper", (0,), lambda *_, f=fraction: current(0.7, extra={"unique_fraction": f}))
        assert ("25% distinct scores" in render(table, frame, "paper", "md")) == told


def test_blocks_with_more_columns_than_rows_are_turned():
    cells = tuple(make_cell(model=model, row="CIFAR-10", column=model) for model in ("vae", "ali", "svae"))
    level = ReferenceColumn("rmse", "chance", "chance", (("CIFAR-10", "0.388"),))
    table = Table("table9", "Wide", cells, references=(level,))
    (block,) = layout(table, tidy(table, "paper", (0,), lambda *_: current(0.4, extra={"chance": 0.351})), "").blocks
    assert (block.rows, block.columns, block.references) == (("vae", "ali", "svae"), ("CIFAR-10",), ())
    assert [one.texts for one in block.turned_references] == [{"CIFAR-10": ("0.388", "0.351")}]
    unknown = Table("table9", "Wide", cells, references=(ReferenceColumn("rmse", "chance", "chance", ()),))
    (block,) = layout(unknown, tidy(unknown, "paper", (0,), lambda *_: NOTHING), "").blocks
    assert block.turned_references == (), "no level is known"


GITHUB = 830  # pixels of a page's text; 8.5 a letter, 27 of padding and border a cell


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_markdown_needs_no_scrolling(table: Table):
    """GitHub breaks cells at blanks: the longest words of a row's cells have to fit side by side."""
    lines = [line for line in render(table, fake(table), DEMO, "md").splitlines() if line.startswith("| ")]
    for line in lines:
        words = [re.split(r"[\s]+|<br>", re.sub(r"[\\*]|</?sup>", "", cell)) for cell in line.strip("| ").split(" | ")]
        assert sum(8.5 * max(map(len, cell)) + 27 for cell in words) <= GITHUB, line


def test_notes_are_folded_behind_the_tables():
    for table in TABLES:
        for fmt in ("md", "html"):
            text = render(table, fake(table), DEMO, fmt)
            head, _, folded = text.partition("<details")
            escaped = html.escape(table.notes[0]).replace("&#x27;", "&#39;") if fmt == "html" else table.notes[0]
            assert escaped[:40].replace("_", "\\_") in folded
            assert escaped[:40] not in head
            assert text.count("<details") == text.count("</details>") >= 3


def test_levels_stand_beside_their_rows():
    table = Table(
        "table9",
        "Levels",
        (make_cell(),),
        references=(ReferenceColumn("rmse", "chance", "chance", (("VAE", "0.388"),)),),
    )
    frame = tidy(table, "paper", (0,), lambda *_: current(0.4, extra={"chance": 0.351, "minimum": 0.2}))
    assert "| 0.388<br>0.351 |" in render(table, frame, "paper", "md")


def test_markdown_tables_are_rectangular():
    for table in TABLES:
        lines = render(table, fake(table), DEMO, "md").splitlines()
        counts = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in lines]
        assert max(counts) > 4
        assert all(a == b for a, b in pairwise(counts) if a and b)


def test_html_is_balanced_and_self_contained():
    for table in TABLES:
        page = render(table, fake(table), DEMO, "html")
        assert Balance.unclosed(page) == []
        assert not re.search(r"(src|href)=\"(?!#)|@import|url\(|<script|<link", page)
        targets = set(re.findall(r'href="#(\w+)"', page))
        assert targets
        assert targets <= set(re.findall(r'id="(\w+)"', page))


def test_tex_escapes_and_balances():
    note = "50 % of {x_1} & #2 ~ ^ \\ < σ ± é → 漢"
    table = Table("table9", "Escapes", (make_cell(note=note),), notes=(note,))
    text = render(table, tidy(table, "paper", SEEDS, lambda *_: NOTHING), "a_b", "tex")
    assert "50 \\% of \\{x\\_1\\} \\& \\#2" in text
    assert text.isascii()
    assert text.count("\\begin{") == text.count("\\end{")
    assert "a\\_b" in text


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_tex_compiles(table: Table, tmp_path: Path):
    """In a column of a conference paper, 3.25 inches wide, without a line that is wider."""
    assert "Overfull" not in typeset(render(table, fake(table), DEMO, "tex"), "3.25in", tmp_path)


def test_tex_is_no_wider_than_the_text():
    """Every table is scaled down where it is wider; and few columns are so wide that letters get small."""
    for table in TABLES:
        text = render(table, fake(table), DEMO, "tex")
        assert text.count(r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%") == text.count(
            r"\toprule"
        )
        assert text.count(r"\end{tabular}}") >= text.count(r"\toprule")
        assert max(len(columns) for columns in re.findall(r"begin\{tabular\}\{@\{\}l(c+)@", text)) <= 6
        assert text.count("{") == text.count("}"), "braces of escaped texts included"


def test_html_escapes():
    table = Table("table9", "<b>", (make_cell(note='"<i>'),))
    page = render(table, tidy(table, "paper", SEEDS, lambda *_: NOTHING), "<script>", "html")
    assert "<i>" not in page
    assert "<script>" not in page


def test_a_frame_of_another_table_or_an_unknown_format_is_refused():
    frame = fake(TABLE2)
    with pytest.raises(ValueError, match="expected the 44 rows of table3"):
        render(TABLE3, frame, DEMO, "md")
    with pytest.raises(ValueError, match="found 'docx'"):
        render(TABLE2, frame, DEMO, "docx")


def test_a_record_survives_the_disk_and_other_files_are_refused(tmp_path: Path):
    record = make_record(0.25, extra={"chance": 0.3})
    record.write(tmp_path / "deep" / "rmse.json")
    assert Record.read(tmp_path / "deep" / "rmse.json") == record
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["rmse.json"]
    (tmp_path / "other.json").write_text('{"value": 1}')
    with pytest.raises(ValueError, match=r"other\.json"):
        Record.read(tmp_path / "other.json")
    with pytest.raises(ValueError, match="JSON compliant"):
        make_record(float("nan")).write(tmp_path / "nan.json")
    assert not (tmp_path / "nan.json").exists()


def test_mean_is_over_values_not_rows():
    row = row_of([current(0.2), current(0.4), current(None)])
    assert row["mean"] == pytest.approx(mean([0.2, 0.4]))


def plain_text(text: str, fmt: str) -> str:
    """The text a reader sees, line breaks and markup removed."""
    if fmt == "html":
        text = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
        text = re.sub(r"<sup.*?</sup>", "", text)
        text = re.sub(r"</?(div|td|th|li|tr|p|span|b|h\d|br)\b[^>]*>", " ", text)
        text = html.unescape(text)
    if fmt == "md":
        text = re.sub(r"<sup>.*?</sup>", "", text).replace("<br>", " ").replace("\\", "").replace("**", "")
    if fmt == "tex":
        text = re.sub(r"\$\^\{.*?\}\$", "", text)
        for form, character in (
            ("$\\pm$", "±"),
            ("$\\sigma$", "σ"),
            ("$\\cdot$", "·"),
            ("$<$", "<"),
            ("$>$", ">"),
            ("''", '"'),
        ):
            text = text.replace(form, character)
        text = re.sub(r"\\(emph|textbf|caption)", "", text).replace("\\\\", " ").replace("\\", "")
        text = text.replace("{", "").replace("}", "")
    return " ".join(text.split())


class Balance(HTMLParser):
    """Elements opened and never closed, and closing tags that fit nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    @classmethod
    def unclosed(cls, page: str) -> list[str]:
        parser = cls()
        parser.feed(page)
        return parser.open + parser.wrong

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


# Records on disk


def test_a_record_is_read_as_it_was_written(tmp_path: Path):
    record = make_record(0.1 + 0.2, extra={"ü": [1e-300, None], "sampler": {}})
    record.write(tmp_path / "fid.json")
    assert Record.read(tmp_path / "fid.json") == record


def test_a_record_that_was_changed_or_damaged_names_its_file(tmp_path: Path):
    path = tmp_path / "fid.json"
    make_record(30.25).write(path)
    whole = path.read_bytes()
    damages = {
        "with the seal": whole.replace(b"30.25", b"20.25"),
        "Expecting": whole[: whole.index(b":")],
        "codec": b"\xff" + whole,
        "a list": b"[]",
    }
    for reason, content in damages.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"expected a measurement record .*{path}, found.*delete it") as caught:
            Record.read(path)
        assert reason in str(caught.value)


def test_a_record_without_a_seal_is_of_an_older_version(tmp_path: Path):
    path = tmp_path / "fid.json"
    make_record(30.25).write(path)
    path.write_text(re.sub(r' "seal": .*\n', "", path.read_text()))
    assert Record.read(path) == make_record(30.25)


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("damage", [lambda c: c[:-9], lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"x" * 99])
def test_damaged_arrays_name_their_file(ending: str, damage, tmp_path: Path):
    path = tmp_path / f"scores.{ending}"
    with path.open("wb") as file:
        (np.save if ending == "npy" else np.savez)(file, np.arange(99.0))
    assert len(read_arrays(path)) == (99 if ending == "npy" else 1)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"expected complete arrays in {path}, found: .*delete it"):
        read_arrays(path)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_one_changed_bit_of_arrays_is_refused_or_changes_none_of_a_checked_file(ending: str, tmp_path: Path):
    """By any bit of headers, names and lists; only the numbers of a .npy file are not checked."""
    path, energy, labels = tmp_path / f"scores.{ending}", np.arange(3.0), np.arange(2)
    with path.open("wb") as file:
        np.save(file, energy) if ending == "npy" else np.savez(file, energy=energy, labels=labels)
    content, refused = path.read_bytes(), []
    for k in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[k // 8] ^= 1 << k % 8
        path.write_bytes(damaged)
        try:
            found = read_arrays(path)
        except ValueError as error:
            refused.append(str(error))
            continue
        if ending == "npz":
            assert set(found) == {"energy", "labels"}
            np.testing.assert_array_equal(found["energy"], energy)
            np.testing.assert_array_equal(found["labels"], labels)
    assert [line for line in refused if f"expected complete arrays in {path}, found: " not in line] == []


def test_a_changed_score_is_noticed(tmp_path: Path):
    path, energy = tmp_path / "scores.npz", np.arange(99.0)
    np.savez(path, energy=energy)
    path.write_bytes(path.read_bytes().replace(np.float64(50).tobytes(), np.float64(51).tobytes()))
    with pytest.raises(ValueError, match=r"energy\.npy is damaged"):
        read_arrays(path)


def test_arrays_run_no_code(tmp_path: Path):
    path = tmp_path / "objects.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(path)


# Cost


def test_a_row_carries_its_cost_and_a_table_counts_a_training_once():
    """FID and Inception Score of one run cost one training."""
    trained = {"train_seconds": 1800.0, "train_device": "cpu (test)", "gpu_hours": 0.5, "seconds": 20.0}
    cells = tuple(make_cell(metric=metric, column=metric) for metric in ("fid", "is"))
    table = Table("table9", "Two cells", cells)
    frame = tidy(table, "paper", (0, 1), lambda cell, seed: current(0.2, seed=seed, **trained))
    for row in frame.to_dict("records"):
        assert (row["train_seconds"], row["measure_seconds"], row["gpu_hours"]) == (3600.0, 40.0, 1.0)
        assert row["train_device"] == "cpu (test)"
    for fmt in TEXT_FORMATS:
        assert "2 printed numbers: 2 reproduced; 1 h of training on cpu (test)" in render(table, frame, DEMO, fmt)


def test_the_row_that_knows_most_trainings_of_a_system_counts():
    """All three seeds diverged but trained; the second metric was measured on one of them."""
    cells = tuple(make_cell(metric=metric, column=metric) for metric in ("fid", "is"))
    table = Table("table9", "Two cells", cells)

    def lookup(cell: Cell, seed: int) -> CellResult:
        value = None if cell.metric == "fid" else 0.2
        missing = cell.metric == "is" and seed > 0
        return NOTHING if missing else current(value, seed=seed, train_seconds=144_000.0, train_device="H100")

    rows = tidy(table, "paper", (0, 1, 2), lookup).to_dict("records")
    assert [row["n_trained"] for row in rows] == [3, 1]
    assert cost(rows) == "120 h of training on H100"


def test_a_row_without_records_costs_nothing_known():
    row = row_of([NOTHING])
    assert pd.isna(row["train_seconds"])
    assert pd.isna(row["gpu_hours"])
    assert row["train_device"] == ""


def test_a_block_without_labels_stands_behind_the_papers_blocks():
    """Each system and dataset of the FID once, in the papers' order, without a printed number or a verdict."""
    fid = {"metric": "fid", "published": 30.0, "published_text": "30.0", "bold": True, "tolerance": 3.0}
    cells = (
        make_cell(**fid, incomparable="quoted"),
        make_cell(**fid, model="wgan", row="WGAN"),
        make_cell(metric="is", direction="higher"),
        make_cell(**fid, paper="B"),
        make_cell(**fid, paper="B", model="ali", row="ALI"),
    )
    table = with_label_free(Table("table9", "Quality", cells))
    assert table.cells[:5] == cells
    assert [(c.paper, c.metric, c.model, c.incomparable) for c in table.cells[5:]] == [
        ("", LABEL_FREE, "vae", ""),
        ("", LABEL_FREE, "wgan", ""),
        ("", LABEL_FREE, "ali", ""),
    ]
    record = make_record(12.344, metric="fid", extractor="imagenet_lite:1234")
    seen = {LABEL_FREE: CellResult(record, (), "cifar10", True, False, "other features")}
    frame = tidy(table, "lite", [0], lambda cell, _: seen.get(cell.metric, NOTHING))
    ours = frame[frame["metric"] == LABEL_FREE]
    assert ours["published"].isna().all()
    assert set(ours["verdict"]) == {""}
    block = render(table, frame, "lite", "md").split("## In neither paper: FID (ImageNet lite)")[1]
    assert "12.34" in block
    assert "30.0" not in block.split("##")[0]


def test_a_table_without_fid_stays_as_it_is():
    table = Table("table9", "One cell", (make_cell(),))
    assert with_label_free(table) is table
