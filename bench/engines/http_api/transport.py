# SPDX-License-Identifier: Apache-2.0
"""Stream answers over HTTP with the standard library: one connection is kept, failures are retried, limits respected.

`http.client` instead of a client library: a timestamp is wanted at the very line in which a token arrives, without a
library's buffers and pools between, and the core's environment is every backend's environment. Headers, which hold
the key, are in no exception, log or repr of this module.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import JsonValue

from bench.engines.contract import Stopped
from bench.engines.http_api.events import ANSWER_TIMEOUT_S, BODY_BYTES, LINE_BYTES, Broken, data_lines
from bench.engines.http_api.pauses import quota_wait, retry_after
from bench.errors import UserError

T = TypeVar("T")
ATTEMPTS = 6
REFUSAL_BYTES = 1 << 16
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
PATIENCE_S = 600.0
"""A server that asks for a longer pause ends the run instead."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 20.0, 180.0
SETTLE_S = 5.0
"""How long to wait for what may follow the end of an answer: its token counts, the end of a refusal's page."""
DRAIN_S = 0.5
"""How long to wait for the end of a body of which nothing more is wanted, so that its connection can be used again."""
TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}


class Unreachable(Broken):
    """No connection at all."""


class BadRequest(Exception):
    """The server refuses this request as it stands; `parameter` is what it names, None if it names none."""

    def __init__(self, reason: str, parameter: str | None) -> None:
        super().__init__(reason)
        self.parameter = parameter


class Client:
    """One server, asked one question at a time."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        secret: str | None,
        names: Mapping[str, str],
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.parts = urlsplit(url)
        self._headers = dict(headers)
        self._secret = secret
        self.names = names
        """What messages call the `model` and the `key`'s variable."""
        self.sleep, self.jitter, self.attempts = sleep, jitter, attempts
        self.quota_s = 0.0
        """Seconds to wait before the next request because the last answer said that nothing is left."""
        self.answered = False
        self.left_open = False
        """Whether this server once left a connection open behind a whole answer: then no end is waited for again."""
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        """That connection's: http.client lets go of it where a body has no stated length."""

    @property
    def host(self) -> str:
        """Host and port."""
        return self.parts.netloc

    def stream(
        self,
        path: str,
        body: Mapping[str, JsonValue],
        read: Callable[[Iterator[str], float], T],
        *,
        before: Callable[[], None] = lambda: None,
        lost: Callable[[], None] = lambda: None,
    ) -> tuple[T, int]:
        """POST and let `read` take the data of each event, with the time of sending; returns its result and attempts.

        `before` is called before each attempt and may raise; `lost` when an answer that had begun was lost.
        Raises UserError, BadRequest, Stopped when the server does not recover.
        """
        return self._tried(lambda: self._once(path, body, read, lost), before)

    def whole(
        self, path: str, body: Mapping[str, JsonValue], *, before: Callable[[], None] = lambda: None
    ) -> JsonValue:
        """POST and read an answer that is one piece of JSON. Raises as `stream`."""

        def read(response: http.client.HTTPResponse, sent: float) -> JsonValue:
            page = response.read(BODY_BYTES)
            try:
                found: JsonValue = json.loads(page)
            except (ValueError, RecursionError):
                raise Broken("the answer is no JSON") from None
            return found

        return self._tried(lambda: self._answered(path, body, read, lambda: None, events=False), before)[0]

    def _tried(self, once: Callable[[], T], before: Callable[[], None]) -> tuple[T, int]:
        """The result of the first attempt that does not fail, and how many it took."""
        if self.quota_s:
            self._pause(self.quota_s, "its rate limit is used up")
            self.quota_s = 0.0
        for attempt in range(1, self.attempts + 1):
            before()
            try:
                return once(), attempt
            except Broken as error:
                self.close()
                if isinstance(error, Unreachable) and not self.answered:
                    raise UserError(f"{self.host}: {error}", "is the server running, and the address right?") from None
                if attempt == self.attempts:
                    raise Stopped(f"{self.host}: {error}, {self.attempts} times") from None
                self._pause(self._backoff(attempt) if error.wait_s is None else error.wait_s, str(error))
        raise AssertionError

    def _backoff(self, attempt: int) -> float:
        """A wait that doubles with each attempt; half of it is random, so that many clients do not return at once."""
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1))
        return longest * (1 + self.jitter()) / 2

    def _pause(self, seconds: float, why: str) -> None:
        if seconds > PATIENCE_S:
            raise Stopped(f"{self.host} asks to wait {seconds:.0f} s ({why})")
        self.sleep(max(0.0, seconds))

    def _once(
        self,
        path: str,
        body: Mapping[str, JsonValue],
        read: Callable[[Iterator[str], float], T],
        lost: Callable[[], None],
    ) -> T:
        def events(response: http.client.HTTPResponse, sent: float) -> T:
            return read(data_lines(response, sent + ANSWER_TIMEOUT_S), sent)

        return self._answered(path, body, events, lost, events=True)

    def _answered(
        self,
        path: str,
        body: Mapping[str, JsonValue],
        read: Callable[[http.client.HTTPResponse, float], T],
        lost: Callable[[], None],
        *,
        events: bool,
    ) -> T:
        begun = False
        try:
            sent, response = self._send(path, json.dumps(body).encode())
            self._check(response, events=events)
            begun = True
            result = read(response, sent)
        except Broken:
            if begun:
                lost()
            raise
        except (OSError, http.client.HTTPException) as error:
            if begun:
                lost()
            raise Broken(f"the connection broke ({type(error).__name__})") from None
        self._finish(response)
        self.answered = True
        return result

    def _finish(self, response: http.client.HTTPResponse) -> None:
        """Read an answered body to its end, so that the connection can be used again; else close it."""
        try:
            if self.left_open or (response.length is None and not response.chunked):
                raise TimeoutError
            self._within(DRAIN_S)
            response.read(LINE_BYTES)
            if not response.isclosed():
                raise TimeoutError
        except (OSError, http.client.HTTPException, ValueError):
            self.left_open = True
            self.close()

    def hurry(self) -> None:
        """Wait less for the rest of this answer: what matters of it has arrived."""
        self._within(SETTLE_S)

    def _within(self, seconds: float) -> None:
        if self._socket is not None:
            self._socket.settimeout(seconds)

    def _send(self, path: str, data: bytes) -> tuple[float, http.client.HTTPResponse]:
        """Send on an open connection, so that no handshake is timed; one that went stale is opened again once."""
        for fresh in (self._connection is None, True):
            connection = self._opened()
            self._within(READ_TIMEOUT_S)
            sent = time.perf_counter()
            try:
                connection.request("POST", self.parts.path + path, data, self._headers)
                return sent, connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.close()
                if fresh:
                    raise
        raise AssertionError

    def _opened(self) -> http.client.HTTPConnection:
        if self._connection is None or self._connection.sock is None:  # closed behind the last answer
            made = self._made()
            try:
                made.connect()
            except (OSError, UnicodeError) as error:  # the latter for a host that no name server takes
                why = "connection refused" if isinstance(error, ConnectionRefusedError) else type(error).__name__
                raise Unreachable(f"no connection ({why})") from None
            self._connection, self._socket = made, made.sock
        return self._connection

    def _made(self) -> http.client.HTTPConnection:
        host, port = str(self.parts.hostname), self.parts.port
        if self.parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
        context = ssl.create_default_context()
        proxy = None if proxy_bypass(host) else getproxies().get("https")
        if not proxy:
            return http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=context)
        by = urlsplit(proxy)
        made = http.client.HTTPSConnection(str(by.hostname), by.port, timeout=CONNECT_TIMEOUT_S, context=context)
        made.set_tunnel(host, port or 443)
        return made

    def _check(self, response: http.client.HTTPResponse, *, events: bool) -> None:
        """Note what the headers say of quotas. Raises unless an answer follows, in events if that was asked for."""
        headers = lower(response.headers)
        self.quota_s = quota_wait(headers)
        if response.status != http.client.OK:
            raise self._failure(response, headers)
        if events and "event-stream" not in headers.get("content-type", ""):
            raise Broken("the answer is no event stream")

    def _failure(self, response: http.client.HTTPResponse, headers: Mapping[str, str]) -> Exception:
        """What a status other than 200 means: a temporary failure, a user's mistake, or a rejected request."""
        status = response.status
        error = error_fields(self._page(response))
        message = self.redacted(error["message"])
        if error["code"] == "insufficient_quota" or status == http.client.PAYMENT_REQUIRED:
            return UserError(f"{self.host} says that the account's credit is used up", "add credit, or use another key")
        if status in TRANSIENT:
            return Broken(f"HTTP {status}", retry_after(headers) or (quota_wait(headers) or None))
        if status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
            return UserError(f"{self.host} refuses the key (HTTP {status})", f"check {self.names['key']}")
        if status == http.client.NOT_FOUND:
            what = f"{self.host} knows no model {self.names['model']!r} or no such path (HTTP 404)"
            return UserError(what, "check the model's name and the address")
        return BadRequest(f"HTTP {status}: {message}", error["param"] or None)

    def _page(self, response: http.client.HTTPResponse) -> bytes:
        """What a refusal says, as far as it comes at once: its status alone says most."""
        page = b""
        try:
            self._within(SETTLE_S)
            while len(page) < REFUSAL_BYTES and (more := response.read1(REFUSAL_BYTES)):
                page += more
        except (OSError, http.client.HTTPException):
            self.close()
        if response.length == 0:
            response.close()
        elif not response.isclosed():
            self.close()
        return page

    def redacted(self, text: str) -> str:
        """One line of at most 200 printable characters in which the key does not stand."""
        if self._secret:
            text = text.replace(self._secret, "***")
        return "".join(c if c.isprintable() else "?" for c in " ".join(text.split())[:200])

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def lower(headers: http.client.HTTPMessage) -> dict[str, str]:
    """Headers by lower-case name."""
    return {name.lower(): str(value) for name, value in headers.items()}


def error_fields(body: bytes) -> dict[str, str]:
    """`message`, `code` and `param` of an error as either protocol and the servers beside them write it."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {"message": "", "code": "", "param": ""}
    error = found.get("error", found) if isinstance(found, dict) else {}
    if not isinstance(error, dict):
        error = {"message": error}
    message = error.get("message") or error.get("detail") or ""
    return {"message": str(message), "code": str(error.get("code") or ""), "param": str(error.get("param") or "")}
