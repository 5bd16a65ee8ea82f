# SPDX-License-Identifier: Apache-2.0
"""A small Hub on loopback, as huggingface_hub asks it: repositories from folders, and the ways in which it refuses."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REFUSALS = {
    "gone": (404, {"X-Error-Code": "RepoNotFound"}),
    "revision": (404, {"X-Error-Code": "RevisionNotFound"}),
    "gated": (401, {"X-Error-Code": "GatedRepo"}),
    "disabled": (403, {"X-Error-Message": "Access to this resource is disabled."}),
    "token": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
}


def commit(repo: str, revision: str) -> str:
    """The forty digits that a revision of a repository stands for."""
    return hashlib.sha1(f"{repo}@{revision}".encode(), usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What it holds, and what it was asked."""

    folders: dict[str, Path] = field(default_factory=dict)
    """Repositories that anybody may read, by name."""
    refusing: dict[str, str] = field(default_factory=dict)
    """Repositories that are there, with the way in which they are refused; others are gone."""
    revisions: tuple[str, ...] = ("main",)
    asked: list[str] = field(default_factory=list)
    sent: list[tuple[str, int, int]] = field(default_factory=list)
    """Parts of files: path, first byte, last byte."""
    ranges: bool = True
    """Whether it sends parts of files when it is asked for them."""
    url: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        if not api and "resolve" not in parts:
            return 404, {}, b""  # what the client says of its agent
        repo, (verb, revision, *rest) = "/".join(parts[:2]), parts[2:] or ("revision", "main")
        known = {commit(repo, name): name for name in self.revisions}
        how = self.refusing.get(repo, "" if repo in self.folders else "gone")
        if how == "gated" and api:  # anybody may see what a gated repository holds
            how = ""
        elif not how and revision not in {*known, *self.revisions}:
            how = "revision"
        if how:
            status, headers = REFUSALS[how]
            return status, headers, b""
        folder = self.folders.get(repo)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder else []
        if verb == "revision":
            return _json({"id": repo, "sha": commit(repo, known.get(revision, revision)), "siblings": []})
        if verb == "tree":
            names = [(str(file.relative_to(folder or "")), file.stat().st_size) for file in files]
            names = names or [("config.json", 2)]
            return _json([{"type": "file", "path": name, "size": size, "oid": name} for name, size in names])
        if folder and not (folder / "/".join(rest)).is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        body = (folder / "/".join(rest)).read_bytes() if folder else b"{}"
        etag = hashlib.sha1(body, usedforsecurity=False).hexdigest()
        return 200, {"X-Repo-Commit": commit(repo, known.get(revision, revision)), "ETag": f'"{etag}"'}, body


def _json(data: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(data).encode()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """`hub` at `hub.url`, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self, *, whole: bool) -> None:
            hub.asked.append(self.path)
            status, headers, body = hub.answer(self.path)
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if part and status == 200 and hub.ranges:
                start, last = int(part[1]), min(int(part[2]), len(body) - 1)
                hub.sent.append((self.path, start, last))
                headers = {**headers, "Content-Range": f"bytes {start}-{last}/{len(body)}"}
                status, body = 206, body[start : last + 1]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if whole:
                self.wfile.write(body)

        def do_GET(self) -> None:
            self._reply(whole=True)

        def do_HEAD(self) -> None:
            self._reply(whole=False)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a worker that ends may cut its connection
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
