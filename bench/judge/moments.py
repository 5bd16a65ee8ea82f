# SPDX-License-Identifier: Apache-2.0
"""Mean, standard deviation and Student's quantile, to the last bit those of `statistics` and SciPy, and faster. Pure.

`statistics` makes a fraction of every sample and adds fractions: seven tenths of the time of `bench show` went there.
`math.fsum` alone would give another last digit in one of five means, for it rounds the sum before that is divided, and
files of figures would change with it: so a second sum adds what the first one rounded away.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache

MANTISSA = 53
"""Bits of a float's own digits."""
WIDEST = 900
"""Powers of two that samples may span: beyond it a scaled float would overflow, and fractions do the work."""


def mean(data: Iterable[float]) -> float:
    """The exact mean, rounded once. Raises statistics.StatisticsError without a sample."""
    samples = list(data)
    try:
        total = math.fsum(samples)
        rest = math.fsum([*samples, -total])
    except (OverflowError, ValueError):  # beyond floats, or infinities of both signs
        return statistics.mean(samples)
    if not samples or not math.isfinite(total):
        return statistics.mean(samples)
    exact = Fraction(total) + Fraction(rest)  # to 106 bits, of which a mean keeps 53
    return float(exact / len(samples))


def stdev(samples: Sequence[float]) -> float:
    """The sample standard deviation, rounded once. Raises statistics.StatisticsError with fewer than two samples.

    Floats are whole numbers times a power of two, so samples scaled by the finest of these powers are whole numbers,
    and Python adds whole numbers and their squares exactly.
    """
    found = _whole(samples) if len(samples) > 1 else None
    if found is None:
        return statistics.stdev(samples)
    numbers, shift = found
    n, total = len(numbers), sum(numbers)
    squares = n * sum(number * number for number in numbers) - total * total
    return _root(squares, n * (n - 1), 2 * shift)


@lru_cache(maxsize=4096)
def student(share: float, freedom: float) -> float:
    """Quantile of Student's t; what `scipy.stats.t.ppf` calls, without the half second that importing that takes."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def _whole(samples: Sequence[float]) -> tuple[list[int], int] | None:
    """The samples times 2**shift as whole numbers, and that shift; None where that is not possible."""
    sizes = [abs(sample) for sample in samples if sample]
    if not samples or not all(map(math.isfinite, sizes)):
        return None
    if not sizes:
        return [0] * len(samples), 0
    _, finest = math.frexp(min(sizes))
    _, coarsest = math.frexp(max(sizes))
    shift = MANTISSA - finest
    if abs(shift) > WIDEST or coarsest + shift > WIDEST:
        return None
    scale = 2.0**shift
    return [int(sample * scale) for sample in samples], shift


def _root(above: int, below: int, shift: int) -> float:
    """The root of above / below / 2**shift, rounded as `statistics` rounds it: one guard digit that never lies."""
    variance = Fraction(above, below << shift) if shift >= 0 else Fraction(above << -shift, below)
    n, m = variance.numerator, variance.denominator
    if not n:
        return 0.0
    # As many digits as make the floor of the root hold at least two bits more than a float, made odd where not exact.
    places = max(0, (2 * MANTISSA + 6 - n.bit_length() + m.bit_length()) // 2)
    root = math.isqrt((n << 2 * places) // m)
    exact = root * root * m == n << 2 * places
    return (root if exact else root | 1) / (1 << places)
