# SPDX-License-Identifier: Apache-2.0
"""Which rows satisfy what a user can spend and lose, which one of a model to take, and what others miss. Pure.

A limit is satisfied only where a measurement proves it: the whole 95 % interval of a speed lies above what is asked,
the loss of quality is settled within the margin that the user gave. What cannot be told is a near miss like any other,
and says so. Nothing is guessed: a row without a figure that a limit asks for does not satisfy it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.judge.answer import TIE, Answer, answers
from bench.judge.capacity import CONTEXT, capacity_answers
from bench.judge.compare import compare
from bench.judge.rows import Row
from bench.judge.speeds import number
from bench.judge.stats import MARGIN, Estimate, Verdict
from bench.records.cell import REFERENCE, Precision
from bench.records.record import Ending

NOMINAL = {Precision.FP32: 32.0, Precision.FP16: 16.0, Precision.INT8: 8.0, Precision.INT4: 4.0}
"""Bits of a linear weight that a reader expects of a precision."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a row must satisfy; None asks nothing."""

    memory_bytes: float | None = None
    """What the whole process may hold, its libraries included."""
    min_decode: float | None = None
    """Tokens per second at batch 1."""
    max_loss: float | None = None
    """The share of quality, against the model's own 16-bit row, that may be lost."""
    context_tokens: int | None = None
    """Positions that must fit."""


class What(StrEnum):
    """What a limit is about."""

    MEMORY = "memory"
    DECODE = "decode"
    QUALITY = "quality"
    CONTEXT = "context"


@dataclass(frozen=True, kw_only=True)
class Miss:
    """A limit that a row does not satisfy."""

    what: What
    over: float | None
    """By what share of the limit it is missed, 0 where the interval holds the limit; None where that is unknown."""
    text: str = ""
    """Why, where that is no number."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """The bytes that a row needs."""

    bytes: float
    """At its peak, the process with its libraries included."""
    tokens: int
    """Positions that were held then."""
    computed: float = 0.0
    """Of these bytes, the cache of positions beyond those that were measured: computed, not measured."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One row under the limits."""

    row: Row
    answer: Answer | None
    """Against its 16-bit row, judged at the margin that was asked for; None of a 16-bit row and where there is none."""
    is_reference: bool
    """Whether it is the 16-bit row that others of its model are compared with."""
    need: Need | None
    """None where memory was not measured."""
    proved: bool
    """Whether it ran under a hard limit of no more than what was asked."""
    decode: Estimate | None
    misses: tuple[Miss, ...] = ()
    refused: str = ""
    """Why it may not be recommended whatever the limits."""

    @property
    def fits(self) -> bool:
        """Whether everything that was asked is proved."""
        return not self.misses and not self.refused

    @property
    def verdict(self) -> Verdict | None:
        """What its quality is against its 16-bit row: that row itself loses nothing. None where nothing was judged."""
        if self.is_reference:
            return Verdict.EQUIVALENT
        return self.answer.verdict if self.answer else None

    @property
    def distance(self) -> float:
        """How far from satisfying all limits, for the order of near misses: infinite where something is unknown."""
        return math.fsum(math.inf if miss.over is None else miss.over for miss in self.misses)


def candidates(
    rows: Sequence[Row], limits: Limits, longest: Callable[[str], int | None] = lambda model: None
) -> list[Candidate]:
    """Every row with what it misses. `longest` gives the positions that a model was made for, None if unknown."""
    found, alone = compare(rows, limits.max_loss or MARGIN)
    judged = {id(answer.row): answer for answer in answers(found, limits.max_loss or MARGIN)}
    references = {id(item.reference) for item in found}
    lone = {id(item.row): item.reason for item in alone}
    made = []
    for row in rows:
        reference = id(row) in references or (row.precision == REFERENCE and id(row) not in judged)
        made.append(_candidate(row, judged.get(id(row)), limits, longest(row.model), lone.get(id(row), ""), reference))
    return made


def _candidate(
    row: Row, answer: Answer | None, limits: Limits, longest: int | None, alone: str, reference: bool
) -> Candidate:
    figures = row.figures()
    need = _need(row, figures, limits.context_tokens)
    decode = figures.get("decode_tokens_per_s")
    held = row.limit is not None and limits.memory_bytes is not None and row.limit <= limits.memory_bytes
    proved = held and (need is None or not need.computed)
    misses = [
        _memory(need, limits, proved=proved),
        _decode(row, decode, limits),
        None if reference else _quality(row, answer, limits, alone),
        _context(longest, limits),
    ]
    return Candidate(
        row=row, answer=answer, is_reference=reference, need=need, proved=proved, decode=decode,
        misses=tuple(miss for miss in misses if miss), refused=contradiction(row, figures.get("linear_bits")),
    )  # fmt: skip


def contradiction(row: Row, bits: Estimate | None) -> str:
    """Why the precision that was found is not the one asked for, empty where it is or nobody counted."""
    wanted = NOMINAL.get(row.precision)
    if wanted is None or bits is None or bits.value <= 0:
        return ""
    nearest = min(NOMINAL.values(), key=lambda nominal: abs(math.log2(bits.value / nominal)))
    return "" if nearest == wanted else f"asked for {row.precision}, found {bits.value:.3g} bits a linear weight"


def _need(row: Row, figures: dict[str, Estimate], context: int | None) -> Need | None:
    """The measured peak; beyond the positions held there, the cache of the rest is added."""
    record = row.records.get("memory")
    if record is None or record.outcome.ending is not Ending.OK or "peak_bytes" not in figures:
        return None
    kv = record.measurement("kv_bytes")
    tokens = int(number(kv, "tokens")) if kv is not None and "tokens" in kv.labels else 0
    whole = figures["peak_bytes"].value + figures["baseline_bytes"].value
    if context is None or context <= tokens:
        return Need(bytes=whole, tokens=tokens)
    ran = _ran(row, context)
    if ran is not None:
        return ran
    more = figures["kv_bytes_per_token"].value * (context - tokens)
    return Need(bytes=whole + more, tokens=context, computed=more)


def _ran(row: Row, context: int) -> Need | None:
    """The capacity suite's longest context, where it is no shorter than what is asked: it really ran."""
    record = row.records.get("capacity")
    answer = capacity_answers(record).get(CONTEXT) if record else None
    if answer is None or answer.largest < context or answer.peak_bytes is None:
        return None
    return Need(bytes=float(answer.peak_bytes), tokens=answer.largest)


def _memory(need: Need | None, limits: Limits, *, proved: bool) -> Miss | None:
    if limits.memory_bytes is None or proved:
        return None
    if need is None:
        return Miss(what=What.MEMORY, over=None, text="memory not measured")
    over = need.bytes / limits.memory_bytes - 1
    return Miss(what=What.MEMORY, over=over) if over > 0 else None


def _decode(row: Row, decode: Estimate | None, limits: Limits) -> Miss | None:
    if limits.min_decode is None:
        return None
    if decode is None:
        why = row.missing("throughput")
        return Miss(what=What.DECODE, over=None, text=f"decode {why.short}" if why else "it generates nothing")
    least = decode.value if decode.low is None else decode.low
    if least >= limits.min_decode:
        return None
    return Miss(what=What.DECODE, over=max(0.0, 1 - decode.value / limits.min_decode))


def _quality(row: Row, answer: Answer | None, limits: Limits, alone: str) -> Miss | None:
    """What speaks against a loss of no more than what is allowed, None where its verdict proves that."""
    if limits.max_loss is None:
        return None
    if answer is None or not answer.findings:
        silent = "random weights say nothing" if row.means_nothing else "not measured"
        return Miss(what=What.QUALITY, over=None, text=alone or f"quality {silent}")
    if answer.verdict in {Verdict.EQUIVALENT, Verdict.BETTER}:
        return None
    decided = answer.decided_by
    if decided is None:
        return Miss(what=What.QUALITY, over=0.0, text="quality undecided")
    lost = 1 - decided.estimate.value if decided.of_score else abs(decided.estimate.value)
    return Miss(what=What.QUALITY, over=max(0.0, lost - limits.max_loss))


def _context(longest: int | None, limits: Limits) -> Miss | None:
    if limits.context_tokens is None or longest is None or limits.context_tokens <= longest:
        return None
    return Miss(
        what=What.CONTEXT, over=limits.context_tokens / longest - 1, text=f"made for {longest:,} positions at most"
    )


RANKS = {Verdict.BETTER: 0, Verdict.EQUIVALENT: 0, Verdict.UNDECIDED: 1, None: 2, Verdict.WORSE: 3}
"""Without a limit of loss: what is proved first, then what is unknown, what is worse last."""


def best_of_models(found: Sequence[Candidate]) -> list[Candidate]:
    """Of each model on a device the candidate to take, of those that satisfy everything.

    Quality first; then the least memory, and of those within TIE of it the fastest.
    """
    groups: dict[tuple[str, tuple[str, str]], list[Candidate]] = {}
    for one in found:
        if one.fits:
            groups.setdefault((one.row.device, one.row.name), []).append(one)
    return [_best(group) for group in groups.values()]


def _best(group: Sequence[Candidate]) -> Candidate:
    rank = min(_rank(one) for one in group)
    alike = [one for one in group if _rank(one) == rank]
    least = min(needed(one) for one in alike)
    return max((one for one in alike if needed(one) <= least * (1 + TIE)), key=decoded)


def _rank(one: Candidate) -> int:
    return RANKS.get(one.verdict, 1)


def needed(one: Candidate) -> float:
    """Bytes of the whole process, infinite where nobody measured."""
    return one.need.bytes if one.need else math.inf


def decoded(one: Candidate) -> float:
    """Tokens per second, 0 where nobody measured."""
    return one.decode.value if one.decode else 0.0


def near_misses(found: Sequence[Candidate], taken: Sequence[Candidate]) -> list[Candidate]:
    """Of each model on a device from which nothing was taken the candidate that misses least, the nearest first."""
    have = {(one.row.device, one.row.name) for one in taken}
    nearest: dict[tuple[str, tuple[str, str]], Candidate] = {}
    for one in sorted((one for one in found if one.misses and not one.refused), key=_nearness):
        key = (one.row.device, one.row.name)
        if key not in have:
            nearest.setdefault(key, one)
    return sorted(nearest.values(), key=_nearness)


def _nearness(one: Candidate) -> tuple[bool, int, float, float]:
    unknown = [miss for miss in one.misses if miss.over is None]
    return bool(unknown), len(one.misses), one.distance, needed(one)
