# SPDX-License-Identifier: Apache-2.0
"""Two checkpoints of one name are two models: the files that were loaded decide which rows stand together."""

from __future__ import annotations

from typing import Any

import pytest
from builders import failed, make_cell, make_record, memory_samples

from bench.judge.against import against
from bench.judge.checkpoints import apart, checkpoints
from bench.judge.compare import compare
from bench.judge.costs import Prices
from bench.judge.cross_engine import engines_side_by_side
from bench.judge.recommend import Limits
from bench.judge.recommendation import recommended
from bench.judge.rows import Row, newest
from bench.records.cell import Weights, digest
from bench.records.record import Ending, Provenance, Record
from bench.views.cells import named
from bench.views.footnotes import checkpoint_notes
from bench.views.table import flats, people

FIRST, SECOND = {"model.safetensors": "1000:aaaaaaaaaaaa"}, {"model.safetensors": "2000:bbbbbbbbbbbb"}


def record(files: dict[str, str] | None, precision: str = "fp16", suite: str = "memory", **changes: Any) -> Record:
    """A record of local weights in these files; None where loading never got that far."""
    cell = make_cell(
        suite, precision, model="checkpoint-100", weights=Weights.LOCAL, source="checkpoint-100",
        fingerprint=changes.pop("fingerprint", None), **changes.pop("cell", {}),
    )  # fmt: skip
    if files is None:
        return failed(cell, Ending.DOES_NOT_FIT, **changes)
    found = Provenance(source="checkpoint-100", files=files)
    return make_record(cell, provenance=found, measurements=memory_samples(), **changes)


def told(rows: list[Row]) -> list[tuple[str, str]]:
    """Mark and precision of each row."""
    return [(row.checkpoint.mark, str(row.precision)) for row in rows]


def test_records_of_other_files_are_another_row() -> None:
    """One name, one scheme, one suite: the newer checkpoint does not replace the older one."""
    rows = newest([record(FIRST), record(SECOND, started="2026-01-02T00:00:00Z")])
    assert told(rows) == [(digest(FIRST), "fp16"), (digest(SECOND), "fp16")]
    assert [len(row.history["memory"]) for row in rows] == [1, 1]


def test_each_is_compared_with_its_own_16_bit_row() -> None:
    """The fp16 row of the second stands above no int4 row of the first, and a lone one says so."""
    rows = newest([record(FIRST), record(FIRST, "int4"), record(SECOND)])
    found, alone = compare(rows)
    assert [(item.row.checkpoint.mark, item.reference.checkpoint.mark) for item in found] == [(digest(FIRST),) * 2]
    assert alone == []
    found, alone = compare(newest([record(FIRST, "int4"), record(SECOND)]))
    assert found == []
    assert [item.reason for item in alone] == [
        "no fp16 row of these very weights to compare with; others of this name are another model"
    ]


def test_the_same_files_are_one_model_wherever_they_lay() -> None:
    """A second look at the same weights is a second record of the row, and a name that is alone has no mark."""
    (row,) = newest([record(FIRST), record(FIRST, started="2026-01-02T00:00:00Z")])
    assert len(row.history["memory"]) == 2
    assert (row.told_apart, named(row)) == ("", "checkpoint-100")
    assert checkpoint_notes([row]) == []


def test_a_fingerprint_of_more_is_that_of_less() -> None:
    """Older records hold the weights alone, and the sampled beginning of a large file's."""
    more = {"model.safetensors": "1000:aaaaaaaaaaaa:cccccccccccc", "config.json": "10:dddddddddddd"}
    (row,) = newest([record(FIRST), record(more, "fp16", "throughput")])
    assert set(row.records) == {"memory", "throughput"}
    other = {"model.safetensors": "1000:aaaaaaaaaaaa:eeeeeeeeeeee", "config.json": "10:dddddddddddd"}
    assert len(newest([record(more), record(other)])) == 2


@pytest.mark.parametrize("asked", ["cell", "run", "newest"])
def test_a_cell_that_never_loaded_belongs_to_the_weights_it_was_asked_of(asked: str) -> None:
    """By its own fingerprint, by its run, else to the newest of its name: it is no third model."""
    one = record(FIRST, fingerprint="f1", run="r1", started="2026-01-01T00:00:00Z")
    two = record(SECOND, fingerprint="f2", run="r2", started="2026-01-02T00:00:00Z")
    silent = {
        "cell": record(None, "fp32", fingerprint="f1", run="r9"),
        "run": record(None, "fp32", run="r1"),
        "newest": record(None, "fp32", run="r9"),
    }[asked]
    wanted = SECOND if asked == "newest" else FIRST
    assert (digest(wanted), "fp32") in told(newest([one, two, silent]))
    assert len(newest([one, two, silent])) == 3


def test_weights_that_were_never_loaded_are_still_their_own() -> None:
    """A second checkpoint that does not fit must not be read as the first one's failure."""
    rows = newest([record(FIRST, fingerprint="f1"), record(None, fingerprint="f2")])
    assert [(row.checkpoint.mark, row.missing("memory") is None) for row in rows] == [
        ("f2", False), (digest(FIRST), True),
    ]  # fmt: skip
    assert "#f2 was never loaded" in checkpoint_notes(rows)[0]


def test_names_that_are_shared_carry_a_mark_that_a_note_explains() -> None:
    """In tables, above comparisons, and as a key for machines."""
    rows = newest([record(FIRST), record(SECOND, "int4", started="2026-01-02T00:00:00Z")])
    marks = [digest(files)[:6] for files in (FIRST, SECOND)]
    assert [cells[0] for cells in people(rows, ["weights"]).rows] == [f"checkpoint-100 #{mark}" for mark in marks]
    first, second = (f"first measured 2026-01-0{day} 00:00 UTC" for day in (1, 2))
    (note,) = checkpoint_notes(rows)
    assert note == (
        f"One name, several models: #{marks[0]} is model.safetensors of 1000 B, {first}; "
        f"#{marks[1]} is model.safetensors of 1.95 KiB, {second}."
    )
    assert [flat["checkpoint"] for flat in flats(rows)] == [digest(FIRST), digest(SECOND)]


def test_a_name_in_another_engine_device_or_source_is_another_name() -> None:
    """Engines have files of their own: a GGUF beside safetensors is no second model."""
    gguf = {"m.gguf": "5:ffffffffffff"}
    rows = newest([record(FIRST), record(gguf, cell={"backend": "other", "scheme": "q8_0"})])
    assert [row.told_apart for row in rows] == ["", ""]
    (group,), _ = engines_side_by_side(rows)
    assert group.cautions == ()


def test_engines_side_by_side_say_where_nobody_can_tell_which_file_belongs_to_which() -> None:
    """One engine measured two models of the name, another one a file of it."""
    gguf = {"m.gguf": "5:ffffffffffff"}
    rows = newest([record(FIRST), record(SECOND), record(gguf, cell={"backend": "other", "scheme": "q8_0"})])
    (group,), _ = engines_side_by_side(rows)
    assert [caution.partition(":")[0] for caution in group.cautions] == ["fake measured several weights of this name"]


def test_two_result_sets_are_compared_checkpoint_by_checkpoint() -> None:
    """Whichever came first in either; what the other set has not is said, never held against its namesake."""
    now, before = newest([record(FIRST), record(SECOND)]), newest([record(SECOND), record(FIRST)])
    found, lone = against(now, before)
    assert {(one.row.checkpoint.mark, one.before.checkpoint.mark) for one in found} == {
        (digest(files), digest(files)) for files in (FIRST, SECOND)
    }
    assert lone == []
    found, lone = against(now, newest([record(SECOND)]))
    assert [one.row.checkpoint.mark for one in found] == [digest(SECOND)]
    assert [(one.row.checkpoint.mark, one.reason) for one in lone] == [(digest(FIRST), "only in this result set")]


def test_of_two_checkpoints_each_is_recommended_or_not_by_itself() -> None:
    """They are two models to choose between, not two rows of one."""
    (found,) = recommended(newest([record(FIRST), record(SECOND)]), Limits(), Prices())
    assert {place.candidate.row.checkpoint.mark for place in found.places} == {digest(FIRST), digest(SECOND)}


def test_one_name_at_two_servers_is_two_models() -> None:
    """Their files are nobody's to see, so who serves them decides; a server asked twice is one row."""
    served = [
        make_record(make_cell(model="chat", weights=Weights.REMOTE, source=f"chat at {host}"), provenance=None)
        for host in ("a:8000", "b:8000", "a:8000")
    ]
    rows = newest(served)
    assert sorted(len(row.history["memory"]) for row in rows) == [1, 2]
    assert all(row.told_apart for row in rows)
    (note,) = checkpoint_notes(rows)
    assert "is chat at a:8000, first measured" in note and "is chat at b:8000, first measured" in note


def test_random_models_have_no_files_and_stay_one() -> None:
    """What is drawn is told by its name."""
    drawn = [
        make_record(make_cell(precision=precision), provenance=Provenance(source="random", random=True))
        for precision in ("fp16", "int4")
    ]
    assert {checkpoint.mark for checkpoint in checkpoints(drawn)} == {""}
    assert apart(checkpoints(drawn)) == []
