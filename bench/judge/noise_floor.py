# SPDX-License-Identifier: Apache-2.0
"""What of a distance is no distance: how far a row is from itself, and which verdicts that leaves. Pure.

A row's floor is what the divergence suite measured of the row alone (`suites/noise_floor.py`): the same tokens beside
others and token by token, each against one pass. A comparison has the floor of both its rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.judge.kept import kept
from bench.judge.moments import mean
from bench.judge.stats import MARGIN, Estimate, Verdict, Z, mean_estimate
from bench.records.record import Measurement, Record

WAYS = ("floor", "floor_decode")
"""Beside others, and token by token: how measurements of both begin."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How far one other way of reading the same tokens moves a row."""

    kl: float
    """Mean KL(one pass || that way) of a token, nats."""
    ln_perplexity: float
    """How far ln perplexity over the row's own windows may move with it, at 95 %, nats a token."""


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """How far a row is from itself. At least one of the two was measured."""

    neighbours: Moved | None
    """Beside three other windows in one batch, None if that was not measured."""
    decode: Moved | None
    """Token by token behind the cache, None if that was not measured."""

    @property
    def kl(self) -> float:
        """The larger of both: a KL up to this is no distance."""
        return max(way.kl for way in (self.neighbours, self.decode) if way)

    @property
    def ln_perplexity(self) -> float:
        """The larger of both: a ln perplexity ratio up to this is no loss."""
        return max(way.ln_perplexity for way in (self.neighbours, self.decode) if way)


@kept(NoiseFloor | None)
def noise_floor(record: Record) -> NoiseFloor | None:
    """A divergence record's own floor; None if it measured none, as older records of rows that are no reference."""
    nll = record.measurement("nll_nat")
    if nll is None or not any(record.measurement(f"{name}_nat") for name in WAYS):
        return None
    tokens = len(nll.values) * _window_tokens(nll)
    neighbours, decode = (_moved(record, name, tokens) for name in WAYS)
    return NoiseFloor(neighbours=neighbours, decode=decode)


def _moved(record: Record, name: str, tokens: int) -> Moved | None:
    """One way, for a mean over so many tokens."""
    distance, changes = record.measurement(f"{name}_nat"), record.measurement(f"{name}_nll_change_nat")
    if distance is None:
        return None
    kl = max(0.0, mean(distance.values))
    if changes is None:  # older records: the mean square change of a small random shift is twice its KL
        return Moved(kl=kl, ln_perplexity=Z * math.sqrt(2 * kl / tokens))
    return Moved(kl=kl, ln_perplexity=_shift(changes.values, tokens))


def _shift(changes: Sequence[float], tokens: int) -> float:
    """How far a mean over `tokens` may move: what all tokens share, so far as it is certain, and what they do not.

    Single tokens move at random, so their part falls with the square root of how many are averaged: LLM.int8() moves a
    token by 0.24 nats and 4,590 of them by 0.004. A shift in one direction does not fall.
    """
    middle = mean_estimate(changes)
    certain = max(0.0, abs(middle.value) - (middle.half_width or 0.0))
    return certain + Z * math.sqrt(mean([change * change for change in changes]) / tokens)


def _window_tokens(measurement: Measurement) -> int:
    count = measurement.labels.get("window_tokens")
    assert isinstance(count, int)
    return count


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What a comparison of two rows cannot tell from nothing."""

    kl: float
    """Nats a token: the larger of both rows' own."""
    ln_perplexity: float
    """Nats a token: both rows' own, added in squares."""


def floor_between(this: Record, reference: Record | None) -> Floor | None:
    """The floor of one row's distance from another, None where neither was measured."""
    found = [floor for record in (this, reference) if record and (floor := noise_floor(record))]
    if not found:
        return None
    return Floor(
        kl=max(floor.kl for floor in found), ln_perplexity=math.hypot(*(floor.ln_perplexity for floor in found))
    )


def above(estimate: Estimate, floor: float) -> Estimate:
    """The part of a distance that lies above a floor, 0 if none does."""
    low, high = (None if end is None else max(0.0, end - floor) for end in (estimate.low, estimate.high))
    return Estimate(max(0.0, estimate.value - floor), low, high)


def divergence_verdict(kl: Estimate, floor: float) -> Verdict:
    """Whether a KL is a distance at all: `worse`, `below its noise floor`, or `undecided` with the floor inside."""
    if kl.value <= floor:
        return Verdict.BELOW_FLOOR
    return Verdict.WORSE if kl.low is not None and kl.low > floor else Verdict.UNDECIDED


def perplexity_verdict(ln_ratio: Estimate, floor: float = 0.0, margin: float = math.log1p(MARGIN)) -> Verdict:
    """What a ln perplexity ratio to the reference (above 0 is worse), its interval and its floor allow one to say.

    `equivalent`: the interval lies within the margin, and the floor does too. `worse`, `better`: it lies beyond both
    the floor and zero. `below its noise floor`: the ratio is no larger than what another batch, or generating, makes
    of the same weights. `margin` and `floor` are nats a token.
    """
    low, high = ln_ratio.low, ln_ratio.high
    if low is None or high is None:
        return Verdict.UNDECIDED
    if -margin < low and high < margin:
        return Verdict.EQUIVALENT if floor <= margin else Verdict.BELOW_FLOOR
    if low > floor:
        return Verdict.WORSE
    if high < -floor:
        return Verdict.BETTER
    return Verdict.BELOW_FLOOR if abs(ln_ratio.value) <= floor else Verdict.UNDECIDED


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """A row's distance as it runs, and that of its weights alone, over the same windows."""

    as_it_runs: float
    """Mean KL from the reference, nats."""
    weights: float
    """The same with its own weights taken back to float32 and multiplied there."""

    @property
    def share(self) -> float:
        """Of the distance as it runs, what is this device's arithmetic; 0 where the weights alone are as far."""
        return max(0.0, 1 - self.weights / self.as_it_runs) if self.as_it_runs > 0 else 0.0


@kept(Arithmetic | None)
def arithmetic(record: Record) -> Arithmetic | None:
    """How much of a divergence record's distance is its device's, None where its weights were not measured alone."""
    weights, whole = record.measurement("weights_kld_nat"), record.measurement("kld_nat")
    if weights is None or whole is None:
        return None
    return Arithmetic(as_it_runs=mean(whole.values[: len(weights.values)]), weights=mean(weights.values))
