# SPDX-License-Identifier: Apache-2.0
"""What a comparison comes to: verdicts of every instrument, why a row is as fast as it is, and which one to take. Pure.

The distribution decides first: the perplexity ratio over a few thousand tokens has an interval of a few tenths of a
percent after seconds, where the accuracy of sixty items has one of ten points. Tasks stand beside it, because a model
can keep its perplexity and lose a skill: a row that any instrument calls worse is worse.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.judge.bottleneck import Bottleneck, why_this_fast
from bench.judge.compare import Comparison
from bench.judge.decisions import Decision, Instrument
from bench.judge.moments import mean
from bench.judge.noise_floor import floor_between, perplexity_verdict
from bench.judge.rows import Row
from bench.judge.stats import MARGIN, Estimate, Verdict

TIE = 0.02
"""Rows whose memory differs by less are alike: the peak of one and the same row moves by about as much."""
SETTLED = frozenset({Verdict.WORSE, Verdict.BETTER, Verdict.EQUIVALENT})


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one instrument says of a row against its 16-bit row."""

    instrument: Instrument
    verdict: Verdict
    estimate: Estimate
    """Perplexity (of the text, or of tasks): by which share it grew. Tasks: the mean change over those it judged, or
    the share of the score above chance that is left over all of them (`of_score`)."""
    margin: float
    """The loss that still counts as equivalent, as the caller gave it."""
    of_score: bool = False
    """Whether the estimate is a share of the score that is left, not a change."""
    tasks: Mapping[Verdict, int] = field(default_factory=dict)
    """Tasks by their own verdict, after Holm over all of the row's; empty for the perplexity of the text."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One row against its 16-bit row: what it costs, and what decided that."""

    comparison: Comparison
    findings: tuple[Finding, ...]
    """By instrument, the sharpest first; empty where no quality was measured."""
    why: Bottleneck | None
    """Why it is as fast as it is, None where no speed was measured."""

    @property
    def row(self) -> Row:
        """The row that this is about."""
        return self.comparison.row

    @property
    def decided_by(self) -> Finding | None:
        """The finding that the row's verdict rests on: the first that says worse, else the first that is settled."""
        worse = [found for found in self.findings if found.verdict is Verdict.WORSE]
        settled = [found for found in self.findings if found.verdict in SETTLED]
        return next(iter([*worse, *settled]), None)

    @property
    def verdict(self) -> Verdict | None:
        """Of all instruments together, None where none measured anything."""
        if self.decided_by is not None:
            return self.decided_by.verdict
        return Verdict.UNDECIDED if self.findings else None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which row of a model to take on a device, and what speaks for it."""

    take: Row
    finding: Finding | None
    """What proved it, None where it is a 16-bit row itself."""
    bytes: float
    """What it needs at its peak."""
    ratio: float | None
    """The same divided by its 16-bit row's, None where it is one."""
    ties: tuple[Row, ...] = ()
    """Others that are as good and need as much memory within TIE: this one decodes faster."""
    undecided: tuple[Row, ...] = ()
    """Smaller rows that nothing has decided."""
    smaller: Answer | None = None
    """The smallest row that is worse, None if no smaller one is."""
    faster: Row | None = None
    """The fp32 row, where the device emulates the 16-bit type that this one computes in."""
    faster_times: float | None = None
    """By how much this device multiplies fp32 faster than that type."""


def answers(comparisons: Sequence[Comparison], margin: float = MARGIN) -> list[Answer]:
    """Every comparison with its verdicts. `margin` is the loss that still counts as equivalent."""
    return [
        Answer(comparison=item, findings=tuple(_findings(item, margin)), why=speed_of(item.row)) for item in comparisons
    ]


def speed_of(row: Row) -> Bottleneck | None:
    """Why this row is as fast as it is, None where no speed was measured."""
    record = row.records.get("throughput")
    found = why_this_fast(record) if record else None
    return found if found and (found.decode_share or found.prefill_share) else None


def _findings(item: Comparison, margin: float) -> list[Finding]:
    if item.row.means_nothing:
        return []
    by_text = perplexity(item.row, item.reference, margin)
    return [*([by_text] if by_text else []), *_of_tasks(item, margin)]


def perplexity(row: Row, reference: Row, margin: float) -> Finding | None:
    """The change of perplexity against the 16-bit row, None where it was not measured.

    Equivalent where the ratio's 95 % interval lies within 1 ± margin (on a log scale); worse where it lies above 1 and
    above what the two rows move by themselves.
    """
    log, record = row.figures().get("ln_ppl_ratio"), row.records.get("divergence")
    if log is None or record is None:
        return None
    floor = floor_between(record, reference.records.get("divergence"))
    verdict = perplexity_verdict(log, floor.ln_perplexity if floor else 0.0, math.log1p(margin))
    ratio = log.exponential()
    ends = [None if end is None else end - 1 for end in (ratio.low, ratio.high)]
    return Finding(
        instrument=Instrument.PERPLEXITY, verdict=verdict, estimate=Estimate(ratio.value - 1, *ends), margin=margin
    )


def _of_tasks(item: Comparison, margin: float) -> list[Finding]:
    """By each instrument that decided a task, the sharpest first; by the score over all of them where none has choices.

    Records from before choices' log-likelihoods were kept hold right and wrong answers alone.
    """
    decided = [task.decision for task in item.tasks if task.decision]
    present = {decision.instrument for decision in decided}
    if Instrument.CHOICE not in present and (whole := _of_score(item, decided, margin)):
        return [whole, *_by(decided, (Instrument.PERPLEXITY,), margin)]
    order = (Instrument.CHOICE, Instrument.GENERATED, Instrument.ACCURACY, Instrument.SHARES, Instrument.PERPLEXITY)
    return _by(decided, order, margin)


def _by(decided: Sequence[Decision], order: Sequence[Instrument], margin: float) -> list[Finding]:
    """What each of these instruments decided, over the tasks that it was the sharpest of."""
    each = {name: [one for one in decided if one.instrument is name] for name in order}
    return [
        Finding(
            instrument=name,
            verdict=_together(own),
            estimate=_growth(_mean(own)) if name is Instrument.PERPLEXITY else _mean(own),
            margin=margin,
            tasks=Counter(decision.verdict for decision in own),
        )
        for name, own in each.items()
        if own
    ]


def _growth(log_ratio: Estimate) -> Estimate:
    """By which share perplexity grew, of the logarithm of its ratio with the sign turned."""
    ends = [None if end is None else math.expm1(-end) for end in (log_ratio.high, log_ratio.low)]
    return Estimate(math.expm1(-log_ratio.value), *ends)


def _of_score(item: Comparison, decided: Sequence[Decision], margin: float) -> Finding | None:
    """The score above chance that is left over all tasks that have one, where every other decided task has one too."""
    scored = [one for one in decided if one.instrument is not Instrument.PERPLEXITY]
    if item.recovery is None or not scored or len(scored) > item.recovered:
        return None
    counted = Counter(decision.verdict for decision in scored)
    kinds = {one.instrument for one in scored}
    return Finding(
        instrument=kinds.pop() if len(kinds) == 1 else Instrument.ACCURACY,
        verdict=Verdict.WORSE if counted[Verdict.WORSE] else item.recovery.verdict,
        estimate=item.recovery.share,
        margin=margin,
        of_score=True,
        tasks=counted,
    )


def _together(decided: Sequence[Decision]) -> Verdict:
    """Worse on any task is worse; equivalent or better only where every task that can tell says so."""
    verdicts = {decision.verdict for decision in decided} - {Verdict.NOT_MEASURABLE}
    if not verdicts:
        return Verdict.NOT_MEASURABLE
    for verdict in (Verdict.WORSE, Verdict.UNDECIDED, Verdict.EQUIVALENT):
        if verdict in verdicts:
            return verdict
    return Verdict.BETTER


def _mean(decided: Sequence[Decision]) -> Estimate:
    """The mean change over tasks; their errors are independent and add in squares."""
    value = mean(decision.difference.value for decision in decided)
    halves = [decision.difference.half_width for decision in decided]
    known = [half for half in halves if half is not None]
    if len(known) < len(halves):
        return Estimate(value)
    half = math.hypot(*known) / len(known)
    return Estimate(value, value - half, value + half)


Of = tuple[str, str, str, int | None, str]
"""Device, model, weights, memory limit, and the mark of the files where others share the name: what rows have in common
that one may choose among, whichever the engine."""


def model_of(answer: Answer) -> Of:
    """What this answer is about, apart from precision and engine."""
    row = answer.row
    return row.device, row.model, row.weights, row.limit, row.told_apart


def by_model(found: Sequence[Answer]) -> dict[Of, list[Answer]]:
    """Answers that one choice is made among."""
    groups: dict[Of, list[Answer]] = {}
    for answer in found:
        groups.setdefault(model_of(answer), []).append(answer)
    return groups


def choose(found: Sequence[Answer]) -> Choice | None:
    """The row of one model on one device that needs the least memory and loses nothing, 16-bit rows among them.

    None where no quality was measured, or nothing that lost none has a known peak.
    """
    if not any(answer.findings for answer in found):
        return None
    references = {id(answer.comparison.reference): answer.comparison.reference for answer in found}
    proved = {id(answer.row): answer for answer in found if answer.verdict in {Verdict.EQUIVALENT, Verdict.BETTER}}
    rows = [*references.values(), *(answer.row for answer in proved.values())]
    known = sorted((peak, index) for index, row in enumerate(rows) if (peak := _peak(row)) is not None)
    if not known:
        return None
    least = known[0][0]
    alike = [rows[index] for peak, index in known if peak <= least * (1 + TIE)]
    take = max(alike, key=_decode)
    answer = proved.get(id(take))
    below = [other for other in found if (_peak(other.row) or math.inf) < least and other.row is not take]
    worse = [other for other in below if other.verdict is Verdict.WORSE]
    faster, times = _faster(take, found)
    peak = _peak(take)
    assert peak is not None
    return Choice(
        take=take,
        finding=answer.decided_by if answer else None,
        bytes=peak,
        ratio=_ratio(answer),
        ties=tuple(row for row in alike if row is not take),
        undecided=tuple(other.row for other in below if other.verdict not in SETTLED),
        smaller=min(worse, key=lambda other: _peak(other.row) or math.inf, default=None),
        faster=faster,
        faster_times=times,
    )


def _peak(row: Row) -> float | None:
    found = row.figures().get("peak_bytes")
    return found.value if found else None


def _decode(row: Row) -> float:
    found = row.figures().get("decode_tokens_per_s")
    return found.value if found else 0.0


def _ratio(answer: Answer | None) -> float | None:
    found = answer.comparison.ratios.get("peak_bytes") if answer else None
    return found.value if found else None


def _faster(take: Row, found: Sequence[Answer]) -> tuple[Row | None, float | None]:
    """The fp32 row of the same engine, if the device has no units for the type that the chosen row computes in."""
    why = speed_of(take)
    if why is None or not why.emulated:
        return None, None
    wide = (answer.row for answer in found if answer.row.precision == "fp32" and answer.row.backend == take.backend)
    return next(wide, None), why.fp32_times
