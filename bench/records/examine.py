# SPDX-License-Identifier: Apache-2.0
"""Files read for the index: each record checked against the schema, and what the index keeps of it.

Many are read by as many processes as there are CPUs. Reading one takes a fraction of a millisecond, trying whether
views can be made of it ten times as long: that is done of those alone that views would show.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from bench.errors import UserError
from bench.processes import end_with
from bench.records.head import head, run_head
from bench.records.listing import has_one_thread
from bench.records.parsing import JSON_BYTES, bytes_of
from bench.records.record import Record
from bench.records.slimmed import content_digest, slim
from bench.records.store import read_run, record_in

CHUNK = 100
"""Files that a process is handed at a time."""
WORTH_PROCESSES = 1000
"""Files from which on starting processes is faster than reading alone."""
TRIED_CHUNK, WORTH_TRYING = 20, 200
"""The same of records that are tried."""


class Kind(IntEnum):
    """What a file turned out to be."""

    RECORD = 0
    RUN = 1
    NO_RECORD = 2
    NO_RUN = 3
    FAULTY = 4
    """A record that nothing can be made of."""


Fault = Callable[[Record], str]
"""What is wrong with a record that the schema lets pass, empty if nothing is."""


Tried = tuple[str, dict[str, str]]
"""What is wrong with a record, and what the index keeps of one with which nothing is (`bench.records.slimmed`)."""


def sound(record: Record) -> str:
    """Of records that nothing is made of."""
    return ""


@dataclass(frozen=True, slots=True)
class Examined:
    """What the index keeps of one file: nothing but its kind where it could not be read."""

    path: str
    kind: Kind
    content: str = ""
    group: str = ""
    device: str = ""
    model: str = ""
    text: str = ""
    """The head, as the index keeps it; of a file left out why."""
    started: str = ""


def examine(root: str, path: str, *, is_run: bool) -> Examined:
    """One file, relative to the root."""
    where = Path(root, path)
    if is_run:
        try:
            return Examined(path, Kind.RUN, text=run_head(read_run(where), path).to_text())
        except UserError:  # of a run whose looks cannot be told, the traceback is ours
            return Examined(path, Kind.NO_RUN)
    try:
        data = bytes_of(where, JSON_BYTES)
        record = record_in(data, where)
    except Exception:  # noqa: BLE001 - one file must not hide all others, whatever it does to a parser
        return Examined(path, Kind.NO_RECORD)
    try:
        found = head(record, path, content_digest(data))
    except Exception as error:  # noqa: BLE001 - of settings as deep as a parser goes no text can be made
        return Examined(path, Kind.FAULTY, text=json.dumps(f"{type(error).__name__}: {error}"))
    device, model = found.row[:2]
    return Examined(path, Kind.RECORD, found.content, found.group, device, model, found.to_text(), found.started)


def examine_all(root: Path, records: Sequence[str], runs: Sequence[str] = ()) -> Iterator[list[Examined]]:
    """All these files, chunk by chunk in their order."""
    chunks = [*_chunks(root, runs, is_run=True), *_chunks(root, records, is_run=False)]
    return _spread(_examine_chunk, chunks, many=len(records) + len(runs) >= WORTH_PROCESSES)


def try_all(root: Path, paths: Sequence[str], fault: Fault) -> Iterator[Tried]:
    """What is wrong with each of these records, in their order, and what the index keeps of it if nothing is.

    Nothing is wrong with one that was spoilt a moment ago, and nothing is kept of it.
    """
    left = iter(paths)
    chunks = [(str(root), chunk, fault) for chunk in iter(lambda: list(islice(left, TRIED_CHUNK)), [])]
    return chain.from_iterable(_spread(_try_chunk, chunks, many=len(paths) >= WORTH_TRYING))


Chunk = tuple[str, list[str], bool]
A = TypeVar("A")
B = TypeVar("B")


def _spread(work: Callable[[A], B], chunks: Sequence[A], *, many: bool) -> Iterator[B]:
    """The work on each chunk, by several processes where there is much of it and this machine has the CPUs."""
    processes = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
    done = 0
    forked = has_one_thread()
    if many and processes > 1 and (forked or _starts_as_module()):
        try:
            context = multiprocessing.get_context("fork" if forked else "spawn")  # forked they have all code loaded
            with ProcessPoolExecutor(processes, context, _begin, (os.getpid(),)) as pool:
                for found in pool.map(work, chunks):
                    yield found
                    done += 1
        except BrokenProcessPool:  # none can be started from a program without a file of its own
            pass
    yield from map(work, chunks[done:])


def _begin(parent: int) -> None:
    """In a process of its own: it ends with the one that started it, which alone is to hear of Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
    gc.disable()


def _starts_as_module() -> bool:
    """Whether the main program is a module or our own command: spawned processes run a script of somebody's anew."""
    main = sys.modules["__main__"]
    return getattr(main, "__spec__", None) is not None or Path(getattr(main, "__file__", None) or "").stem == "bench"


def _chunks(root: Path, paths: Sequence[str], *, is_run: bool) -> Iterator[Chunk]:
    left = iter(paths)
    while chunk := list(islice(left, CHUNK)):
        yield str(root), chunk, is_run


def _examine_chunk(chunk: Chunk) -> list[Examined]:
    root, paths, is_run = chunk
    return [examine(root, path, is_run=is_run) for path in paths]


def _try_chunk(chunk: tuple[str, list[str], Fault]) -> list[Tried]:
    root, paths, fault = chunk
    return [_tried(Path(root, path), fault) for path in paths]


def _tried(path: Path, fault: Fault) -> Tried:
    try:
        data = bytes_of(path, JSON_BYTES)
        record = record_in(data, path)
    except Exception:  # noqa: BLE001 - it was read a moment ago, so it has changed since, and is read again next time
        return "", {}
    why = fault(record)
    return why, {} if why else slim(record, content_digest(data))
