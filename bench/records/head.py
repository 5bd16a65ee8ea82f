# SPDX-License-Identifier: Apache-2.0
"""What of a record tells which row it belongs to, which of its like counts first, and which ask the very same. Pure.

A row is measured again and again, and views need few of its records: the newest comparable one of each suite, and for
a pair one of each question. The index (`bench.records.index`) keeps these few facts of every record.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import NamedTuple

from pydantic_core import to_json, to_jsonable_python

from bench.records.cell import PROFILES, Cell, Weights
from bench.records.record import Ending, Record, Run
from bench.records.surroundings import Roof

Rank = tuple[int, bool, int, bool, str]
"""Suite version, measured or not, place of the profile, not dated in the future, when it began: the greatest first."""
RowKey = tuple[str, str, str, str, str, int | None, str]
"""Device, model, weights, backend, scheme, memory limit and way: what rows of one name have in common."""


KEPT = ("content", "row", "precision", "suite", "version", "ok", "profile", "likeness", "seconds", "roof", "others_cpu",
        "loaded")  # fmt: skip
"""Fields of a head in the order in which the index keeps them."""


class Loaded(NamedTuple):
    """What of a record tells which weights it is of (`bench.judge.checkpoints`)."""

    name: tuple[str, str, str, str]
    """Device, model, source of weights and engine: what one name stands for."""
    scheme: str
    source: str
    fingerprint: str | None
    run: str
    started: str
    files: dict[str, str]
    """What was loaded, none of random weights; of a served model who serves it."""


def loaded(record: Record) -> Loaded:
    """What a record tells of its weights."""
    cell, found = record.cell, record.provenance
    if cell.weights is Weights.REMOTE:
        files = {cell.source: "served"}
    else:
        files = {} if found is None or found.random else dict(found.files)
    return Loaded(
        name=(cell.device, cell.model, cell.weights, cell.backend), scheme=cell.scheme, source=cell.source,
        fingerprint=cell.fingerprint, run=record.run, started=record.started, files=files,
    )  # fmt: skip


def rank(record: Record) -> Rank:
    """Newer suite versions come before older, measured before not, larger profiles before smaller, then the newest."""
    return (record.cell.suite_version, record.outcome.ending is Ending.OK, _place(record.cell), *record.when)


def _place(cell: Cell) -> int:
    return PROFILES.index(cell.profile) if cell.profile in PROFILES else -1


def row_key(cell: Cell) -> RowKey:
    """The rows that an answer to this question may belong to."""
    return (cell.device, cell.model, cell.weights, cell.backend, cell.scheme, cell.memory_limit_bytes, cell.way)


def likeness(record: Record) -> str:
    """Equal for two records of one name and scheme that a comparison cannot tell apart but by their samples.

    The same question and ending, the same files, the same packages, and the same items of every task: whatever the one
    can be paired with, the other can, and whatever the one can tell, the other can; so of many the first is enough.
    """
    limit = record.memory_limit
    tasks = [[m.name, m.unit, m.how, m.labels, len(m.values)] for m in record.measurements if "task" in m.labels]
    said: list[object] = [
        record.outcome.ending, record.cell, record.budget_s if record.cut else None,
        limit.enforced_by if limit else None, record.provenance,
        record.versions.packages, tasks, sorted({m.name for m in record.measurements}),
        record.seconds > 0,
    ]  # fmt: skip
    return hashlib.blake2b(_text(said).encode(), digest_size=12).hexdigest()


def _text(said: list[object]) -> str:
    """As JSON, keys in their order."""
    try:
        return to_json(said, inf_nan_mode="constants").decode()  # ten times as fast as `json`
    except ValueError:  # half a character
        return json.dumps(to_jsonable_python(said))


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """One record in the index."""

    path: str
    """Its file, relative to the folder of results."""
    content: str
    """Digest of the file's bytes."""
    row: RowKey
    precision: str
    suite: str
    version: int
    """Of its suite."""
    ok: bool
    """Whether it was measured."""
    profile: int
    """Its profile's place."""
    likeness: str
    seconds: float
    roof: str
    """Which kind of look at its device's limits it holds, empty if none: only the newest of each counts."""
    others_cpu: float | None
    """What other processes computed when it began."""
    loaded: Loaded
    ahead: bool = False
    """Whether it is dated in the future now."""

    @property
    def started(self) -> str:
        """When it began."""
        return self.loaded.started

    @property
    def rank(self) -> Rank:
        """As `rank` says of its record."""
        return (self.version, self.ok, self.profile, not self.ahead, self.started)

    @property
    def group(self) -> str:
        """Its row and suite in one text."""
        return json.dumps([*self.row, self.suite])

    def to_text(self) -> str:
        """As the index keeps it, path apart."""
        return _text([getattr(self, name) for name in KEPT])

    @classmethod
    def from_text(cls, path: str, text: str, *, ahead: bool = False) -> Head:
        """What `to_text` wrote."""
        known = dict(zip(KEPT, json.loads(text), strict=True))
        name, *rest = known["loaded"]
        known |= {"row": tuple(known["row"]), "loaded": Loaded(tuple(name), *rest)}
        return cls(path=path, ahead=ahead, **known)


def head(record: Record, path: str, content: str) -> Head:
    """The head of a record whose file lies at `path` and has that digest."""
    cell = record.cell
    return Head(
        path=path, content=content, row=row_key(cell), precision=cell.precision, suite=cell.suite,
        version=cell.suite_version, ok=record.outcome.ending is Ending.OK, profile=_place(cell),
        likeness=likeness(record), seconds=record.seconds, roof=_look_of(record.before.roof),
        others_cpu=record.before.others_cpu, loaded=loaded(record), ahead=record.ahead,
    )  # fmt: skip


def _look_of(roof: Roof | None) -> str:
    return json.dumps([roof.engine, roof.method, bool(roof.memory())]) if roof else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a run saw of its device at one moment: rates as `Roof.rates` and `Roof.movable` give them."""

    others_cpu: float | None
    engine: str
    threads: int | None
    method: int
    rates: dict[str, float]
    movable: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunHead:
    """One run's end in the index."""

    path: str
    """Its file, relative to the folder of results."""
    run: str
    device: str
    looks: tuple[Look, ...]
    """Before its cells and after them, as far as there was a roof."""

    def to_text(self) -> str:
        """As the index keeps it, path apart."""
        looks = [[x.others_cpu, x.engine, x.threads, x.method, x.rates, x.movable] for x in self.looks]
        return json.dumps([self.run, self.device, looks])

    @classmethod
    def from_text(cls, path: str, text: str) -> RunHead:
        """What `to_text` wrote."""
        run, device, looks = json.loads(text)
        names = ("others_cpu", "engine", "threads", "method", "rates", "movable")
        found = tuple(Look(**dict(zip(names, look, strict=True))) for look in looks)
        return cls(path=path, run=run, device=device, looks=found)


def run_head(run: Run, path: str) -> RunHead:
    """The head of what a run's end told."""
    looks = tuple(
        Look(
            others_cpu=condition.others_cpu, engine=roof.engine, threads=roof.threads, method=roof.method,
            rates=roof.rates(), movable=roof.movable(),
        )
        for condition in (run.before, run.after)
        if (roof := condition.roof) is not None
    )  # fmt: skip
    return RunHead(path=path, run=run.run, device=run.device, looks=looks)


def place(head: Head | RunHead) -> list[str]:
    """As paths are sorted: part by part."""
    return head.path.split("/")
