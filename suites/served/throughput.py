# SPDX-License-Identifier: Apache-2.0
"""Speed of a served model as its user sees it, the network included, one request at a time, every sample kept.

One repeat sends `prompt_chars` characters of the project's probe text, another stretch each time so that no server
answers from its cache of prefixes, and asks for at most `max_tokens` tokens at temperature 0. The connection is open
before the clock starts, and an attempt that failed is not timed, only counted (`attempts`). `ttft_s` is the time from
sending to the first piece of text: queue and prompt are in it, so no prefill rate is made of it.

A stream comes in pieces, and a piece is not a token: it may hold several. Kept are the number of pieces, the gaps
between them (`piece_gap_s`, all of them), the seconds between the first and the last (`decode_s`), and the tokens of
the text by the server's own count (`text_tokens`, hidden reasoning taken off). On reading, the first of m pieces is
taken to hold n/m of n tokens, and the rate is n (1 - 1/m) / decode_s: (n - 1) / decode_s where each token is a piece.
Where a server counts nothing each piece is taken for one token, and a caveat says so. Answers may end early: nothing
can be suppressed through an API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from bench.engines.contract import Reply, Stopped
from bench.records.record import Caveat, Measurement, Unit
from bench.suite import TextRun, Work, measured
from suites import probe
from suites.served import ledger

VERSION = 1
PROFILES = {
    "smoke": {"prompt_chars": 400, "max_tokens": 16, "repeats": 2},
    "standard": {"prompt_chars": 2000, "max_tokens": 128, "repeats": 5},
    "full": {"prompt_chars": 2000, "max_tokens": 128, "repeats": 20},
}
REGISTERS = ("encyclopaedic", "dialogue", "instructions")
COUNTER = "perf_counter, from sending on an open connection"


class EmptyOutput(Exception):
    """Every answer came without text: their speed means nothing."""


def work(settings: Mapping[str, Any]) -> Work:
    """Every repeat once; about four characters are a token."""
    repeats = settings["repeats"]
    return Work(prefill_tokens=repeats * settings["prompt_chars"] // 4, decode_tokens=repeats * settings["max_tokens"])


def prompt(index: int, characters: int) -> str:
    """A stretch of the probe text of its own for each repeat, taken up at the start when it is used up."""
    text = "".join(map(probe.text, REGISTERS))
    start = index * characters % (len(text) - characters)
    return f"Continue this text.\n\n{text[start : start + characters]}"


def measure(run: TextRun) -> list[Measurement]:
    """Ask and time every repeat; what was timed before a stop is kept."""
    settings, replies = run.settings, []
    try:
        for index in range(settings["repeats"]):
            run.phase("repeat", index, settings["repeats"])
            asked = prompt(index, settings["prompt_chars"])
            replies.append(run.engine.reply(asked, max_tokens=settings["max_tokens"]))
        run.phase("repeat", settings["repeats"], settings["repeats"])
    except Stopped as error:
        reason = f"{error} ({len(replies)} of {settings['repeats']} repeats)"
        raise Stopped(reason, _found(run, replies) if any(r.text for r in replies) else ()) from None
    if not any(r.text.strip() for r in replies):
        raise EmptyOutput(f"{len(replies)} answers came without any text")
    return _found(run, replies)


def _found(run: TextRun, replies: Sequence[Reply]) -> list[Measurement]:
    timed = [r for r in replies if r.arrivals_s]
    run.keep_text("generated", timed[0].text, timed[0].output_tokens or len(timed[0].arrivals_s))
    _warn(run, replies, timed)
    counted = all(r.output_tokens is not None for r in timed)
    tokens = [(r.output_tokens or 0) - r.hidden_tokens if counted else len(r.arrivals_s) for r in timed]
    gaps = [later - earlier for r in timed for earlier, later in pairwise(r.arrivals_s)]
    counter = "the server's usage" if counted else "pieces of the stream"
    return [
        measured("ttft_s", Unit.SECOND, [r.arrivals_s[0] for r in timed], counter=COUNTER),
        measured("decode_s", Unit.SECOND, [r.arrivals_s[-1] - r.arrivals_s[0] for r in timed], counter=COUNTER),
        measured("piece_gap_s", Unit.SECOND, gaps, digits=6, counter=COUNTER),
        measured("pieces", Unit.COUNT, [len(r.arrivals_s) for r in timed], counter="events with text"),
        measured("text_tokens", Unit.TOKEN, tokens, counter=counter),
        *ledger(replies),
    ]


def _warn(run: TextRun, replies: Sequence[Reply], timed: Sequence[Reply]) -> None:
    """Caveats on what the stream did not give."""
    if any(r.output_tokens is None for r in timed):
        text = "the server gives no usage: each piece of the stream is taken for one token"
        run.caveats.append(Caveat(kind="tokens_not_counted", text=text, advice="read the speed as pieces per second"))
    if len(timed) < len(replies):
        text = f"{len(replies) - len(timed)} of {len(replies)} answers came without text and are not timed"
        run.caveats.append(Caveat(kind="empty_output", text=text, advice="look at what the server answers"))
    if any(len(r.arrivals_s) == 1 for r in timed):
        text = "some answers came in one piece, so they have a time to the first token and no rate"
        run.caveats.append(Caveat(kind="not_streamed", text=text, advice="ask for longer answers, or another server"))
