"""Measured values to verdicts on claims.

*holds*: the interval of every effect that is needed lies in the range claimed. *fails*: too many intervals lie outside
for the claim to hold. *undecided*: neither, or too few seeds. *not measured*: a quantity has no value.

A claim of k conditions that needs all of them holds when each 95 % interval says so. No correction is due, since the
weakest condition decides (intersection-union test, Berger 1982). It fails when one interval says so. A claim that needs
fewer than all may profit from the luckiest condition. In these two cases intervals have the level 1 - 0.05 / k
(Bonferroni).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from dtri.report.cells import CellResult
from dtri.report.claims import Book, Claim, Condition, Quantity, printed_effect, sign
from dtri.report.contrasts import estimate, seeds_to_decide
from dtri.report.intervals import LEVEL
from dtri.report.records import Record
from dtri.report.tidy import is_diverged

VERDICTS = ("holds", "fails", "undecided", "not measured")
FEWEST_SEEDS = 3  # below this number nothing is decided about a system
MOST_SEEDS = 100  # beyond which a claim is called out of reach


@dataclass(frozen=True)
class Measured:
    """Values of one quantity, one per seed that has one, and how many other seeds gave none, and why.

    `diverged`, `doubtful`, `stale` and `missing` count these seeds. A doubtful value has a warning in its record, or
    lacks the level that is subtracted. `accepted` counts seeds with a value whose difference from this checkout
    somebody accepted. `train_seconds` and `measure_seconds` are the cost of one seed, None where unknown. `reason` says
    why there is no value. `scale` says how long and how wide the system was trained and on which data, "" for the
    paper's own. `comparable`: the values may stand beside the printed number.
    """

    values: tuple[float, ...] = ()
    diverged: int = 0
    doubtful: int = 0
    stale: int = 0
    missing: int = 0
    accepted: int = 0
    train_seconds: float | None = None
    measure_seconds: float | None = None
    reason: str = ""
    scale: str = ""
    comparable: bool = False

    @property
    def n(self) -> int:
        return len(self.values)


Measurements = Mapping[Quantity, Measured]


def measured(found: Sequence[CellResult], above: str = "", scale: str = "") -> Measured:
    """The values of one cell's records, one per seed; stale records give none.

    Args:
        found: per seed, with the score that is asked for as the record's value.
        above: level of the record that is subtracted, "" for none.
        scale: as in `Measured`.
    """
    valid = [one for one in found if one.record is not None and not one.stale]
    current = [one.record for one in valid]
    sound = [record for record in current if not is_diverged(record)]
    certain = [r for r in sound if not r.extra.get("warning") and _level(r, above) is not None]
    trained = [record for record in current if record.train_seconds is not None]
    reasons = [f"stale: {', '.join(one.stale)}" for one in found if one.stale]
    reasons += [one.reason for one in found if not one.expected]
    reasons += [r.extra.get("warning") or f"no {above} in the record" for r in sound if r not in certain]
    reasons += ["every seed diverged"] if current and not sound else []
    return Measured(
        values=tuple(r.value - _level(r, above) for r in certain),
        diverged=len(current) - len(sound),
        doubtful=len(sound) - len(certain),
        stale=sum(bool(one.stale) for one in found),
        missing=sum(one.record is None and not one.stale for one in found),
        accepted=sum(bool(one.accepted) and one.record in certain for one in valid),
        train_seconds=mean(record.train_seconds for record in trained) if trained else None,
        measure_seconds=mean(record.seconds for record in trained) if trained else None,
        reason="" if certain else "; ".join(_distinct(reasons)) or "not run",
        scale=scale,
        comparable=bool(certain) and all(one.comparable for one in valid),
    )


def _level(record: Record, above: str) -> float | None:
    """The level `above` of a record, where a dot leads into a nested entry.

    0 where no level is asked for, None where the record has none.
    """
    level = record.extra
    for key in above.split("."):
        level = 0.0 if not key else (level or {}).get(key)
    return level


@dataclass(frozen=True)
class Effect:
    """One condition: the effect printed and measured, with its 95 % interval, which is None from a single seed.

    `seeds` are the numbers of seeds behind each quantity. `more` says how many further seeds of each quantity would
    decide an undecided effect at the spread seen; None where no number up to MOST_SEEDS would, and where there are too
    few seeds to say.
    """

    condition: Condition
    verdict: str
    printed: float | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: tuple[int, ...] = ()
    more: tuple[int, ...] | None = None
    reason: str = ""

    @property
    def lacks_seeds(self) -> bool:
        return self.value is not None and min(self.seeds) < FEWEST_SEEDS

    @property
    def is_inside(self) -> bool:
        """Whether the mean effect lies in the range claimed."""
        return self.value is not None and by_interval(self.condition, self.value, self.value) == "holds"

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return tuple(one for one in (self.condition.quantity, self.condition.than) if one is not None)


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict and why.

    For an undecided claim, `more` gives the fewest further seeds per quantity that would decide it. Where an effect has
    fewer than FEWEST_SEEDS, `more` gives the seeds that are lacking, before which nothing can be said. `hours` is their
    cost. `more` is None where no number of seeds would decide, `hours` also where the cost is unknown. `scales` says at
    which scale the claim was measured.
    """

    claim: Claim
    verdict: str
    reason: str
    effects: tuple[Effect, ...] = ()
    more: tuple[tuple[Quantity, int], ...] | None = None
    hours: float | None = None
    scales: tuple[str, ...] = ()

    @property
    def lacks_seeds(self) -> bool:
        return self.verdict == "undecided" and any(effect.lacks_seeds for effect in self.effects)


def judge(claim: Claim, known: Book, found: Measurements) -> Judgement:
    """The verdict on a claim.

    Args:
        claim: all its quantities are in `known`.
        known: the printed numbers.
        found: measured values by quantity; an absent quantity counts as not run.
    """
    if claim.unmeasured:
        return Judgement(claim, "not measured", claim.unmeasured)
    k, needed = len(claim.conditions), claim.required
    strict = 1 - (1 - LEVEL) / k
    effects = tuple(_effect(one, known, found, LEVEL if needed == k else strict, strict) for one in claim.conditions)
    counts = Counter(effect.verdict for effect in effects)
    if k - counts["fails"] < needed:
        verdict = "fails"
    elif counts["holds"] >= needed:
        verdict = "holds"
    else:
        verdict = "not measured" if counts["not measured"] else "undecided"
    more = _more_of(claim, effects) if verdict == "undecided" else None
    scales = _distinct(found[one].scale for one in claim.quantities if one in found and found[one].n)
    reason = _reason(claim, verdict, effects, found)
    return Judgement(claim, verdict, reason, effects, more, _hours(more, found), scales)


def by_interval(condition: Condition, low: float, high: float) -> str:
    """holds, fails or undecided: an interval of the effect lies inside the range claimed, outside, or neither."""
    if condition.low < low and high < condition.high:
        return "holds"
    return "fails" if high < condition.low or condition.high < low else "undecided"


def _effect(condition: Condition, known: Book, found: Measurements, hold: float, fail: float) -> Effect:
    """The effect with its verdict; `hold` and `fail` are levels of the intervals that decide for each."""
    quantities = [one for one in (condition.quantity, condition.than) if one is not None]
    of = [found.get(one, Measured(reason="not run")) for one in quantities]
    printed, seeds = printed_effect(condition, known), tuple(one.n for one in of)
    if not all(seeds):
        reason = "; ".join(_distinct(one.reason for one in of if not one.n))
        return Effect(condition, "not measured", printed, seeds=seeds, reason=reason)
    turn = 1 if condition.than is None else sign(known[condition.quantity].cell)
    first, second = ([turn * x for x in one.values] for one in (of[0], of[1] if len(of) > 1 else Measured()))
    if min(seeds) < FEWEST_SEEDS:
        value = mean(first) - (condition.factor * mean(second) if second else 0.0)
        low, high = (None, None) if min(seeds) == 1 else estimate(first, second, condition.factor).interval()
        reason = f"{min(seeds)} of at least {FEWEST_SEEDS} seeds"
        return Effect(condition, "undecided", printed, value, low, high, seeds, reason=reason)
    effect = estimate(first, second, condition.factor)
    verdict = by_interval(condition, *effect.interval(hold))
    if verdict != "holds":  # `fail` is the wider interval
        verdict = by_interval(condition, *effect.interval(fail))
    more, reason = None, ""
    if verdict == "undecided":
        reason = _why_undecided(condition, *effect.interval(), fail)
        inside = by_interval(condition, effect.value, effect.value) == "holds"
        distance = min(abs(effect.value - condition.low), abs(condition.high - effect.value))
        level = hold if inside else fail
        total = seeds_to_decide(first, second, distance, condition.factor, level, MOST_SEEDS)
        more = None if total is None else tuple(max(0, total - n) for n in seeds)
    return Effect(condition, verdict, printed, effect.value, *effect.interval(), seeds, more, reason)


def _why_undecided(condition: Condition, low: float, high: float, strict: float) -> str:
    """In words, by the 95 % interval and the level `strict` of the one that would decide."""
    if low == high:
        return "all seeds agree, at the edge of the range claimed"
    if where := {"holds": "inside", "fails": "outside"}.get(by_interval(condition, low, high)):
        return f"the 95 % interval lies {where}, but not the {100 * strict:.3g} % interval that several parts need"
    return "the interval reaches beyond the range claimed, and into it"


def _more_of(claim: Claim, effects: Sequence[Effect]) -> tuple[tuple[Quantity, int], ...] | None:
    """Further seeds per quantity that decide an undecided claim, or that are lacking; None where none would decide.

    The claim would be decided as its mean effects say, by those of its undecided effects that need the fewest seeds.
    """
    more: dict[Quantity, int] = {}
    if lacking := [effect for effect in effects if effect.lacks_seeds]:
        for effect in lacking:
            more |= {one: FEWEST_SEEDS - n for one, n in zip(effect.quantities, effect.seeds) if n < FEWEST_SEEDS}
        return tuple(more.items())
    holding = sum(effect.verdict == "holds" or _leans(effect, True) for effect in effects) >= claim.required
    decided = sum(effect.verdict == ("holds" if holding else "fails") for effect in effects)
    needed = (claim.required if holding else len(effects) - claim.required + 1) - decided
    within_reach = [effect for effect in effects if _leans(effect, holding) and effect.more is not None]
    if len(within_reach) < needed:
        return None
    for effect in sorted(within_reach, key=lambda one: sum(one.more))[:needed]:
        for one, n in zip(effect.quantities, effect.more, strict=True):
            more[one] = max(n, more.get(one, 0))
    return tuple((one, n) for one, n in more.items() if n)


def _leans(effect: Effect, inside: bool) -> bool:
    return effect.verdict == "undecided" and effect.is_inside == inside


def _hours(more: tuple[tuple[Quantity, int], ...] | None, found: Measurements) -> float | None:
    """Hours of further seeds; quantities of one system share its trainings, scores of one record its measurement."""
    if more is None or any(found[one].train_seconds is None for one, _ in more):
        return None
    seconds: dict[tuple[str, ...], float] = {}
    for one, n in more:
        training, measurement = (one.dataset, one.model), (one.dataset, one.model, one.metric, one.against)
        for key, each in ((training, found[one].train_seconds), (measurement, found[one].measure_seconds)):
            seconds[key] = max(n * each, seconds.get(key, 0.0))
    return sum(seconds.values()) / 3600


def _reason(claim: Claim, verdict: str, effects: Sequence[Effect], found: Measurements) -> str:
    """Why there is no verdict, and which seeds gave no value; the latter stands beside every verdict."""
    parts = [effect.reason for effect in effects if effect.reason and effect.verdict == verdict]
    for one in claim.quantities:
        if one in found and found[one].n:
            for word in ("diverged", "doubtful", "stale", "missing", "accepted"):
                n = getattr(found[one], word)
                parts += [f"{one.model}: {n} seed{'s' * (n > 1)} {word}"] * bool(n)
    return "; ".join(_distinct(parts))


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))
