"""What the papers claim, as data: quantities, the ranges claimed of them, and how many have to hold.

Standard library only: the plan reads the claims while Snakemake parses.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf

from dtri.report.cells import Cell, Table

KINDS = ("order", "best", "level", "improvement", "existence", "words")
LEVELS = {"chance": "chance", "purity.chance_high": "95 % of permutations"}  # `Quantity.above` -> its level in words
# Why a claim is not measured:
LOOK = "a matter of looking at a figure; no number is given"
BY_EQUATIONS = "true of the method by its equations; nothing to measure"


@dataclass(frozen=True)
class Quantity:
    """What one seed measures: the number of a cell, or its excess over a level that the record holds.

    The fields from `paper` to `score` identify the cell. `above` is a key of LEVELS: "chance" of an AUPRC, or
    "purity.chance_high", the 95 % quantile over permuted labels. "": no level.
    """

    paper: str
    metric: str
    dataset: str
    model: str
    against: str = ""
    score: str = ""
    above: str = ""


@dataclass(frozen=True)
class Condition:
    """A claimed range of an effect: low < effect < high.

    Without `than` the effect is the quantity itself. Else it says how much better the quantity is than `factor` times
    `than`. It is positive where the quantity is better, whether high or low numbers are good.
    """

    quantity: Quantity
    than: Quantity | None = None
    factor: float = 1.0
    low: float = 0.0
    high: float = inf


@dataclass(frozen=True)
class Claim:
    """One statement of a paper with the rule that decides it, written before any run.

    `place` is table, figure or section. `kind` is one of KINDS. At least `needs` of the conditions have to hold; None:
    all. `unmeasured` says why a claim without conditions is not measured. `meaningless` says why a printed order
    decides nothing about two systems; such an order is shown and not counted.
    """

    id: str
    paper: str
    place: str
    statement: str
    kind: str
    conditions: tuple[Condition, ...] = ()
    needs: int | None = None
    unmeasured: str = ""
    meaningless: str = ""

    @property
    def required(self) -> int:
        return len(self.conditions) if self.needs is None else self.needs

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The quantities of all conditions, each once."""
        both = (one for c in self.conditions for one in (c.quantity, c.than) if one is not None)
        return tuple(dict.fromkeys(both))


@dataclass(frozen=True)
class Published:
    """A cell as a claim sees it.

    `value` is the printed number, less the level for an excess; None where it is not printed. `table` is the name of
    the cell's table, "" for none. `system` is the system's name as printed.
    """

    cell: Cell
    table: str
    system: str
    value: float | None


Book = dict[Quantity, Published]


def quantity(cell: Cell, above: str = "") -> Quantity:
    return Quantity(cell.paper, cell.metric, cell.dataset, cell.model, cell.against, cell.score, above)


def book(claims: Iterable[Claim], tables: Sequence[Table], further: Sequence[Cell] = ()) -> Book:
    """Every quantity of the claims with its cell.

    Args:
        claims: of both papers.
        tables: whose cells claims may name.
        further: cells that stand in no table.

    Raises:
        ValueError: an id stands twice, a kind or a cell is unknown, or a claim has no rule that decides it. The message
            names the claim.
    """
    cells = {quantity(cell): (cell, table) for table in tables for cell in table.cells}
    cells |= {quantity(cell): (cell, None) for cell in further}
    found: Book = {}
    ids = set()
    for claim in claims:
        if claim.id in ids:
            raise ValueError(f"claim {claim.id}: expected an id of its own, found another claim with it")
        ids.add(claim.id)
        if claim.kind not in KINDS:
            raise ValueError(f"claim {claim.id}: expected a kind of {', '.join(KINDS)}, found {claim.kind!r}")
        if bool(claim.conditions) == bool(claim.unmeasured):
            raise ValueError(f"claim {claim.id}: expected either conditions or the reason why it is not measured")
        if claim.conditions and not 0 < claim.required <= len(claim.conditions):
            raise ValueError(f"claim {claim.id}: expected needs of 1 to {len(claim.conditions)}, found {claim.needs}")
        for one in claim.quantities:
            found[one] = _published(claim, one, cells)
    return found


def _published(claim: Claim, wanted: Quantity, cells: dict[Quantity, tuple[Cell, Table | None]]) -> Published:
    plain = Quantity(wanted.paper, wanted.metric, wanted.dataset, wanted.model, wanted.against, wanted.score)
    if plain not in cells:
        raise ValueError(f"claim {claim.id}: {_unknown(plain, cells)}")
    cell, table = cells[plain]
    level = 0.0
    if wanted.above and table is not None:
        texts = [dict(r.values) for r in table.references if (r.metric, r.measure) == (cell.metric, wanted.above)]
        if not texts or cell.row not in texts[0]:
            raise ValueError(f"claim {claim.id}: expected a level {wanted.above!r} of {cell.metric} in {table.name}")
        level = float(texts[0][cell.row])
    value = None if cell.published is None else cell.published - level
    return Published(cell, table.name if table else "", _system(cell, table.cells if table else ()), value)


def _system(cell: Cell, cells: Iterable[Cell]) -> str:
    """The heading of the row where another system on the same data shares the cell's column, else of the column."""
    place = (cell.paper, cell.metric, cell.dataset, cell.against)
    same = [one for one in cells if (one.paper, one.metric, one.dataset, one.against) == place and one != cell]
    return cell.row if any(one.column == cell.column for one in same) else cell.column


def _unknown(wanted: Quantity, cells: Iterable[Quantity]) -> str:
    """Which part of a quantity is unknown, and what is known there.

    It is the first part that no cell has together with the parts before it.
    """
    known = list(cells)
    for part in ("paper", "metric", "dataset", "model", "against", "score"):
        names = sorted({getattr(one, part) for one in known})
        known = [one for one in known if getattr(one, part) == getattr(wanted, part)]
        if not known:
            text = ", ".join(name or "''" for name in names)
            return f"no cell has {part} {getattr(wanted, part)!r} in {wanted} (known there: {text})"
    raise ValueError(f"expected a quantity that no cell is, found {wanted}")


def sign(cell: Cell) -> int:
    """1 where high numbers are good, else -1."""
    return 1 if cell.direction == "higher" else -1


def printed_effect(condition: Condition, known: Book) -> float | None:
    """The effect by the printed numbers; None where one of them is not printed."""
    first = known[condition.quantity]
    if condition.than is None or first.value is None:
        return first.value
    second = known[condition.than].value
    return None if second is None else round(sign(first.cell) * (first.value - condition.factor * second), 9)


def printed_orders(table: Table, mixed: Callable[[Cell], str]) -> list[Claim]:
    """Every pair of printed numbers of one metric and dataset, as a claim that the better system is better.

    Equal numbers claim no order. A claim is `meaningless` where a cell may not be ranked. It is so too where the
    difference is at most the sum of both printed spreads. Without a printed spread half a unit of the last digit
    counts.

    Args:
        table: whose printed numbers are paired.
        mixed: cell -> why it may not be ranked against its neighbours, "" for no reason.
    """
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for cell in table.cells:
        if cell.published is not None and not cell.score:
            rows.setdefault((cell.paper, cell.metric, cell.dataset, cell.against), []).append(cell)
    pairs = (pair for cells in rows.values() for pair in combinations(cells, 2))
    return [_order(table, *pair, mixed) for pair in pairs if pair[0].published != pair[1].published]


def _order(table: Table, one: Cell, other: Cell, mixed: Callable[[Cell], str]) -> Claim:
    better, worse = sorted((one, other), key=lambda cell: -sign(cell) * cell.published)
    difference = round(abs(better.published - worse.published), 9)
    spread = round(printed_spread(better) + printed_spread(worse), 9)
    reasons = [reason for reason in dict.fromkeys((mixed(better), mixed(worse))) if reason]
    if difference <= spread:
        reasons.append(f"printed {difference:g} apart, within the printed spreads ({spread:g} together)")
    names = [_system(cell, (better, worse)) for cell in (better, worse)]
    where = ".".join(part for part in (better.paper, better.metric, better.dataset, better.against) if part)
    return Claim(
        id=f"{where}.{better.model}>{worse.model}",
        paper=better.paper,
        place=table.name,
        statement=f"{names[0]} ({better.published_text}) is better than {names[1]} ({worse.published_text})",
        kind="order",
        conditions=(Condition(quantity(better), quantity(worse)),),
        meaningless="; ".join(reasons),
    )


def printed_spread(cell: Cell) -> float:
    """The printed ±, or half a unit of the last printed digit."""
    if cell.published_std is not None:
        return cell.published_std
    return 0.5 * 10.0 ** -len(cell.published_text.partition(".")[2])
