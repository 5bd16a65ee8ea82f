# SPDX-License-Identifier: Apache-2.0
"""A small server on loopback that answers from a script: streams in either protocol's format, and every way to fail."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Scripted:
    """One answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    cut: bool = False
    """End the connection without the end of the answer."""


def openai(pieces: Sequence[str], usage: dict[str, Any] | None = None, *, done: bool = True, **more: Any) -> Scripted:
    """Chunks as chat completions stream them; the last one has usage and no choices."""
    chunks = [{"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]}]
    chunks += [{"choices": [{"index": 0, "delta": {"content": p}, "finish_reason": None}]} for p in pieces]
    if done:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        chunks.append({"choices": [], "usage": usage})
    events = [json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m-2026-01-01", **c}) for c in chunks]
    return stream([f"data: {event}" for event in events] + (["data: [DONE]"] if done else []), **more)


def anthropic(pieces: Sequence[str], tokens: tuple[int, int], **more: Any) -> Scripted:
    """Events as messages stream them, a ping among them; output tokens are a running total."""
    start = {"id": "msg_1", "model": "claude-replay-20260101", "content": [], "role": "assistant",
             "usage": {"input_tokens": tokens[0], "output_tokens": 1}}  # fmt: skip
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}} for p in pieces),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": tokens[1]}},
        {"type": "message_stop"},
    ]
    return stream([f"event: {event['type']}\ndata: {json.dumps(event)}" for event in events], **more)


def stream(events: Sequence[str], **more: Any) -> Scripted:
    """Server-sent events."""
    headers = {"content-type": "text/event-stream"} | more.pop("headers", {})
    return Scripted(headers=headers, body="".join(f"{event}\n\n" for event in events), **more)


def refusal(status: int, message: str = "", headers: dict[str, str] | None = None, **fields: Any) -> Scripted:
    """An error as both protocols write it."""
    body = json.dumps({"error": {"message": message, **fields}})
    return Scripted(status=status, headers={"content-type": "application/json"} | (headers or {}), body=body)


@dataclass
class Replay:
    """The script, what is left of it, and what was asked."""

    url: str
    script: list[Scripted]
    asked: list[dict[str, Any]] = field(default_factory=list)
    """`path`, `headers` (lower case) and `body` of each request."""


@contextmanager
def replay(*script: Scripted) -> Iterator[Replay]:
    """Serve the script in order; its last answer goes on for ever."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.asked.append({"path": self.path, "headers": headers, "body": body})
            answer = found.script.pop(0) if len(found.script) > 1 else found.script[0]
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for line in answer.body.splitlines(keepends=True):
                data = line.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            if answer.cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server names it so
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Replay(f"http://127.0.0.1:{server.server_address[1]}", list(script))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


HEAD_OF_STREAM = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{}\r\n"
"""The head of an answer in events, with another header or none."""


@dataclass
class Raw(Replay):
    """What was sent too."""

    sent_bytes: int = 0


@contextmanager
def raw(said: bytes, *, close: bool = False, endless: bytes = b"", every_s: float = 0.0) -> Iterator[Raw]:
    """Answer every request with these very bytes, then with `endless` for ever, or nothing on an open connection."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    found = Raw(f"http://127.0.0.1:{listener.getsockname()[1]}", [])

    def answer(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.settimeout(0.5)
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(65536)
            client.sendall(said)
            while endless and not over.is_set():
                client.sendall(endless)
                found.sent_bytes += len(endless)
                time.sleep(every_s)
            if not close:
                over.wait()

    def serve() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        listener.close()
