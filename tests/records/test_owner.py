# SPDX-License-Identifier: Apache-2.0
"""Whether who has something still runs, whatever the clocks say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench import processes
from bench.records import owner
from bench.records.owner import this_process


def test_a_process_lives_until_it_ends() -> None:
    """And one that only waits to be reaped has ended."""
    assert this_process().lives is True
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = this_process().model_copy(update={"pid": child.pid, "began": processes.began(child.pid)})
        assert found.lives is True
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert found.lives is False
    assert found.lives is False


@pytest.mark.parametrize(
    ("change", "lives"),
    [({"began": 1.0}, False), ({"boot": "00000000"}, False), ({"place": "000000"}, None)],
    ids=["another process of its number", "before the machine started anew", "another container or host"],
)
def test_a_number_alone_is_no_process(change: dict[str, object], lives: bool | None) -> None:
    """It is used again; in another place nobody here can tell."""
    assert this_process().model_copy(update=change).lives is lives


def test_no_clock_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What psutil says of a process's beginning moves with the clock that is set."""
    before = this_process()
    monkeypatch.setattr(owner, "boot", before.__class__.__name__.lower)
    assert this_process().boot == "owner"
    monkeypatch.undo()
    monkeypatch.setattr(processes.psutil, "Process", lambda pid: pytest.fail("asked for a time of day"))
    if sys.platform == "linux":
        assert before.lives is True
