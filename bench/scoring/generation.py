# SPDX-License-Identifier: Apache-2.0
"""How a task wants its answers generated, and the answers as they grow, several side by side where an engine can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from bench.engines.abilities import Asked, GeneratesTogether, Take
from bench.engines.contract import Engine, Unsupported
from bench.records.scored import Answer, loop_share

MAX_NEW_TOKENS = 256
"""Tokens a generated answer may have when its task does not say."""

MARGIN = 8
"""Tokens looked at beyond those that a stop string may take: a tokenizer treats the first ones of a text differently,
and a character may need several."""


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


@dataclass(kw_only=True)
class Growing:
    """One answer while it is generated: it ends at an end token, behind a stop string or at its limit."""

    decode: Callable[[Sequence[int]], str]
    end_tokens: frozenset[int]
    stops: Sequence[str]
    limit: int
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    """Whether it came to an end of its own before its limit."""
    finite: bool = True
    """Whether all its logits were numbers."""

    def take(self, token: int | None) -> bool:
        """Whether it goes on behind its next token; None stands for logits that are no numbers."""
        if token is None:
            self.finite = False
            return False
        if token in self.end_tokens:
            self.ended = True
            return False
        self.tokens.append(token)
        self.ended = self._stopped()
        return not self.ended and len(self.tokens) < self.limit

    def _stopped(self) -> bool:
        """Whether a stop string stands in the text, which is decoded as a whole only where its end seems to hold one.

        A token is at least a byte, so a new stop lies within as many last tokens as it has bytes.
        """
        if not self.stops:
            return False
        window = max(len(stop.encode(errors="replace")) for stop in self.stops) + MARGIN
        if len(self.tokens) > window and not self._holds(self.decode(self.tokens[-window:])):
            return False
        return self._holds(self.decode(self.tokens))

    def _holds(self, text: str) -> bool:
        return any(stop in text for stop in self.stops)

    def result(self) -> tuple[str, Answer]:
        """The text before the first stop, and what is kept of it."""
        text = self.decode(self.tokens) if self.tokens else ""
        for stop in self.stops:
            text = text.split(stop)[0]
        loop = loop_share(self.tokens)
        return text, Answer(tokens=len(self.tokens), empty=not text.strip(), loop=loop, cut=not self.ended)


def generate(engine: Engine, asked: Sequence[Asked], take: Take) -> None:
    """Greedy answers, side by side where the engine can, every token handed to `take` until it wants no more."""
    if isinstance(engine, GeneratesTogether) and engine.generates_together > 1:
        engine.generate(asked, take)
        return
    for index, one in enumerate(asked):
        generation = engine.prefill([list(one.tokens)])
        try:
            goes_on = True
            while goes_on:
                token = generation.step()[0]
                goes_on = take(index, token if generation.finite else None)
        finally:
            generation.close()
