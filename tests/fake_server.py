# SPDX-License-Identifier: Apache-2.0
"""`python fake_server.py --port N [--fault KIND]`: a server whose every answer is known, and every way to fail.

Tokens are words with the blank before them. The value of a token is a function of its text alone, `value`; generated
are the words of SONG in turn. It streams one word a piece, echoes prompts with log-probabilities, and counts nothing
that it was not asked. Standard library alone: whatever Python launches it, it must run there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TEXT = "the river runs along the hill and past a mill where nobody has lived for years because water took it"
SONG = TEXT.split()
LATE_S = 0.3
numbers = itertools.count(1)
"""Of completions, whichever thread answers them."""


def say(text: str) -> None:
    """Into the server's log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tokens(text: str) -> list[str]:
    """Words with the blanks before them; together they are the text."""
    return re.findall(r"\s*\S+|\s+$", text)


def value(token: str) -> float:
    """Its log-probability, between -2.5 and -0.1."""
    return -(zlib.crc32(token.encode()) % 97) / 40 - 0.1


def columns(words: list[str], *, first: bool, shift: int) -> dict[str, Any]:
    """OpenAI's old form; with `shift` each token has the value of the one so many places behind it."""
    values: list[float | None] = [value(words[min(i + shift, len(words) - 1)]) for i in range(len(words))]
    if first and values:
        values[0] = None
    tops = [None if v is None else {"other": v - 1.0} for v in values]
    return {"tokens": words, "token_logprobs": values, "top_logprobs": tops, "text_offset": [0] * len(words)}


class Handler(BaseHTTPRequestHandler):
    """Health, the list of models, and completions."""

    protocol_version = "HTTP/1.1"
    fault = ""

    def do_GET(self) -> None:
        """Health and the model's name."""
        if self.fault == "unhealthy":
            self._answer(503, {"error": {"message": "loading"}})
        elif self.path == "/health":
            self._answer(404 if self.fault == "no-health" else 200, {})
        elif self.path == "/version":
            self._answer(200, {"version": "1.2.3"})
        elif self.path == "/v1/models":
            self._answer(200, {"data": [{"id": "the-model"}]})
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        """A completion."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number = next(numbers)
        if self.fault == "hang":
            threading.Event().wait()
        if self.fault == "dies-later" and number > 2:
            say("error: the third answer was too much")
            os._exit(7)
        if (self.fault == "500-once" and number == 1) or (self.fault == "fails-eighth" and number == 8):
            self._answer(500, {"error": {"message": "busy"}})
        elif body.get("stream"):
            self._stream(body)
        else:
            self._whole(body)

    def _whole(self, body: dict[str, Any]) -> None:
        if self.fault == "no-logprobs" and body.get("echo"):
            self._answer(400, {"error": {"message": "echo is not supported", "param": "echo"}})
            return
        made = [f" {word}" for word in SONG[: body["max_tokens"]]]
        choice: dict[str, Any] = {"text": "".join(made), "finish_reason": "length"}
        if body.get("echo"):
            words = tokens(body["prompt"])
            if self.fault == "begins":
                words = ["<s>", *words]
            shift = 1 if self.fault == "neighbour" else 0
            choice["logprobs"] = columns([*words, *made], first=True, shift=shift)
        elif "logprobs" in body:
            choice["logprobs"] = columns(made, first=False, shift=0)
        self._answer(200, {"choices": [choice]})

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        words = [f" {SONG[i % len(SONG)]}" for i in range(body["max_tokens"])]
        events = [{"choices": [{"index": 0, "text": word, "finish_reason": None}]} for word in words]
        if self.fault != "no-finish":
            events.append({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
        into = len(tokens(body["prompt"]))
        events.append({"choices": [], "usage": {"prompt_tokens": into, "completion_tokens": len(words)}})
        lines = ["data: {{{" if self.fault == "rubbish" else f"data: {json.dumps(event)}" for event in events]
        for line in [*lines, "data: [DONE]"]:
            data = f"{line}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _answer(self, status: int, found: object) -> None:
        data = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server names it so
        """Nothing."""


def main() -> int:
    """Serve, or fail as told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fault", default="")
    parser.add_argument("--asked", default="")
    parser.add_argument("--child", default="")
    parser.add_argument("--hold", type=int, default=0)
    parser.add_argument("--says", default="")
    told = parser.parse_args()
    if told.says:
        say(told.says)
    if told.child:  # a process of its own session, as some servers start
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        Path(told.child).write_text(f"{os.getpid()} {child.pid}")
    if told.fault == "dies":
        say("loading\nerror: the weights are broken\nbye")
        return 3
    if told.fault == "taken":
        say("OSError: address already in use")
        return 1
    if told.fault == "deaf":
        time.sleep(600)
    if told.fault == "late":
        time.sleep(LATE_S)
    Handler.fault = told.fault
    held = bytearray(told.hold)
    for place in range(0, len(held), 4096):
        held[place] = 1
    ThreadingHTTPServer(("127.0.0.1", told.port), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
