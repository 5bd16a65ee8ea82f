# SPDX-License-Identifier: Apache-2.0
"""`results/`: one JSON file for each record, written whole, never edited; a DataFrame on reading."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue, ValidationError

from bench.errors import UserError
from bench.paths import RESULTS
from bench.processes import alone, sweep, unfinished, write_whole
from bench.records.cell import Cell, Value
from bench.records.document import Document, validate
from bench.records.mirror import Mirror
from bench.records.parsing import JSON_BYTES, as_text, bytes_of, may_hold_long, parse_json, read_json
from bench.records.record import DATED, Record, Run, RunName

RUNS = "runs"
"""Folder of a device for what the ends of its runs told."""

SLACK = timedelta(minutes=5)
"""By so much the clocks of two machines may differ."""


class Store:
    """The records under one folder."""

    def __init__(self, root: Path = RESULTS, mirror: Mirror | None = None) -> None:
        self.root, self.mirror = root, mirror
        """With a mirror, what is written here is sent to its URL too."""
        self.unreadable: list[str] = []
        """One line for each file that the last reading had to leave out."""

    def check_writable(self) -> None:
        """Raise UserError, before anything is measured, if no record could be written here."""
        probe = unfinished(self.root / ".write")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"0" * 65536)
        except OSError as error:
            raise self._refusal(error) from None
        finally:
            probe.unlink(missing_ok=True) if self.root.is_dir() and os.access(self.root, os.W_OK) else None
        if self.mirror is not None:
            self.mirror.check_writable()

    def _refusal(self, error: OSError) -> UserError:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        remedy = "free space on it" if full else "make it writable, or pass --results FOLDER"
        if full and _without_inodes(self.root):
            remedy = "delete files on it: it has room for bytes, but for no more files"
        return UserError(f"cannot write results to {self.root}: {error.strerror}", remedy)

    def path(self, record: Record) -> Path:
        """Where a record belongs."""
        started = record.started.replace("-", "").replace(":", "")
        return self.folder(record.cell) / f"{started}-{record.id}.json"

    def folder(self, cell: Cell) -> Path:
        """Where the answers to a question lie."""
        return self.root / cell.device / cell.model / f"{cell.backend}-{cell.scheme}" / cell.suite

    def write(self, record: Record) -> Path:
        """Write a record whole: temporary file, fsync, rename. Raises UserError when the folder refuses."""
        return self._write(self.path(record), to_text(record))

    def write_run(self, run: Run) -> Path:
        """Write what a run's end tells, beside the models' folders of its device."""
        ended = run.ended.replace("-", "").replace(":", "")
        return self._write(self.root / run.device / RUNS / f"{ended}-{run.run}.json", to_text(run))

    def sweep(self) -> None:
        """Delete what processes that died while they wrote have left here."""
        sweep(self.root.rglob("*.part-*"))

    def ids(self) -> frozenset[str]:
        """The ids of all records, by their files' names."""
        return frozenset(path.stem.rpartition("-")[2] for path in self.root.glob("*/*/*/*/*.json"))

    def _write(self, path: Path, text: str) -> Path:
        try:
            write_whole(path, text, durable=True)
        except OSError as error:
            raise self._refusal(error) from None
        self.kept(path)
        return path

    def kept(self, path: Path) -> None:
        """A file lies here whole, whoever wrote it: it is sent where it belongs."""
        if self.mirror is not None:
            self.mirror.send(path)

    def records(self) -> Iterator[Record]:
        """Every record as it was written, oldest path first.

        The call empties `unreadable`; reading fills it with a line for each file that cannot be read.
        """
        self.unreadable = []
        return self._records()

    def paths(self) -> list[Path]:
        """Every file that should hold a record, in the order in which they are read."""
        return sorted(self.root.glob("*/*/*/*/*.json"))

    def _records(self) -> Iterator[Record]:
        for path in self.paths():
            try:
                record = read_record(path)
            except Exception as error:  # noqa: BLE001 - one file must not hide all others, whatever it does to a parser
                self.unreadable.append(unread(path, error))
            else:
                yield record

    def newest(self, cell: Cell, count: int) -> list[Record]:
        """So many of the newest records of a cell's model, engine, scheme and suite that read, oldest first."""
        found: list[Record] = []
        folder = self.folder(cell)
        for path in sorted(folder.glob("*.json"), reverse=True):
            if len(found) == count:
                break
            with contextlib.suppress(UserError, OSError):  # views name it
                found.insert(0, read_record(path))
        return found

    def runs(self) -> Iterator[Run]:
        """What the ends of runs told; files that do not read are named in `unreadable`."""
        for path in sorted(self.root.glob(f"*/{RUNS}/*.json")):
            try:
                yield read_run(path)
            except UserError as error:
                self.unreadable.append(str(error))


def _without_inodes(folder: Path) -> bool:
    """Whether a disk has bytes left and takes no more files."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    if there is None or not hasattr(os, "statvfs"):
        return False
    held = os.statvfs(there)
    return held.f_files > 0 and held.f_favail == 0 and held.f_bavail > 0


def unread(path: Path, error: Exception) -> str:
    """The line of a file that cannot be read."""
    if isinstance(error, UserError):
        return str(error)
    return f"{path}: {type(error).__name__}: {error}; restore the file or delete it"


def read_record(path: Path) -> Record:
    """One record, checked against the schema. Raises UserError naming file, line and field."""
    return record_in(bytes_of(path, JSON_BYTES), path)


def record_in(data: bytes, path: Path) -> Record:
    """The record in what a file holds. Raises UserError as `read_record`."""
    record = _parsed(Record, data, path)
    ahead = record.started > (datetime.now(UTC) + SLACK).strftime(DATED)  # as they are written they sort
    return record.model_copy(update={"ahead": True}) if ahead else record


def read_run(path: Path) -> Run:
    """What one run's end told. Raises UserError naming file, line and field."""
    return run_in(bytes_of(path, JSON_BYTES), path)


def run_in(data: bytes, path: Path) -> Run:
    """What one run's end told, in what a file holds. Raises UserError as `read_run`."""
    return _parsed(Run, data, path)


T = TypeVar("T", Record, Run)


def _parsed(kind: type[T], held: bytes, path: Path) -> T:
    """What a JSON file holds as that kind of value. Raises UserError naming file, line and field."""
    data = None
    try:
        if not may_hold_long(held):
            return kind.model_validate_json(held)  # three times as fast, and knows no lines
    except ValueError:
        pass
    text = as_text(held, path)
    try:
        data = parse_json(text)
        return kind.model_validate(data)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}", "restore the file or delete it") from None
    except ValidationError:
        return validate(kind, data, Document(path, text, data))  # JSON is YAML, in which lines are known
    except ValueError as error:
        raise UserError(f"{path}: {error}", "restore the file or delete it") from None


def to_text(record: Record | Run) -> str:
    """JSON with one line for each field, and one for each measurement, so that a diff can be read."""
    data = record.model_dump(mode="json")
    lines = []
    for name, value in data.items():
        if name in {"measurements", "texts", "warnings"} and value:
            inner = ",\n  ".join(_line(item) for item in value)
            lines.append(f' "{name}": [\n  {inner}\n ]')
        else:
            lines.append(f' "{name}": {_line(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: JsonValue) -> str:
    return json.dumps(_shorten(value), ensure_ascii=False)


def _shorten(value: JsonValue) -> JsonValue:
    """Whole floats as integers: half the size, the same number."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_shorten(item) for item in value]
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    return value


def new_id() -> str:
    """Eight random hexadecimal digits."""
    return secrets.token_hex(4)


class Unfinished(Value):
    """What is remembered of a run that has begun."""

    run: RunName
    cells: tuple[str, ...] = ()


class Runs:
    """Runs that have begun but not finished: one small file for each selection, beside the records."""

    def __init__(self, root: Path) -> None:
        self.folder = root / ".runs"

    def _path(self, selection: str) -> Path:
        return self.folder / f"{selection}.json"

    def unfinished(self, selection: str) -> str | None:
        """The id of the run that asked for this selection here and did not settle every cell, None if none did."""
        path = self._path(selection)
        if not path.is_file():
            return None
        try:
            return Unfinished.model_validate(read_json(path)).run
        except (UserError, ValidationError):  # cut short, or no run's: what it says must not become a path
            return None

    def open_calls(self) -> list[int]:
        """How many cells each call had asked for that has not settled all of them."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(UserError, ValidationError):
                found.append(len(Unfinished.model_validate(read_json(path)).cells))
        return found

    def begin(self, selection: str, run: str, cells: list[Cell], *, fresh: bool = True) -> str:
        """Remember a run until `finish`; the id of the one that it is.

        Unless it is `fresh`, that is the one which another process of the same call has begun meanwhile. Raises OSError
        where the disk refuses.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder):
            return self._begin(selection, (None if fresh else self.unfinished(selection)) or run, cells)

    def _begin(self, selection: str, run: str, cells: list[Cell]) -> str:
        (self.folder / ".gitignore").write_text("*\n")
        write_whole(self._path(selection), json.dumps({"run": run, "cells": [cell.key for cell in cells]}))
        return run

    def finish(self, selection: str) -> None:
        """Forget the run: every cell is settled."""
        self._path(selection).unlink(missing_ok=True)
