# SPDX-License-Identifier: Apache-2.0
"""Search for the largest size that fits, starting from small ones: arithmetic on trials, which run elsewhere.

A trial that meets a hard limit does not fail, it takes its process and every answer with it. So the next size is
never one that the growth seen so far expects to exceed the room, and the bracket closes from its lower end: its upper
end is the least of what is expected to fill the room, of what has failed, and of the ceilings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

NARROW = 0.02
"""The bracket is narrow when it is less than this share of the size: trials closer than that differ by noise."""
CAUTION = 0.5
"""Beyond NEAR, growth may turn out to be this share larger than expected. Measured with bf16 under glibc: 264 MB where
1,461 tokens and fewer let expect 174, for what freed buffers leave in pieces adds to the next peak."""
NEAR = 1.1
"""Up to so many times the largest size that ran, its growth is taken as it was measured."""
FACTOR = 4
"""A trial is at most this many times larger than the largest that ran."""
HINTED = 8
"""The first trial after the least has this part of the predicted size: predictions have been four times too high."""
SPACED = 0.8
"""Points closer than this ratio of sizes say nothing of growth: the noise between them is larger."""
SECONDS_NARROW = 0.25
"""The same for a bracket that ends at a time: more trials would not make that more exact."""
MEMORY, SECONDS = "memory", "seconds"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One size that was tried."""

    size: int
    peak_bytes: int
    """Highest of the whole process, until it failed if it did."""
    seconds: float
    """Reading the prompts."""
    expected_bytes: int | None = None
    """What the trials before it let expect, None where they were too few."""
    failure: str = ""
    """Why it does not count: `memory`, or what the engine said; empty if it fits."""
    killed: bool = False
    """Whether it took its process with it, and what is known of it is its size."""


@dataclass(kw_only=True)
class Search:
    """What is known of one question so far. `next_size` says what to try, `bound` why there is no more."""

    least: int
    step: int
    """Sizes closer than this are the same answer."""
    bends: bool
    """Whether memory may grow with the square of the size, as where attention scores are held whole."""
    room_bytes: int
    """No trial is run whose peak is expected beyond this."""
    seconds: float
    """Nor one whose prompts are expected to take longer."""
    ceilings: Mapping[str, int]
    """Largest sizes by what sets them."""
    hint: int | None = None
    """The size that was predicted, None if nothing was. 0 is no place to start from either."""
    origin: tuple[float, int] | None = None
    """A size below the least whose peak is known from elsewhere, None where only a trial can tell."""
    trials: list[Trial] = field(default_factory=list)
    ended: str = ""
    """What ended it before the bracket was narrow, empty if nothing did."""

    @property
    def fitting(self) -> list[Trial]:
        """Trials that ran and fitted, the smallest first."""
        return sorted((trial for trial in self.trials if not trial.failure), key=lambda trial: trial.size)

    @property
    def best(self) -> Trial | None:
        """The largest of them."""
        return self.fitting[-1] if self.fitting else None

    def expected_bytes(self, size: int, *, at_worst: bool = True) -> int | None:
        """Peak at a size beyond the best, None where nothing was measured."""
        points: list[tuple[float, float]] = [(trial.size, trial.peak_bytes) for trial in self.fitting]
        if self.origin is not None:
            points.insert(0, self.origin)
        return round(curve(points, size, bends=self.bends, at_worst=at_worst)) if points else None

    def expected_seconds(self, size: int) -> float:
        """Seconds of reading it."""
        points: list[tuple[float, float]] = [(trial.size, trial.seconds) for trial in self.fitting]
        if len(points) == 1:
            points = [(0, 0.0), *points]
        return curve(points, size, bends=True, at_worst=False)

    def next_size(self) -> int | None:
        """What to try, None when the answer is known (or the least of all has failed)."""
        best = self.best
        if not self.trials:
            return min(self.least, *self.ceilings.values())
        if best is None or self.ended:
            return None
        upper, why = self._upper(best)
        if upper - best.size <= self._tolerance(best.size, why):
            return None
        most = min(upper, FACTOR * best.size)
        if self.hint and len(self.trials) == 1:
            most = min(upper, max(self.hint // HINTED, best.size + self.step))
        failed = [trial.size for trial in self.trials if trial.failure]
        if failed:
            most = min(most, (best.size + min(failed)) // 2)
        careful = largest(lambda size: self._careful(size, best), best.size, most)
        return careful if careful > best.size else None

    def bound(self) -> str:
        """What keeps the answer from being larger."""
        if self.ended or self.best is None:
            return self.ended or next((trial.failure for trial in self.trials), MEMORY)
        return self._upper(self.best)[1]

    def _careful(self, size: int, best: Trial) -> bool:
        """Whether a size may be tried: expected within the room, with some caution where that is far away."""
        expected = self.expected_bytes(size)
        assert expected is not None
        if size > max(NEAR * best.size, best.size + self.step):
            expected += round(CAUTION * (expected - best.peak_bytes))
        return expected <= self.room_bytes

    def _upper(self, best: Trial) -> tuple[int, str]:
        """The largest size that is not ruled out, and what rules out the next."""
        ends = [(size, why) for why, size in self.ceilings.items()]
        ends += [(trial.size - 1, trial.failure) for trial in self.trials if trial.failure]
        high = max(best.size, min(size for size, _ in ends))

        def fits(size: int) -> bool:
            return (self.expected_bytes(size, at_worst=False) or 0) <= self.room_bytes

        ends.append((largest(fits, best.size, high), MEMORY))
        ends.append((largest(lambda size: self.expected_seconds(size) <= self.seconds, best.size, high), SECONDS))
        return min(ends, key=lambda end: end[0])  # of equal ones the ceiling, which is certain

    def _tolerance(self, size: int, why: str) -> int:
        """How wide the bracket may stay; a ceiling that fits is reached."""
        if why in self.ceilings:
            return 0
        return max(self.step - 1, int((SECONDS_NARROW if why == SECONDS else NARROW) * size))


def curve(points: Sequence[tuple[float, float]], size: int, *, bends: bool, at_worst: bool = True) -> float:
    """A quantity at `size`, at or beyond the last of the points: it never falls, and bends upwards or not at all.

    Through the last three points that lie apart (a parabola in Newton's form). Through two a line, or at worst, where
    it may bend, the steepest that a constant, a linear and a quadratic part can make of them: all growth is of the
    quadratic part. One point is a constant. Where a later point lies lower, which only noise can do, the higher one
    stands, and the slope is never less than that from the first point to the last.
    """
    apart = [points[-1]]
    for point in reversed(points[:-1]):
        if point[0] <= SPACED * apart[0][0]:
            apart.insert(0, point)
    last, before = apart[-1][0], apart[-3:-1]
    value = max(found for _, found in points)
    if not before:
        return value
    slope = max(0.0, *((value - found) / (last - at) for at, found in (points[0], before[-1])))
    if not bends or (len(before) == 1 and not at_worst):
        return value + slope * (size - last)
    if len(before) == 1:
        first, base = before[0]
        return base + max(0.0, value - base) * ((size - first) / (last - first)) ** 2
    (first, base), (middle, between) = before
    bend = max(0.0, (slope - max(0.0, between - base) / (middle - first)) / (last - first))
    return value + slope * (size - last) + bend * (size - last) * (size - middle)


def largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest size from `low` to `high` that fits, by bisection; `low` where none above it does.

    `fits` must not become true again once it is false.
    """
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
