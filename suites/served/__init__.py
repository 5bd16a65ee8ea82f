# SPDX-License-Identifier: Apache-2.0
"""The suites for served models. They have the same names and other methods, because only text can be measured."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pydantic import JsonValue

from bench.engines.contract import Reply
from bench.records.record import How, Measurement, Unit
from bench.suite import measured
from suites import probe

REGISTERS = ("encyclopaedic", "dialogue", "instructions")
"""Those of the probe text that a served model is asked to go on with."""


def fresh_prompt(index: int, characters: int) -> str:
    """A stretch of the probe text that no server holds of an earlier request, nor from an earlier run.

    Servers keep prompts, from their first token on, so each begins with six letters drawn anew; the stretch is another
    for each index, taken up at the start of the text when it is used up.
    """
    text = "".join(map(probe.text, REGISTERS))
    start = index * characters % (len(text) - characters)
    return f"{secrets.token_hex(3)}: Continue this text.\n\n{text[start : start + characters]}"


def ledger(replies: Sequence[Reply], labels: Mapping[str, JsonValue] = MappingProxyType({})) -> list[Measurement]:
    """Tokens, attempts and cost of each reply, in order. A figure that one of them lacks is left out."""
    found = [measured("attempts", Unit.COUNT, [r.attempts for r in replies], labels=labels)]
    for name in ("input_tokens", "output_tokens"):
        counts = [count for r in replies if (count := getattr(r, name)) is not None]
        if len(counts) == len(replies):
            found.append(measured(name, Unit.TOKEN, counts, counter="the server's usage", labels=labels))
    costs = [r.cost_usd for r in replies if r.cost_usd is not None]
    if len(costs) == len(replies):
        bound = any(r.cost_is_bound for r in replies)
        counter = "upper bounds where usage is missing, x prices" if bound else "the server's usage x prices"
        found.append(measured("cost_usd", Unit.USD, costs, how=How.COMPUTED, counter=counter, labels=labels))
    return found
