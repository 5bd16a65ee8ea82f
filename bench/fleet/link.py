# SPDX-License-Identifier: Apache-2.0
"""Home's end of the link to the boxes: questions go out, events come back; a client of Ray that died is replaced."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.errors import UserError
from bench.fleet.wire import Box, Needs
from bench.processes import module, stop_group, temporary_folder
from bench.records.cell import Value

PROGRAM = "bench.fleet.box"
CONNECT_S = 30.0
"""Seconds that a cluster may take to answer at first."""
SILENT_S = 60.0
"""Without a sign of life for so long the client hangs: it says something every two seconds."""
PATIENCE_S = 600.0
"""So long a cluster that answered once is waited for when it is gone: a head that is started again."""
AGAIN_S = 5.0
"""Seconds between two tries."""
START = "start one: RAY_worker_niceness=0 ray start --head, and pass --ray auto on that machine (README, On many boxes)"
APART = "try python -c 'import ray'; beside the extra `energy` it fails without AMD's library: take another environment"
"""zeus brings amdsmi, which Ray imports (2.60.0, findings/ray-does-not-start-beside-zeus.sh)."""


@dataclass(frozen=True)
class Boxes:
    """The nodes that live now."""

    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Said:
    """A line of a box, in answer to the question of that name."""

    name: str
    line: str


@dataclass(frozen=True)
class Over:
    """A question has been answered to its end."""

    name: str


@dataclass(frozen=True)
class Lost:
    """A question will not be answered: its box is gone, or its task."""

    name: str
    why: str


@dataclass(frozen=True)
class Gone:
    """The cluster itself does not answer: whatever was asked is lost."""

    why: str


Event = Boxes | Said | Over | Lost | Gone


class Link(Protocol):
    """How boxes are asked."""

    def ask(self, name: str, box: Box, question: Value, needs: Needs) -> None:
        """Ask a box; what it says comes as events of that name."""

    def hear(self, patience_s: float) -> Event | None:
        """The next event, None if there is none in time. Raises UserError where no cluster can be reached."""

    def close(self) -> None:
        """Stop asking; what boxes do for us ends."""


class RayLink:
    """A link through Ray, whose client is a process of its own."""

    def __init__(
        self, address: str, *, program: str = PROGRAM, silent_s: float = SILENT_S, patience_s: float = PATIENCE_S,
        again_s: float = AGAIN_S,
    ) -> None:  # fmt: skip
        if not is_here():
            raise UserError("boxes are reached through Ray, which is not installed here", 'pip install -e ".[ray]"')
        self.address, self.program = address, program
        self.silent_s, self.patience_s, self.again_s = silent_s, patience_s, again_s
        self._folder = temporary_folder()
        self._log = Path(self._folder.name) / "ray.log"
        self._answered = False
        """Whether this cluster has ever answered."""
        self._since: float | None = None
        """When it was lost, None while it answers."""
        self._begin()

    def _begin(self) -> None:
        """Start a client; what it says comes from a queue of its own."""
        self._heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._refusal, self._sign = "", time.monotonic()
        self._connected = False
        with self._log.open("wb") as log:
            self._client = subprocess.Popen(
                module("bench.fleet.ray_link", self.address), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        threading.Thread(target=_read, args=(self._client, self._heard), daemon=True).start()

    def ask(self, name: str, box: Box, question: Value, needs: Needs) -> None:
        """Write one line; a client that is dead will be noticed when it is heard."""
        asked: Mapping[str, Any] = {
            "name": name, "box": box.id, "program": self.program, "question": question.model_dump_json(),
            "needs": needs.model_dump(),
        }  # fmt: skip
        assert self._client.stdin is not None
        with contextlib.suppress(OSError):
            self._client.stdin.write(json.dumps(asked).encode() + b"\n")
            self._client.stdin.flush()

    def hear(self, patience_s: float) -> Event | None:
        """The next event. A client that has ended or hangs is replaced, which is the event `Gone`."""
        until = time.monotonic() + patience_s
        while True:
            limit = self.silent_s if self._connected else CONNECT_S
            silent = self._sign + limit - time.monotonic()
            try:
                text = self._heard.get(timeout=max(0.0, min(until - time.monotonic(), silent)))
            except queue.Empty:
                if time.monotonic() >= self._sign + limit:
                    return self._lost(f"no sign of life for {limit:.0f} s")
                return None
            if text is None:
                return self._lost(self._refusal or self._last_words())
            self._sign = time.monotonic()
            if (event := self._event(json.loads(text))) is not None:
                return event

    def _event(self, said: dict[str, Any]) -> Event | None:
        kind = said["event"]
        if kind == "boxes":
            self._connected, self._answered, self._since = True, True, None
            return Boxes(tuple(Box(**box) for box in said["boxes"]))
        if kind == "said":
            return Said(said["name"], said["line"])
        if kind == "over":
            return Over(said["name"])
        if kind == "lost":
            return Lost(said["name"], said["why"])
        if kind == "refused":
            self._refusal = said["message"]
        if kind == "broken":
            stop_group(self._client)
            raise UserError(f"Ray is installed here and cannot be imported: {said['message']}", APART)
        return None

    def _lost(self, why: str) -> Event:
        """Replace the client, for as long as patience lasts. Raises UserError."""
        stop_group(self._client)
        if not self._answered:
            raise UserError(f"no Ray cluster answers at {self.address}: {why}", START)
        first = self._since is None
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since > self.patience_s:
            waited = f"has not answered for {self.patience_s:.0f} s"
            raise UserError(f"the Ray cluster at {self.address} {waited}: {why}", "start it; the same command goes on")
        if not first:
            time.sleep(self.again_s)
        self._begin()
        return Gone(why)

    def _last_words(self) -> str:
        lines = [text.strip() for text in self._log.read_text(errors="replace").splitlines() if text.strip()]
        return lines[-1][:300] if lines else f"its client ended with code {self._client.poll()}"

    def close(self) -> None:
        """End the client, and with it all that boxes do for it."""
        with contextlib.suppress(ProcessLookupError):
            self._client.send_signal(signal.SIGKILL)
        stop_group(self._client)
        self._folder.cleanup()


def is_here() -> bool:
    """Whether Ray is installed; it is not imported by this process."""
    return importlib.util.find_spec("ray") is not None


def _read(client: subprocess.Popen[bytes], heard: queue.SimpleQueue[str | None]) -> None:
    """Hand on each line, then that there are no more."""
    assert client.stdout is not None
    for text in client.stdout:
        heard.put(text.decode())
    heard.put(None)
