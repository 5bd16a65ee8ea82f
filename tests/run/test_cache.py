# SPDX-License-Identifier: Apache-2.0
"""The cache's sizes are told, and it is cleared by kind, but for what a run is writing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.processes import unfinished
from bench.run.cache import clear, held

PART = unfinished(Path("b")).name


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two references, one of them being written by this process, and converted weights."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    for name, size in (("reference/a", 100), (f"reference/{PART}", 7), ("weights/w", 50), ("else", 3)):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(b"x" * size)
    return tmp_path


def test_every_kind_is_listed_with_its_bytes(cache: Path) -> None:
    """What is no kind of its own counts as other."""
    assert {item.kind: (item.entries, item.bytes) for item in held()} == {
        "references": (2, 107), "weights": (1, 50), "texts": (0, 0), "datasets": (0, 0), "index": (0, 0),
        "entries": (0, 0),
        "journals": (0, 0),
        "other": (1, 3),
    }  # fmt: skip


def journal(root: Path, name: str, touched: float) -> Path:
    """A journal of one entry, last written at that time."""
    folder = root / "journal" / name
    folder.mkdir(parents=True)
    (folder / "entry.json").write_bytes(b"x" * 10)
    for path in (folder / "entry.json", folder):
        os.utime(path, (touched, touched))
    return folder


def test_journals_that_nobody_goes_on_from_are_stale_and_cleared_apart(cache: Path) -> None:
    """Those untouched for two weeks, and those whose cell was settled since; one that is being written stays."""
    now = time.time()
    old = journal(cache, "aaaa-1", now - 15 * 86_400)
    answered = journal(cache, "bbbb-1", now - 100)
    again = journal(cache, "bbbb-2", now - 10)
    open_ = journal(cache, "cccc-1", now - 13 * 86_400)
    settled = {"bbbb": now - 50}
    (found,) = (item for item in held(settled) if item.kind == "journals")
    assert (found.entries, found.bytes, found.stale) == (4, 40, 2)
    assert clear(["stale"], settled) == 20
    assert (old.exists(), answered.exists(), again.exists(), open_.exists()) == (False, False, True, True)
    assert clear(["journals"]) == 20
    assert list((cache / "journal").iterdir()) == []


def test_one_kind_is_cleared_and_what_is_being_written_stays(cache: Path) -> None:
    """The bytes freed come back; other kinds are untouched."""
    assert clear(["references"]) == 100
    assert [path.name for path in (cache / "reference").iterdir()] == [PART]
    assert (cache / "weights" / "w").exists()
    assert clear(["all"]) == 50
    assert clear(["all"]) == 0


def test_an_unknown_kind_is_one_line(cache: Path) -> None:
    """And nothing is deleted."""
    with pytest.raises(UserError, match="nothing in the cache is called 'tensors'; one of: references, weights"):
        clear(["weights", "tensors"])
    assert (cache / "weights" / "w").exists()
