# SPDX-License-Identifier: Apache-2.0
"""Server-sent events of a body that may be anything: of any length, without an end, or no events at all."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator

ANSWER_TIMEOUT_S = 3600.0
"""The longest a whole answer may take: a server that sends a sign of life every minute is not waited for for ever."""
LINE_BYTES, BODY_BYTES = 1 << 20, 64 << 20
"""The longest line and the longest stream that are read: an event has some hundred bytes, an answer some thousands."""
AT_ONCE = 1 << 16


class Broken(Exception):
    """A failure that may be temporary: another attempt is made. `wait_s` is the pause the server asks for, if any."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def data_lines(response: http.client.HTTPResponse, end_s: float) -> Iterator[str]:
    """The data of each server-sent event as it arrives, several data lines of one joined.

    Raises Broken where a line or the whole body is longer than any answer is, or goes on after `end_s`.
    """
    data: list[str] = []
    for line in _lines(response, end_s):
        text = line.decode("utf-8", errors="replace").rstrip("\r")
        if text.startswith("data:"):
            data.append(text[5:].removeprefix(" "))
        elif not text and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


def _lines(response: http.client.HTTPResponse, end_s: float) -> Iterator[bytes]:
    """Lines without their ends. What is held of one that does not end is bounded, and so is how long it is held."""
    left, begun, held = BODY_BYTES, list[bytes](), 0
    while more := response.read1(AT_ONCE):
        if time.perf_counter() > end_s:
            raise Broken(f"the answer took more than {ANSWER_TIMEOUT_S / 60:.0f} minutes")
        left -= len(more)
        if left < 0:
            raise Broken(f"the answer has more than {BODY_BYTES >> 20} MiB")
        first, *others = more.split(b"\n")
        begun.append(first)
        held += len(first)
        if held > LINE_BYTES:
            raise Broken(f"a line of the answer has more than {LINE_BYTES >> 20} MiB")
        for other in others:
            yield b"".join(begun)
            begun, held = [other], len(other)
    if held:
        yield b"".join(begun)
