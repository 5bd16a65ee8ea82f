# SPDX-License-Identifier: Apache-2.0
"""What is typed, and what a server answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calling import LOADING_S, command, inputs
from hypothesis import given
from hypothesis import strategies as st
from odd import changed, damaged, texts
from replay import Scripted, openai, replay, stream

from bench.records.store import Store

NewFolder = Callable[[], Path]
NUMBERS = (
    "0", "-1", "1", "0.5", "nan", "inf", "-inf", "1e999", "9" * 50, "9" * 5000, "٣", "²", "①", "0x10", "1_000", "1,5",
    "", " ", "12GB", "12 GiB", "-5GB", "20min", "1e3h", "5%", "0.6/h", "0.3/kWh", "-1/1M", "none", "auto", "x",
)  # fmt: skip
OPTIONS = {
    "plan": ("--model", "--precision", "--scheme", "--suite", "--profile", "--weights", "--task", "--task-folder",
             "--max-length", "--text", "--memory-limit", "--base", "--api-url", "--device", "--format", "--results"),
    "show": ("--model", "--precision", "--scheme", "--backend", "--suite", "--device", "--columns", "--format",
             "--results"),
    "compare": ("--model", "--margin", "--across", "--device", "--format", "--results"),
    "claims": ("--model", "--backend", "--timeout", "--threads", "--format", "--results"),
    "catalog": ("--model", "--backend", "--device", "--format", "--catalog", "--results"),
    "cache": ("--clear", "--results"),
    "publish": ("--catalog",),
    "recommend": ("--memory", "--min-decode", "--max-loss", "--context", "--price", "--tariff", "--api-price",
                  "--model", "--format", "--results"),
    "run": ("--timeout", "--threads", "--budget", "--max-cost", "--max-length", "--memory-limit", "--task", "--text",
            "--profile", "--precision"),
}  # fmt: skip
"""By command, the options that take something. `run` measures the fake, which takes no time."""
FIXED = {
    "run": ("--backend", "fake", "--device", "cpu", "--suite", "memory", "--quiet", "--profile", "smoke"),
    "plan": ("--backend", "fake"),
    "publish": ("--check",),
}
typed = st.sampled_from(NUMBERS) | texts.filter(lambda text: "\x00" not in text)


@st.composite
def calls(draw: Any) -> list[str]:
    """A command with a few options and odd words behind them."""
    name = draw(st.sampled_from(sorted(OPTIONS)))
    made = [name, *FIXED.get(name, ())]
    for option in draw(st.lists(st.sampled_from(OPTIONS[name]), min_size=1, max_size=3, unique=True)):
        made += [option, draw(typed)]
    return made


@inputs("arguments")
@given(arguments=calls())
def test_arguments(arguments: list[str], folder: NewFolder) -> None:
    """Results lie in a folder of the test's own unless the input says another, which is refused or is not there."""
    at = folder()
    if "--results" not in arguments and arguments[0] != "cache":
        arguments = [*arguments, "--results", str(at / "results")]
    elif "--results" in arguments:
        where = arguments.index("--results") + 1
        arguments[where] = str(at / arguments[where].replace("/", "-"))[:4000]
    command(*arguments)


EVENT = {
    "id": "c", "object": "chat.completion.chunk", "model": "m", "system_fingerprint": "f",
    "choices": [{"index": 0, "delta": {"content": "One", "reasoning_content": "So"}, "finish_reason": None}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26,
              "completion_tokens_details": {"reasoning_tokens": 2}},
    "error": None,
}  # fmt: skip
GOOD = openai(["One", " two", " three"], {"prompt_tokens": 20, "completion_tokens": 3})


@st.composite
def answers(draw: Any) -> Scripted:
    """A stream with an odd event in it, or a refusal with an odd page, or odd headers."""
    event = (
        json.dumps(draw(changed(EVENT))) if draw(st.booleans()) else draw(damaged(json.dumps(EVENT))).decode("latin-1")
    )
    made = stream([f"data: {line}" for line in event.splitlines() or [""]] + GOOD.body.strip().split("\n\n"))
    made.status = draw(st.sampled_from([200, 200, 200, 201, 400, 500]))
    made.cut = draw(st.booleans())
    return made


@inputs("answers")
@given(answer=answers())
def test_answers_of_a_server(answer: Scripted, folder: NewFolder) -> None:
    """One odd answer among good ones, through the worker that asks and the table that shows."""
    at = folder()
    with replay(GOOD, answer, GOOD) as server:
        command(
            "run", "--backend", "api", "--model", "m", "--api-url", server.url, "--suite", "throughput", "--profile",
            "smoke", "--quiet", "--results", at / "results", patience_s=LOADING_S,
        )  # fmt: skip
    for record in Store(at / "results").records():
        assert record.outcome.detail == "", record.outcome.detail
    command("show", "--results", at / "results", "--columns", "served")
