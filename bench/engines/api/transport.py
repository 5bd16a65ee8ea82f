# SPDX-License-Identifier: Apache-2.0
"""Stream answers over HTTP with the standard library: one connection is kept, failures are retried, limits respected.

`http.client` instead of a client library: a timestamp is wanted at the very line in which a token arrives, without a
library's buffers and pools between, and the core's environment is every backend's environment. Headers, which hold
the key, are in no exception, log or repr of this module.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import http.client
import json
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import JsonValue

from bench.engines.contract import Stopped
from bench.errors import UserError

T = TypeVar("T")
ATTEMPTS = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
PATIENCE_S = 600.0
"""A server that asks for a longer pause ends the run instead."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 20.0, 180.0
TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Broken(Exception):
    """A failure that may be temporary: another attempt is made. `wait_s` is the pause the server asks for, if any."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


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
    ) -> None:
        self.parts = urlsplit(url)
        self._headers = dict(headers)
        self._secret = secret
        self.names = names
        """What messages call the `model` and the `key`'s variable."""
        self.sleep, self.jitter = sleep, jitter
        self.quota_s = 0.0
        """Seconds to wait before the next request because the last answer said that nothing is left."""
        self.answered = False
        self._connection: http.client.HTTPConnection | None = None

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
        if self.quota_s:
            self._pause(self.quota_s, "its rate limit is used up")
            self.quota_s = 0.0
        for attempt in range(1, ATTEMPTS + 1):
            before()
            try:
                return self._once(path, body, read, lost), attempt
            except Broken as error:
                self.close()
                if isinstance(error, Unreachable) and not self.answered:
                    raise UserError(f"{self.host}: {error}", "is the server running, and the address right?") from None
                if attempt == ATTEMPTS:
                    raise Stopped(f"{self.host}: {error}, {ATTEMPTS} times") from None
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
        begun = False
        try:
            sent, response = self._send(path, json.dumps(body).encode())
            self._check(response)
            begun = True
            result = read(data_lines(response), sent)
            response.read()  # to the very end, so that the connection can be used again
        except Broken:
            if begun:
                lost()
            raise
        except (OSError, http.client.HTTPException) as error:
            if begun:
                lost()
            raise Broken(f"the connection broke ({type(error).__name__})") from None
        self.answered = True
        return result

    def _send(self, path: str, data: bytes) -> tuple[float, http.client.HTTPResponse]:
        """Send on an open connection, so that no handshake is timed; one that went stale is opened again once."""
        for fresh in (self._connection is None, True):
            connection = self._opened()
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
        if self._connection is None:
            made = self._made()
            try:
                made.connect()
            except OSError as error:
                why = "connection refused" if isinstance(error, ConnectionRefusedError) else type(error).__name__
                raise Unreachable(f"no connection ({why})") from None
            made.sock.settimeout(READ_TIMEOUT_S)
            self._connection = made
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

    def _check(self, response: http.client.HTTPResponse) -> None:
        """Note what the headers say of quotas. Raises unless a stream of events follows."""
        headers = lower(response.headers)
        self.quota_s = quota_wait(headers)
        if response.status != http.client.OK:
            raise self._failure(response, headers)
        if "event-stream" not in headers.get("content-type", ""):
            raise Broken("the answer is no event stream")

    def _failure(self, response: http.client.HTTPResponse, headers: Mapping[str, str]) -> Exception:
        """What a status other than 200 means: a temporary failure, a user's mistake, or a rejected request."""
        status = response.status
        error = error_fields(response.read(1 << 16))
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

    def redacted(self, text: str) -> str:
        """One line of at most 200 characters in which the key does not stand."""
        if self._secret:
            text = text.replace(self._secret, "***")
        return " ".join(text.split())[:200]

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def lower(headers: http.client.HTTPMessage) -> dict[str, str]:
    """Headers by lower-case name."""
    return {name.lower(): str(value) for name, value in headers.items()}


def data_lines(response: http.client.HTTPResponse) -> Iterator[str]:
    """The data of each server-sent event, several data lines of one joined."""
    data: list[str] = []
    while line := response.readline():
        text = line.decode("utf-8", errors="replace").rstrip("\r\n")
        if text.startswith("data:"):
            data.append(text[5:].removeprefix(" "))
        elif not text and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


def error_fields(body: bytes) -> dict[str, str]:
    """`message`, `code` and `param` of an error as either protocol and the servers beside them write it."""
    try:
        found = json.loads(body)
    except ValueError:
        return {"message": "", "code": "", "param": ""}
    error = found.get("error", found) if isinstance(found, dict) else {}
    if not isinstance(error, dict):
        error = {"message": error}
    message = error.get("message") or error.get("detail") or ""
    return {"message": str(message), "code": str(error.get("code") or ""), "param": str(error.get("param") or "")}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `retry-after-ms` or `Retry-After` (seconds or a date, RFC 9110); None without either."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    for text, unit in ((milliseconds, 0.001), (value, 1.0)):
        try:
            return max(0.0, float(text or "") * unit)
        except ValueError:
            continue
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value or "").timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def quota_wait(headers: Mapping[str, str]) -> float:
    """Seconds until the quotas that the headers call used up are there again; 0 if none is.

    OpenAI writes `x-ratelimit-remaining-KIND` and `x-ratelimit-reset-KIND` (durations such as `6m0s`), Anthropic
    `anthropic-ratelimit-KIND-remaining` and `-reset` (RFC 3339 times).
    """
    empty = (name for name, value in headers.items() if "ratelimit" in name and value.strip() == "0")
    resets = (name.replace("remaining", "reset") for name in empty if "remaining" in name)
    return max((_until(headers.get(reset, "")) for reset in resets), default=0.0)


def _until(text: str) -> float:
    found = DURATION.findall(text)
    if found and "".join(a + b for a, b in found) == text.strip():
        return sum(float(number) * UNITS[unit] for number, unit in found)
    try:
        return max(0.0, dt.datetime.fromisoformat(text).timestamp() - time.time())
    except ValueError:
        return 0.0
