# SPDX-License-Identifier: Apache-2.0
"""The sweep of the throughput suite: which batch sizes and prompt lengths are timed, and how often."""

from __future__ import annotations

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
