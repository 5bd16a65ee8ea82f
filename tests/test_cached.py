# SPDX-License-Identifier: Apache-2.0
"""The cache's sizes are told, and it is cleared by kind, but for what a run is writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.cached import clear, held
from bench.errors import UserError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two references, one of them being written by this process, and converted weights."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    for name, size in (("reference/a", 100), (f"reference/b.part{os.getpid()}", 7), ("weights/w", 50), ("else", 3)):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(b"x" * size)
    return tmp_path


def test_every_kind_is_listed_with_its_bytes(cache: Path) -> None:
    """What is no kind of its own counts as other."""
    assert {item.kind: (item.entries, item.bytes) for item in held()} == {
        "references": (2, 107), "weights": (1, 50), "texts": (0, 0), "datasets": (0, 0), "other": (1, 3),
    }  # fmt: skip


def test_one_kind_is_cleared_and_what_is_being_written_stays(cache: Path) -> None:
    """The bytes freed come back; other kinds are untouched."""
    assert clear(["references"]) == 100
    assert [path.name for path in (cache / "reference").iterdir()] == [f"b.part{os.getpid()}"]
    assert (cache / "weights" / "w").exists()
    assert clear(["all"]) == 50
    assert clear(["all"]) == 0


def test_an_unknown_kind_is_one_line(cache: Path) -> None:
    """And nothing is deleted."""
    with pytest.raises(UserError, match="nothing in the cache is called 'tensors'; one of: references, weights"):
        clear(["weights", "tensors"])
    assert (cache / "weights" / "w").exists()
