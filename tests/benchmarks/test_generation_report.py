# SPDX-License-Identifier: Apache-2.0
"""The report on generated answers: ratios of turns, shares of the limit, samples that are kept, others' rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.generated_report import (
    ATTENTION,
    BEFORE,
    BODY,
    HEAD,
    OURS,
    THEIRS,
    Found,
    Sample,
    prompts,
    read,
    written,
)

TEXTS = {0: "a", 1: "b", 2: "c"}
ABOUT = dict.fromkeys(
    ("date", "model", "turns", "threads", "machine", "tokens", "lm_eval", "batches", "before"), "something"
)


def found(file: Path | None = None) -> Found:
    """Three turns of this engine and of lm-eval; the build before answered each item in a turn of its own."""
    row = Found("row", file)
    row.add(Sample(who="batch", turn=0, seconds=0, batch=16))
    for turn, (ours, theirs, before) in enumerate([(2, 4, 5), (2.5, 4, 6), (2, 5, 7)]):
        row.add(Sample(who=OURS, turn=turn, seconds=ours, texts=TEXTS, tokens=30, load=turn))
        row.add(Sample(who=THEIRS, turn=turn, seconds=theirs, texts=TEXTS | {2: "x"}))
        row.add(Sample(who=BEFORE, turn=turn, seconds=before, texts={turn: TEXTS[turn]}))
    return row


def test_a_ratio_is_the_median_of_the_turns() -> None:
    """What was measured in shares counts as a whole, against each turn of ours."""
    row = found()
    assert row.ratio(THEIRS) == (2.0, 1.6, 2.5)
    assert row.ratio(BEFORE) == (9.0, 7.2, 9.0)
    assert (row.equal(THEIRS), row.equal(BEFORE)) == ((2, 3), (3, 3))


def test_the_limit_counts_what_must_be_computed() -> None:
    """Beginnings of 64 tokens once, each prompt's own six, ten tokens an answer; a token looks at all before it."""
    row = found()
    row.add(prompts([[*range(64), 100 + index, 1, 2, 3, 4, 5] for index in range(3)]))
    assert row.limit_s() is None
    row.add(Sample(who="roof", turn=0, seconds=0, roof=1e9))
    looked = 64 * 64 / 2 + 3 * (6 * (70 + 64) / 2 + 10 * (70 + 5))
    operations = 2 * BODY * (64 + 3 * 6 + 30) + 2 * HEAD * 30 + ATTENTION * looked
    assert row.limit_s() == pytest.approx(operations / 1e9)


def test_samples_in_a_file_are_not_measured_again(tmp_path: Path) -> None:
    """They are read back whole, row by row."""
    file = tmp_path / "samples"
    row = found(file)
    again = read(file)["row"]
    assert again.samples == row.samples
    assert (again.batch, again.has(OURS, 2), again.has(OURS, 3)) == (16, True, False)


def test_rows_of_others_stay_in_the_report(tmp_path: Path) -> None:
    """Its own are made anew; a missed target is named."""
    report = tmp_path / "report.md"
    report.write_text("# Old\n\n| row | what |\n|---|---|\n| row | gone |\n| packs | theirs | 1 |\n", "utf-8")
    text, lines = written({"row": found()}, {"row": ("noted", (9.5, 1.3))}, ABOUT, report)
    line = (
        "| row | noted | 3 | 16 | 18.0 | 4.0 | 2.0 (3) | 9.00 (7.20 to 9.00); target 9.5, missed; 3 of 3 equal "
        "| 2.00 (1.60 to 2.50); target 1.3; 2 of 3 equal | – | 2.0 |"
    )
    assert lines == [line]
    assert text.endswith(f"|---|\n{line}\n| packs | theirs | 1 |\n")
