# SPDX-License-Identifier: Apache-2.0
"""OpenAI's chat completions and Anthropic's messages: what is sent, and what each event of the answer adds to it.

What a server sends is not trusted to have the documented shape: a part of another type counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import JsonValue

from bench.catalog.model import Protocol, Remote

Json = Mapping[str, JsonValue]
"""One object of an answer."""


@dataclass
class Answer:
    """What has arrived of one answer."""

    pieces: list[str] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    hidden_tokens: int = 0
    finish: str | None = None
    version: str | None = None
    ended: bool = False

    def add(self, text: object, at_s: float) -> None:
        """One more piece of text, if there is any."""
        if isinstance(text, str) and text:
            self.pieces.append(text)
            self.arrivals_s.append(at_s)


def part(event: Json, *names: str) -> Json:
    """The object found by following these names, empty where one of them leads to none."""
    for name in names:
        found = event.get(name)
        event = found if isinstance(found, dict) else {}
    return event


def tokens(usage: Json, name: str) -> int | None:
    """A number of tokens, None where the server does not tell."""
    found = usage.get(name)
    return found if isinstance(found, int) else None


def word(of: Json, name: str) -> str | None:
    """A word of the server's, None where it says nothing."""
    found = of.get(name)
    return found if isinstance(found, str) else None


def _greedy(model: str, prompt: str, max_tokens: int) -> dict[str, JsonValue]:
    """What both protocols are asked in the same words: one user message, the likeliest answer, streamed."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
    }


class OpenAI:
    """Chat completions."""

    path: ClassVar = "/chat/completions"
    end: ClassVar = "[DONE]"

    @staticmethod
    def headers(key: str | None) -> dict[str, str]:
        """The key as bearer, if there is one."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    @staticmethod
    def body(model: str, prompt: str, max_tokens: int, stops: Sequence[str]) -> dict[str, JsonValue]:
        """One user message, greedy, streamed, with usage at the end. The API takes at most four stop strings."""
        asked = _greedy(model, prompt, max_tokens) | {"stream_options": {"include_usage": True}}
        return asked | ({"stop": list(stops[:4])} if stops else {})

    @staticmethod
    def take(event: Json, answer: Answer, at_s: float) -> None:
        """Fold one chunk into the answer; the last one has usage and no choices."""
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict):
                answer.add(part(choice, "delta").get("content"), at_s)
                answer.finish = word(choice, "finish_reason") or answer.finish
        usage = part(event, "usage")
        if usage:
            answer.input_tokens, answer.output_tokens = (
                tokens(usage, "prompt_tokens"),
                tokens(usage, "completion_tokens"),
            )
            answer.hidden_tokens = tokens(part(usage, "completion_tokens_details"), "reasoning_tokens") or 0
        names = [str(event[name]).rpartition("/")[2] for name in ("model", "system_fingerprint") if event.get(name)]
        answer.version = answer.version or " ".join(names) or None


class Anthropic:
    """Messages."""

    path: ClassVar = "/v1/messages"
    end: ClassVar = None

    @staticmethod
    def headers(key: str | None) -> dict[str, str]:
        """The key in a header of its own, and the version of the API."""
        return {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {})

    @staticmethod
    def body(model: str, prompt: str, max_tokens: int, stops: Sequence[str]) -> dict[str, JsonValue]:
        """One user message, greedy, streamed. Stop strings of white space alone are refused there."""
        return _greedy(model, prompt, max_tokens) | ({"stop_sequences": list(stops)} if stops else {})

    @staticmethod
    def take(event: Json, answer: Answer, at_s: float) -> None:
        """Fold one event into the answer; output tokens are a running total."""
        kind = event.get("type")
        if kind == "message_start":
            answer.version = word(part(event, "message"), "model")
            usage = part(event, "message", "usage")
            cached = [tokens(usage, f"cache_{how}_input_tokens") or 0 for how in ("creation", "read")]
            if (fresh := tokens(usage, "input_tokens")) is not None:
                answer.input_tokens = fresh + sum(cached)
        elif kind == "content_block_delta":
            answer.add(part(event, "delta").get("text"), at_s)
        elif kind == "message_delta":
            answer.finish = word(part(event, "delta"), "stop_reason") or answer.finish
            usage = part(event, "usage")
            answer.output_tokens = tokens(usage, "output_tokens") if "output_tokens" in usage else answer.output_tokens
        elif kind == "message_stop":
            answer.ended = True


PROTOCOLS: dict[Protocol, type[OpenAI | Anthropic]] = {Protocol.OPENAI: OpenAI, Protocol.ANTHROPIC: Anthropic}


def base_address(asked: Remote) -> str:
    """The address before the protocol's path: OpenAI's ends in /v1 where nothing else is said, Anthropic's does not."""
    url = asked.url.rstrip("/")
    if asked.protocol is Protocol.ANTHROPIC:
        return url.removesuffix("/v1")
    return url if url.count("/") > 2 else f"{url}/v1"
