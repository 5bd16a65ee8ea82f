# SPDX-License-Identifier: Apache-2.0
"""One harness at a time measures on a device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.paths import ROOT
from bench.run import locks

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")

HOLDER = """
import sys
from bench.run.locks import measuring
with measuring("dev", wait=True, tell=print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Another process that measures on `dev`."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    paths = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=paths
    ) as child:
        assert child.stdout and child.stdout.readline() == "held\n"
        yield child
        child.kill()


@linux
def test_a_second_harness_refuses_with_the_holder_s_number(holder: subprocess.Popen[str]) -> None:
    """One line when told not to wait; another device is free."""
    with (
        pytest.raises(UserError, match=rf"another bench \(process {holder.pid}\) measures on dev"),
        locks.measuring("dev", wait=False, tell=print),
    ):
        pass
    with locks.measuring("other", wait=False, tell=print):
        pass


@linux
def test_a_second_harness_waits_and_says_so(holder: subprocess.Popen[str]) -> None:
    """Once, and goes on when the first ends."""
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        assert holder.stdin
        holder.stdin.close()  # now the holder ends

    with locks.measuring("dev", wait=True, tell=tell) as waited:
        assert waited
        assert locks.lock_path("dev").read_text() == f"{os.getpid()}\n"
    assert said == [f"another bench (process {holder.pid}) measures on dev: waiting for it"]


@linux
def test_a_lock_goes_with_its_holder_and_free_ones_are_swept(holder: subprocess.Popen[str]) -> None:
    """What a killed one left too; one that is held stays."""
    with locks.measuring("mine", wait=False, tell=print) as waited:
        assert waited is False
        locks.lock_path("free").touch()
        locks.sweep_locks()
        folder = locks.lock_path("mine").parent
        assert {path.name.split("-")[0] for path in folder.iterdir()} == {"dev", "mine"}
    assert [path.name.split("-")[0] for path in folder.iterdir()] == ["dev"]
    holder.kill()
    holder.wait()
    locks.sweep_locks()
    assert list(folder.iterdir()) == []


def test_equal_machines_that_share_a_home_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """They name their devices alike; the containers of one machine know its start and share its devices."""
    here = locks.lock_path("dev")
    assert locks.lock_path("dev") == here
    monkeypatch.setattr(locks, "boot", lambda: "another")
    assert locks.lock_path("dev") != here


@linux
def test_a_lock_left_behind_by_a_crash_means_nothing(holder: subprocess.Popen[str]) -> None:
    """The kernel let go of it with its holder, whatever the file says."""
    holder.kill()
    holder.wait()
    assert locks.lock_path("dev").read_text() == f"{holder.pid}\n"
    with locks.measuring("dev", wait=False, tell=print):
        pass
