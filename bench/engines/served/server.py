# SPDX-License-Identifier: Apache-2.0
"""A server that this process launched: started, waited for until it is healthy, watched, and stopped whatever happens.

What is wrong with it is one line: the command that is not there, the program that ended, with the last thing it said,
the port that another program holds, the health that never came.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from bench.catalog.address import OWN_KEY_VARIABLE
from bench.catalog.launch import CLIENTS, CONTEXT, Launch
from bench.engines.contract import DoesNotFit
from bench.errors import UserError
from bench.escape import visible
from bench.instruments import container
from bench.paths import ROOT
from bench.processes import temporary_folder

GUARD = Path(__file__).with_name("guard.py")
START_S = 840.0
"""How long a server may take to be healthy: less than the runner gives a load."""
LOOK_S = 0.05
ANSWER_S = 5.0
"""How long one question for its health may take."""
STOP_S = 20.0
PORTS = 3
"""So many free ports are tried: between finding one and the server's taking it another program may."""
TAIL = 20_000
SAID = 200
WRONG = re.compile(r"(?i)error|fail|invalid|cannot|not found|unrecognized|in use")
TAKEN = re.compile(r"(?i)address (already )?in use|port .*in use|EADDRINUSE|couldn't bind")
LISTED_OR_NOT = {http.client.OK, http.client.NOT_FOUND}
"""What a server that has a page of health may answer for its list of models: some have none."""
VERSIONS = (("/version", "version"), ("/info", "version"), ("/get_server_info", "version"), ("/props", "build_info"))
"""Where servers tell their version, and under which name."""
running: Server | None = None
"""The one server of this process: a worker loads one model. Its memory is read by who holds the counters."""


class ServerEnded(UserError):
    """The server is not there any more."""


class PortTaken(Exception):
    """Another program came first."""


class Server:
    """One launched server."""

    def __init__(self, launch: Launch, *, path: str, repo: str, folder: str) -> None:
        """Start it; it is not healthy yet. Raises UserError where the command cannot be run."""
        self.launch, self.given, self.folder = launch, {"path": path, "repo": repo}, folder
        self.place = temporary_folder()
        self.log = Path(self.place.name) / "log.txt"
        self._ended: str | None = None
        self.kills = container.oom_kills()
        self._start()

    def _start(self) -> None:
        global running  # noqa: PLW0603 - see there
        self.port = free_port()
        words, environment = self.launch.filled(
            **self.given, port=self.port, context=CONTEXT, clients=CLIENTS, pool=CONTEXT * CLIENTS
        )
        with self.log.open("wb") as output:
            self.guard = subprocess.Popen(
                [sys.executable, "-S", "-E", str(GUARD), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=output, cwd=self.folder, env=_own_environment() | environment, start_new_session=True,
            )  # fmt: skip
        first = self._hear(STOP_S)
        if not first.startswith("pid "):
            self.stop()
            why = first.removeprefix("error ") or "it did not start"
            raise UserError(f"cannot launch {words[0]}: {why}", "check the command after --launch")
        self.process: psutil.Process | None = None
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended already, and says so when it is asked
            self.process = psutil.Process(int(first.split()[1]))
        running = self

    def _hear(self, within_s: float) -> str:
        """The next line of the guard, empty if none comes in time."""
        assert self.guard.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.guard.stdout, selectors.EVENT_READ)
            if not selector.select(within_s):
                return ""
        return self.guard.stdout.readline().decode(errors="replace").strip()

    # Its end.

    def require_alive(self, settle_s: float = 0.0) -> None:
        """Raise ServerEnded, or DoesNotFit where the kernel killed it for memory, unless the server is there.

        After a failed request `settle_s` gives its end time to be noticed.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.guard.wait(settle_s)
        if self._ended is None and self.guard.returncode is not None:
            self._ended = self._hear(1.0)
        if self._ended is None:
            return
        word = self._ended.removeprefix("ended ")
        code = int(word) if word.lstrip("-").isdigit() else None
        now = container.oom_kills()
        if code == -signal.SIGKILL and now is not None and self.kills is not None and now > self.kills:
            raise DoesNotFit("the server, which the kernel killed for memory")
        how = "is gone" if code is None else f"exited {code}" if code >= 0 else f"died of {signal.Signals(-code).name}"
        raise ServerEnded(f"the server {how}: {self.last_words()}", "run its command by hand to see more")

    def said(self) -> str:
        """The end of what it has printed."""
        with contextlib.suppress(OSError):
            return self.log.read_bytes()[-TAIL:].decode(errors="replace")
        return ""

    def whole_log(self) -> str:
        """All of what it has printed."""
        with contextlib.suppress(OSError):
            return self.log.read_text(encoding="utf-8", errors="replace")
        return ""

    def last_words(self) -> str:
        """The last of its lines that speaks of something wrong, else the last of all."""
        lines = [line.strip() for line in self.said().splitlines() if line.strip()]
        found = next(filter(WRONG.search, reversed(lines)), lines[-1] if lines else "it said nothing")
        return visible(found, SAID)

    def stop(self) -> None:
        """End it and everything it started; it is asked first."""
        self._end()
        self.place.cleanup()

    def _end(self) -> None:
        global running  # noqa: PLW0603
        running = None if running is self else running
        assert self.guard.stdin is not None
        assert self.guard.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            self.guard.stdin.write(b"stop\n")
            self.guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.guard.wait(STOP_S)
        self.guard.stdout.close()

    # Its beginning.

    def wait(self, tell: Callable[[float], None] = lambda seconds: None) -> str:
        """The name of its model, once it is healthy. Raises UserError, DoesNotFit."""
        for attempt in range(PORTS):
            try:
                return self._healthy(tell)
            except PortTaken:
                if attempt + 1 == PORTS:
                    what = f"port {self.port} is held by a program that the command has not started"
                    raise UserError(what, "let it listen at {port} itself, and outside of containers") from None
                self._end()
                self._ended = None
                self._start()
        raise AssertionError

    def _healthy(self, tell: Callable[[float], None]) -> str:
        began, seen = time.monotonic(), "no connection"
        while True:
            try:
                self.require_alive()
            except ServerEnded:
                if TAKEN.search(self.said()):
                    raise PortTaken from None
                raise
            status, found = self._asked("/health")
            if status in {http.client.OK, http.client.NOT_FOUND}:
                least = {http.client.OK} if status == http.client.NOT_FOUND else LISTED_OR_NOT
                status, found = self._asked("/v1/models")
                if status in least:
                    self._require_own_port()
                    return _model_name(found)
            seen = f"HTTP {status}" if status else "no connection"
            waited = time.monotonic() - began
            if waited > START_S:
                what = f"the server was not healthy within {START_S:.0f} s ({seen} at /health and /v1/models)"
                raise UserError(f"{what}: {self.last_words()}", "run its command by hand to see why")
            tell(waited)
            time.sleep(LOOK_S)

    def version(self) -> str | None:
        """Which server this is by its own word, None where it does not say (vLLM, TGI, SGLang, llama.cpp do)."""
        for path, name in VERSIONS:
            status, body = self._asked(path)
            with contextlib.suppress(ValueError, AttributeError, RecursionError):
                if status == http.client.OK and isinstance(found := json.loads(body).get(name), str) and found:
                    return visible(f"{self.launch.server} {found}", SAID)
        return None

    def _asked(self, path: str) -> tuple[int, bytes]:
        """Status and body, 0 without a connection or an answer in time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        key = os.environ.get(OWN_KEY_VARIABLE, "").strip()
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
            response = connection.getresponse()
            return response.status, response.read(1 << 20)
        except (OSError, http.client.HTTPException, ValueError):  # the last for a key that no header can hold
            return 0, b""
        finally:
            connection.close()

    def _require_own_port(self) -> None:
        """Raise PortTaken where what answers there is none of this server's processes, as far as the system tells."""
        listening = list(self._listening())
        if listening and self.port not in listening:
            raise PortTaken
        if not listening and sys.platform == "linux" and self.tree():
            raise PortTaken

    def _listening(self) -> Iterator[int]:
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                for found in process.net_connections(kind="tcp"):
                    if found.status == psutil.CONN_LISTEN:
                        yield found.laddr.port

    def tree(self) -> list[psutil.Process]:
        """Its processes that are there."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self.process, *self.process.children(recursive=True)] if self.process else []
        return []


def free_port() -> int:
    """A port of this machine that nobody listens at now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _own_environment() -> dict[str, str]:
    """The caller's environment, without the path by which this project's modules are found."""
    environment = dict(os.environ)
    paths = [path for path in environment.pop("PYTHONPATH", "").split(os.pathsep) if path not in {"", str(ROOT)}]
    return environment | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


def _model_name(body: bytes) -> str:
    """What it calls its model: the first that it lists."""
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError, RecursionError):
        name = json.loads(body)["data"][0]["id"]
        if isinstance(name, str) and name:
            return name
    return "model"
