# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities that a server gives the tokens of a prompt: two forms, and the proof that they are what they say.

`echo` (llama_cpp.server, vLLM): the prompt comes back before the answer, with `logprobs` for all of it.
`prompt_logprobs` (vLLM): beside the answer, by token id, with ranks.

One server of the field reads them one place late where its file has no beginning token, so that each is the value of a
token after itself: perplexities of 99,000 instead of 7, and every choice of one token scores alike. So a server
generates some tokens greedily first, and gets them back as part of a prompt: values and texts must be those they were
generated with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean

from pydantic import JsonValue

from bench.engines.abilities import ScoredToken

Ask = Callable[[Mapping[str, JsonValue]], JsonValue]
"""POSTs a completion and returns its answer. Raises BadRequest for what a server does not take, else as `reply`."""
PROOF = (
    "A lighthouse keeper kept a diary for forty years. Most entries were about the weather, but",
    "The market opens before sunrise. Farmers bring",
    "1, 1, 2, 3, 5, 8, 13,",
)
"""Beginnings of what is generated: prose leaves several words likely, so that neighbours have different values."""
PROOF_TOKENS, LEAST_TOKENS = 24, 16
AGREES_NAT = 0.15
"""Mean difference that other kernels for one token than for many may make: 8-bit activations moved the default model's
tokens by 0.1 on average. A neighbour's value is off by about one."""
APART = 3.0
"""So many times further must the neighbours' values be: else nothing is told apart, and nothing is proven."""


class NotShown(Exception):
    """The server's answer holds no such values."""


@dataclass(frozen=True)
class Form:
    """One way to ask."""

    name: str
    asks: Mapping[str, JsonValue]
    read: Callable[[Mapping[str, JsonValue], str], list[ScoredToken]]


def scored(ask: Ask, form: Form, text: str) -> list[ScoredToken]:
    """The tokens of a text. Raises NotShown, and what `ask` raises."""
    body: dict[str, JsonValue] = {"prompt": text, "max_tokens": 1, "temperature": 0, **form.asks}
    return form.read(_choice(ask(body)), text)


def refuted(ask: Ask, form: Form) -> str:
    """Why the values of this form are not those that its own tokens were generated with, empty if they are."""
    generated: list[float] = []
    returned: list[float] = []
    beside: list[tuple[float, float]] = []
    for beginning in PROOF:
        made = _generated(ask, beginning)
        whole = beginning + "".join(text for text, _ in made)
        back = [token for token in scored(ask, form, whole) if token.start >= len(beginning)]
        for place, ((text, value), token) in enumerate(zip(made, back, strict=False)):
            if token.text != text or token.log_prob is None:
                break  # what is sent as text may be split otherwise than it was made
            generated.append(value)
            returned.append(token.log_prob)
            if 0 < place < len(made) - 1:
                beside.append((abs(token.log_prob - made[place - 1][1]), abs(token.log_prob - made[place + 1][1])))
    if len(generated) < LEAST_TOKENS:
        return f"only {len(generated)} of its own tokens came back as they were generated"
    off = fmean(abs(one - other) for one, other in zip(generated, returned, strict=True))
    before, after = (fmean(values) for values in zip(*beside, strict=True))
    if off > AGREES_NAT and min(before, after) <= AGREES_NAT:
        return "it gives each token of a prompt the log-probability of its neighbour"
    if off > AGREES_NAT:
        return f"its own tokens have other log-probabilities in a prompt: {off:.2g} nats off on average"
    if min(before, after) < APART * off:
        return "its tokens' log-probabilities are too alike to tell neighbours apart"
    return ""


def _generated(ask: Ask, beginning: str) -> list[tuple[str, float]]:
    """Greedy tokens and their log-probabilities. Raises NotShown."""
    body: dict[str, JsonValue] = {"prompt": beginning, "max_tokens": PROOF_TOKENS, "temperature": 0, "logprobs": 1}
    texts, values, _ = _columns(_choice(ask(body)))
    if any(value is None for value in values):
        raise NotShown
    return [(text, value) for text, value in zip(texts, values, strict=True) if value is not None]


def _choice(answer: JsonValue) -> Mapping[str, JsonValue]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        raise NotShown
    return first


def _columns(choice: Mapping[str, JsonValue]) -> tuple[list[str], list[float | None], list[bool]]:
    """Tokens, their log-probabilities, and whether each is the likeliest, of OpenAI's old form."""
    told = choice.get("logprobs")
    if not isinstance(told, dict):
        raise NotShown
    texts, values, tops = told.get("tokens"), told.get("token_logprobs"), told.get("top_logprobs")
    if not isinstance(texts, list) or not isinstance(values, list) or len(texts) != len(values):
        raise NotShown
    if not isinstance(tops, list) or len(tops) != len(texts):
        tops = [None] * len(texts)
    numbers = [float(v) if isinstance(v, int | float) and not isinstance(v, bool) else None for v in values]
    likeliest = []
    for value, top in zip(numbers, tops, strict=True):
        others = [float(v) for v in top.values() if isinstance(v, int | float)] if isinstance(top, dict) else []
        likeliest.append(value is not None and bool(others) and value >= max(others))
    return [str(text) for text in texts], numbers, likeliest


def _echoed(choice: Mapping[str, JsonValue], text: str) -> list[ScoredToken]:
    texts, values, likeliest = _columns(choice)
    return placed(texts, values, likeliest, text)


def _beside(choice: Mapping[str, JsonValue], text: str) -> list[ScoredToken]:
    told = choice.get("prompt_logprobs")
    if not isinstance(told, list) or not told:
        raise NotShown
    texts: list[str] = []
    values: list[float | None] = []
    likeliest: list[bool] = []
    for each in told:
        found = next(iter(each.values()), None) if isinstance(each, dict) else None  # the text's own token comes first
        value = found.get("logprob") if isinstance(found, dict) else None
        texts.append(str(found.get("decoded_token")) if isinstance(found, dict) else "")
        values.append(float(value) if isinstance(value, int | float) else None)
        likeliest.append(isinstance(found, dict) and found.get("rank") == 1)
    if told[0] is None:  # its text is not told: what is left of the text before the second
        rest = "".join(texts[1:])
        texts[0] = text.removesuffix(rest) if text.endswith(rest) else ""
    return placed(texts, values, likeliest, text)


def placed(
    texts: Sequence[str], values: Sequence[float | None], likeliest: Sequence[bool], text: str
) -> list[ScoredToken]:
    """Tokens with their places in a text; what stands before it alone, and what was generated behind it, is left out.

    Raises NotShown where they do not make the text: a character may be cut into several tokens, and what has no place
    cannot be told apart.
    """
    for skipped in range(min(2, len(texts))):
        rest = texts[skipped:]
        starts = [0, *accumulate(map(len, rest))]
        if not "".join(rest).startswith(text):
            continue
        return [
            ScoredToken(text=one, start=start, log_prob=value, likeliest=top)
            for one, start, value, top in zip(rest, starts, values[skipped:], likeliest[skipped:], strict=False)
            if start < len(text)
        ]
    raise NotShown


FORMS = (
    Form("echo", {"echo": True, "logprobs": 1}, _echoed),
    Form("prompt_logprobs", {"prompt_logprobs": 0}, _beside),
)
