# SPDX-License-Identifier: Apache-2.0
"""OpenAI's chat completions and plain ones, and Anthropic's messages: what is sent, and what each event adds.

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


MOST_TOKENS = 10**9
"""A count beyond it is no count."""
MOST_CHARACTERS = 200
"""A name or a reason of a server's is cut here: a record is no place for a page."""
OPENED, CLOSED = "<think>", "</think>"
"""Around thinking that a server does not tell from the answer. The first may stand in the prompt already."""


@dataclass
class Answer:
    """What has arrived of one answer."""

    pieces: list[str] = field(default_factory=list)
    """Of the answer itself."""
    thoughts: list[str] = field(default_factory=list)
    """Of what the model thought before it."""
    arrivals_s: list[float] = field(default_factory=list)
    """Of every piece of either."""
    answers_s: list[float] = field(default_factory=list)
    """Of the pieces of the answer itself."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    """Of the output, those that were thought; None where the server does not tell."""
    finish: str | None = None
    version: str | None = None
    ended: bool = False

    def add(self, text: object, at_s: float) -> None:
        """One more piece of the answer, if there is any."""
        if isinstance(text, str) and text:
            self.pieces.append(text)
            self.arrivals_s.append(at_s)
            self.answers_s.append(at_s)

    def think(self, text: object, at_s: float) -> None:
        """One more piece of thinking, if there is any."""
        if isinstance(text, str) and text:
            self.thoughts.append(text)
            self.arrivals_s.append(at_s)

    @property
    def split(self) -> tuple[str, str, float | None]:
        """What was thought, what was answered, and when the answer began: None if it did not.

        Thinking that stands in the answer between tags is told apart here, where some servers do it and some do not.
        """
        raw, thought = "".join(self.pieces), whole(self.thoughts)
        begin = self.answers_s[0] if self.answers_s else None
        before, closed, after = raw.partition(CLOSED)
        if self.thoughts or not (closed or raw.lstrip().startswith(OPENED)):
            return thought, whole(self.pieces), begin
        thought, answer = whole([before.lstrip().removeprefix(OPENED)]), after.lstrip()
        if not answer:
            return thought, "", None
        at, begins = 0, len(raw) - len(answer)
        for piece, at_s in zip(self.pieces, self.answers_s, strict=True):
            at += len(piece)
            if at > begins:
                return thought, whole([answer]), at_s
        raise AssertionError


def whole(pieces: Sequence[str]) -> str:
    """The pieces as one text that can be stored.

    A character beyond the first 65,536 is two halves in JSON, and a stream may send them in two pieces; a half that
    stays alone is no character and becomes the sign for that.
    """
    return "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def part(event: Json, *names: str) -> Json:
    """The object found by following these names, empty where one of them leads to none."""
    for name in names:
        found = event.get(name)
        event = found if isinstance(found, dict) else {}
    return event


def tokens(usage: Json, name: str) -> int | None:
    """A number of tokens, None where the server tells none that could be one."""
    found = usage.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= MOST_TOKENS else None


def word(of: Json, name: str) -> str | None:
    """A word of the server's, None where it says nothing."""
    found = of.get(name)
    return whole([found[:MOST_CHARACTERS]]) if isinstance(found, str) else None


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
                _delta(part(choice, "delta"), answer, at_s)
                answer.finish = word(choice, "finish_reason") or answer.finish
        usage = part(event, "usage")
        if usage:
            answer.input_tokens, answer.output_tokens, answer.thinking_tokens = _counted(usage)
        names = [name.rpartition("/")[2] for key in ("model", "system_fingerprint") if (name := word(event, key))]
        answer.version = answer.version or " ".join(names) or None


THINKING = ("reasoning_content", "reasoning", "thinking")
"""What servers call a piece of thinking (DeepSeek, vLLM, SGLang; Ollama, OpenRouter; others): the same, if several."""


def _delta(delta: Json, answer: Answer, at_s: float) -> None:
    """A piece of thinking or of the answer. Mistral's content is a list of parts, each of its own type."""
    answer.think(
        next((delta[name] for name in THINKING if isinstance(delta.get(name), str) and delta[name]), None), at_s
    )
    content = delta.get("content")
    for item in content if isinstance(content, list) else []:
        if isinstance(item, dict):
            answer.think(_joined(item.get("thinking")), at_s)
            answer.add(item.get("text"), at_s)
    answer.add(content, at_s)


def _joined(found: JsonValue) -> JsonValue:
    """A text, or the text of all parts of a list."""
    if not isinstance(found, list):
        return found
    return "".join(text for item in found if isinstance(item, dict) and isinstance(text := item.get("text"), str))


def _counted(usage: Json) -> tuple[int | None, int | None, int | None]:
    """Prompt tokens, generated ones, and of these the ones thought.

    Some servers count thinking beside the completion and not in it; then their total is what is paid for.
    """
    into, out, total = (tokens(usage, f"{name}_tokens") for name in ("prompt", "completion", "total"))
    thought = tokens(part(usage, "completion_tokens_details"), "reasoning_tokens")
    if into is not None and out is not None and total is not None and total > into + out:
        thought, out = max(thought or 0, total - into - out), total - into
    return into, out, thought if thought is None or out is None else min(thought, out)


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
            answer.version = word(part(event, "message"), "model") or answer.version
            usage = part(event, "message", "usage")
            cached = [tokens(usage, f"cache_{how}_input_tokens") or 0 for how in ("creation", "read")]
            if (fresh := tokens(usage, "input_tokens")) is not None:
                answer.input_tokens = fresh + sum(cached)
        elif kind == "content_block_delta":
            answer.think(part(event, "delta").get("thinking"), at_s)
            answer.add(part(event, "delta").get("text"), at_s)
        elif kind == "message_delta":
            answer.finish = word(part(event, "delta"), "stop_reason") or answer.finish
            usage = part(event, "usage")
            answer.output_tokens = tokens(usage, "output_tokens") if "output_tokens" in usage else answer.output_tokens
        elif kind == "message_stop":
            answer.ended = True


class Completions(OpenAI):
    """OpenAI's older completions: a plain text goes on, no chat template is put around it."""

    path: ClassVar = "/completions"

    @staticmethod
    def body(model: str, prompt: str, max_tokens: int, stops: Sequence[str]) -> dict[str, JsonValue]:
        """The text, greedy, streamed, with usage at the end."""
        asked = OpenAI.body(model, prompt, max_tokens, stops)
        del asked["messages"]
        return asked | {"prompt": prompt}

    @staticmethod
    def take(event: Json, answer: Answer, at_s: float) -> None:
        """Fold one chunk into the answer: a choice holds its text itself."""
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict):
                answer.add(choice.get("text"), at_s)
        OpenAI.take(event, answer, at_s)


PROTOCOLS: dict[Protocol, type[OpenAI | Anthropic]] = {Protocol.OPENAI: OpenAI, Protocol.ANTHROPIC: Anthropic}


def base_address(asked: Remote) -> str:
    """The address before the protocol's path: OpenAI's ends in /v1 where nothing else is said, Anthropic's does not."""
    url = asked.url.rstrip("/")
    if asked.protocol is Protocol.ANTHROPIC:
        return url.removesuffix("/v1")
    return url if url.count("/") > 2 else f"{url}/v1"
