# SPDX-License-Identifier: Apache-2.0
"""Wait for a worker without working: until it says something, ends, breaks its limit, or somebody asks us to end."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.processes import GRACE_S, stop_group
from bench.run.request import Event
from bench.run.stopping import Stop

LONGEST_WAIT_S = 3600.0
"""One wait for news. A limit may be longer than what the system's call can count, 24 days."""
LAST_S = 10 * GRACE_S
"""After it has been killed, for its end alone."""


@dataclass(kw_only=True)
class Waiting:
    """One wait for a process."""

    process: subprocess.Popen[bytes]
    events: int
    stop: Stop
    hear: Callable[[Event], None]
    """Told every event."""
    left_s: Callable[[], float]
    """How long what it does may go on."""
    overdue: Callable[[], None]
    """Told that this is over, before the process is killed with all it started."""
    finish: Callable[[], None]
    """Told once that nothing more shall begin."""
    _pending: bytes = b""
    _killed: float | None = None
    _told: bool = False

    def run(self) -> int:
        """Until the process has ended; returns its exit code.

        Raises KeyboardInterrupt where everything is to end now.
        """
        ended_read, ended_write = os.pipe()

        def watch() -> None:
            self.process.wait()
            os.write(ended_write, b"!")

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        with selectors.DefaultSelector() as selector, self.stop.heard() as asked:
            for number in (self.events, ended_read, asked):
                selector.register(number, selectors.EVENT_READ)
            while True:
                left = self._left()
                ready = {key.fd for key, _ in selector.select(min(max(0.0, left), LONGEST_WAIT_S))}
                if asked in ready:
                    self._asked(asked)
                if self.events in ready:
                    if not self._read():
                        selector.unregister(self.events)
                elif ended_read in ready:
                    break
                elif left <= 0:
                    self._kill()
        watcher.join()
        os.close(ended_read)
        os.close(ended_write)
        return int(self.process.returncode)

    def _left(self) -> float:
        return self.left_s() if self._killed is None else self._killed + LAST_S - time.monotonic()

    def _asked(self, descriptor: int) -> None:
        os.read(descriptor, 64)
        if self.stop.now:
            raise KeyboardInterrupt
        if not self._told:
            self._told = True
            self.finish()

    def _read(self) -> bool:
        """Hear what has come; whether more may come."""
        chunk = os.read(self.events, 65536)
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            self.hear(json.loads(line))
        return bool(chunk)

    def _kill(self) -> None:
        if self._killed is None:
            self.overdue()
        self._killed = time.monotonic()
        stop_group(self.process)
