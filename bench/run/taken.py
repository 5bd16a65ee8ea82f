# SPDX-License-Identifier: Apache-2.0
"""Several processes that measure into one folder never measure the same cell twice: each says which cells it has.

A claim is a small file with its owner's process, since when that runs, and on which machine. One whose process is gone
is anybody's. Where nobody here can tell, as of another host that shares the folder, the claim's owner touches it once a
minute, and one that was not touched for ten, by our own clock, is anybody's too. What another has answered since the
call began, or in a run that went on then, is not measured again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from bench.errors import UserError
from bench.plan.plan import has_reference
from bench.plan.questions import Planned
from bench.processes import alone, write_whole
from bench.records import progress
from bench.records.cell import Cell
from bench.records.owner import Owner, this_process
from bench.records.parsing import read_json
from bench.records.store import Store, read_record

BEAT_S, LEASE_S = 60.0, 600.0
"""How often an owner touches its claims, and for how long an untouched one of another machine is believed."""


class Taken:
    """The cells that this process has, and those that others have."""

    def __init__(self, store: Store, known: frozenset[str]) -> None:
        self.store, self.known = store, known
        """Ids of the records that were there when the call began: others have made the rest."""
        self.beside = self._going_on()
        """Runs that went on when the call began: what they have answered before is no older answer."""
        self.folder = store.root / ".runs" / "taken"
        self.own: set[str] = set()
        """Ids of this call's own records."""
        self._held: set[Path] = set()
        self._seen: dict[Path, tuple[int, float]] = {}
        """By claim of another machine, when it was touched last and since when it was not touched again."""
        self._ended = threading.Event()
        self._beat: threading.Thread | None = None

    def take(self, cells: Sequence[Planned]) -> Owner | None:
        """Take all of these cells, or none where another has one of them: then who."""
        me = this_process()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        paths = [self._path(planned.cell) for planned in cells]
        with alone(self.folder.parent):
            for path in paths:
                owner = _owner(path)
                if owner is not None and owner != me and not self._is_dead(owner, path):
                    return owner
            for path in paths:
                write_whole(path, me.model_dump_json())
        self._held |= set(paths)
        self._keep_touching()
        return None

    def give(self, cells: Sequence[Planned]) -> None:
        """Let others have them."""
        for planned in cells:
            path = self._path(planned.cell)
            self._held.discard(path)
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def close(self) -> None:
        """Give back whatever is still held."""
        self._ended.set()
        for path in list(self._held):
            path.unlink(missing_ok=True)
        self._held.clear()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def sweep(self) -> None:
        """Remove the claims of processes that are gone."""
        if not self.folder.is_dir():
            return
        with alone(self.folder.parent):
            for path in self.folder.glob("*.json"):
                owner = _owner(path)
                if owner is None or owner.lives is False:
                    path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def open_ones(self, cells: Sequence[Planned]) -> list[Planned]:
        """Those that no other process has answered since this call began.

        A reference that another machine has answered left its distributions there: it is open where one of these cells
        needs them here.
        """
        found = [planned for planned in cells if not self._is_answered(planned.cell)]
        needed = {p.reference.key for p in found if p.reference and not has_reference(p.reference)}
        return [planned for planned in cells if planned in found or planned.cell.key in needed]

    def _is_answered(self, cell: Cell) -> bool:
        folder = self.store.folder(cell)
        for path in folder.glob("*.json"):
            name = path.stem.rpartition("-")[2]
            if name in self.own or (name in self.known and not self.beside):
                continue
            with contextlib.suppress(UserError, OSError):
                record = read_record(path)
                if name in self.known and record.run not in self.beside:
                    continue
                # What has just failed in a run that goes on would fail here too; the next call tries again.
                if record.cell.key == cell.key and (record.outcome.ending.settled or record.run in self._going_on()):
                    return True
        return False

    def _going_on(self) -> set[str]:
        """Runs that other processes are at."""
        me, told = this_process(), progress.running(self.store.root)
        return {one.run for one in told if not one.ended and one.owner != me and one.owner.lives is not False}

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.key}.json"

    def _is_dead(self, owner: Owner, path: Path) -> bool:
        lives = owner.lives
        if lives is not None:
            return not lives
        try:
            touched = path.stat().st_mtime_ns
        except OSError:
            return True
        before = self._seen.get(path)
        if before is None or before[0] != touched:
            self._seen[path] = touched, time.monotonic()
            return False
        return time.monotonic() - before[1] > LEASE_S

    def _keep_touching(self) -> None:
        if self._beat is None:
            self._beat = threading.Thread(target=self._touch, daemon=True)
            self._beat.start()

    def _touch(self) -> None:
        while not self._ended.wait(BEAT_S):
            for path in list(self._held):
                with contextlib.suppress(OSError):
                    os.utime(path)


def _owner(path: Path) -> Owner | None:
    """Whose a claim is, None where there is none or it says nothing."""
    with contextlib.suppress(UserError, ValidationError, OSError):
        return Owner.model_validate(read_json(path))
    return None
