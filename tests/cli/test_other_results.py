# SPDX-License-Identifier: Apache-2.0
"""`bench compare --against`: a folder, or a revision of the results' own repository."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from builders import called, make_cell, make_record, memory_samples

from bench.cli.other_results import other_results
from bench.records.store import Store


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A repository whose results grew by a tenth of memory since the tag `before`."""
    folder = tmp_path / "results"
    Store(folder).write(make_record(make_cell(), measurements=memory_samples()))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"], ["tag", "before"]):
        subprocess.run([*git, *command], check=True)
    Store(folder).write(
        make_record(make_cell(), measurements=memory_samples(workspace=134), started="2026-02-01T00:00:00Z")
    )
    return folder


def test_a_revision_is_read_as_it_was(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One record then, two now; the peak is a tenth larger."""
    with other_results("before", results) as other:
        assert len(list(other.records())) == 1
    code, said, _ = called(
        capsys, "compare", "--results", results, "--against", "before", "--format", "json"
    )  # fmt: skip
    peak = next(row for row in json.loads(said) if row["figure"] == "peak_bytes")
    assert (code, peak["course"], round(peak["change"], 3)) == (0, "regressed", 0.1)
    _, said, _ = called(capsys, "compare", "--results", results, "--against", "before")
    assert said.startswith("figures: 1 regressed, 0 improved, 0 undecided, 1 the same")


@pytest.mark.parametrize("name", ["nothing", "-x", "../none"])
def test_neither_folder_nor_revision_is_one_line(results: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """With what would be one."""
    code, said, error = called(capsys, "compare", "--results", results, f"--against={name}")
    assert (code, said) == (2, "")
    assert error.startswith("bench: no folder and no revision") and error.count("\n") == 1


def test_the_same_folder_has_nothing_new(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence."""
    _, said, _ = called(capsys, "compare", "--results", results, "--against", results)
    assert said == "nothing to compare: no row has new records of the same question\n"
