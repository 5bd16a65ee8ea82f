# SPDX-License-Identifier: Apache-2.0
"""Tell on disk what the boxes do, for `bench status` in another terminal: a box is what a device is on one machine."""

from __future__ import annotations

from collections.abc import Sequence

from bench.fleet.loads import Load
from bench.fleet.wire import Box
from bench.plan.plan import LeftOut
from bench.plan.questions import Planned
from bench.records.record import Record
from bench.run.telling import Telling

NOBODY = "a box"
"""What a call waits for while none measures."""


class News:
    """What one call over many boxes tells of itself."""

    def __init__(self, telling: Telling) -> None:
        self.telling = telling
        self.named = False
        """Whether it bears the name of a run that makes records: that of its first device."""
        self.places: dict[int, str] = {}
        """By load that is under way, the box; a box with several devices has several."""
        self._write()

    def more(self, run: str, cells: Sequence[Planned], fits_not: Sequence[LeftOut]) -> None:
        """A device has been planned for."""
        if not self.named:
            self.named, self.telling.run = True, run
        self.telling.again([*cells, *(left.planned for left in fits_not if left.planned)])
        self._write()

    def begins(self, box: Box, load: Load) -> None:
        """A box has this load, as far as it has no records yet."""
        left = load.cells[0].loading_s if load.cells else 0.0
        left += sum(planned.predicted.seconds or 0.0 for planned in load.cells)
        self.telling.waits_for = ""
        self.telling.begins(self._place(box, load), str(load), left)

    def answered(self, box: Box, load: Load, record: Record) -> None:
        """A record is home."""
        self.telling.answered_by(self._place(box, load), record)
        if not load.done:
            self.begins(box, load)

    def ends(self, load: Load) -> None:
        """It is done, or lost."""
        self.telling.doing.pop(self.places.pop(id(load), ""), None)
        self._write()

    def _place(self, box: Box, load: Load) -> str:
        if id(load) not in self.places:
            names = (box.name, *(f"{box.name} {number}" for number in range(2, len(self.places) + 2)))
            self.places[id(load)] = next(name for name in names if name not in self.places.values())
        return self.places[id(load)]

    def _write(self) -> None:
        self.telling.waits_for = "" if self.telling.doing else NOBODY
        self.telling.write()
