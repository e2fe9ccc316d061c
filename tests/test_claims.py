"""Claims against planted truths: intervals that cover, orders that are reversed or drowned in noise, printed tables."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr, ttest_ind

from dtri.report import forest
from dtri.report.agreement import RankedRow, coefficient_of_variation, kendall, spearman
from dtri.report.cells import LABEL_FREE, Cell, CellResult, ReferenceColumn, Table
from dtri.report.claims import Claim, Condition, Quantity, book, printed_effect, printed_orders, quantity
from dtri.report.claims_page import Judged, render, sections, verdict_in_words
from dtri.report.contrasts import estimate, seeds_to_decide
from dtri.report.verdicts import FEWEST_SEEDS, Judgement, Measured, _hours, judge, measured
from tests.test_report import make_cell, make_record
from tests.tex import typeset
from workflow import configuration, left_out, plan, status
from workflow.claims import paper_a, paper_b, printed
from workflow.commands.claims import main
from workflow.configuration import Preset
from workflow.tables.table1 import TABLE as TABLE1

OURS, VAE, GAN = (make_cell(metric="fid", model=name, column=name, row="CIFAR-10") for name in ("ours", "vae", "gan"))
OURS, VAE, GAN = (
    replace(cell, published=value, published_text=f"{value}", column=cell.model)
    for cell, value in ((OURS, 30.0), (VAE, 100.0), (GAN, 40.0))
)
TABLE = Table("table9", "Planted", (OURS, VAE, GAN))
BETTER = Claim(
    id="order",
    paper="A",
    place="Table 9",
    statement="Ours is better than the VAE",
    kind="order",
    conditions=(Condition(quantity(OURS), quantity(VAE)),),
)
BEST = replace(
    BETTER, id="best", kind="best", conditions=tuple(Condition(quantity(OURS), quantity(c)) for c in (VAE, GAN))
)
EMPTY = Judged((), (), {}, {}, (), lambda cell: "", "planted", "")


def decided(claim: Claim, table: Table = TABLE, **values: tuple[float, ...]) -> Judgement:
    """Of a claim about systems with these values; a lower FID is better."""
    found = {
        quantity(cell): Measured(values[cell.model], train_seconds=1500.0, measure_seconds=300.0)
        for cell in table.cells
        if cell.model in values
    }
    return judge(claim, book([claim], [table]), found)


# Intervals


@pytest.mark.parametrize("n, m, spread", [(3, 0, 1.0), (3, 3, 1.0), (3, 3, 3.0), (3, 5, 1.0), (5, 5, 3.0)])
def test_intervals_cover_the_true_effect_as_often_as_they_say(n: int, m: int, spread: float):
    """Normal values, the second system's spread larger by a factor; 4000 repetitions, so within 0.7 % of the truth."""
    draw, covered = np.random.RandomState(0), 0
    for _ in range(4000):
        low, high = estimate(list(draw.randn(n)), list(spread * draw.randn(m) + 1.0)).interval()
        covered += low <= (-1.0 if m else 0.0) <= high
    assert 0.93 <= covered / 4000 <= 0.97


def test_the_interval_of_a_difference_is_that_of_scipy():
    first, second = [1.0, 2.5, 2.0], [4.0, 3.0, 7.0, 5.5]
    theirs = ttest_ind(first, second, equal_var=False).confidence_interval()
    assert estimate(first, second).interval() == pytest.approx((theirs.low, theirs.high))


def test_a_factor_is_of_the_second_mean_and_its_spread():
    scaled = estimate([1.0, 2.0, 3.0], [10.0, 12.0, 17.0], factor=0.5)
    plain = estimate([1.0, 2.0, 3.0], [5.0, 6.0, 8.5])
    assert scaled.interval() == pytest.approx(plain.interval())


def test_an_interval_of_one_seed_is_refused():
    with pytest.raises(ValueError, match="expected two seeds at least"):
        estimate([1.0])
    with pytest.raises(ValueError, match="expected two seeds at least"):
        estimate([1.0, 2.0], [3.0])


def test_seeds_that_agree_exactly_leave_no_width():
    assert estimate([1.0, 1.0, 1.0], [0.25, 0.25]).interval() == (0.75, 0.75)


def test_the_number_of_seeds_that_decides_is_the_smallest():
    """Equal spreads s: with n seeds each, the half width is t(2n - 2) s sqrt(2 / n)."""
    first, second = [-1.0, 0.0, 1.0], [0.0, 1.0, 2.0]  # s = 1, means 1 apart
    needed = seeds_to_decide(first, second, 1.0)
    assert needed == 9  # t(16) sqrt(2 / 9) = 0.999, t(14) sqrt(2 / 8) = 1.072
    assert seeds_to_decide(first, second, 0.0) is None
    assert seeds_to_decide(first, [], 1.0) == 7  # t(6) / sqrt(7) = 0.925, t(5) / sqrt(6) = 1.049


# Verdicts


def test_a_planted_order_holds_and_its_reverse_fails():
    right, wrong = (50.0, 51.0, 49.0), (80.0, 82.0, 81.0)
    assert decided(BETTER, ours=right, vae=wrong).verdict == "holds"
    judgement = decided(BETTER, ours=wrong, vae=right)
    assert judgement.verdict == "fails"
    assert judgement.effects[0].printed == 70.0
    assert judgement.effects[0].value == pytest.approx(-31.0)


def test_a_planted_order_within_noise_is_undecided_and_says_what_would_decide_it():
    judgement = decided(BETTER, ours=(50.0, 60.0, 70.0), vae=(55.0, 66.0, 75.0))
    assert judgement.verdict == "undecided"
    effect = judgement.effects[0]
    assert effect.low < 0 < effect.high
    needed = seeds_to_decide([50.0, 60.0, 70.0], [55.0, 66.0, 75.0], effect.value)
    assert judgement.more == ((quantity(OURS), needed - 3), (quantity(VAE), needed - 3))
    assert judgement.hours == pytest.approx(needed - 3)  # half an hour each


def test_what_no_hundred_seeds_would_decide_says_so():
    judgement = decided(BETTER, ours=(50.0, 60.0, 70.0), vae=(50.0, 60.0, 70.0))
    assert (judgement.verdict, judgement.more, judgement.hours) == ("undecided", None, None)


@pytest.mark.parametrize("n", range(1, FEWEST_SEEDS))
def test_no_verdict_from_too_few_seeds(n: int):
    """However far the values lie apart; the seeds that are lacking are named and priced, and promise no decision."""
    judgement = decided(BETTER, ours=(1.0, 1.1)[:n], vae=(900.0, 901.0, 902.0))
    assert judgement.lacks_seeds
    text = render(replace(EMPTY, claims=(judgement,), known=book([BETTER], [TABLE])), "md")
    lacking = {1: "2 more seeds of ours are", 2: "1 more seed of ours is"}[n]
    assert f"{lacking} needed to decide it or not, {0.5 * (FEWEST_SEEDS - n):.2g} h" in text
    assert judgement.verdict == "undecided"
    assert judgement.reason == f"{n} of at least 3 seeds"
    assert judgement.more == ((quantity(OURS), FEWEST_SEEDS - n),)
    assert judgement.hours == 0.5 * (FEWEST_SEEDS - n)
    assert (judgement.effects[0].low is None) == (n == 1)


def test_of_many_parts_those_that_need_the_fewest_seeds_decide():
    """All are needed: GAN alone can make the claim fail; the VAE, a tie, would need seeds without end."""
    judgement = decided(BEST, ours=(50.0, 51.0, 52.0), vae=(51.0, 51.0, 51.0), gan=(45.5, 48.0, 49.0))
    assert judgement.verdict == "undecided"
    tie, decisive = judgement.effects
    assert tie.more is None
    assert judgement.more == tuple(zip(decisive.quantities, decisive.more, strict=True))
    one_is_enough = decided(
        replace(BEST, needs=1), ours=(50.0, 51.0, 52.0), vae=(50.0, 52.0, 53.5), gan=(51.5, 54.0, 55.5)
    )
    assert [effect.verdict for effect in one_is_enough.effects] == ["undecided", "undecided"]
    assert {one.model for one, _ in one_is_enough.more} == {"ours", "gan"}


def test_hours_count_a_training_once_and_a_record_once():
    """FID and RMSE of one system come from one training; the reversed sign of a score from one record."""
    quantities = [Quantity("A", *names) for names in (("fid", "cifar10", "ours"), ("rmse", "cifar10", "ours"))]
    quantities += [Quantity("A", "auroc", "cifar10", "alice", "svhn", score) for score in ("", "reversed")]
    found = {one: Measured((0.5,), train_seconds=3600.0, measure_seconds=360.0) for one in quantities}
    assert _hours(tuple((one, 2) for one in quantities), found) == pytest.approx(2 * 2.0 + 2 * 0.3)


def test_an_undecided_claim_says_by_what_its_interval_falls_short():
    tie = decided(BETTER, ours=(1.0, 1.0, 1.0), vae=(1.0, 1.0, 1.0))
    assert tie.reason == "all seeds agree, at the edge of the range claimed"
    strict = decided(BEST, ours=(50.0, 51.0, 52.0), vae=(80.0, 82.0, 81.0), gan=(46.0, 48.0, 49.0))
    assert strict.effects[1].high < 0.0
    assert strict.reason == "the 95 % interval lies outside, but not the 97.5 % interval that several parts need"
    noise = decided(BETTER, ours=(50.0, 60.0, 70.0), vae=(55.0, 66.0, 75.0))
    assert noise.reason == "the interval reaches beyond the range claimed, and into it"


def test_seeds_without_a_value_stand_beside_the_verdict():
    found = {
        quantity(OURS): Measured((50.0, 51.0, 49.0), diverged=2),
        quantity(VAE): Measured((80.0, 82.0, 81.0), missing=1),
    }
    judgement = judge(BETTER, book([BETTER], [TABLE]), found)
    assert judgement.verdict == "holds"
    assert judgement.reason == "ours: 2 seeds diverged; vae: 1 seed missing"


def test_best_needs_every_rival_and_one_that_is_better_decides():
    ours = (50.0, 51.0, 49.0)
    far, near, below = (80.0, 82.0, 81.0), (50.0, 53.0, 49.5), (20.0, 21.0, 22.0)
    assert decided(BEST, ours=ours, vae=far, gan=far).verdict == "holds"
    assert decided(BEST, ours=ours, vae=far, gan=near).verdict == "undecided"
    assert decided(BEST, ours=ours, vae=far, gan=below).verdict == "fails"
    assert decided(BEST, ours=ours, vae=far).verdict == "not measured"
    assert decided(BEST, ours=ours, vae=below).verdict == "fails"  # whatever the other is
    assert decided(replace(BEST, needs=1), ours=ours, vae=far, gan=below).verdict == "holds"


def test_a_best_of_many_equal_systems_rarely_fails():
    """Ten rivals as good as the first: with an interval of 95 % each, 2.5 % per rival would be called better."""
    rivals = [replace(VAE, model=f"rival{i}", column=f"rival{i}") for i in range(10)]
    claim = replace(BEST, conditions=tuple(Condition(quantity(OURS), quantity(cell)) for cell in rivals))
    table, draw = Table("table9", "Planted", (OURS, *rivals)), np.random.RandomState(0)
    verdicts = [
        decided(claim, table, **{cell.model: tuple(draw.randn(5)) for cell in table.cells}).verdict for _ in range(200)
    ]
    assert verdicts.count("fails") <= 10
    assert verdicts.count("holds") == 0


@pytest.mark.parametrize(
    "values, verdict",
    [
        ((0.70, 0.71, 0.72), "holds"),
        ((0.30, 0.31, 0.32), "fails"),
        ((0.45, 0.55, 0.60), "undecided"),
        ((1.0, 1.0, 1.0), "holds"),
    ],
)
def test_a_level_is_met_from_one_side(values: tuple[float, ...], verdict: str):
    cell = make_cell(metric="auroc", direction="higher", against="svhn")
    claim = replace(BETTER, kind="level", conditions=(Condition(quantity(cell), low=0.5),))
    table = Table("table9", "Level", (cell,))
    assert judge(claim, book([claim], [table]), {quantity(cell): Measured(values)}).verdict == verdict


@pytest.mark.parametrize(
    "ours, verdict",
    [((80.5, 81.0, 81.5), "holds"), ((90.0, 91.0, 92.0), "fails"), ((83.0, 84.0, 85.0), "undecided")],
)
def test_as_good_as_is_within_both_bounds(ours: tuple[float, ...], verdict: str):
    claim = replace(BETTER, kind="level", conditions=(Condition(quantity(OURS), quantity(VAE), low=-4.0, high=4.0),))
    assert decided(claim, ours=ours, vae=(80.5, 81.0, 81.5)).verdict == verdict


def test_a_claim_in_words_says_why_it_is_not_measured():
    claim = replace(BETTER, kind="words", conditions=(), unmeasured="a matter of looking")
    judgement = judge(claim, book([claim], [TABLE]), {})
    assert (judgement.verdict, judgement.reason) == ("not measured", "a matter of looking")


# Records to values


def test_records_become_values_and_counts():
    records = [
        CellResult(make_record(0.5, extra={"chance": 0.2})),
        CellResult(make_record(0.6, extra={"chance": 0.2, "warning": "ties decide this value"})),
        CellResult(make_record(None)),
        CellResult(make_record(0.9, extra={"chance": 0.2}), stale=("training code",)),
        CellResult(None),
        CellResult(make_record(0.7, extra={"chance": 0.2}), accepted=("training code, by a person",)),
    ]
    found = measured(records, "chance")
    assert found.values == (pytest.approx(0.3), pytest.approx(0.5))
    assert (found.diverged, found.doubtful, found.stale, found.missing, found.accepted) == (1, 1, 1, 1, 1)
    assert found.reason == ""


def test_the_cost_of_a_seed_is_its_training_and_its_measurement():
    found = measured([CellResult(make_record(0.5, seed=k, train_seconds=100.0 * (k + 1))) for k in range(2)])
    assert (found.train_seconds, found.measure_seconds) == (150.0, 1.0)


@pytest.mark.parametrize(
    "record, reason",
    [
        (CellResult(make_record(0.5), stale=("training code",)), "stale: training code"),
        (CellResult(make_record(None)), "every seed diverged"),
        (CellResult(make_record(0.5, extra={"warning": "one score"})), "one score"),
        (CellResult(None, expected=False, reason="dataset svhn is not in the configuration"), "dataset svhn"),
        (CellResult(None), "not run"),
    ],
)
def test_why_there_is_no_value(record: CellResult, reason: str):
    assert measured([record]).reason.startswith(reason)


def test_purity_counts_above_the_quantile_of_permuted_labels():
    """Meaningful basins: three seeds clearly above; basins as random labels would have them: undecided or failed."""
    claim = next(claim for claim in paper_b.CLAIMS if claim.id == "B.basins")
    known = book([claim], [], paper_b.FURTHER)
    (wanted,) = claim.quantities

    def verdict(*purities: float) -> str:
        extra = {"purity": {"chance_high": 0.3}}
        records = [CellResult(make_record(p, seed=i, extra=extra)) for i, p in enumerate(purities)]
        return judge(claim, known, {wanted: measured(records, wanted.above)}).verdict

    assert verdict(0.80, 0.85, 0.82) == "holds"
    assert verdict(0.20, 0.22, 0.21) == "fails"
    assert verdict(0.25, 0.35, 0.30) == "undecided"


# Printed orders


def table_of(*texts: str, **changes: str) -> Table:
    cells = [
        make_cell(
            metric="auprc",
            direction="higher",
            row="1",
            column=f"system {i}",
            model=f"m{i}",
            published=float(text.partition("±")[0]),
            published_std=float(text.partition("±")[2]) if "±" in text else None,
            published_text=text,
            **changes,
        )
        for i, text in enumerate(texts)
    ]
    return Table("table9", "Printed", tuple(cells))


def test_every_pair_of_different_printed_numbers_is_an_order():
    claims = printed_orders(table_of("0.1", "0.5", "0.5"), lambda _: "")
    assert [claim.id for claim in claims] == ["A.auprc.cifar10.m1>m0", "A.auprc.cifar10.m2>m0"]
    known = book(claims, [table_of("0.1", "0.5", "0.5")])
    assert [printed_effect(claim.conditions[0], known) for claim in claims] == [0.4, 0.4]


@pytest.mark.parametrize(
    "texts, meaningful",
    [
        (("0.30 ± 0.04", "0.38 ± 0.03"), True),
        (("0.30 ± 0.04", "0.37 ± 0.03"), False),  # the bars touch
        (("0.30", "0.31"), False),  # 0.305 rounds to either
        (("0.30", "0.32"), True),
    ],
)
def test_an_order_within_the_printed_spread_decides_nothing(texts: tuple[str, str], meaningful: bool):
    (claim,) = printed_orders(table_of(*texts), lambda _: "")
    assert (claim.meaningless == "") is meaningful


def test_an_order_of_mixed_protocols_decides_nothing():
    (claim,) = printed_orders(table_of("0.1", "0.9"), lambda cell: "another split" if cell.model == "m0" else "")
    assert claim.meaningless == "another split"


def test_printed_orders_that_decide_nothing_are_those_known():
    """Impossible numbers, quoted and borrowed ones, scores of unknown sign, and bars that overlap."""
    assert {claim.id for claim in printed.CLAIMS if not claim.meaningless and claim.place == "table4"} == {
        *(f"A.auprc.mnist_holdout{d}.joint_vae_ebm>{m}" for d in (4, 5, 7) for m in ("meg", "bigan")),
        "A.auprc.mnist_holdout5.bigan>meg",
        "A.auprc.mnist_holdout9.joint_vae_ebm>bigan",
    }
    assert all(claim.meaningless for claim in printed.CLAIMS if claim.place == "table3")
    quoted = {"dcgan", "wgan", "sngan"}
    for claim in printed.CLAIMS:
        if claim.id.startswith("A.fid.cifar10."):
            assert bool(claim.meaningless) == bool(quoted & {one.model for one in claim.quantities})


# The papers' claims


@pytest.mark.parametrize("paper", [paper_a, paper_b], ids=["A", "B"])
def test_claims_name_cells_that_exist(paper):
    assert book(paper.CLAIMS, printed.TABLES, paper_b.FURTHER)


def test_printed_numbers_support_what_the_papers_say_but_where_noted():
    """By its printed effects a claim holds, but for those that the papers' own numbers contradict."""
    claims = (*paper_a.CLAIMS, *paper_b.CLAIMS)
    known = book(claims, printed.TABLES, paper_b.FURTHER)
    lost = set()
    for claim in claims:
        effects = [(printed_effect(one, known), one) for one in claim.conditions]
        if sum(effect is None or one.low < effect < one.high for effect, one in effects) < claim.required:
            lost.add(claim.id)
    assert lost == {"A.vae_ineffective", "A.both.lsun_bedroom", "A.anomaly.1"}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dataset": "cifar100"}, "no cell has dataset 'cifar100'"),
        ({"model": "resnet"}, "no cell has model 'resnet'"),
        ({"metric": "bleu"}, "no cell has metric 'bleu'"),
        ({"score": "reversed"}, "no cell has score 'reversed'"),
    ],
)
def test_a_claim_about_something_unknown_is_an_error(change: dict[str, str], message: str):
    claim = replace(BETTER, conditions=(Condition(replace(quantity(OURS), **change)),))
    with pytest.raises(ValueError, match=f"claim order: {message}.*known there: "):
        book([claim], [TABLE])


def test_the_level_of_an_excess_is_that_printed_for_the_papers_data():
    table = replace(
        table_of("0.7"), references=(ReferenceColumn("auprc", "chance level", "chance", (("1", "0.388"),)),)
    )
    above = quantity(table.cells[0], "chance")
    claim = replace(BETTER, conditions=(Condition(above),))
    assert printed_effect(claim.conditions[0], book([claim], [table])) == pytest.approx(0.312)
    with pytest.raises(ValueError, match="claim order: expected a level 'minimum' of auprc"):
        book([replace(claim, conditions=(Condition(replace(above, above="minimum")),))], [table])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "hunch"}, "expected a kind of"),
        ({"conditions": ()}, "expected either conditions or the reason"),
        ({"unmeasured": "no time"}, "expected either conditions or the reason"),
        ({"needs": 2}, "expected needs of 1 to 1"),
    ],
)
def test_an_impossible_claim_is_an_error(change: dict, message: str):
    with pytest.raises(ValueError, match=f"claim order: {message}"):
        book([replace(BETTER, **change)], [TABLE])


def test_ids_stand_once():
    with pytest.raises(ValueError, match="claim order: expected an id of its own"):
        book([BETTER, BETTER], [TABLE])


# Agreement of tables


def test_rank_correlations_of_one_row_are_those_of_scipy():
    numbers, values = (1.0, 2.0, 2.0, 5.0, 4.0), (3.0, 2.0, 6.0, 7.0, 7.0)
    row = RankedRow(numbers, tuple((v, v) for v in values))
    assert kendall([row]).value == pytest.approx(kendalltau(numbers, values).statistic)
    assert spearman([row]).value == pytest.approx(spearmanr(numbers, values).statistic)


def test_rows_are_ranked_apart():
    """Two datasets, both in the printed order: in full agreement, though numbers of one lie above the other's."""
    rows = [RankedRow((1.0, 2.0), ((10.0,), (20.0,))), RankedRow((3.0, 4.0), ((1.0,), (2.0,)))]
    assert kendall(rows).value == spearman(rows).value == 1.0
    assert kendall([RankedRow((1.0, 2.0), ((20.0,), (10.0,)))]).value == -1.0
    assert kendall([RankedRow((1.0,), ((20.0,),))]) is None


def test_one_seed_gives_a_correlation_without_interval():
    assert kendall([RankedRow((1.0, 2.0, 3.0), ((1.0,), (2.0, 3.0), (4.0, 5.0)))]).low is None


def test_the_bootstrap_interval_is_wide_where_seeds_overlap_and_none_where_they_do_not():
    apart = RankedRow((1.0, 2.0, 3.0), ((1.0, 1.1, 0.9), (2.0, 2.1, 1.9), (3.0, 3.1, 2.9)))
    mixed_up = RankedRow((1.0, 2.0, 3.0), ((1.0, 5.0, 9.0), (2.0, 6.0, 10.0), (3.0, 7.0, 11.0)))
    assert (kendall([apart]).low, kendall([apart]).high) == (1.0, 1.0)
    found = kendall([mixed_up])
    assert found.value == 1.0
    assert found.low < 0.0


@pytest.mark.parametrize(
    "scores, published",
    [
        ((84.51, 84.50, 87.46, 85.60, 84.20, 86.61, 86.20), 1.562),
        ((30.65, 30.65, 29.13, 30.65, 29.96), 2.487),
        ((87.50, 80.75, 89.36, 88.10, 89.64, 88.80), 4.176),
        ((31.11, 30.28, 31.11, 29.12), 3.572),
    ],
)
def test_the_coefficient_of_variation_is_that_of_its_paper(scores: tuple[float, ...], published: float):
    """Belz, Popović & Mille (2022), Table 4: BLEU and SARI of two systems of text simplification."""
    assert coefficient_of_variation(scores) == pytest.approx(published, abs=5e-4)


def test_a_scale_is_shifted_to_start_at_zero():
    assert coefficient_of_variation((7.0, 7.4), lowest=1.0) == pytest.approx(coefficient_of_variation((6.0, 6.4)))
    with pytest.raises(ValueError, match="mean above 1"):
        coefficient_of_variation((1.0, 1.0), lowest=1.0)


# Pages


@pytest.fixture(scope="module")
def judged() -> Judged:
    """Both papers' claims, three seeds (SVAE: two) around the printed numbers, nothing of LSUN-bedroom."""
    claims = (*paper_a.CLAIMS, *paper_b.CLAIMS)
    known = book((*claims, *printed.CLAIMS), printed.TABLES, paper_b.FURTHER)
    draw = np.random.RandomState(0)
    found = {
        one: Measured(
            tuple(cell.value * (1 + 0.01 * draw.randn(2 if one.model == "svae" else 3))),
            train_seconds=3000.0,
            measure_seconds=600.0,
            scale="50 iterations",
        )
        for one, cell in known.items()
        if cell.value is not None and one.dataset != "lsun_bedroom"
    }
    return Judged(
        claims=tuple(judge(claim, known, found) for claim in claims),
        orders=tuple(judge(claim, known, found) for claim in printed.CLAIMS),
        known=known,
        found=found,
        tables=printed.TABLES,
        mixed=printed.mixed,
        label="demo: digits",
        caveat="digits decide nothing about the papers",
    )


@pytest.mark.parametrize("fmt", ["md", "tex", "html"])
def test_every_format_says_at_which_scale_and_what_it_cannot_tell(judged: Judged, fmt: str):
    text = render(judged, fmt)
    for part in ("digits decide nothing about the papers", "holds at this scale", "50 iterations", "would decide"):
        assert part in text
    words = {row[1] for section in sections(judged) if section.columns[1] == "verdict" for row in section.rows}
    assert words == {"holds at this scale", "undecided", "not measured", "fails at this scale"}


def test_tex_compiles(judged: Judged, tmp_path: Path):
    typeset(render(judged, "tex"), "6.5in", tmp_path)


def test_a_verdict_at_the_papers_scale_stands_alone(judged: Judged):
    one = next(one for one in judged.claims if one.verdict == "holds")
    assert verdict_in_words(one) == "holds at this scale"
    assert verdict_in_words(replace(one, scales=())) == "holds"


def test_the_csv_has_a_line_per_part_and_every_claim(judged: Judged):
    rows = list(csv.DictReader(io.StringIO(render(judged, "csv"))))
    assert {row["claim"] for row in rows} == {one.claim.id for one in (*judged.claims, *judged.orders)}
    (row,) = (row for row in rows if row["claim"] == "A.improves.celeba")
    assert (row["printed"], row["part_verdict"], row["seeds"], row["claimed_low"]) == ("24.845", "holds", "3;3", "0")
    assert float(row["low"]) < float(row["effect"]) < float(row["high"])


def test_the_share_upheld_is_of_meaningful_decided_orders_and_never_pooled(judged: Judged):
    orders = next(section for section in sections(judged) if section.heading.startswith("Printed orders"))
    by_block = {row[0]: row for row in orders.rows}
    assert by_block["table3, paper A: AUROC"][2] == "0"
    assert by_block["table3, paper A: AUROC"][-1] == "none decided"
    mse = by_block["table2, paper B: MSE"]
    assert mse[1:3] == ("20", "20")
    assert mse[-1] == "20 of 20 (100%)"
    assert not any("all tables" in " ".join(row) for row in orders.rows)


def test_agreement_is_by_row_and_by_block(judged: Judged):
    agreement = next(section for section in sections(judged) if section.heading.startswith("Agreement"))
    mse = [row for row in agreement.rows if "mean squared error" in row[0] and "Paper B" in row[0]]
    assert [row[1:4] for row in mse] == [("CIFAR-10", "5", "3"), ("CelebA", "5", "3"), ("all rows", "10", "3")]
    assert mse[0][4].startswith("+1.00 [")


def test_cv_is_of_comparable_cells_alone(judged: Judged):
    def section(some: Judged):
        return next(one for one in sections(some) if one.heading.startswith("CV*"))

    assert section(judged).rows == ()
    comparable = {one: replace(values, comparable=True) for one, values in judged.found.items()}
    rows = section(replace(judged, found=comparable)).rows
    assert any(row[:3] == ("table1, FID, CelebA", "Ours", "24.7") for row in rows)
    assert not any(row[0].startswith("table3") and row[1].startswith(("ALICE", "SVAE")) for row in rows)


def test_the_figure_has_every_effect_once(judged: Judged):
    fig = forest.draw(judged.claims, judged.known)
    labels = [text.get_text() for axes in fig.axes for text in axes.get_yticklabels()]
    assert len(labels) == len({one.condition for claim in judged.claims for one in claim.effects})
    assert "CelebA: Ours against 0.5 × VAE" in labels


def test_the_figure_colours_an_effect_by_the_interval_it_draws():
    """Undecided as a part of a claim about two rivals, whose intervals are wider; the 95 % interval is clear."""
    (_, effect) = decided(BEST, ours=(50.0, 51.0, 52.0), vae=(80.0, 82.0, 81.0), gan=(46.0, 48.0, 49.0)).effects
    assert effect.verdict == "undecided"
    assert forest._by_interval(effect) == "fails"


def test_equal_values_stay_equal_in_the_bootstrap():
    """Two systems of the same constant value, of different numbers of seeds: tied in every draw."""
    found = kendall([RankedRow((1.0, 2.0, 3.0), ((0.1, 0.1, 0.1), (0.1, 0.1), (0.2, 0.2, 0.2)))])
    assert found.low == found.high == pytest.approx(found.value)


# Planning and the command


@pytest.fixture(autouse=True)
def fresh():
    """The plan remembers its claims; here some are planted."""
    plan.claim_book.cache_clear()
    yield
    plan.claim_book.cache_clear()


def test_claims_are_products_of_every_preset():
    assert {f"results/demo/claims.{ending}" for ending in ("csv", "md", "tex", "html", "png", "pdf")} <= set(
        plan.preset_products(configuration.preset("demo"))
    )
    records = plan.claim_records(configuration.preset("demo"))
    assert "results/demo/digits/joint_vae_ebm/seed0/metrics/fid_domain.json" in records
    assert "results/demo/digits/divergence_triangle_landscape/seed0/metrics/landscape_purity.json" in records
    assert len(set(records)) == len(records)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dataset": "cifar100"}, "claim planted: no cell has dataset 'cifar100'"),
        ({"model": "resnet"}, "claim planted: no cell has model 'resnet'"),
    ],
)
def test_a_claim_about_something_unknown_is_an_error_while_planning(monkeypatch, change: dict[str, str], message: str):
    wrong = replace(Quantity("A", "fid", "cifar10", "joint_vae_ebm"), **change)
    planted = replace(BETTER, id="planted", conditions=(Condition(wrong),))
    monkeypatch.setattr(paper_a, "CLAIMS", (*paper_a.CLAIMS, planted))
    with pytest.raises(ValueError, match=message):
        plan.check_configuration()


def test_a_system_that_is_not_configured_is_an_error_while_planning(monkeypatch):
    """A cell may stand in a table before its system exists; a claim about it may not."""
    monkeypatch.setattr(plan, "claims", lambda: [claim for claim in paper_a.CLAIMS if claim.id == "A.sngan.cifar10"])
    monkeypatch.setattr(configuration, "models", lambda: {"joint_vae_ebm": None})
    with pytest.raises(ValueError, match=r"claim A\.sngan\.cifar10: unknown model 'sngan'"):
        plan._check_claims()


def test_datasets_without_labels_are_judged_by_features_that_need_none():
    """Of faces there is no domain classifier; systems of one dataset are always measured by the same network."""
    faces = next(cell for cell in TABLE1.cells if (cell.metric, cell.dataset) == ("fid", "celeba"))
    images = next(cell for cell in TABLE1.cells if (cell.metric, cell.dataset) == ("fid", "cifar10"))
    for preset in configuration.presets().values():
        if preset.label_free_extractor and preset.extractor == "domain":
            assert plan.claim_cell(preset, faces).metric == LABEL_FREE
        assert plan.claim_cell(preset, images) == images


def test_the_command_judges_what_is_there(monkeypatch, tmp_path):
    """Three planted seeds of two systems; everything else is not measured, and nothing is refused with --partial."""
    values = {"joint_vae_ebm": 30.0, "vae": 110.0}
    seeds = configuration.preset("demo").model_copy(update={"seeds": (0, 1, 2)})

    def planted(preset: Preset, cell: Cell, seed: int, some: Sequence[left_out.LeftOut]) -> CellResult:
        if cell.metric != "fid" or cell.model not in values:
            return left_out.explained(CellResult(None), cell, seed, some)
        return CellResult(make_record(values[cell.model] + seed, seed=seed, train_seconds=60.0))

    monkeypatch.setattr(configuration, "preset", lambda name: seeds)
    monkeypatch.setattr(status, "lookup", planted)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "left_out.yaml").write_text("slow:\n  systems: [sngan]\n  why: takes a day\n")
    assert main(["--preset", "demo", "--partial", "--left-out", "left_out.yaml", "--out", "."]) == 0
    rows = list(csv.DictReader((tmp_path / "claims.csv").open()))
    (row,) = (row for row in rows if row["claim"] == "A.improves.cifar10")
    assert (row["verdict"], row["effect"], row["seeds"]) == ("holds", "24.5", "3;3")
    reasons = {row["reason"] for row in rows if row["part"] == "FID, CIFAR-10: SNGAN better than Ours"}
    assert reasons == {"takes a day"}
    assert (
        row["scale"]
        == "400 iterations, width 0.125, on digits, features of a domain classifier; " + row["scale"].partition("; ")[2]
    )
    assert "decides nothing about the papers" in (tmp_path / "claims.html").read_text()
    assert (tmp_path / "claims.png").stat().st_size < 500_000
    with pytest.raises(FileNotFoundError, match="more records, found none at results/demo"):
        main(["--preset", "demo"])
