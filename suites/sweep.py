# SPDX-License-Identifier: Apache-2.0
"""The sweep of the throughput suite: which batch sizes and prompt lengths are timed, and how often."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of the sweep: how many sequences of how many tokens are timed, and how often."""

    batch: int
    prompt_tokens: int
    decode_tokens: int
    repeats: int
    repeats_max: int
    warmup_min: int
    warmup_max: int
    main: bool

    @property
    def tokens(self) -> int:
        """Positions that the cache holds at the end."""
        return self.batch * (self.prompt_tokens + self.decode_tokens)

    def __str__(self) -> str:
        return f"batch {self.batch}, prompt {self.prompt_tokens}"

    @property
    def labels(self) -> dict[str, JsonValue]:
        """Of its measurements."""
        own: dict[str, JsonValue] = {"prompt_tokens": self.prompt_tokens, "batch": self.batch}
        return own if self.main else {**own, "point": True}


def points(settings: Mapping[str, Any]) -> list[Point]:
    """The main point, then the others, the smallest first."""
    main = Point(
        batch=settings["batch"], prompt_tokens=settings["prompt_tokens"], decode_tokens=settings["decode_tokens"],
        repeats=settings["repeats"], repeats_max=settings["repeats_max"],
        warmup_min=settings["warmup_min"], warmup_max=settings["warmup_max"], main=True,
    )  # fmt: skip
    others = [
        Point(
            batch=batch, prompt_tokens=prompt, decode_tokens=settings["point_decode_tokens"],
            repeats=settings["point_repeats"], repeats_max=settings["point_repeats_max"],
            warmup_min=1, warmup_max=3, main=False,
        )
        for batch, prompt in settings["points"]
    ]  # fmt: skip
    return [main, *sorted(others, key=lambda point: (point.tokens, point.batch))]


REPEATS = {"repeats": "repeats_max", "point_repeats": "point_repeats_max"}
"""Settings for the least that is repeated, and for the most where samples are noisy."""


def noisy_share(settings: Mapping[str, Any], repeats: int) -> float | None:
    """How far so many repeats of the main point are from the least (0) to the most (1), by their logarithms.

    None where noise adds none.
    """
    least, most = settings.get("repeats"), settings.get("repeats_max")
    if not isinstance(least, int) or not isinstance(most, int) or not 0 < least < most or not repeats:
        return None
    return min(1.0, max(0.0, math.log(repeats / least) / math.log(most / least)))


def repeated(settings: Mapping[str, Any], share: float) -> dict[str, Any]:
    """The settings with as many repeats as that share of what noise may add makes them; fractions are kept."""
    found = dict(settings)
    for name, limit in REPEATS.items():
        if name in found and found.get(limit, 0) > found[name]:
            found[name] *= (found[limit] / found[name]) ** share
    return found
