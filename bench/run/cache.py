# SPDX-License-Identifier: Apache-2.0
"""List and clear this machine's cache. It holds no results; everything in it can be made again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from bench.errors import UserError
from bench.paths import cache_folder
from bench.processes import is_unfinished, left_behind
from bench.run.memory_limit import parse_bytes
from bench.scoring.journal import stale_journals

KINDS = {
    "references": ("reference", "distributions of 16-bit and fp32 rows, to measure distances from"),
    "weights": ("weights", "weights converted for an engine"),
    "texts": ("texts", "texts fetched for divergence"),
    "datasets": ("datasets", "items of evaluation tasks"),
    "index": ("index", "which records views show, and figures computed from them"),
    "entries": ("catalog", "what the catalogue's files hold, parsed"),
    "journals": ("journal", "answers of unfinished quality cells, which the same call goes on from"),
}
"""The kinds that can be cleared, by name: folder and description."""


STALE = "stale"
"""The name for clearing only those journals that no run will continue."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """One kind of thing in the cache."""

    kind: str
    folder: Path
    entries: int
    bytes: int
    what: str
    stale: int = 0
    """How many of the entries no run will continue."""


def held(settled: Mapping[str, float] = MappingProxyType({})) -> list[Held]:
    """Every kind with its size, other folders of the cache as `other`; `settled` as for `stale_journals`."""
    root, found = cache_folder(), []
    known = {folder for folder, _ in KINDS.values()}
    for kind, (name, what) in KINDS.items():
        found.append(_held(kind, root / name, what))
        if kind == "journals":
            found[-1] = replace(found[-1], stale=len(stale_journals(settled)))
    others = [path for path in root.iterdir() if path.name not in known] if root.is_dir() else []
    if others:
        total = sum(size(path) for path in others)
        found.append(Held(kind="other", folder=root, entries=len(others), bytes=total, what="everything else"))
    return found


def _held(kind: str, folder: Path, what: str) -> Held:
    entries = _within(folder)
    return Held(kind=kind, folder=folder, entries=len(entries), bytes=sum(map(size, entries)), what=what)


def size(path: Path) -> int:
    """Bytes on disk of a file or of all files under a folder; what vanishes meanwhile counts nothing."""
    files = [path] if path.is_file() else path.rglob("*")
    total = 0
    for file in files:
        try:
            total += file.lstat().st_size if file.is_file() and not file.is_symlink() else 0
        except FileNotFoundError:
            continue
    return total


def clear(kinds: Sequence[str], settled: Mapping[str, float] = MappingProxyType({})) -> int:
    """Delete these kinds (`all`: every one, `stale`: journals that nobody will go on from) but what a run is writing.

    Returns the bytes freed; `settled` as for `stale_journals`. Raises UserError.
    """
    wanted = list(KINDS) if "all" in kinds else list(kinds)
    for kind in wanted:
        if kind not in {*KINDS, STALE}:
            raise UserError(f"nothing in the cache is called {kind!r}", f"one of: {', '.join([*KINDS, STALE, 'all'])}")
    freed = 0
    for kind in wanted:
        for path in stale_journals(settled) if kind == STALE else _within(cache_folder() / KINDS[kind][0]):
            before = size(path)
            if is_unfinished(path) and not left_behind(path):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            freed += before - (size(path) if path.exists() else 0)
    return freed


def parse_limit(text: str) -> int:
    """Bytes that `--cache-limit` says. Raises UserError."""
    try:
        return parse_bytes(text)
    except UserError:
        raise UserError(f"no limit of the cache: {text!r}", "write 200GB, 200GiB or a number of bytes") from None


def _within(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
