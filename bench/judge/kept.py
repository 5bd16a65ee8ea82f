# SPDX-License-Identifier: Apache-2.0
"""Values of records of the index, computed once: what a function makes of a record is kept by the record's content.

A record that comes from anywhere else is computed each time. The functions stay pure: the index knows the code that a
value was made by, and forgets it when that changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import asdict, is_dataclass
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

from pydantic import TypeAdapter

from bench.records.index import Index
from bench.records.shelved import Shelf, ShelvedRecord

P = ParamSpec("P")
T = TypeVar("T")
_AT_HAND: ContextVar[dict[tuple[Any, ...], tuple[Any, Any]] | None] = ContextVar("at_hand", default=None)
"""What was made while `once` lasts."""


def kept(kind: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A function of records whose result, of that type, is kept where all its records are the index's own."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*records: P.args, **named: P.kwargs) -> T:
            sources = (*records, *named.values())
            return kept_of(function.__qualname__, sources, kind, lambda: function(*records, **named))

        return call

    return decorate


def kept_of(name: str, sources: Sequence[Any], kind: Any, make: Callable[[], T]) -> T:
    """What `make` makes of these records and histories, from the index where it has been made before.

    `sources` are records, or histories as rows have them. Of a record what was joined to it counts too, of a history
    the contents of its files alone.
    """
    known = [_key(source) for source in sources]
    keys = [key for key, _ in known]
    keeper = next((keeper for _, keeper in known if keeper is not None), None)
    if keeper is None or None in keys:
        return make() if _AT_HAND.get() is None else _once(name, sources, make)
    key = f"{name}:{hashlib.blake2b(' '.join(map(str, keys)).encode(), digest_size=16).hexdigest()}"
    text = keeper.kept(key)
    if text is not None:
        found: T = _adapter(kind).validate_python(json.loads(text))
        return found
    made = make()
    keeper.keep(key, json.dumps(_plain(made)))
    return made


@contextmanager
def once() -> Iterator[None]:
    """While this block runs, what is made of records that come from no index is made once too: for a trial of one."""
    before = _AT_HAND.set({})
    try:
        yield
    finally:
        _AT_HAND.reset(before)


def _once(name: str, sources: Sequence[Any], make: Callable[[], T]) -> T:
    at_hand = _AT_HAND.get()
    assert at_hand is not None
    key = (name, *map(id, sources))
    if key not in at_hand:
        at_hand[key] = (make(), sources)  # with what it was made of, so that no other has the same address meanwhile
    found: T = at_hand[key][0]
    return copy(found) if isinstance(found, dict | list) else found


def _key(source: object) -> tuple[str | None, Index | None]:
    if isinstance(source, ShelvedRecord):
        return source.key, source.keeper
    if isinstance(source, Shelf):
        contents = [head.content for head in source.known]
        return (",".join(contents), source.keeper) if all(contents) else (None, None)
    return ("", None) if source == () else (None, None)


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
