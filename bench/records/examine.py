# SPDX-License-Identifier: Apache-2.0
"""Files read for the index: each record checked against the schema, and what the index keeps of it.

Reading one takes half a millisecond, and trying whether views can be made of it ten to twenty, so that many are read
by as many processes as there are CPUs.
"""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from pathlib import Path

from bench.errors import UserError
from bench.records.head import head, run_head
from bench.records.parsing import JSON_BYTES, text_of
from bench.records.record import Record
from bench.records.store import read_run, record_in

CHUNK = 100
"""Files that a process is handed at a time."""
WORTH_PROCESSES = 400
"""Files from which on starting processes is faster than reading alone."""


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


def content_digest(text: str) -> str:
    """What tells one content of a file from another."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def examine(root: str, path: str, *, is_run: bool, fault: Fault = sound) -> Examined:
    """One file, relative to the root."""
    where = Path(root, path)
    if is_run:
        try:
            return Examined(path, Kind.RUN, text=run_head(read_run(where), path).to_text())
        except UserError:  # of a run whose looks cannot be told, the traceback is ours
            return Examined(path, Kind.NO_RUN)
    try:
        text = text_of(where, JSON_BYTES)
        record = record_in(text, where)
    except Exception:  # noqa: BLE001 - one file must not hide all others, whatever it does to a parser
        return Examined(path, Kind.NO_RECORD)
    wrong, found = fault(record), None
    if not wrong:
        try:
            found = head(record, path, content_digest(text))
        except Exception as error:  # noqa: BLE001 - of settings as deep as a parser goes no text can be made
            wrong = f"{type(error).__name__}: {error}"
    if found is None:
        return Examined(path, Kind.FAULTY, text=json.dumps(wrong))
    device, model = found.row[:2]
    return Examined(path, Kind.RECORD, found.content, found.group, device, model, found.to_text(), found.started)


def examine_all(
    root: Path, records: Sequence[str], runs: Sequence[str] = (), fault: Fault = sound
) -> Iterator[list[Examined]]:
    """All these files, chunk by chunk in their order."""
    chunks = [*_chunks(str(root), runs, fault, is_run=True), *_chunks(str(root), records, fault, is_run=False)]
    processes = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
    done = 0
    if len(records) + len(runs) >= WORTH_PROCESSES and processes > 1:
        try:
            with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), gc.disable) as pool:
                for found in pool.map(_examine_chunk, chunks):
                    yield found
                    done += 1
        except BrokenProcessPool:  # none can be started from a program without a file of its own
            pass
    yield from map(_examine_chunk, chunks[done:])


Chunk = tuple[str, list[str], bool, Fault]


def _chunks(root: str, paths: Sequence[str], fault: Fault, *, is_run: bool) -> Iterator[Chunk]:
    left = iter(paths)
    while chunk := list(islice(left, CHUNK)):
        yield root, chunk, is_run, fault


def _examine_chunk(chunk: Chunk) -> list[Examined]:
    root, paths, is_run, fault = chunk
    return [examine(root, path, is_run=is_run, fault=fault) for path in paths]
