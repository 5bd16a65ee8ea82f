# SPDX-License-Identifier: Apache-2.0
"""What a person or the system asks of a run: to end after this suite, to end now, or nothing at all.

Ctrl-C once lets the suite end that is being measured, twice ends it; where nothing is measured yet once is enough. TERM
ends it now, as whoever pre-empts a machine waits seconds. A terminal that is closed takes its display along and nothing
else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from bench.processes import leave_terminals, terminals


class Stop:
    """Whether this call is to end, known to all who wait for a worker."""

    def __init__(self) -> None:
        self.asked = False
        """After the cells that are being answered."""
        self.now = False
        """At once: whoever waits gives up."""
        self._answering: set[int] = set()
        self._wakers: set[int] = set()

    @property
    def ending(self) -> bool:
        """Whether nothing more may begin."""
        return self.asked or self.now

    def answers(self, who: object, *, yes: bool) -> None:
        """Whether that worker answers a cell now: only then there is something to wait for."""
        (self._answering.add if yes else self._answering.discard)(id(who))

    def after_this(self) -> None:
        """Begin nothing more; asked once more, let whoever waits for a worker give up.

        Raises KeyboardInterrupt where nothing is being answered, or nobody listened: elsewhere an interrupt could come
        between a line that is printed and the note that it was, and print it twice.
        """
        if self.now or not self._answering:
            raise KeyboardInterrupt
        if self.asked:
            self.at_once()
            return
        self.asked = True
        self._wake()

    def at_once(self) -> None:
        """Let everybody give up."""
        self.now = True
        self._wake()

    def _wake(self) -> None:
        for waker in list(self._wakers):
            with contextlib.suppress(OSError):
                os.write(waker, b"!")

    @contextlib.contextmanager
    def heard(self) -> Iterator[int]:
        """A descriptor that can be read from when something is asked."""
        read, write = os.pipe()
        self._wakers.add(write)
        try:
            if self.ending:
                os.write(write, b"!")
            yield read
        finally:
            self._wakers.discard(write)
            os.close(read)
            os.close(write)

    @contextlib.contextmanager
    def by_ctrl_c(self) -> Iterator[None]:
        """Hear Ctrl-C for as long as the block runs, where whoever started us has not had it ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupted(number: int, frame: FrameType | None) -> None:
            self.after_this()

        before = signal.getsignal(signal.SIGINT)
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def outlive_the_terminal() -> None:
    """Go on when the terminal is closed, without its display; what was told to ignore that does so already."""
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return
    if threading.current_thread() is not threading.main_thread():
        return
    open_now = terminals()

    def closed(number: int, frame: FrameType | None) -> None:
        leave_terminals(open_now)

    signal.signal(signal.SIGHUP, closed)
