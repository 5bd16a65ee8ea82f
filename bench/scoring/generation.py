# SPDX-License-Identifier: Apache-2.0
"""How a task wants its answers generated, read from lm-eval's keyword arguments."""

from __future__ import annotations

from typing import TypedDict

from bench.engines.contract import Unsupported

MAX_NEW_TOKENS = 256
"""Tokens a generated answer may have when its task does not say."""


class Options(TypedDict, total=False):
    """What a task says of how its answers are generated, in lm-eval's words."""

    do_sample: bool
    temperature: float
    until: str | list[str]
    max_gen_toks: int
    max_new_tokens: int


def limits_of(options: Options) -> tuple[list[str], int]:
    """The strings that end an answer, and the most tokens it may have. Raises Unsupported for a task that samples."""
    if options.get("do_sample") and options.get("temperature", 1) != 0:
        raise Unsupported("this task samples its answers; only greedy generation is comparable")
    until = options.get("until") or []
    stops = [until] if isinstance(until, str) else [stop for stop in until if stop]
    return stops, int(options.get("max_gen_toks") or options.get("max_new_tokens") or MAX_NEW_TOKENS)
