# SPDX-License-Identifier: Apache-2.0
"""A record of the index answers as the whole one does, and reads its file only where it must."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import make_cell, make_record, sample, speed_samples

from bench.errors import UserError
from bench.paths import RESULTS
from bench.records.index import Index
from bench.records.record import Record, Text
from bench.records.shelved import Shelf, ShelvedRecord, Shelves
from bench.records.slimmed import SHORT
from bench.records.store import Store, read_record

pytestmark = pytest.mark.usefixtures("settled_cache")


def loaded(root: Path) -> tuple[Index, list[Record]]:
    """Every shown record of a folder, by an index that is closed and opened again in between."""
    first = Index(root)
    for head in first.shown():
        Shelves(first).load(head)
    first.save()
    again = Index(root)
    shelves = Shelves(again)
    return again, [shelves.load(head) for head in again.shown()]


def test_every_committed_record_reads_as_the_file_does() -> None:
    """Field by field, samples and labels and all."""
    found, records = loaded(RESULTS)
    assert len(records) > 100
    for head, record in zip(found.shown(), records, strict=True):
        whole = read_record(RESULTS / head.path)
        assert isinstance(record, ShelvedRecord)
        assert record.model_dump() == whole.model_dump()
        assert [m.values for m in record.measurements] == [m.values for m in whole.measurements]


def test_long_samples_and_texts_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    """Not before: a file that is gone is missed only then."""
    store = Store(tmp_path / "results")
    long, short = sample("long", [1.0] * (SHORT + 1)), sample("short", [2.0] * SHORT)
    text = Text(name="generated", text="so", sha256="0", tokens=1)
    path = store.write(make_record(measurements=(long, short), texts=(text,)))
    _, (record,) = loaded(store.root)
    assert record.texts == (text,)
    assert record.measurements[0].values == long.values
    _, (record,) = loaded(store.root)
    path.unlink()
    assert record.measurements[1].values == short.values
    assert record.measurement("long") is not None
    with pytest.raises(UserError, match="No such file"):
        _ = record.measurements[0].values


def test_a_copy_with_other_fields_still_finds_its_samples(tmp_path: Path) -> None:
    """What the ends of runs tell is joined to a copy."""
    store = Store(tmp_path / "results")
    store.write(make_record(make_cell("throughput"), measurements=speed_samples(itl_s=[0.1] * 40)))
    _, (record,) = loaded(store.root)
    other = record.model_copy(update={"warnings": ()})
    assert isinstance(other, ShelvedRecord)
    found = other.measurement("itl_s")
    assert found is not None and len(found.values) == 40


def test_a_file_edited_since_it_was_listed_is_used_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    """Its figures would otherwise stand under the digest of what it was."""
    store = Store(tmp_path / "results")
    path = store.write(make_record(run="one"))
    found = Index(store.root)
    (head,) = found.shown()
    path.write_text(path.read_text(encoding="utf-8").replace('"one"', '"two"'), encoding="utf-8")
    assert Shelves(found).load(head).run == "two"
    assert found.kept(f"record:{head.content}") is None


def test_a_shelf_is_a_sequence(tmp_path: Path) -> None:
    """Of records that are loaded one by one."""
    store = Store(tmp_path / "results")
    for name in "ab":
        store.write(make_record(make_cell(model=name)))
    found = Index(store.root)
    asked: list[str] = []
    shelves = Shelves(found)

    def load(head):  # type: ignore[no-untyped-def]
        asked.append(head.row[1])
        return shelves.load(head)

    shelf = Shelf(found.shown(), load, found)
    assert (len(shelf), asked) == (2, [])
    assert (shelf[1].cell.model, asked) == ("b", ["b"])
    assert [record.cell.model for record in shelf[:1]] == ["a"]


def odd(record: Record) -> str:
    """The fault of records of one run."""
    TRIED.append(record.started[8:10])
    return "odd" if record.run == "odd" else ""


TRIED: list[str] = []


def test_a_shelf_tries_its_first_record_s_successors_when_they_are_asked_for(tmp_path: Path) -> None:
    """One that nothing can be made of makes room for an older one of the same question; a second look tries none."""
    del TRIED[:]
    store = Store(tmp_path / "results")
    for day, run in enumerate(("r", "r", "odd", "odd", "r"), 1):
        cell = make_cell(settings={"items": 1 if day == 5 else 2})
        store.write(make_record(cell, run=run, started=f"2026-01-0{day}T00:00:00Z"))
    for tried in (["05"], []):
        found = Index(store.root, fault=odd)
        known = found.shown()
        shelf = Shelf(known, Shelves(found).load, found)
        assert ([head.started[8:10] for head in known], shelf[0].started[8:10]) == (
            ["05", "04" if tried else "02"], "05"
        )  # fmt: skip
        assert tried == TRIED
        assert [record.started[8:10] for record in shelf] == ["05", "02"]
        assert (["05", "04", "03", "02"] if tried else []) == TRIED
        del TRIED[:]
        assert len(found.unread()) == 2
