# SPDX-License-Identifier: Apache-2.0
"""What the cache of a served model costs: not applicable. What it keeps keys and values in is its server's."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from bench.engines.contract import Unsupported
from bench.records.record import Measurement
from bench.suite import TextRun, Work

VERSION = 1
PROFILES: dict[str, dict[str, JsonValue]] = {"smoke": {}, "standard": {}, "full": {}}


def work(settings: Mapping[str, JsonValue]) -> Work:
    """Nothing is asked."""
    return Work(prefill_tokens=0, decode_tokens=0)


def measure(run: TextRun) -> list[Measurement]:
    """Say why not."""
    raise Unsupported("not applicable: no API shows what a served model keeps keys and values in, or reads in pieces")
