# SPDX-License-Identifier: Apache-2.0
"""`bench check`: foreign records are named and moved where they cannot be true."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import called, make_cell, make_record, memory_samples, sample

from bench.paths import RESULTS
from bench.records.store import Store


def test_the_project_s_own_records_can_be_true(capsys: pytest.CaptureFixture[str]) -> None:
    """All that are committed."""
    count = len(list(RESULTS.glob("*/*/*/*/*.json")))
    assert called(capsys, "check") == (0, f"{count} records, 0 doubtful\n", "")


def test_what_cannot_be_true_is_moved_with_its_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One record of three is impossible, one file is none; the good one stays."""
    store = Store(tmp_path / "theirs")
    good = store.write(make_record(measurements=memory_samples()))
    bad = store.write(make_record(make_cell("throughput"), measurements=[sample("peak_bytes", -5.0)]))
    torn = good.with_name("20260101T000000Z-ffffffff.json")
    torn.write_text('{"id": ')
    code, said, _ = called(capsys, "check", store.root, "--quarantine", tmp_path / "doubtful")
    assert code == 1
    assert "peak_bytes is negative: -5 byte" in said
    assert f"{torn}:" in said
    assert said.endswith(f"3 records, 2 doubtful, moved to {tmp_path / 'doubtful'}\n")
    assert store.paths() == [good]
    moved = tmp_path / "doubtful" / bad.relative_to(store.root)
    assert moved.with_suffix(".reasons.txt").read_text() == "peak_bytes is negative: -5 byte\n"
    assert called(capsys, "check", store.root)[0] == 0


def test_a_record_in_another_cell_s_folder_and_one_that_stands_twice_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copied by hand under another device."""
    store = Store(tmp_path)
    path = store.write(make_record(measurements=memory_samples()))
    other = tmp_path / "cpu-other" / path.relative_to(tmp_path / "cpu-test")
    other.parent.mkdir(parents=True)
    other.write_bytes(path.read_bytes())
    _, said, _ = called(capsys, "check", tmp_path)
    assert f"{other}: lies in the folder of another cell\n" in said
    assert said.count("stands here more than once") == 2


def test_a_folder_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what should be there."""
    code, said, error = called(capsys, "check", tmp_path / "none")
    assert (code, said) == (2, "")
    assert error.startswith(f"bench: no folder {tmp_path / 'none'}") and error.count("\n") == 1
