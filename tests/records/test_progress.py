# SPDX-License-Identifier: Apache-2.0
"""What a run tells of itself, and what is left of it when it was killed."""

from __future__ import annotations

from pathlib import Path

from bench.records import progress
from bench.records.owner import this_process
from bench.records.progress import Progress


def told(**news: object) -> Progress:
    """A run of this process."""
    base = Progress(run="r", owner=this_process(), began=1.0, told=2.0, cells=3)
    return base.model_copy(update=news)


def test_a_run_is_seen_while_it_runs_and_as_the_last_one_afterwards(tmp_path: Path) -> None:
    """One file, which goes with its process; nothing else is left."""
    assert progress.running(tmp_path) == [] and progress.last(tmp_path) is None
    progress.tell(progress.own_path(tmp_path), told())
    assert progress.running(tmp_path) == [told()]
    progress.clear_up(tmp_path)
    assert progress.running(tmp_path) == [told()], "it lives"
    progress.close(tmp_path, told(ended="done"))
    assert progress.running(tmp_path) == []
    assert progress.last(tmp_path) == told(ended="done")
    assert [path.name for path in (tmp_path / ".runs").iterdir()] == ["last.json"]


def test_what_a_killed_run_told_is_what_the_last_run_came_to(tmp_path: Path) -> None:
    """Unless another has ended since; a file that says nothing goes."""
    dead = told(owner=this_process().model_copy(update={"began": 1.0}), told=9.0)
    folder = progress.own_path(tmp_path).parent
    progress.tell(folder / "1.json", dead)
    (folder / "2.json").write_text("{")
    progress.clear_up(tmp_path)
    assert progress.last(tmp_path) == dead.model_copy(update={"ended": "killed"})
    assert not folder.exists()
    progress.close(tmp_path, told(told=20.0, ended="done"))
    progress.tell(folder / "1.json", dead)
    progress.clear_up(tmp_path)
    assert progress.last(tmp_path) == told(told=20.0, ended="done")
