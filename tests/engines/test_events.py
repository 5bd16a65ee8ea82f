# SPDX-License-Identifier: Apache-2.0
"""Served answers of every shape: thinking in each dialect, halves of characters, wrong types, bodies without end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from builders import make_model
from replay import HEAD_OF_STREAM, Replay, openai, raw, refusal, replay, stream

from bench.catalog.model import Kind, Protocol, Remote
from bench.engines import api
from bench.engines.contract import LoadRequest, Stopped
from bench.engines.http_api import engine as api_engine
from bench.engines.http_api import events, transport
from bench.engines.http_api.engine import ApiEngine, Purse
from bench.engines.http_api.pauses import quota_wait, retry_after
from bench.engines.http_api.protocols import Answer, Anthropic, OpenAI
from bench.records.cell import Weights

HELLO = openai(["Hello"], {"prompt_tokens": 10, "completion_tokens": 1})
USAGE = {"prompt_tokens": 20, "completion_tokens": 6}
DONE = ['data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}', "data: [DONE]"]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for the entry."""
    monkeypatch.setenv("TEST_API_KEY", "sk-key")


def engine(at: Replay, **more: Any) -> ApiEngine:
    """An engine on a server, whose pauses take no time."""
    priced = Remote(
        protocol=Protocol.OPENAI, model="m", url=at.url, key_variable="TEST_API_KEY", input_usd_per_million=1.0,
        output_usd_per_million=10.0,
    )  # fmt: skip
    model = make_model(name="served", kind=Kind.API, repo=None, architecture=None, remote=priced)
    asked = LoadRequest(model=model, weights=Weights.REMOTE, scheme=api.BACKEND.schemes[0], device="cpu", **more)
    return ApiEngine(asked, sleep=lambda seconds: None)


def chunk(**delta: Any) -> str:
    """An event with a piece of something."""
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': None}]})}"


def taken(*deltas: dict[str, Any]) -> Answer:
    """An answer from OpenAI's chunks, one a second."""
    answer = Answer()
    for index, delta in enumerate(deltas):
        OpenAI.take({"choices": [{"delta": delta}]}, answer, float(index + 1))
    return answer


# Thinking.


@pytest.mark.parametrize(
    "deltas",
    [
        [{"reasoning_content": "so "}, {"reasoning_content": "far"}, {"content": "Yes"}],
        [{"reasoning": "so "}, {"reasoning": "far"}, {"content": "Yes"}],
        [{"reasoning": "so ", "reasoning_content": "so "}, {"reasoning": "far", "content": ""}, {"content": "Yes"}],
        [{"thinking": "so "}, {"thinking": "far", "reasoning": ""}, {"content": "Yes"}],
        [{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": t}]}]} for t in ("so ", "far")]
        + [{"content": [{"type": "text", "text": "Yes"}]}],
    ],
    ids=["DeepSeek", "Ollama", "both", "thinking", "Mistral"],
)
def test_thinking_is_told_from_the_answer_in_every_dialect(deltas: list[dict[str, Any]]) -> None:
    """Its pieces are arrivals; the answer begins with its own first piece."""
    answer = taken(*deltas)
    assert answer.split == ("so far", "Yes", 3.0)
    assert answer.arrivals_s == [1.0, 2.0, 3.0]


def test_thinking_of_messages_is_told_from_the_answer() -> None:
    """Anthropic's blocks; a signature is no piece."""
    answer = Answer()
    for at_s, delta in enumerate(
        [{"thinking": "so far"}, {"signature": "EqQB"}, {"type": "text_delta", "text": "Yes"}], start=1
    ):
        Anthropic.take({"type": "content_block_delta", "delta": delta}, answer, float(at_s))
    assert (answer.split, answer.arrivals_s) == (("so far", "Yes", 3.0), [1.0, 3.0])


@pytest.mark.parametrize(
    ("pieces", "split"),
    [
        (["<think>", "so far", "</think>", "\n\n", "Yes"], ("so far", "Yes", 5.0)),
        (["so far", "</thi", "nk>\nYes", " sir"], ("so far", "Yes sir", 3.0)),
        (["\n<think>so", " far"], ("so far", "", None)),
        (["<think></think>Yes"], ("", "Yes", 1.0)),
        (["Yes", " <think> is a tag"], ("", "Yes <think> is a tag", 1.0)),
        ([], ("", "", None)),
    ],
)
def test_thinking_between_tags_is_told_from_the_answer(pieces: list[str], split: tuple[str, str, float | None]) -> None:
    """Where the server does not, also if the opening tag stood in the prompt, or the end never came."""
    answer = taken(*({"content": piece} for piece in pieces))
    assert answer.split == split
    assert len(answer.arrivals_s) == len(pieces)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 20, "completion_tokens": 16, "total_tokens": 36}, (20, 16, None)),
        (
            {"prompt_tokens": 20, "completion_tokens": 16, "completion_tokens_details": {"reasoning_tokens": 12}},
            (20, 16, 12),
        ),
        ({"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 36}, (20, 16, 12)),
        (
            {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 36,
             "completion_tokens_details": {"reasoning_tokens": 12}},
            (20, 16, 12),
        ),
        (
            {"prompt_tokens": 20, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 9}},
            (20, 4, 4),
        ),
        ({"prompt_tokens": "20", "completion_tokens": -4, "total_tokens": True}, (None, None, None)),
        ({"prompt_tokens": 20.0, "completion_tokens": [4], "completion_tokens_details": 3}, (None, None, None)),
        ({"prompt_tokens": 10**12, "completion_tokens": 10**400}, (None, None, None)),
    ],
)  # fmt: skip
def test_counts_are_those_that_can_be(usage: dict[str, Any], counted: tuple[int | None, ...]) -> None:
    """Thinking is part of the output, also where a server counts it beside; what is no count is none."""
    answer = Answer()
    OpenAI.take({"choices": [], "usage": usage}, answer, 1.0)
    assert (answer.input_tokens, answer.output_tokens, answer.thinking_tokens) == counted


# Types.


@pytest.mark.parametrize("value", [None, 0, -1, True, "x", [], [1], {}, {"a": 1}, 1.5, [[]], ["x"], [{"delta": 3}]])
@pytest.mark.parametrize("name", ["choices", "usage", "model", "system_fingerprint", "type", "delta", "message"])
def test_parts_of_a_wrong_type_count_as_absent(name: str, value: Any) -> None:
    """In both protocols."""
    for protocol, kinds in ((OpenAI, [None]), (Anthropic, ["message_start", "content_block_delta", "message_delta"])):
        for kind in kinds:
            answer = Answer()
            protocol.take({"type": kind, name: value}, answer, 1.0)
            assert (answer.pieces, answer.input_tokens, answer.output_tokens) == ([], None, None)


@pytest.mark.parametrize("inner", ["delta", "finish_reason"])
@pytest.mark.parametrize("value", [0, "x", [1], {"content": 5, "reasoning": [7]}, {"content": [3, {"text": 4}]}])
def test_a_choice_of_a_wrong_type_is_no_piece(inner: str, value: Any) -> None:
    """Nor a reason to fail."""
    answer = Answer()
    OpenAI.take({"choices": [{inner: value}, 7, None]}, answer, 1.0)
    assert answer.pieces == [] and answer.thoughts == []


def test_halves_of_a_character_are_joined_and_a_lone_one_is_told() -> None:
    """A stream may cut a surrogate pair in two pieces; what stays alone cannot be stored and is replaced."""
    halves = "\\ud83d", "\\ude00"
    said = [f'data: {{"model": "m\\ud83d", "choices": [{{"delta": {{"content": "{half}"}}}}]}}' for half in halves]
    lone = ['data: {"choices": [{"delta": {"content": "a\\ude00b"}}]}']
    with replay(HELLO, stream([*said, *DONE]), stream([*lone, *DONE])) as server:
        asked = engine(server)
        assert asked.reply("x", max_tokens=9).text == "\U0001f600"
        assert asked.reply("x", max_tokens=9).text == "a\ufffdb"
    assert str(asked.version).encode()


def test_an_event_nested_too_deep_is_tried_again() -> None:
    """It is no JSON that anybody reads."""
    deep = stream(["data: " + "[" * 2000])
    with replay(HELLO, deep, openai(["Yes"], USAGE)) as server:
        reply = engine(server).reply("x", max_tokens=9)
    assert (reply.text, reply.attempts) == ("Yes", 2)


# Money.


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1_000_000, "completion_tokens": 6},
        {"prompt_tokens": 20, "completion_tokens": -1_000_000},
        {"prompt_tokens": 20, "completion_tokens": 0},
        {"prompt_tokens": 0, "completion_tokens": 6},
        {"prompt_tokens": True, "completion_tokens": "6"},
    ],
)
def test_counts_that_cannot_be_do_not_stretch_a_spending_limit(usage: dict[str, Any]) -> None:
    """Each answer costs its upper bound, and the limit ends the work after two."""
    bound = (1 + 64 + 9 * 10) / 1e6
    with replay(HELLO, openai(["Yes"], usage)) as server:
        asked = engine(server, max_cost_usd=20e-6 + 2.5 * bound)
        for _ in range(2):
            reply = asked.reply("x", max_tokens=9)
            assert (reply.cost_usd, reply.cost_is_bound) == (pytest.approx(bound), True)
        with pytest.raises(Stopped, match="spending limit"):
            asked.reply("x", max_tokens=9)


def test_an_answer_without_text_may_have_no_tokens() -> None:
    """A server that stopped at once counts none, and that is what it cost."""
    priced = Remote(
        protocol=Protocol.OPENAI, model="m", url="https://h", key_variable="X_API_KEY", input_usd_per_million=1.0,
        output_usd_per_million=10.0,
    )  # fmt: skip
    assert Purse(priced, None).settled(Answer(input_tokens=20, output_tokens=0), 1.0) == (True, 20e-6)


# Bodies.


@contextmanager
def patient(monkeypatch: pytest.MonkeyPatch, settle_s: float = 0.2) -> Iterator[None]:
    """Short waits for what may follow an answer; the test fails where an answer is waited for longer than a second."""
    monkeypatch.setattr(transport, "SETTLE_S", settle_s)
    monkeypatch.setattr(transport, "DRAIN_S", 0.1)
    monkeypatch.setattr(transport, "READ_TIMEOUT_S", 5.0)
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 4


def body(*lines: str, end: str = "\n\n") -> bytes:
    """Events, each with its empty line."""
    return "".join(f"{line}{end}" for line in lines).encode()


@pytest.mark.parametrize("framing", ["", "content-length: 100000\r\n", "transfer-encoding: chunked\r\n"])
def test_a_whole_answer_is_kept_though_its_connection_stays_open(framing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the server said of its length; the next question goes over a new connection."""
    said = body(chunk(content="Yes"), f'data: {{"choices": [], "usage": {json.dumps(USAGE)}}}', *DONE)
    if "chunked" in framing:
        said = f"{len(said):x}\r\n".encode() + said + b"\r\n"
    with patient(monkeypatch), raw(HEAD_OF_STREAM.format(framing).encode() + said) as server:
        asked = engine(server)
        replies = [asked.reply("x", max_tokens=9) for _ in range(2)]
    assert [(r.text, r.output_tokens, r.attempts) for r in replies] == [("Yes", 6, 1)] * 2


def test_an_answer_that_ended_without_the_sign_for_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason to finish, then nothing more on an open connection; its counts are missing, so the cost is bounded."""
    said = body(chunk(content="Yes"), DONE[0])
    with patient(monkeypatch), raw(HEAD_OF_STREAM.format("").encode() + said) as server:
        reply = engine(server).reply("x", max_tokens=9)
    assert (reply.text, reply.finish, reply.attempts, reply.cost_is_bound) == ("Yes", "stop", 1, True)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (b"data: " + b"x" * 5000, "a line of the answer has more than"),
        (b": still here\n\n" * 2000, "the answer has more than"),
        (b"data: x\n" * 4000, "the answer has more than"),
    ],
    ids=["line", "comments", "event"],
)
def test_a_line_and_a_body_without_end_are_not_collected(
    more: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits are lower here than outside of tests, and each attempt stops at them."""
    monkeypatch.setattr(events, "LINE_BYTES", 4096)
    monkeypatch.setattr(events, "BODY_BYTES", 16384)
    with raw(HEAD_OF_STREAM.format("").encode() + more, endless=more) as server:
        with pytest.raises(Exception, match=rf"{words} 0 MiB, 6 times"):
            engine(server)
        assert server.sent_bytes < 6 * 8 * 2**20


def test_an_answer_that_never_ends_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life every moment is no answer."""
    monkeypatch.setattr(transport, "ANSWER_TIMEOUT_S", 0.05)
    late = pytest.raises(Exception, match="the answer took more than")
    with raw(HEAD_OF_STREAM.format("").encode(), endless=b": still here\n\n", every_s=0.02) as server, late:
        engine(server)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"\x00\xff\r\n",
    ],
    ids=["chunk", "negative chunk", "headers", "status", "nothing of HTTP"],
)
def test_what_is_no_http_is_a_failure_that_may_pass(said: bytes) -> None:
    """Six attempts, then one line."""
    with raw(said, close=True) as server, pytest.raises(Exception, match=r", 6 times; check the address"):
        engine(server)


def test_a_refusal_is_read_though_its_connection_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status and what came of its page say what to do."""
    page = b'{"error": {"message": "wrong key"}}'
    said = b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\n\r\n" + page
    with patient(monkeypatch), raw(said) as server, pytest.raises(Exception, match=r"refuses the key \(HTTP 401\)"):
        engine(server)


def test_a_refusal_that_is_no_text_is_one_printable_line() -> None:
    """Terminal controls of a server's are not passed on."""
    refused = pytest.raises(Exception, match=r"HTTP 400: no \?\[31mred\?\? here please")
    with replay(refusal(400, "no \x1b[31mred\x07\x9b here\nplease")) as server, refused as caught:
        engine(server)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00", "9999-12-31T23:59:59-23:59", "٣", "1e999", "nan", "-inf"])
def test_pauses_that_no_clock_counts_are_none_or_long(text: str) -> None:
    """They are a number, whatever a server writes."""
    assert (retry_after({"retry-after": text}) or 0.0) >= 0
    assert quota_wait({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": text}) >= 0


def test_a_host_that_no_name_server_takes_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label of more than 63 characters."""
    monkeypatch.setattr(api_engine.ApiEngine, "close", lambda self: None)
    with pytest.raises(Exception, match=r"no connection \(UnicodeError\); is the server running"):
        engine(Replay(f"https://{'a' * 70}.example.org", []))
