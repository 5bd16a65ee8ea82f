# SPDX-License-Identifier: Apache-2.0
"""Speed at every batch and prompt that a record was asked for, or why there is none. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bench.judge.reasons import is_masked
from bench.judge.speeds import point_figures
from bench.judge.stats import Estimate
from bench.records.record import Record


@dataclass(frozen=True, kw_only=True)
class Point:
    """One batch of prompts of one length."""

    batch: int
    prompt_tokens: int
    figures: Mapping[str, Estimate] = field(default_factory=dict)
    """Rates and times by the names of figures, `decode_each` and `itl_p95_s` among them; empty if not measured."""
    why: str = ""
    """Why it was not measured, empty if it was."""


def points(record: Record) -> list[Point]:
    """Every point, the main one first, then those measured and those asked for in vain, the smallest first."""
    found = point_figures(record)
    return [
        Point(batch=batch, prompt_tokens=prompt, figures=found[batch, prompt])
        if found.get((batch, prompt))
        else Point(batch=batch, prompt_tokens=prompt, why=_why_not(record, batch, prompt))
        for batch, prompt in dict.fromkeys([*found, *_asked(record)])
    ]


def _asked(record: Record) -> Iterator[tuple[int, int]]:
    """The further points of the profile, in the order of their size."""
    settings = record.cell.settings
    decode = settings.get("point_decode_tokens")
    pairs = settings.get("points")
    listed = pairs if isinstance(pairs, list) else []
    asked = [(int(str(pair[0])), int(str(pair[1]))) for pair in listed if isinstance(pair, list)]
    yield from sorted(asked, key=lambda at: (at[0] * (at[1] + int(str(decode))), at[0]))


def _why_not(record: Record, batch: int, prompt: int) -> str:
    """Why a point has no figures, in the suite's own words."""
    if is_masked(record):
        return "masked models are timed at the main point alone"
    begins = f"throughput at batch {batch}, prompt {prompt}: "
    told = [caveat.text for caveat in record.warnings if caveat.text.startswith(begins)]
    return told[0].removeprefix("throughput at ") if told else f"batch {batch}, prompt {prompt}: no reason was recorded"
