# SPDX-License-Identifier: Apache-2.0
"""Where the index of a folder of results lies, and the tables it consists of."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from bench.paths import cache_folder
from bench.records.examine import Fault, sound

FOLDER = "index"
"""Of the cache."""
TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS folders (path BLOB PRIMARY KEY, digest TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (folder BLOB, name BLOB, kind INT, stamp TEXT, device TEXT, model TEXT, grp TEXT,
 shown INT NOT NULL DEFAULT 0, tried INT NOT NULL DEFAULT 0, head TEXT, started TEXT, ahead INT NOT NULL DEFAULT 0,
 PRIMARY KEY (folder, name));
CREATE INDEX IF NOT EXISTS by_group ON files (grp);
CREATE INDEX IF NOT EXISTS by_device ON files (device);
CREATE INDEX IF NOT EXISTS by_model ON files (model);
CREATE INDEX IF NOT EXISTS by_kind ON files (kind) WHERE kind > 0;
CREATE INDEX IF NOT EXISTS by_started ON files (started);
CREATE INDEX IF NOT EXISTS by_ahead ON files (ahead) WHERE ahead = 1;
CREATE INDEX IF NOT EXISTS by_shown ON files (shown) WHERE shown > 0;
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, code TEXT, value TEXT) WITHOUT ROWID;
"""


def index_path(root: Path, fault: Fault = sound) -> Path:
    """The index of a folder of results: by the folder's own path, for two folders may hold files of one name.

    Who leaves out nothing has an index of its own.
    """
    name = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=8).hexdigest()
    layout = hashlib.blake2b(TABLES.encode(), digest_size=4).hexdigest()
    layout += "" if fault is sound else f"-{fault.__name__}"
    return cache_folder() / FOLDER / f"{name}-{layout}.sqlite"


def at_of(path: str) -> tuple[bytes, bytes]:
    """The key of a file by its path, relative to the root."""
    folder, _, name = path.rpartition("/")
    return os.fsencode(folder), os.fsencode(name)


def path_of(folder: bytes, name: bytes) -> str:
    """What `at_of` was made of."""
    return f"{os.fsdecode(folder)}/{os.fsdecode(name)}"
