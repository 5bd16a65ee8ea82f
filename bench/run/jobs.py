# SPDX-License-Identifier: Apache-2.0
"""The cells of a call, handed out job by job: a job is all loads of one model in one engine, the reference first.

What a job's rows are compared with is measured beside them, on the same device and at nearly the same time. Several
runners may draw from one pool, each for a device; what other processes have taken comes last, when they have answered
it or are gone.
"""

from __future__ import annotations

import selectors
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from bench.plan.order import jobs
from bench.plan.questions import Planned
from bench.records.owner import Owner
from bench.run.stopping import Stop
from bench.run.taken import Taken

LOOK_S = 2.0
"""Seconds between two looks whether another process is done."""


class Jobs:
    """What nobody has begun yet."""

    def __init__(self, cells: Iterable[Planned], taken: Taken | None, stop: Stop) -> None:
        self.waiting = deque(jobs(cells))
        self.taken, self.stop = taken, stop
        self._lock = threading.Lock()

    def next(
        self, elsewhere: Callable[[Sequence[Planned]], None], waits: Callable[[Owner | None], None]
    ) -> list[Planned] | None:
        """The next job for whoever is free, None where nothing is left.

        `elsewhere` hears of cells that another process has answered, `waits` for whom we wait (None: no more). Raises
        KeyboardInterrupt where the call is to end.
        """
        told: Owner | None = None
        while self.waiting:
            if self.stop.ending:
                raise KeyboardInterrupt
            found, owner = self._draw(elsewhere)
            if found is not None:
                if told is not None:
                    waits(None)
                return found
            if owner is not None:
                if owner != told:
                    waits(owner)
                told = owner
                self._pause()
        if told is not None:
            waits(None)
        return None

    def _draw(self, elsewhere: Callable[[Sequence[Planned]], None]) -> tuple[list[Planned] | None, Owner | None]:
        """A job that is ours now; else who has the first of them, None where there is none."""
        with self._lock:
            owner: Owner | None = None
            for job in list(self.waiting):
                holder = self.taken.take(job) if self.taken else None
                if holder is not None:
                    owner = owner or holder
                    continue
                self.waiting.remove(job)
                left = self.taken.open_ones(job) if self.taken else job
                if len(left) < len(job):
                    gone = [planned for planned in job if planned not in left]
                    elsewhere(gone)
                    assert self.taken is not None, "only others answer what is not open"
                    self.taken.give(gone)
                if left:
                    return left, None
            return None, owner

    def _pause(self) -> None:
        """A moment, or until somebody asks for the end."""
        with self.stop.heard() as asked, selectors.DefaultSelector() as selector:
            selector.register(asked, selectors.EVENT_READ)
            selector.select(LOOK_S)
