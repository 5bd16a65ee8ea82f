# SPDX-License-Identifier: Apache-2.0
"""The answers an unfinished cell has already scored, kept on disk, so that an interruption does not cost hours.

Rows are scored in chunks that depend on the rows alone, journal or not: a cell taken up again forms the same batches
and gives the very figures of one that was never interrupted. A journal belongs to one cell (its precision included),
the very weights and the versions that compute; each answer is a file of its own, named by the hash of its question,
written whole. What does not read is computed again. The journal goes when its cell is settled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from pydantic import JsonValue

from bench.engines.contract import Engine, Row, Score
from bench.paths import cache_folder
from bench.processes import write_whole

STALE_DAYS = 14
"""Days after which an unfinished cell is no longer continued."""
CHUNK_TOKENS = 8_192
"""Tokens of one chunk, those that a row shares with the row before it left out: half a minute of a small model here."""


class Journal:
    """Answers by question. Without a folder it remembers nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def remember(self, question: JsonValue, compute: Callable[[], JsonValue]) -> JsonValue:
        """The stored answer, or else the one computed now, which is then stored."""
        answer = self.recall(question)
        if answer is None:
            answer = compute()
            self.keep(question, answer)
        return answer

    def recall(self, question: JsonValue) -> JsonValue:
        """The stored answer, None where there is none or it is damaged: it is computed again."""
        if self.folder is not None:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found = json.loads(self._path(question).read_text(encoding="utf-8"))
                if found["sha256"] == _hash(found["answer"]):
                    answer: JsonValue = found["answer"]
                    return answer
        return None

    def keep(self, question: JsonValue, answer: JsonValue) -> None:
        """Store an answer."""
        if self.folder is not None:
            self._write(self._path(question), answer)

    def _path(self, question: JsonValue) -> Path:
        assert self.folder is not None
        return self.folder / f"{_hash(question)}.json"

    def _write(self, path: Path, answer: JsonValue) -> None:
        """Temporary file, fsync, rename. A disk that refuses costs the resume, not the cell; so do infinite scores."""
        with contextlib.suppress(OSError, ValueError):
            text = json.dumps({"sha256": _hash(answer), "answer": answer}, allow_nan=False)
            write_whole(path, text, durable=True)

    def remove(self) -> None:
        """Forget everything: the cell is settled."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _hash(value: JsonValue) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def journal_folder() -> Path:
    """Where the journals of unfinished cells lie."""
    return cache_folder() / "journal"


def _cell(path: Path) -> str:
    """The key of the cell that a journal belongs to."""
    return path.name.partition("-")[0]


def unfinished_cells() -> set[str]:
    """The keys of all cells that have a journal."""
    folder = journal_folder()
    return {_cell(path) for path in folder.iterdir()} if folder.is_dir() else set()


def stale_journals(settled: Mapping[str, float] = MappingProxyType({})) -> list[Path]:
    """Journals that nobody will go on from: untouched for STALE_DAYS, or their cell was settled after the last entry.

    `settled` are cell keys with the time (seconds since 1970) when each was settled last. A journal is left behind
    when a worker dies with its cell settled by another, and when weights, versions or threads change.
    """
    folder, oldest = journal_folder(), time.time() - STALE_DAYS * 86_400
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        touched = max((file.stat().st_mtime for file in (path, *path.glob("*"))), default=0.0)
        if touched < max(oldest, settled.get(_cell(path), 0.0)):
            found.append(path)
    return found


def forget(key: str) -> None:
    """Remove all journals of the cell with that key, because it is to be measured again."""
    for folder in journal_folder().glob(f"{key}-*"):
        Journal(folder).remove()


def score(
    engine: Engine, rows: Sequence[Row], journal: Journal, done: Callable[[int], None] = lambda finished: None
) -> list[Score]:
    """Score rows chunk by chunk, skipping what the journal holds; `done` is told how many rows are finished."""
    scores: list[Score] = []
    for chunk in chunks(rows):
        scores += _score_chunk(engine, chunk, journal, partial(_advance, done, len(scores)))
    return scores


def _advance(done: Callable[[int], None], before: int, finished: int) -> None:
    done(before + finished)


def _score_chunk(engine: Engine, rows: Sequence[Row], journal: Journal, done: Callable[[int], None]) -> list[Score]:
    told = 0

    def tell(finished: int) -> None:
        nonlocal told
        told = finished
        done(finished)

    def compute() -> JsonValue:
        return [[list(score.log_probs), score.greedy] for score in engine.score(rows, tell)]

    question: JsonValue = ["score", [[list(row.context), list(row.continuation)] for row in rows]]
    scores = list(_scores(journal.remember(question, compute)))
    if told < len(rows):  # the journal answered
        done(len(rows))
    return scores


def _scores(answer: JsonValue) -> Iterator[Score]:
    assert isinstance(answer, list)
    for item in answer:
        assert isinstance(item, list)
        log_probs, greedy = item
        assert isinstance(log_probs, list)
        yield Score(tuple(log_probs), bool(greedy))  # type: ignore[arg-type]  # floats by the hash


def chunks(rows: Sequence[Row], tokens: int = CHUNK_TOKENS) -> Iterator[list[Row]]:
    """Rows in order, cut where the context changes once a chunk holds `tokens` tokens of its own."""
    chunk: list[Row] = []
    held = 0
    for row in rows:
        if held >= tokens and row.context != chunk[-1].context:
            yield chunk
            chunk, held = [], 0
        held += _own_tokens(row, chunk[-1] if chunk else None)
        chunk.append(row)
    if chunk:
        yield chunk


def _own_tokens(row: Row, before: Row | None) -> int:
    """Tokens of a row from the first one on that differs from the row before."""
    sequence = row.context + row.continuation
    other = before.context + before.continuation if before else ()
    pairs = enumerate(zip(sequence, other, strict=False))
    shared = next((index for index, (one, two) in pairs if one != two), min(len(sequence), len(other)))
    return len(sequence) - shared
