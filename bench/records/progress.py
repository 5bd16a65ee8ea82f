# SPDX-License-Identifier: Apache-2.0
"""What a run tells of itself while it measures: one small file beside its records, for whoever asks how far it is."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from pydantic import ValidationError

from bench.errors import UserError
from bench.processes import write_whole
from bench.records.cell import Value
from bench.records.owner import Owner, this_process
from bench.records.parsing import read_json
from bench.records.record import RunName

FOLDER, LAST = "now", "last.json"
"""Below the hidden folder of runs: one file for each process that measures, and what the last one came to."""


class Doing(Value):
    """What one device does."""

    device: str
    what: str
    """The cell, or the load before the first."""
    phase: str = ""
    done: int = 0
    total: int = 0
    """0 where unknown."""
    since: float
    """Seconds since 1970."""
    expected_s: float = 0.0
    """0 if unknown."""


class Failed(Value):
    """A cell that another try may settle."""

    cell: str
    ending: str
    reason: str


class Progress(Value):
    """How far a run is."""

    run: RunName
    owner: Owner
    began: float
    """Seconds since 1970, as the others."""
    told: float
    """When this was written."""
    cells: int
    """To be answered."""
    answered: int = 0
    failed: int = 0
    others: int = 0
    """Of those answered, how many another bench has."""
    undecided: int = 0
    """Left open by the budget."""
    left_s: float | None = None
    """Seconds until all is done as far as is predicted, what it does now included; None if unknown."""
    doing: tuple[Doing, ...] = ()
    failures: tuple[Failed, ...] = ()
    """The last few."""
    waits_for: str = ""
    """Whom it waits for, empty while it measures."""
    ended: str = ""
    """How it ended, empty while it runs: `done`, `stopped`, or what went wrong."""


def own_path(root: Path) -> Path:
    """Where this process tells of its run."""
    me = this_process()
    return _folder(root) / f"{me.place}-{me.pid}.json"


def _folder(root: Path) -> Path:
    return root / ".runs" / FOLDER


def tell(path: Path, progress: Progress) -> None:
    """Write it down. A disk that refuses costs the news, nothing else."""
    with contextlib.suppress(OSError):
        write_whole(path, progress.model_dump_json())


def close(root: Path, progress: Progress) -> None:
    """The run has ended: what it came to stays, until the next one ends."""
    tell(root / ".runs" / LAST, progress)
    with contextlib.suppress(OSError):
        own_path(root).unlink(missing_ok=True)
        _folder(root).rmdir()


def running(root: Path) -> list[Progress]:
    """What every process tells that measures into that folder, or was killed while it did and not cleared up after."""
    return sorted(filter(None, map(_read, _folder(root).glob("*.json"))), key=lambda one: one.began)


def last(root: Path) -> Progress | None:
    """What the run came to that ended last, None if none has."""
    return _read(root / ".runs" / LAST)


def clear_up(root: Path) -> None:
    """Put away what killed processes told: the newest of it is what the last run came to."""
    for path in sorted(_folder(root).glob("*.json")):
        found = _read(path)
        if found is not None and found.owner.lives is not False:
            continue
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            before = last(root)
            if found is not None and (before is None or before.told < found.told):
                tell(root / ".runs" / LAST, found.model_copy(update={"ended": "killed"}))
    with contextlib.suppress(OSError):
        _folder(root).rmdir()


def _read(path: Path) -> Progress | None:
    with contextlib.suppress(UserError, ValidationError, OSError):
        return Progress.model_validate(read_json(path))
    return None


def now() -> float:
    """Seconds since 1970."""
    return time.time()
