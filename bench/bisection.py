# SPDX-License-Identifier: Apache-2.0
"""The largest size that fits, where fitting ends once and for all."""

from __future__ import annotations

from collections.abc import Callable


def largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest size from `low` to `high` that fits, by bisection; `low` where none above it does.

    `fits` must not become true again once it is false.
    """
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
