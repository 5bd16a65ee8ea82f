# SPDX-License-Identifier: Apache-2.0
"""Who works on something in a folder that others see too, so that they know whether to wait for it.

A number alone is no process: numbers are used again, by other processes after a restart, by other containers at the
same time. So the owner says where its number means something, since when that machine runs, and when it began itself,
counted from there on: no clock that is set tells the wrong thing.
"""

from __future__ import annotations

import os

from bench.processes import began, boot, place
from bench.records.cell import Value


class Owner(Value):
    """A process."""

    place: str
    """Of the host and the container whose process numbers it counts by."""
    boot: str
    """Of the machine, until it starts anew."""
    pid: int
    began: float
    """When it began: clock ticks since the machine started; elsewhere than on Linux, seconds since 1970."""

    @property
    def lives(self) -> bool | None:
        """Whether it still runs; None where its place is another, and nobody here can tell."""
        if self.place != place():
            return None
        return self.boot == boot() and began(self.pid) == self.began


def this_process() -> Owner:
    """The one that asks."""
    return Owner(place=place(), boot=boot(), pid=os.getpid(), began=began(os.getpid()) or 0.0)
