# SPDX-License-Identifier: Apache-2.0
"""The cache below its limit: what was not used for longest goes, and what is in use does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drilled import linux

from bench.errors import UserError
from bench.paths import ROOT
from bench.processes import in_use, unfinished
from bench.run.cache import parse_limit
from bench.run.evict import evict

KIB = 1024


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four entries of 10 KiB, used one after the other, and what is no large thing."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    for used, name in enumerate(("reference/r", "weights/w", "gguf/g.gguf", "weights/new"), 1):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith("gguf"):
            path.write_bytes(bytes(10 * KIB))
        else:
            path.mkdir()
            (path / "model").write_bytes(bytes(10 * KIB))
        os.utime(path, (used, used))
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "j").write_bytes(bytes(KIB))
    return tmp_path


def left(cache: Path) -> list[str]:
    """What still lies there."""
    names = ("reference", "weights", "gguf", "journal")
    return sorted(path.name for name in names for path in (cache / name).iterdir())


def test_what_was_not_used_for_longest_goes_first_and_only_as_much_as_must(cache: Path) -> None:
    """What is small stays, and so does what is being written."""
    part = unfinished(cache / "weights" / "growing")
    part.mkdir()
    assert evict(50 * KIB) == 0
    assert evict(31 * KIB) == 10 * KIB
    assert left(cache) == ["g.gguf", part.name, "j", "new", "w"]
    assert evict(0) == 30 * KIB
    assert left(cache) == [part.name, "j"]


@linux
def test_what_a_process_uses_stays_until_it_ends(cache: Path) -> None:
    """By a lock that goes with it, however it ends; using it also makes it the newest."""
    code = "import pathlib, sys; from bench.processes import in_use as use; "
    code += "print(use(pathlib.Path(sys.argv[1])), flush=True); input()"
    command = [sys.executable, "-c", code, cache / "weights" / "w"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as user:
        assert user.stdout is not None and user.stdout.readline() == "True\n"
        assert (cache / "weights" / "w").stat().st_mtime > 4
        evict(0)
        assert left(cache) == ["j", "w"]
        user.kill()
    assert evict(0) == 10 * KIB
    assert left(cache) == ["j"]
    assert in_use(cache / "weights" / "w") is False


@linux
def test_what_is_used_often_is_held_once(cache: Path) -> None:
    """Eight loads of one model keep one descriptor open, and what stands at that place later has its own."""
    before = len([*Path("/proc/self/fd").iterdir()])
    assert all(in_use(cache / "weights" / "w") for _ in range(8))
    assert len([*Path("/proc/self/fd").iterdir()]) == before + 1
    shutil.rmtree(cache / "weights" / "w")
    (cache / "weights" / "w").mkdir()
    assert in_use(cache / "weights" / "w")
    assert len([*Path("/proc/self/fd").iterdir()]) == before + 2


def test_a_limit_that_cannot_be_read_is_one_line() -> None:
    """With the remedy."""
    assert parse_limit("200GB") == 200 * 10**9
    with pytest.raises(UserError, match="no limit of the cache: 'much'; write 200GB"):
        parse_limit("much")


def test_a_run_evicts_before_each_load(cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Through the command."""
    from builders import called

    asked = ("--backend", "fake", "--device", "cpu", "--profile", "smoke", "--suite", "memory", "--precision", "fp16")
    code, _, _ = called(capsys, "run", *asked, "--results", tmp_path / "results", "--cache-limit", "15KiB")
    assert code == 0
    assert "new" not in left(cache) or "w" not in left(cache)
    assert "r" not in left(cache)
