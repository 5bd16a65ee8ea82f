# SPDX-License-Identifier: Apache-2.0
"""`bench export`: files are written whole, what is asked for wrongly is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import called, make_cell, make_record, memory_samples, quality_samples, sample

from bench.records.store import Store


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Answers of the fake at two precisions."""
    store = Store(tmp_path / "results")
    for precision, bits in (("fp16", 16.0), ("int4", 4.5)):
        memory = [m for m in memory_samples() if m.name != "linear_bits"] + [sample("linear_bits", bits)]
        store.write(make_record(make_cell("memory", precision), measurements=memory))
        answers = quality_samples({"facts": [1.0, 0.0]})
        store.write(make_record(make_cell("quality", precision), measurements=answers))
    return store.root


def test_each_precision_has_its_folder_and_writing_twice_changes_nothing(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--precision` chooses among them as in `bench show`."""
    asked = ("export", "--to", "every-eval-ever", "--results", results, "--organisation", "Tests")
    assert called(capsys, *asked, "--out", tmp_path / "out")[:2] == (0, f"2 files in {tmp_path / 'out'}\n")
    first = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.json")}
    assert sorted(path.relative_to(tmp_path / "out").parts[0] for path in first) == ["fake-fake-fp16", "fake-fake-int4"]
    log = json.loads(next(iter(first.values())))
    assert log["source_metadata"]["source_organization_name"] == "Tests"
    assert called(capsys, *asked, "--out", tmp_path / "out")[0] == 0
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == first
    assert called(capsys, *asked, "--out", tmp_path / "one", "--precision", "int4")[1].startswith("1 file in")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--out", "o"), "what to export is not said; pass --to model-index|eval-results|every-eval-ever|llama-bench|"),
        (("--to", "llama-bench"), "what to export is not said"),
        (("--to", "every-eval-ever", "--out", "o", "--model", "none"), "nothing to export to every-eval-ever; no rec"),
        (("--to", "llama-bench", "--out", "o"), "nothing to export to llama-bench"),
        (("--to", "llama-bench", "--out", "o", "--dataset", "facts"), "--dataset facts names no task and data set"),
        (("--to", "llama-bench", "--out", "o", "--dataset", "a=../b"), "--dataset a=../b names no task and data set"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    given: tuple[str, ...], said: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With the remedy, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    code, out, error = called(capsys, "export", "--results", results, *given)
    assert (code, out) == (2, "")
    assert error.startswith(f"bench: {said}") and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_folder_that_cannot_be_written_is_one_line(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    asked = ("export", "--to", "every-eval-ever", "--results", results, "--out", tmp_path / "file")
    code, _, error = called(capsys, *asked)
    assert code == 2
    assert (
        error == f"bench: cannot export to {tmp_path / 'file'}: Not a directory; check the path and its permissions\n"
    )
