# SPDX-License-Identifier: Apache-2.0
"""What a tokenizer puts before and after every text, and what of it belongs to what is scored.

A beginning token stands before a text and is never predicted: nothing comes before it. An end token says that the text
is over, so a context or a prompt that a model is to go on from must not have it; behind an encoder it belongs there.
lm-eval 0.4.13 does otherwise in two places. Rolling log-likelihoods of its Hugging Face model score the beginning token
once more after itself, and a tokenizer that ends every text ends contexts too, so that the end token is scored instead
of an answer of one token. Where that changes a figure the record says so (`notes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.engines.contract import Engine, Row
from bench.records.record import Caveat

PROBE = "a"
"""A text by which to see what is put around it."""
Tokens = list[int]


@dataclass(kw_only=True)
class Framing:
    """A tokenizer's own tokens around a text, and where leaving them out made a figure differ from lm-eval's."""

    begin: Tokens
    """What it puts before every text; the token that stands for an empty context where it puts nothing."""
    end: Tokens
    """What it puts after every text, empty where a model goes on from there (an encoder's input) or for nothing."""
    begin_text: str
    end_text: str
    rolled: set[str] = field(default_factory=set)
    """Tasks whose texts were scored after a beginning token that lm-eval scores too."""
    ended: bool = False
    """Whether an end was left out anywhere."""

    def open_ended(self, tokens: Tokens) -> Tokens:
        """The tokens of a text that goes on: without the end that the tokenizer put there."""
        if not self.end or tokens[-len(self.end) :] != self.end:
            return tokens
        self.ended = True
        return tokens[: -len(self.end)]

    def rolling(self, tokens: Tokens, longest: int, task: str) -> list[Row]:
        """Every token of a text predicted once, in windows of at most `longest` tokens, the first after its beginning.

        A text that brings its own beginning token is not given another.
        """
        from lm_eval import utils

        begins = tokens[: len(self.begin)] == self.begin
        if begins:
            tokens = tokens[len(self.begin) :]
            self.rolled.add(task)
        rows: list[Row] = []
        windows = utils.get_rolling_token_windows(
            token_list=tokens, prefix_token=self.begin[-1], max_seq_len=longest, context_len=1
        )
        for window in windows:
            context, continuation = utils.make_disjoint_window(window)
            if not rows:  # of several beginning tokens as many as there is room for
                context = self.begin[-max(1, longest + 1 - len(continuation)) :]
            rows.append(Row(tuple(context), tuple(continuation)))
        return rows

    def notes(self) -> list[Caveat]:
        """What differs from lm-eval's figures for this tokenizer."""
        found = []
        if self.rolled:
            names = ", ".join(sorted(self.rolled))
            text = f"{names}: the beginning token {self.begin_text!r} is not scored; lm-eval scores it after itself"
            advice = "lm-eval's perplexity of the same texts differs by that token, most where texts are short"
            found.append(Caveat(kind="begin_not_scored", text=text, advice=advice))
        if self.ended:
            text = f"the tokenizer ends every text with {self.end_text!r}, which is left out of contexts and prompts"
            advice = "lm-eval leaves it in, so that its scores of this model are of another question"
            found.append(Caveat(kind="end_left_out", text=text, advice=advice))
        return found


def framing(engine: Engine, *, encoder: bool) -> Framing:
    """What the engine's tokenizer puts around a text; behind an encoder its end stays."""
    before, after = _around(engine)
    begin = before or [engine.prefix_token]
    end = [] if encoder else after
    return Framing(
        begin=begin,
        end=end,
        begin_text=engine.decode(begin),
        end_text=engine.decode(end) if end else "",
    )


def _around(engine: Engine) -> tuple[Tokens, Tokens]:
    """Tokens before and after a text. A text that is split otherwise beside them is told by its known ends."""
    inner, whole = engine.encode(PROBE), engine.encode(PROBE, special=True)
    for start in range(len(whole) - len(inner) + 1):
        if whole[start : start + len(inner)] == inner:
            return whole[:start], whole[start + len(inner) :]
    before = 1 if whole[:1] == [engine.prefix_token] else 0
    after = 1 if _ends(whole, engine.end_tokens) and not _ends(inner, engine.end_tokens) else 0
    return whole[:before], whole[len(whole) - after :]


def _ends(tokens: Sequence[int], ends: frozenset[int]) -> bool:
    return bool(tokens) and tokens[-1] in ends
