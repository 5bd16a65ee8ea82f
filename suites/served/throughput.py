# SPDX-License-Identifier: Apache-2.0
"""Speed of a served model as its user sees it, the network included, one request at a time, every sample kept.

One repeat sends `prompt_chars` characters of the project's probe text, another stretch each time behind six letters
drawn anew, so that no server answers from its cache of prefixes, of this run or of an earlier one, and asks for at most
`max_tokens` tokens at temperature 0. The connection is open before the clock starts, and an attempt that failed is not
timed, only counted (`attempts`). `ttft_s` is the time from sending to the first piece of text: queue and prompt are in
it, so no prefill rate is made of it.

A stream comes in pieces, and a piece is not a token: it may hold several. Kept are the number of pieces, the gaps
between them (`piece_gap_s`, all of them), the seconds between the first and the last (`decode_s`), and the tokens of
the pieces by the server's own count (`text_tokens`). On reading, the first of m pieces is taken to hold n/m of n
tokens, and the rate is n (1 - 1/m) / decode_s: (n - 1) / decode_s where each token is a piece. Where a server counts
nothing each piece is taken for one token, and a caveat says so. Answers may end early: nothing can be suppressed
through an API.

What a model thinks before it answers is generated like its answer, so pieces of thinking are arrivals: `ttft_s` is the
time to the first of either, `ttft_answer_s` (there where a model thinks) that to the first piece of the answer, and
`thinking_pieces` says how many came before. Thinking that is counted and never shown has no arrivals: its tokens are
taken off, and a caveat says that the time to the first token is one to the first that is shown. A count that cannot be
that of the pieces which arrived (it leaves the thinking out, or is more than so much text can be) is not used: each
piece is taken for one token, and a caveat says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from bench.engines.contract import Reply, Stopped
from bench.errors import UserError
from bench.records.record import Caveat, Measurement, Unit
from bench.suite import TextRun, Work, measured
from suites.served import clients, fresh_prompt, ledger

VERSION = 2
PROFILES = {
    "smoke": {"prompt_chars": 400, "max_tokens": 16, "repeats": 2},
    "standard": {"prompt_chars": 2000, "max_tokens": 128, "repeats": 5},
    "full": {"prompt_chars": 2000, "max_tokens": 128, "repeats": 20},
}
LAUNCHED = {
    name: {**profile, "warmups": 1, "clients": 4, "client_repeats": 2 if name == "smoke" else 3}
    for name, profile in PROFILES.items()
}
MOST_BUNDLED, LEAST_COUNTED = 1.5, 0.8
"""Tokens a piece: a count beyond the first speaks of pieces that hold several tokens. One below the second, of an
answer with thinking, has left the thinking out."""
LETTERS = 2.5
"""Letters of ASCII a token: English has 3 to 4 (spaces apart) with every vocabulary, and a text of fewer is not what
the tokens were counted in. Anything else may take a token for each byte."""
UNSEEN = 2
"""Tokens that no piece shows: the end of the answer, and of the turn."""
COUNTER = "perf_counter, from sending on an open connection"


class EmptyOutput(Exception):
    """Every answer came without text: their speed means nothing."""


def work(settings: Mapping[str, Any]) -> Work:
    """Every request once; about four characters are a token."""
    repeats = settings["repeats"] + settings.get("warmups", 0)
    repeats += settings.get("clients", 0) * settings.get("client_repeats", 0)
    return Work(prefill_tokens=repeats * settings["prompt_chars"] // 4, decode_tokens=repeats * settings["max_tokens"])


def measure(run: TextRun) -> list[Measurement]:
    """Ask and time every repeat; what was timed before a stop is kept."""
    settings, replies = run.settings, []
    try:
        for index in range(settings.get("warmups", 0)):
            run.phase("warm-up", index, settings["warmups"])
            run.engine.reply(fresh_prompt(index, settings["prompt_chars"]), max_tokens=settings["max_tokens"])
        for index in range(settings["repeats"]):
            run.phase("repeat", index, settings["repeats"])
            asked = fresh_prompt(index, settings["prompt_chars"])
            replies.append(run.engine.reply(asked, max_tokens=settings["max_tokens"]))
        run.phase("repeat", settings["repeats"], settings["repeats"])
    except (Stopped, UserError) as error:
        timed = any(r.arrivals_s for r in replies)
        if isinstance(error, UserError) and not timed:
            raise
        reason = f"{error} ({len(replies)} of {settings['repeats']} repeats)"
        raise Stopped(reason, _found(run, replies) if timed else ()) from None
    if not any((r.text + r.thinking).strip() for r in replies):
        raise EmptyOutput(f"{len(replies)} answers came without any text")
    found = _found(run, replies)
    return found + _together(run, found) if settings.get("clients") else found


def _together(run: TextRun, found: Sequence[Measurement]) -> list[Measurement]:
    """What several clients get. A server that cannot answer them has that in a caveat, and keeps what one got."""
    try:
        return clients.measure(run, tokens_of)
    except Stopped as error:
        text = f"{run.settings['clients']} clients at once: {error}"
        advice = "look for the option by which the server answers several at once"
        run.caveats.append(Caveat(kind="not_measured", text=text, advice=advice))
        return []
    except UserError as error:
        raise Stopped(f"{run.settings['clients']} clients at once: {error}", found) from None


def disagreement(reply: Reply) -> str | None:
    """Why the server's count of an answer cannot be that of the pieces which arrived, None if it can or there is none.

    A server may bundle tokens into a piece, and its count then stands; it may count what it never sends, or not count
    what it sends, and the two must not be divided by each other.
    """
    if reply.output_tokens is None:
        return None
    tokens, pieces, text = reply.output_tokens - reply.hidden_tokens, len(reply.arrivals_s), reply.thinking + reply.text
    if reply.thinking and tokens < LEAST_COUNTED * pieces:
        return f"counts {tokens} tokens and sent {pieces} pieces of thinking and answer"
    if tokens > MOST_BUNDLED * pieces and tokens > most_tokens(text):
        return f"counts {tokens} tokens and sent {len(text)} characters in {pieces} pieces"
    return None


def most_tokens(text: str) -> float:
    """The most tokens that a text can reasonably be, spaces being part of words."""
    letters = sum(c.isascii() and c.isalpha() for c in text)
    others = sum(len(c.encode()) for c in " ".join(text.split()) if c != " ") - letters
    return letters / LETTERS + others + UNSEEN


def tokens_of(replies: Sequence[Reply]) -> tuple[list[int], str]:
    """Tokens of the pieces of each answer, and who counted them: the server, if it counted what it sent."""
    if any(r.output_tokens is None or disagreement(r) for r in replies):
        return [len(r.arrivals_s) for r in replies], "pieces of the stream"
    return [(r.output_tokens or 0) - r.hidden_tokens for r in replies], "the server's usage"


def _found(run: TextRun, replies: Sequence[Reply]) -> list[Measurement]:
    timed = [r for r in replies if r.arrivals_s]
    shown = next((r for r in timed if r.text), timed[0])
    run.keep_text("generated", shown.text or shown.thinking, shown.output_tokens or len(shown.arrivals_s))
    _warn(run, replies, timed)
    gaps = [later - earlier for r in timed for earlier, later in pairwise(r.arrivals_s)]
    tokens, counter = tokens_of(timed)
    return [
        measured("ttft_s", Unit.SECOND, [r.arrivals_s[0] for r in timed], counter=COUNTER),
        *_thinking(timed),
        measured("decode_s", Unit.SECOND, [r.arrivals_s[-1] - r.arrivals_s[0] for r in timed], counter=COUNTER),
        measured("piece_gap_s", Unit.SECOND, gaps, digits=6, counter=COUNTER),
        measured("pieces", Unit.COUNT, [len(r.arrivals_s) for r in timed], counter="events with text"),
        measured("text_tokens", Unit.TOKEN, tokens, counter=counter),
        *ledger(replies),
    ]


def _thinking(timed: Sequence[Reply]) -> list[Measurement]:
    """When answers began, and how much was thought before, of a model that thinks."""
    if not any(r.thinking or r.hidden_tokens for r in timed):
        return []
    began = [r.answer_s for r in timed if r.answer_s is not None]
    before = [sum(r.answer_s is None or at_s < r.answer_s for at_s in r.arrivals_s) for r in timed]
    found = [measured("thinking_pieces", Unit.COUNT, before, counter="events with text")]
    return [measured("ttft_answer_s", Unit.SECOND, began, counter=COUNTER), *found] if began else found


def _warn(run: TextRun, replies: Sequence[Reply], timed: Sequence[Reply]) -> None:
    """Caveats on what the stream did not give."""

    def warn(kind: str, text: str, advice: str) -> None:
        run.caveats.append(Caveat(kind=kind, text=text, advice=advice))

    pieces = "each piece of the stream is taken for one token"
    if any(r.output_tokens is None for r in timed):
        warn("tokens_not_counted", f"the server gives no usage: {pieces}", "read the speed as pieces per second")
    elif wrong := next(filter(None, map(disagreement, timed)), None):
        warn("counts_disagree", f"the server {wrong}: {pieces}", "read the speed as pieces per second")
    hidden = sum(r.hidden_tokens > 0 for r in timed)
    if hidden:
        text = f"{hidden} of {len(timed)} answers begin with thinking that is counted and not shown"
        advice = "their time to the first token is the time to the first token shown, and their rate that of the answer"
        warn("hidden_thinking", text, advice)
    unanswered = sum(r.answer_s is None for r in timed)
    if unanswered:
        text = f"{unanswered} of {len(timed)} answers ended while the model was thinking"
        warn("only_thinking", text, "their speed is that of thinking; a larger profile asks for longer answers")
    if len(timed) < len(replies):
        text = f"{len(replies) - len(timed)} of {len(replies)} answers came without text and are not timed"
        warn("empty_output", text, "look at what the server answers")
    if any(len(r.arrivals_s) == 1 for r in timed):
        text = "some answers came in one piece, so they have a time to the first token and no rate"
        warn("not_streamed", text, "ask for longer answers, or another server")
