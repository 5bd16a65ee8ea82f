# SPDX-License-Identifier: Apache-2.0
"""A recommendation in words, one table and flat rows: what to take, what it is worth, what others miss. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.judge.costs import Cost, Prices
from bench.judge.decisions import Instrument
from bench.judge.recommend import Candidate, Limits, Miss, What
from bench.judge.recommendation import Recommended
from bench.judge.rows import Row
from bench.judge.stats import Estimate, Verdict
from bench.judge.tiers import Duel, Ranked
from bench.units import human_bytes, human_limit, significant
from bench.views.answer import change, flow, label, points, share
from bench.views.cells import keys, labelled, unlimited, written
from bench.views.fields import Unit
from bench.views.formats import Flat, FlatValue, Table, View
from bench.views.outputs import RECOMMEND

NEAR = 5
"""Near misses that are told."""
VERDICTS = {Verdict.BELOW_FLOOR: "in its noise", Verdict.NOT_MEASURABLE: "at chance"}


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A model that was not measured on this machine and is predicted to fit."""

    model: str
    precision: str
    """The widest that fits."""
    bytes: int
    """Of the whole process at its peak, as measured rows have it."""


def asked(limits: Limits) -> str:
    """`at most 12 GB, at least 20 tokens/s, at most 1 % worse`, in the order of the options."""
    parts = []
    if limits.memory_bytes is not None:
        parts.append(f"at most {human_limit(int(limits.memory_bytes))}")
    if limits.min_decode is not None:
        parts.append(f"at least {limits.min_decode:g} tokens/s")
    if limits.max_loss is not None:
        parts.append(f"at most {limits.max_loss * 100:g} % worse than 16 bits")
    if limits.context_tokens is not None:
        parts.append(f"{limits.context_tokens:,} positions")
    return ", ".join(parts) or "no limits"


def sentences(found: Recommended, command: Callable[[Row], str | None], width: int) -> Iterator[str]:
    """The recommendation, line by line, for people."""
    if found.places:
        yield from flow(list(_take(found)), width)
        yield from _commands(found.places[0].candidate.row, command)
    else:
        yield f"nothing measured here satisfies {asked(found.limits)}"
    if found.duel:
        yield from flow(list(_duel(found.duel)), width)


def _commands(row: Row, command: Callable[[Row], str | None]) -> Iterator[str]:
    """What runs or serves it; where its file lies nowhere here, what makes that."""
    again = f"bench run --model {row.model} --backend {row.backend} --scheme {row.scheme}"
    yield from (command(row) or f"its file is made by: {again}").split("\n")


def _take(found: Recommended) -> Iterator[str]:
    best = found.places[0]
    tied = [place for place in found.places[1:] if place.tier is not None and place.tier == best.tier]
    one = best.candidate
    yield f"Take {unlimited(one.row)} at {label(one.row)} in {one.row.backend}"
    yield from _figures(one)
    if tied:
        names = ", ".join(unlimited(place.candidate.row) for place in tied)
        yield f"its items cannot tell it from {names}: it needs the least memory of these"
    if best.tier is None:
        yield "its quality cannot be held against other models: no task was answered that others answered too"
    if cost := found.costs.get(id(one)):
        yield from _costs(cost, found.prices)


def _figures(one: Candidate) -> Iterator[str]:
    if one.need:
        yield f"{human_bytes(one.need.bytes)} with its process" + (", proved under the limit" * one.proved)
    if one.decode:
        yield f"{written(one.decode, Unit.RATE)} tokens/s"


def _costs(cost: Cost, prices: Prices) -> Iterator[str]:
    if cost.million is None:
        yield f"no cost: {cost.lacking}"
        return
    yield f"a million tokens cost {cost.million:.3g} here, one sequence at a time"
    if prices.api_million is None:
        return
    api = f"{prices.api_million:g} a million"
    if cost.pays:
        yield f"above {_count(cost.break_even_tokens or 0.0)} tokens a day this box is cheaper than {api}"
    else:
        yield f"it generates at most {_count(cost.most_tokens)} tokens a day: never cheaper than {api}"


def _count(tokens: float) -> str:
    """`1.3 million`, `480,000`."""
    rounded = float(f"{tokens:.2g}")
    return f"{rounded / 1e6:g} million" if rounded >= 1e6 else f"{rounded:,.0f}"


def _duel(found: Duel) -> Iterator[str]:
    larger, smaller = found.larger, found.smaller
    names = [f"{unlimited(one.row)} at {label(one.row)} ({_bytes(one)})" for one in (larger, smaller)]
    over = f"on {found.items} items of {found.tasks} task{'s' * (found.tasks != 1)}"
    yield f"Duel: {names[0]} against {names[1]}"
    yield f"{share(found.result.share)} of its score above chance {over}: the larger one is {found.result.verdict}"


def _bytes(one: Candidate) -> str:
    return human_bytes(one.need.bytes) if one.need else "memory not measured"


def guessed(found: Sequence[Guess], width: int) -> Iterator[str]:
    """What is predicted to fit, marked as such, the largest first, and what would decide it."""
    told = [f"{one.model} at {one.precision} ({human_bytes(one.bytes)})" for one in found[:NEAR]]
    more = f", and {len(found) - NEAR} more" if len(found) > NEAR else ""
    first = f"predicted to fit here, not measured: {', '.join(told)}{more}"
    yield from flow([first, "nothing is known of their speed or quality: bench run --model NAME decides"], width)


def views(found: Recommended) -> list[View]:
    """What satisfies everything, and the nearest of what does not."""
    made = []
    if found.places:
        title = f"satisfies {asked(found.limits)}" if found.limits != Limits() else "the row to take of each model"
        made.append(View(title=title, table=_table(found), notes=tuple(_notes(found))))
    if found.near:
        made.append(View(title="near misses", table=_near(found)))
    return made


def _table(found: Recommended) -> Table:
    titles = ["tier", "model", "precision", "engine", "bits", "memory", "decode tok/s", "quality", "score", "front"]
    costs = bool(found.costs)
    table = Table([*titles, *(["cost of 1M"] if costs else [])])
    for place in found.places:
        one = place.candidate
        cost = found.costs.get(id(one))
        table.rows.append([
            str(place.tier) if place.tier is not None else "-", labelled(one.row), label(one.row), one.row.backend,
            _bits(one), _bytes(one) + _computed(table, one), written(one.decode, Unit.RATE) if one.decode else "-",
            quality(one), f"{place.score:.1%}" if place.score is not None else "-", "yes" if place.on_front else "",
            *([f"{cost.million:.3g}" if cost and cost.million is not None else "-"] if costs else []),
        ])  # fmt: skip
    return table


def _computed(table: Table, one: Candidate) -> str:
    if one.need is None or not one.need.computed:
        return ""
    return " " + table.note("the cache of positions beyond those that were measured is computed, not measured")


def _bits(one: Candidate) -> str:
    bits = one.row.figures().get("linear_bits")
    return significant(bits.value) if bits else "-"


def quality(one: Candidate) -> str:
    """What is known of its loss against its own 16-bit row, as short as a table's cell."""
    return loss(one, "ppl", intervals=False)


def loss(one: Candidate, perplexity: str = "perplexity", *, intervals: bool = True) -> str:
    """The same in full."""
    if one.is_reference:
        return "reference"
    if one.row.means_nothing:
        return "random weights"
    decided = one.answer.decided_by if one.answer else None
    if decided is None:
        return "undecided" if one.answer and one.answer.findings else "not measured"
    found = decided.estimate if intervals else Estimate(decided.estimate.value)
    if decided.instrument is Instrument.PERPLEXITY:
        return f"{perplexity} {change(found)}: {decided.verdict}"
    return f"{share(decided.estimate) if decided.of_score else points(found)}: {decided.verdict}"


def _notes(found: Recommended) -> Iterator[str]:
    yield (
        "memory: the whole process at its peak. quality: against the model's own 16-bit row. tier: rows of one tier "
        "cannot be told apart by the items that both answered. front: nothing here is proved at least as good in "
        "memory, decode and quality."
    )
    if any(place.tier is None for place in found.places):
        yield "-: answered no task that the others answered too."


def _near(found: Recommended) -> Table:
    table = Table(["model", "precision", "engine", "memory", "decode tok/s", "misses"])
    for one in found.near[:NEAR]:
        decode = written(one.decode, Unit.RATE) if one.decode else "-"
        missed = "; ".join(missing(one, miss, found.limits) for miss in one.misses)
        table.rows.append([labelled(one.row), label(one.row), one.row.backend, _bytes(one), decode, missed])
    return table


def missing(one: Candidate, miss: Miss, limits: Limits) -> str:
    """What it misses, and by how much."""
    if miss.what is What.MEMORY and one.need and limits.memory_bytes and miss.over is not None:
        return f"{human_bytes(one.need.bytes - limits.memory_bytes)} too much"
    if miss.what is What.DECODE and one.decode and limits.min_decode and miss.over is not None:
        if miss.over > 0:
            return f"{significant(limits.min_decode - one.decode.value)} tokens/s too slow"
        return "its interval reaches below the speed asked for"
    if miss.text or one.answer is None or one.answer.decided_by is None or limits.max_loss is None:
        return miss.text or f"{miss.what} missed"
    return f"{quality(one)}, more than {limits.max_loss * 100:g} % or not proved less"


def flats(found: Recommended) -> list[Flat]:
    """Every row of the device, those that satisfy everything first."""
    rows = [_flat(found, place.candidate, place) for place in found.places]
    return [*rows, *(_flat(found, one, None) for one in found.others)]


def guess(found: Guess) -> Flat:
    """A model that is predicted to fit, as a flat row."""
    values: dict[str, FlatValue] = {
        "model": found.model, "precision": found.precision, "taken": False, "satisfies": False, "predicted": True,
        "memory_bytes": found.bytes,
    }  # fmt: skip
    return RECOMMEND.flat(values)


def _flat(found: Recommended, one: Candidate, place: Ranked | None) -> Flat:
    cost = found.costs.get(id(one))
    decided = one.answer.decided_by if one.answer else None
    values: dict[str, FlatValue] = {
        **keys(one.row),
        "taken": place is not None, "satisfies": one.fits, "predicted": False, "tier": place.tier if place else None,
        "score": place.score if place else None, "on_front": place.on_front if place else None,
        "memory_bytes": one.need.bytes if one.need else None, "memory_tokens": one.need.tokens if one.need else None,
        "computed_bytes": one.need.computed if one.need else None, "proved_under_limit": one.proved,
        "decode_tokens_per_s": one.decode.value if one.decode else None,
        "decode_tokens_per_s_low": one.decode.low if one.decode else None,
        "decode_tokens_per_s_high": one.decode.high if one.decode else None,
        "verdict": VERDICTS.get(one.verdict, str(one.verdict)) if one.verdict else None,
        "decided_by": str(decided.instrument) if decided else None,
        "misses": "; ".join(missing(one, miss, found.limits) for miss in one.misses) or None,
        "refused": one.refused or None,
        "cost_per_million": cost.million if cost else None,
        "break_even_tokens_per_day": cost.break_even_tokens if cost else None,
    }  # fmt: skip
    return RECOMMEND.flat(values)
