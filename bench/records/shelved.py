# SPDX-License-Identifier: Apache-2.0
"""Records as the index hands them out: all but their long samples, which are read when somebody asks for them.

A view of a hundred thousand records shows a thousand, and of these it needs what they are called, how they ended and
figures that were computed before. What a shelved record leaves out (`bench.records.slimmed`) is read from its file on
first use, so that it answers as the whole one does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, TypeVar, overload

from pydantic import PrivateAttr

from bench.records.cell import Value
from bench.records.head import Head
from bench.records.index import Index
from bench.records.parsing import JSON_BYTES, bytes_of
from bench.records.record import Measurement, Record
from bench.records.slimmed import LEFT, SHARED, content_digest, main_part, measured_part, slim
from bench.records.store import read_record, record_in
from bench.records.surroundings import Condition

T = TypeVar("T")
JOINED = ("outcome", "warnings", "variability", "ahead")
"""What differs from the file: of these a copy keeps its own."""
NOWHEN = Condition(available_bytes=0)
"""Stands where a condition is left out, until the field itself is."""


class LongMeasurement(Measurement):
    """A measurement whose samples are in its record's file."""

    _place: int = PrivateAttr(0)
    _count: int = PrivateAttr(0)
    _whole: Callable[[], Record] | None = PrivateAttr(None)

    def __getattr__(self, name: str) -> Any:
        """The samples, each time they are asked for: a record that was read last is at hand."""
        kept = self.__pydantic_private__ if name == "values" else None
        if kept and kept["_whole"] is not None:
            return kept["_whole"]().measurements[kept["_place"]].values
        return super().__getattr__(name)  # type: ignore[misc] # pydantic declares it where mypy does not look

    @property
    def count(self) -> int:
        """How many samples there are, without reading them."""
        return self._count


class ShelvedRecord(Record):
    """A record of the index."""

    _content: str = PrivateAttr("")
    _keeper: Index | None = PrivateAttr(None)
    _whole: Callable[[], Record] | None = PrivateAttr(None)
    _measured: Callable[[], tuple[Measurement, ...]] | None = PrivateAttr(None)

    def __getattr__(self, name: str) -> Any:
        """What was left out."""
        if name == "measurements" and self._measured is not None:
            found = self.__dict__[name] = self._measured()
            return found
        if name in LEFT and self._whole is not None:
            return getattr(self._whole(), name)
        return super().__getattr__(name)  # type: ignore[misc] # as above

    def model_dump(self, **how: Any) -> dict[str, Any]:
        """Nothing that is written down lacks what was left out here."""
        return self._complete().model_dump(**how)

    def model_dump_json(self, **how: Any) -> str:
        """The same as text."""
        return self._complete().model_dump_json(**how)

    def _complete(self) -> Record:
        assert self._whole is not None
        joined = {name: getattr(self, name) for name in JOINED}
        return self._whole().model_copy(update=joined)

    @property
    def key(self) -> str:
        """Digest of its content and of what was joined to it."""
        moves = self.variability
        said = [[caveat.kind, caveat.text] for caveat in self.warnings]
        return self._content + json.dumps([said, None if moves is None else [moves.looks, moves.shares]])

    @property
    def keeper(self) -> Index:
        """Where values that were computed from it are kept."""
        assert self._keeper is not None
        return self._keeper


class Shelves:
    """The records of an index, each loaded when it is asked for."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._loaded: dict[str, Record] = {}
        self._shared: dict[str, Value] = {}
        self._whole = lru_cache(maxsize=64)(self._read)

    def load(self, head: Head) -> Record:
        """The record of a head. Raises UserError where its file was spoilt since it was listed."""
        found = self._loaded.get(head.path)
        if found is None:
            text = self.index.kept(main_part(head.content)) if head.content else None
            found = self._loaded[head.path] = (text and self._shelved(head, json.loads(text))) or self._first(head)
        return found

    def _read(self, path: str) -> Record:
        return read_record(self.index.root / path)

    def _first(self, head: Head) -> Record:
        """A record that was never loaded before: what is left of it without its long samples is kept."""
        path = self.index.root / head.path
        held = bytes_of(path, JSON_BYTES)
        record = record_in(held, path)
        if content_digest(held) != head.content:
            return record  # edited this very moment: it is used and nothing of it is kept
        parts = slim(record, head.content)
        for key, text in parts.items():
            self.index.keep(key, text)
        found = self._shelved(head, json.loads(parts[main_part(head.content)]))
        assert found is not None, "what it needs was kept just now"
        return found

    def _shelved(self, head: Head, kept: dict[str, Any]) -> Record | None:
        """A record of what was kept of it; None where a part of that is missing."""
        shared = {name: self._part(kept[name], kind) for name, kind in SHARED.items()}
        if None in shared.values():
            return None
        record = Record.model_validate(kept | shared | {"after": NOWHEN})
        fields = {name: value for name, value in record.__dict__.items() if name not in LEFT} | {"ahead": head.ahead}
        found = ShelvedRecord.model_construct(_fields_set=set(fields), **fields)
        for name in (*LEFT, "measurements"):
            found.__dict__.pop(name, None)

        def whole() -> Record:
            return self._whole(head.path)

        def measured() -> tuple[Measurement, ...]:
            text = self.index.kept(measured_part(head.content))
            if text is None:
                return whole().measurements
            return tuple(_measurement(data, place, whole) for place, data in enumerate(json.loads(text)))

        found._content, found._keeper = head.content, self.index  # noqa: SLF001 - its own maker
        found._whole, found._measured = whole, measured  # noqa: SLF001
        return found

    def _part(self, key: str, kind: type[Value]) -> Value | None:
        if key not in self._shared:
            text = self.index.kept(key)
            if text is None:
                return None
            self._shared[key] = kind.model_validate(json.loads(text))
        return self._shared[key]


def _measurement(data: dict[str, Any], place: int, whole: Callable[[], Record]) -> Measurement:
    """A measurement of what was kept of it: its samples, or where they are."""
    if "values" in data:
        return Measurement.model_validate(data)
    count = data.pop("count")
    fields = Measurement.model_validate(data | {"values": ()}).__dict__
    found = LongMeasurement.model_construct(**fields)
    found.__dict__.pop("values")
    found._place, found._count, found._whole = place, count, whole  # noqa: SLF001 - its own maker
    return found


class Shelf(Sequence[Record]):
    """Records that are loaded when they are asked for; but for the first they are tried then."""

    def __init__(self, heads: Iterable[Head], load: Callable[[Head], Record], keeper: Index) -> None:
        self.known, self.keeper = tuple(heads), keeper
        """Every head, also of records that a trial will leave out."""
        self._load = load

    @cached_property
    def heads(self) -> tuple[Head, ...]:
        """Those of records that something can be made of."""
        known = self.known
        while len(known) > 1 and len(self.keeper.sound_of(known[1:])) < len(known) - 1:
            known = tuple(self.keeper.shown_of(known[0].group))  # another that is like it takes the place of each
        return known

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        """A record, or some of them."""
        if isinstance(index, slice):
            return tuple(map(self._load, self.heads[index]))
        return self._load(self.known[0] if index == 0 and self.known else self.heads[index])

    def __len__(self) -> int:
        return len(self.heads)

    def __iter__(self) -> Iterator[Record]:
        """The first is handed out before the others are tried."""
        for place in range(len(self.known[:1])):
            yield self[place]
        yield from map(self._load, self.heads[1:] if len(self.known) > 1 else ())
