# SPDX-License-Identifier: Apache-2.0
"""A served model as a TextEngine: each answer is streamed, timed and paid for."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from bench.catalog import remote
from bench.catalog.model import Remote
from bench.engines.contract import LoadRequest, Reply, Stopped
from bench.engines.http_api.events import Broken
from bench.engines.http_api.protocols import PROTOCOLS, Answer, Anthropic, OpenAI, base_address
from bench.engines.http_api.transport import ATTEMPTS, BadRequest, Client
from bench.errors import UserError
from bench.instruments import Reading
from bench.instruments.memory import HighestRead
from bench.records.record import Caveat, Provenance

TEMPLATE_TOKENS = 64
"""What a chat template may add to a prompt, for upper bounds of cost."""
ADAPTABLE = ("max_tokens", "temperature", "stop", "stop_sequences", "stream_options")
"""Fields that some servers refuse; the answer is the same or a caveat says what changed."""


class NoMemory(HighestRead):
    """Stands for a memory counter: the model's memory is on its server. These figures are never stored."""

    name = "not applicable"

    def read(self) -> Reading:
        """Nothing."""
        return Reading(total_bytes=0)

    def trim(self) -> None:
        """Nothing is held."""

    def capacity_bytes(self) -> int:
        """Nothing is needed."""
        return 0

    def limit(self, total_bytes: int) -> None:
        """Nothing is used that could be limited."""


@dataclass
class Purse:
    """What answers cost by the entry's prices, and how much may still be spent."""

    remote: Remote
    limit_usd: float | None
    spent_usd: float = 0.0

    @property
    def priced(self) -> bool:
        """Whether both prices are known."""
        return self.remote.input_usd_per_million is not None and self.remote.output_usd_per_million is not None

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """USD for so many tokens; 0 without prices."""
        into, out = self.remote.input_usd_per_million or 0.0, self.remote.output_usd_per_million or 0.0
        return (input_tokens * into + output_tokens * out) / 1e6

    def settled(self, answer: Answer, bound: float) -> tuple[bool, float]:
        """Whether the server's counts tell what an answer cost, and that; the upper bound where they do not.

        No prompt of ours has no tokens, and no answer with text in it.
        """
        into, out = answer.input_tokens, answer.output_tokens
        if not into or out is None or (out == 0 and answer.arrivals_s):
            return False, bound
        return True, self.cost(into, out)

    def bound(self, prompt: str, max_tokens: int) -> float:
        """The most an answer can cost: no token is shorter than a byte of the prompt."""
        return self.cost(len(prompt.encode()) + TEMPLATE_TOKENS, max_tokens)

    def check(self, bound: float) -> None:
        """Raise SpendingLimit if the rest of the budget cannot pay for an answer of that cost."""
        if self.limit_usd is not None and self.spent_usd + bound > self.limit_usd:
            left = self.limit_usd - self.spent_usd
            raise SpendingLimit(f"spending limit: the next answer may cost ${bound:.6f}, ${left:.6f} are left")


class SpendingLimit(Stopped):
    """The caller's --max-cost."""


class ApiEngine:
    """One served model. It is asked once at the start, so that a wrong key, name or address shows immediately."""

    threads: int | None = None

    def __init__(self, request: LoadRequest, *, sleep: Callable[[float], None] = time.sleep) -> None:
        assert request.model.remote is not None
        self.remote = request.model.remote
        self.source = remote.source(request.model)
        self.protocol = self.asked_by()
        self.client = self.connected(sleep)
        self.purse = Purse(self.remote, request.max_cost_usd)
        self.refused: set[str] = set()
        """Fields of a request that this server does not take."""
        self.version: str | None = None
        self.greet()

    def asked_by(self) -> type[OpenAI | Anthropic]:
        """The protocol that it is asked by."""
        return PROTOCOLS[self.remote.protocol]

    def connected(self, sleep: Callable[[float], None] = time.sleep, attempts: int = ATTEMPTS) -> Client:
        """A client of its server, which opens a connection of its own."""
        key = remote.key(self.remote)
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **self.protocol.headers(key)}
        names = {"model": self.remote.model, "key": self.remote.key_variable}
        return Client(base_address(self.remote), headers, secret=key, names=names, sleep=sleep, attempts=attempts)

    def greet(self) -> None:
        """Ask once. Raises UserError where no answer comes."""
        try:
            self.reply("Say hello.", max_tokens=16)
        except SpendingLimit:
            raise
        except Stopped as error:
            raise UserError(str(error), "check the address, or try again later") from None

    def may_ask(self, bound: float) -> None:
        """Before every attempt. Raises SpendingLimit."""
        self.purse.check(bound)

    @property
    def spent_usd(self) -> float:
        """By the entry's prices."""
        return self.purse.spent_usd

    @property
    def provenance(self) -> Provenance:
        """Name, host, and the version that the server named."""
        return Provenance(source=self.source, revision=self.version)

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """What a reader must know of these answers."""
        if "temperature" not in self.refused:
            return ()
        advice = "answers differ from run to run; more items or repeats make up for it"
        return (
            Caveat(kind="sampled_answers", text="the server takes no temperature: answers are sampled", advice=advice),
        )

    def reply(self, prompt: str, *, max_tokens: int, stops: Sequence[str] = ()) -> Reply:
        """Ask, and ask again without what the server does not take."""
        while True:
            body = self._body(prompt, max_tokens, [stop for stop in stops if stop.strip()])
            try:
                return self._ask(prompt, max_tokens, stops, body)
            except BadRequest as error:
                named = error.parameter if error.parameter in body else None
                named = named or next((name for name in ADAPTABLE if name in body and name in str(error)), None)
                if named not in ADAPTABLE or named in self.refused:
                    raise UserError(
                        f"{self.client.host} refuses the request: {error}", "see its documentation"
                    ) from None
                self.refused.add(str(named))

    def _body(self, prompt: str, max_tokens: int, stops: Sequence[str]) -> dict[str, JsonValue]:
        body = self.protocol.body(self.remote.model, prompt, max_tokens, stops)
        if "max_tokens" in self.refused:  # OpenAI's newer models know it by another name
            body["max_completion_tokens"] = body["max_tokens"]
        return {name: value for name, value in body.items() if name not in self.refused}

    def _ask(self, prompt: str, max_tokens: int, stops: Sequence[str], body: Mapping[str, JsonValue]) -> Reply:
        bound, before = self.purse.bound(prompt, max_tokens), self.purse.spent_usd

        def lost() -> None:
            self.purse.spent_usd += bound

        answer, attempts = self.client.stream(
            self.protocol.path, body, self._read, before=lambda: self.may_ask(bound), lost=lost
        )
        self.version = answer.version or self.version
        known, paid = self.purse.settled(answer, bound)
        self.purse.spent_usd += paid
        thinking, text, answer_s = answer.split
        for stop in stops:
            text = text.split(stop)[0] if stop else text
        return Reply(
            text=text, arrivals_s=tuple(answer.arrivals_s), thinking=thinking, answer_s=answer_s,
            input_tokens=answer.input_tokens, output_tokens=answer.output_tokens,
            hidden_tokens=0 if thinking else answer.thinking_tokens or 0,
            cost_usd=self.purse.spent_usd - before if self.purse.priced else None,
            cost_is_bound=not known or attempts > 1, finish=answer.finish, attempts=attempts,
        )  # fmt: skip

    def _read(self, events: Iterator[str], sent: float) -> Answer:
        """Collect a stream into one answer, with the time of each piece. Raises Broken if it is cut or invalid."""
        answer = Answer()
        try:
            for data in events:
                self._take(data, answer, time.perf_counter() - sent)
                if answer.ended:
                    break
                if answer.finish:
                    self.client.hurry()
        except (Broken, OSError, http.client.HTTPException):
            if not answer.finish:
                raise
        if not answer.ended and not answer.finish:
            raise Broken("the stream was cut in the middle")
        if not answer.finish and self.protocol.end:  # such a stream may have been ended for somebody else's sake
            raise Broken("the stream ended without a finish reason")
        return answer

    def _take(self, data: str, answer: Answer, at_s: float) -> None:
        """Fold the data of one event into the answer. Raises Broken where it is none of the protocol's."""
        if data.strip() == self.protocol.end:
            answer.ended = True
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            raise Broken("an event of the stream is no JSON") from None
        if not isinstance(event, dict):
            raise Broken("an event of the stream is no object")
        if event.get("error"):
            raise Broken(self._error(event["error"]))
        self.protocol.take(event, answer, at_s)

    def _error(self, error: object) -> str:
        kind = error.get("type") or error.get("message") if isinstance(error, dict) else error
        return f"the stream ended with an error ({self.client.redacted(str(kind))})"

    def close(self) -> None:
        """Close the connection."""
        self.client.close()
