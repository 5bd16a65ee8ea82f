# SPDX-License-Identifier: Apache-2.0
"""An index of the files under one folder of results, so that a view reads the few it shows and not all there are.

It is a cache, one SQLite file in the cache folder for each folder of results, and never a result: all that it holds
follows from the files. Before every use the folder is listed, and what was added, removed or edited is read again
(`bench.records.listing` says how that is seen). What code computed from a record is kept beside it, by the content of
the file and of the code, so that no new code shows an old figure.

The first record of each group, which views show, is tried: one that nothing can be made of is left out, and the next
comes in its place. Any other is tried when it is asked for (`sound_of`), and what nobody asks for never.

An index that is broken is deleted and made again. Where the cache cannot be written, or another process holds it for
longer than a moment, the same tables live in memory for this one call: slower, and as right.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.records.code_digest import code
from bench.records.examine import Examined, Fault, Kind, examine_all, sound, try_all
from bench.records.head import Head, RunHead, place
from bench.records.listing import UNSURE, Digests, Folder, listed
from bench.records.record import DATED
from bench.records.shown import choose
from bench.records.store import RUNS, SLACK
from bench.records.tables import TABLES, at_of, index_path, path_of

PATIENCE_S = 3.0
"""How long another process may hold the index before this one does without."""
BATCH = 5000
"""Files that are read before what was found is written."""
MOST_KEPT = 500_000
"""Texts that may gather, most of them of records that nothing shows any more: beyond it all are made anew."""
LEAVE_OUT = """
UPDATE files SET kind = ?, head = ?, grp = '', device = '', model = '', started = '', shown = 0, ahead = 0
 WHERE rowid = ? AND stamp = ?
"""
Untried = tuple[int, bytes, bytes, str]
"""A row's number, folder, name and stamp."""


class Index:
    """The index of one folder of results, brought up to date when it is made."""

    def __init__(
        self, root: Path, digests: Digests | None = None, *, lasting: bool = True, fault: Fault = sound
    ) -> None:
        """`digests` were begun for this root a moment ago; an index of a folder that will not last is in memory.

        `fault` is a function of a module, as other processes are handed it; what it said is kept as heads are.
        """
        self.root, self._lasting, self._fault = root, lasting, fault
        self._digests = (digests or Digests(root, RUNS)).get()
        self._odd: set[str] = set()
        """Paths of the records that `sound_of` has found nothing can be made of."""
        self._new: dict[str, str] = {}
        self._db = self._opened()
        try:
            self._refresh()
        except sqlite3.OperationalError:  # locked, not to be written, or no room
            self._do_without()
        except sqlite3.Error:
            self._heal()

    def shown(self) -> list[Head]:
        """Of each row's suite the record that views use, then every other that asks something else, by their rank.

        Of these others nobody knows yet whether something can be made of them: `sound_of` says so.
        """
        return sorted(self._heads("shown > 0"), key=lambda head: head.rank, reverse=True)

    def heads(self, *, device: str | None = None, model: str | None = None) -> list[Head]:
        """Every record, those of a device, or of one model there, in the order of their paths, tried or not."""
        if device is None:
            return self._heads("kind = 0")
        if model is None:
            return self._heads("kind = 0 AND device = ?", device)
        return self._heads("kind = 0 AND model = ? AND +device = ?", model, device)

    def shown_of(self, group: str) -> list[Head]:
        """The same of one group alone."""
        return sorted(self._heads("shown > 0 AND grp = ?", group), key=lambda head: head.rank, reverse=True)

    def sound_of(self, heads: Sequence[Head]) -> list[Head]:
        """Those of these records that something can be made of: they are tried where they were not before.

        Where one is left out, another that is like it may be shown from now on: who wants all asks once more.
        """
        if self._fault is sound:
            return list(heads)
        query = "SELECT rowid, folder, name, stamp, kind, tried FROM files WHERE folder = ? AND name = ?"
        rows = [row for head in heads for row in self._db.execute(query, at_of(head.path))]
        new = [row[:4] for row in rows if row[4] == Kind.RECORD and not row[5] and path_of(*row[1:3]) not in self._odd]
        if new:
            wrong = self._tried(new)
            with contextlib.suppress(sqlite3.Error):  # then they are tried again next time
                self._note(new, wrong)
            self._odd |= {path for path, why in wrong.items() if why}
        odd = self._odd | {path_of(*row[1:3]) for row in rows if row[4] != Kind.RECORD}
        return [head for head in heads if head.path not in odd]

    def ahead(self) -> list[Head]:
        """Records that are dated in the future now, in the order of their paths."""
        return self._heads("ahead = 1")

    def _heads(self, which: str, *values: str) -> list[Head]:
        query = f"SELECT folder, name, head, ahead FROM files WHERE {which}"  # noqa: S608 - a text of this module's own
        rows = self._db.execute(query, values)
        found = [Head.from_text(path_of(*at), text, ahead=bool(ahead)) for *at, text, ahead in rows]
        return sorted((head for head in found if head.path not in self._odd), key=place)

    def runs(self) -> list[RunHead]:
        """What every run saw of its device, in the order of their paths."""
        rows = self._db.execute("SELECT folder, name, head FROM files WHERE kind = ?", (Kind.RUN,))
        return sorted((RunHead.from_text(path_of(*at), text) for *at, text in rows), key=place)

    def unread(self) -> list[tuple[Path, Kind, str]]:
        """Files that hold no record or no run, and records that nothing can be made of, with why."""
        rows = self._db.execute("SELECT folder, name, kind, head FROM files WHERE kind > ?", (Kind.RUN,))
        found = [(path_of(*at), Kind(kind), text) for *at, kind, text in rows]
        ordered = sorted(found, key=lambda item: item[0].split("/"))
        return [
            (self.root / path, kind, json.loads(text) if kind is Kind.FAULTY else "") for path, kind, text in ordered
        ]

    def runs_digest(self, device: str) -> str:
        """Equal while no run of that device was added, removed or edited; empty where that is not sure."""
        return self._digests.get(f"{device}/{RUNS}", "none")

    def keep(self, key: str, value: str) -> None:
        """Remember a text by its key and the code that made it; `save` writes it down."""
        self._new[key] = value

    def kept(self, key: str) -> str | None:
        """A text that this very code has kept, None if there is none."""
        if key in self._new:
            return self._new[key]
        try:
            row = self._db.execute("SELECT value FROM kept WHERE key = ? AND code = ?", (key, code())).fetchone()
        except sqlite3.Error:
            return None
        return None if row is None else str(row[0])

    def save(self) -> None:
        """Write down what was kept since the last time. What cannot be written is made again when it is needed."""
        rows = [(key, code(), value) for key, value in self._new.items()]
        try:
            if rows:
                with self._db:
                    if self._db.execute("SELECT COUNT(*) FROM kept").fetchone()[0] > MOST_KEPT:
                        self._db.execute("DELETE FROM kept")
                    self._db.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)
        except sqlite3.Error:
            return
        self._new = {}

    def _opened(self) -> sqlite3.Connection:
        path = index_path(self.root, self._fault)
        if not self._lasting:
            return sqlite3.connect(":memory:")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return sqlite3.connect(path, timeout=PATIENCE_S)
        except (OSError, sqlite3.Error):
            return sqlite3.connect(":memory:")

    def _do_without(self) -> None:
        self._db.close()
        self._db = sqlite3.connect(":memory:")
        self._refresh()

    def _heal(self) -> None:
        self._db.close()
        try:
            own = index_path(self.root, self._fault)
            for path in own.parent.glob(f"{own.name}*"):
                path.unlink(missing_ok=True)
            self._db = self._opened()
            self._refresh()
        except (OSError, sqlite3.Error):
            self._do_without()

    def _refresh(self) -> None:
        """Bring the tables up to what lies in the folder now; nothing is written where nothing changed."""
        self._prepare()
        known = {os.fsdecode(path): digest for path, digest in self._db.execute("SELECT path, digest FROM folders")}
        moved = [path for path, digest in self._digests.items() if known.get(path) != digest or digest == UNSURE]
        gone = [path for path in known if path not in self._digests]
        if moved or gone:
            self._look(moved, gone)
        self._date()
        while new := self._untried():
            self._note(new, self._tried(new))

    def _untried(self) -> list[Untried]:
        """Records that views use first, and of which nobody knows yet whether they can."""
        if self._fault is sound:
            return []
        return self._db.execute(
            "SELECT rowid, folder, name, stamp FROM files WHERE shown > 0 AND shown = 2 AND tried = 0"
        ).fetchall()

    def _tried(self, new: Sequence[Untried]) -> dict[str, str]:
        """What is wrong with each, by its path; empty if nothing is, and then what is kept of it is at hand."""
        paths = [path_of(folder, name) for _, folder, name, _ in new]
        wrong = {}
        for path, (why, parts) in zip(paths, try_all(self.root, paths, self._fault), strict=True):
            wrong[path] = why
            self._new |= parts
        return wrong

    def _note(self, new: Sequence[Untried], wrong: dict[str, str]) -> None:
        """These records were tried, and those that nothing can be made of are shown no more."""
        with self._db:
            groups = set()
            for row, folder, name, stamp in new:
                why, which = wrong[path_of(folder, name)], (row, stamp)  # not what another process has read meanwhile
                self._db.execute("UPDATE files SET tried = 1 WHERE rowid = ? AND stamp = ?", which)
                if why:
                    groups.add(self._group(folder, name))
                    self._db.execute(LEAVE_OUT, (Kind.FAULTY, json.dumps(why), *which))
            choose(self._db, groups)

    def _look(self, moved: Sequence[str], gone: Sequence[str]) -> None:
        """Read what changed in these folders."""
        folders = {path: listed(self.root, path) for path in moved}
        changed = [*folders.values(), *(Folder(path, {}) for path in gone)]
        with self._db:  # a digest stays only beside the rows it was made with: a file may go before it is sure
            self._db.executemany("DELETE FROM folders WHERE path = ?", [(os.fsencode(f.path),) for f in changed])
        records: list[str] = []
        runs: list[str] = []
        replaced: set[str] = set()
        for folder in changed:
            stored = self._stamps(folder.path)
            self._forget(folder.path, [name for name in stored if name not in folder.stamps])
            stale = [name for name, stamp in folder.stamps.items() if stamp == UNSURE or stored.get(name) != stamp]
            (runs if _holds_runs(folder.path) else records).extend(f"{folder.path}/{name}" for name in stale)
            replaced |= {f"{folder.path}/{name}" for name in stale if name in stored}
        batch: list[Examined] = []
        for chunk in examine_all(self.root, records, runs):
            batch += chunk
            if len(batch) >= BATCH:
                self._write(batch, folders, replaced)
                batch = []
        self._write(batch, folders, replaced)
        self._settle(folders.values())

    def _date(self) -> None:
        """Which records are dated in the future is another question each day, and after each setting of the clock."""
        now = (datetime.now(UTC) + SLACK).strftime(DATED)
        query = "SELECT rowid, started > ?, grp FROM files WHERE (started > ? OR ahead = 1) AND ahead != (started > ?)"
        moved = self._db.execute(query, (now, now, now)).fetchall()
        if moved:
            with self._db:
                self._db.executemany(
                    "UPDATE files SET ahead = ? WHERE rowid = ?", [(is_, row) for row, is_, _ in moved]
                )
                choose(self._db, {group for *_, group in moved})

    def _prepare(self) -> None:
        """Tables of today's form: what other code wrote is thrown away."""
        self._db.executescript("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16000; " + TABLES)
        made_by = self._db.execute("SELECT value FROM meta WHERE name = 'code'").fetchone()
        if made_by != (code(),):
            with self._db:
                self._db.execute("DELETE FROM folders")
                self._db.execute("DELETE FROM files")
                self._db.execute("DELETE FROM kept")
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('code', ?)", (code(),))

    def _stamps(self, folder: str) -> dict[str, str]:
        rows = self._db.execute("SELECT name, stamp FROM files WHERE folder = ?", (os.fsencode(folder),))
        return {os.fsdecode(name): stamp for name, stamp in rows}

    def _forget(self, folder: str, names: Iterable[str]) -> None:
        rows = [(os.fsencode(folder), os.fsencode(name)) for name in names]
        if rows:
            with self._db:
                groups = {self._group(*row) for row in rows}
                self._db.executemany("DELETE FROM files WHERE folder = ? AND name = ?", rows)
                choose(self._db, groups)

    def _group(self, folder: bytes, name: bytes) -> str:
        row = self._db.execute("SELECT grp FROM files WHERE folder = ? AND name = ?", (folder, name)).fetchone()
        return "" if row is None else str(row[0])

    def _write(self, found: Sequence[Examined], folders: dict[str, Folder], replaced: set[str]) -> None:
        """What was found in some files, and which records of their groups are shown now."""
        with self._db:
            last = self._db.execute("SELECT COALESCE(MAX(rowid), 0) FROM files").fetchone()[0]
            grown, before, rows = {item.group for item in found}, set(), []
            for item in found:
                path, _, name = item.path.rpartition("/")
                at = at_of(item.path)
                if item.path in replaced:
                    before |= {self._group(*at), item.group}
                stamp = folders[path].stamps[name]
                rows.append((*at, item.kind, stamp, item.device, item.model, item.group, item.text, item.started))
            self._db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, 0)", rows)
            choose(self._db, before)
            choose(self._db, grown - before, beyond=last)

    def _settle(self, folders: Iterable[Folder]) -> None:
        """Note the listing of each folder whose rows are what was listed: not where another process wrote meanwhile."""
        with self._db:
            for folder in folders:
                path = os.fsencode(folder.path)
                if folder.digest != UNSURE and self._stamps(folder.path) == folder.stamps:
                    self._db.execute("INSERT OR REPLACE INTO folders VALUES (?, ?)", (path, folder.digest))


def _holds_runs(folder: str) -> bool:
    return folder.count("/") == 1
