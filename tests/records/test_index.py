# SPDX-License-Identifier: Apache-2.0
"""The index knows what lies in the folder now, whatever happened to it or to the folder."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pytest
from builders import failed, make_cell, make_condition, make_record, quality_samples

from bench.records import examine, index, listing
from bench.records.examine import Examined, Kind
from bench.records.index import Index, index_path
from bench.records.record import Record, Run
from bench.records.store import Store, to_text

pytestmark = pytest.mark.usefixtures("settled_cache")
FORKS = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty folder of results."""
    return Store(tmp_path / "results")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read for an index."""
    seen: list[str] = []

    def watched(root: Path, records: Sequence[str], runs: Sequence[str]) -> Iterator[list[Examined]]:
        seen.extend(Path(path).name for path in (*runs, *records))
        return examine.examine_all(root, records, runs)

    monkeypatch.setattr(index, "examine_all", watched)
    return seen


def at(day: int, **fields: object) -> Record:
    """The memory record of one row, measured on that day of January."""
    return make_record(started=f"2026-01-{day:02}T00:00:00Z", **fields)


def days(store: Store) -> list[str]:
    """On which days what is shown was measured."""
    return [head.started[8:10] for head in Index(store.root).shown()]


def test_of_records_that_ask_the_same_the_newest_is_shown(store: Store) -> None:
    """Another question, another version or another ending has a newest one of its own; a measured one comes first."""
    for day in (1, 2, 3):
        store.write(at(day))
    store.write(at(4, cell=make_cell(settings={"tokens": 7})))
    store.write(failed(make_cell(), started="2026-01-05T00:00:00Z"))
    store.write(failed(make_cell(), started="2026-01-06T00:00:00Z"))
    assert days(store) == ["04", "03", "06"]


def test_other_items_are_another_question(store: Store) -> None:
    """The same settings over other items can be paired with other records."""
    quality = make_cell("quality")
    for day, digest in ((1, "d1"), (2, "d2"), (3, "d2")):
        store.write(at(day, cell=quality, measurements=quality_samples({"t": [1.0, 0.0]}, digest=digest)))
    assert days(store) == ["03", "01"]


def test_a_second_look_reads_nothing(store: Store, read: list[str]) -> None:
    """Nothing changed: the folder is listed, and no file is opened."""
    store.write(at(1))
    assert days(store) == ["01"]
    assert len(read) == 1
    assert days(store) == ["01"]
    assert len(read) == 1


def test_what_was_added_removed_or_edited_is_seen(store: Store, read: list[str]) -> None:
    """And nothing else is read again."""
    paths = [store.write(at(day)) for day in (1, 2)]
    assert days(store) == ["02"]
    new = store.write(at(3))
    del read[:]
    assert days(store) == ["03"]
    assert read == [new.name]
    new.unlink()
    assert days(store) == ["02"]
    assert read == [new.name]
    text = paths[0].read_text(encoding="utf-8")
    paths[0].write_text(text.replace("2026-01-01", "2026-01-09"), encoding="utf-8")  # as long as before
    assert days(store) == ["09"]
    assert read == [new.name, paths[0].name]
    for path in paths:
        path.unlink()
    assert days(store) == []


def test_an_edit_that_keeps_size_and_time_is_seen(store: Store) -> None:
    """Whoever sets the time back cannot set back when the inode changed."""
    path = store.write(at(1))
    assert days(store) == ["01"]
    seen = path.stat()
    path.write_text(path.read_text(encoding="utf-8").replace("2026-01-01", "2026-01-07"), encoding="utf-8")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert days(store) == ["07"]


def test_a_file_that_changed_a_moment_ago_is_read_again(store: Store, read: list[str], monkeypatch: object) -> None:
    """Two edits within a tick of the clock have one time: a young file's stamp is believed later."""
    monkeypatch.setattr(listing, "YOUNG_NS", 3600 * 10**9)  # type: ignore[attr-defined]
    path = store.write(at(1))
    assert days(store) == days(store) == ["01"]
    assert read == [path.name] * 2


def test_a_file_that_goes_before_its_stamp_is_believed_is_forgotten(
    store: Store, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is then as it was when it was last believed, and its rows are not."""
    store.write(at(1))
    monkeypatch.setattr(listing, "YOUNG_NS", 0)
    assert days(store) == ["01"]
    monkeypatch.setattr(listing, "YOUNG_NS", 3600 * 10**9)
    new = store.write(at(2))
    assert days(store) == ["02"]
    new.unlink()
    monkeypatch.setattr(listing, "YOUNG_NS", 0)
    assert days(store) == ["01"]
    assert new.name in read


def test_a_folder_that_went_away_is_forgotten(store: Store) -> None:
    """With all that lay in it; another folder of results has an index of its own."""
    import shutil

    other = Store(store.root.with_name("other"))
    store.write(at(1))
    other.write(at(2))
    assert (days(store), days(other)) == (["01"], ["02"])
    shutil.rmtree(store.root)
    assert (days(store), days(other)) == ([], ["02"])


def test_files_that_hold_no_record_and_no_run_are_named(store: Store) -> None:
    """By their paths, until they are mended."""
    bad = store.write(at(1))
    text = bad.read_text(encoding="utf-8")
    bad.write_text("{", encoding="utf-8")
    condition = make_condition()
    run = Run(run="r", device="cpu-test", ended="2026-01-01T00:00:00Z", before=condition, after=condition)
    no_run = store.write_run(run)
    no_run.write_text("[]", encoding="utf-8")
    assert {path: kind for path, kind, _ in Index(store.root).unread()} == {no_run: Kind.NO_RUN, bad: Kind.NO_RECORD}
    bad.write_text(text, encoding="utf-8")
    no_run.write_text(to_text(run), encoding="utf-8")
    assert (Index(store.root).unread(), days(store)) == ([], ["01"])
    assert [found.run for found in Index(store.root).runs()] == ["r"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database at all, but long enough to be taken for one" * 40),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * (path.stat().st_size - 100)),
        lambda path: path.write_bytes(b""),
    ],
    ids=["other", "cut", "overwritten", "empty"],
)
def test_a_broken_index_is_made_again(store: Store, damage: Callable[[Path], object]) -> None:
    """Whatever became of the file: the answer is right, and the next look reads nothing."""
    for day in (1, 2):
        store.write(at(day))
    assert days(store) == ["02"]
    damage(index_path(store.root))
    assert days(store) == ["02"]
    with sqlite3.connect(index_path(store.root)) as db:
        assert db.execute("SELECT COUNT(*) FROM files").fetchone() == (2,)


def test_a_locked_index_is_done_without(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that holds it costs a moment, not the answer."""
    monkeypatch.setattr(index, "PATIENCE_S", 0.05)
    store.write(at(1))
    assert days(store) == ["01"]
    store.write(at(2))
    holder = sqlite3.connect(index_path(store.root))
    holder.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    assert days(store) == ["02"]
    assert time.monotonic() - began < 5
    holder.rollback()
    holder.close()


def test_a_cache_that_cannot_be_written_is_done_without(store: Store, settled_cache: Path) -> None:
    """A file where the folder should be."""
    settled_cache.write_text("in the way")
    store.write(at(1))
    found = Index(store.root)
    found.keep("a", "1")
    assert ([head.started[8:10] for head in found.shown()], found.kept("a")) == (["01"], "1")
    found.save()


def test_two_at_once_agree(store: Store) -> None:
    """Each finds all records, and what they leave behind is right."""
    for day in range(1, 21):
        store.write(at(day, cell=make_cell(model=f"m{day}")))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(Index(store.root).shown()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [20] * 4
    assert len(days(store)) == 20


def test_other_code_reads_no_old_value(store: Store, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What code kept is its own, and heads and faults that other code found are found anew."""
    store.write(at(1))
    first = Index(store.root)
    first.keep("figure", "1")
    first.save()
    assert Index(store.root).kept("figure") == "1"
    monkeypatch.setattr(index, "code", lambda: "other")
    del read[:]
    assert (Index(store.root).kept("figure"), len(read)) == (None, 1)
    assert (days(store), len(read)) == (["01"], 1)


@pytest.mark.parametrize("forked", [False, pytest.param(True, marks=FORKS)])
def test_many_files_are_read_by_several_processes(store: Store, monkeypatch: pytest.MonkeyPatch, forked: bool) -> None:
    """With the same outcome, in the same order."""
    for day in range(1, 9):
        store.write(at(day, cell=make_cell(model=f"m{day}")))
    paths = sorted(str(path.relative_to(store.root)) for path in store.root.glob("*/*/*/*/*.json"))
    alone = [item for chunk in examine.examine_all(store.root, paths) for item in chunk]
    monkeypatch.setattr(examine, "WORTH_PROCESSES", 1)
    monkeypatch.setattr(examine, "CHUNK", 3)
    monkeypatch.setattr(examine, "has_one_thread", lambda: forked)
    assert [item for chunk in examine.examine_all(store.root, paths) for item in chunk] == alone
    assert [item.path for item in alone] == paths


def cut_short(record: Record) -> str:
    """The fault of records of one run."""
    CALLS.append(record.started[8:10])
    return "it was cut short" if record.run == "cut" else ""


CALLS: list[str] = []


def test_a_record_that_nothing_can_be_made_of_is_left_out_and_tried_once(store: Store) -> None:
    """What is wrong with it is kept, the one before it is shown; mended, it is shown itself."""
    del CALLS[:]
    store.write(at(1))
    odd = store.write(at(2, run="cut"))
    for _ in range(2):
        found = Index(store.root, fault=cut_short)
        assert [head.started[8:10] for head in found.shown()] == ["01"]
        assert found.unread() == [(odd, Kind.FAULTY, "it was cut short")]
    assert sorted(CALLS) == ["01", "02"]
    assert days(store) == ["02"], "who leaves out nothing has an index of its own"
    odd.write_text(odd.read_text(encoding="utf-8").replace('"cut"', '"whole"'), encoding="utf-8")
    found = Index(store.root, fault=cut_short)
    assert ([head.started[8:10] for head in found.shown()], found.unread()) == (["02"], [])
    assert sorted(CALLS) == ["01", "02", "02"]


def test_only_what_is_shown_first_is_tried(store: Store) -> None:
    """An older record of the same question when the newer one turns out odd; any other when somebody needs it."""
    del CALLS[:]
    store.write(at(1, run="cut"))
    store.write(at(2))
    third = store.write(at(3))
    paths = [store.write(at(day, run="cut")) for day in (4, 5)]
    found = Index(store.root, fault=cut_short)
    assert ([head.started[8:10] for head in found.shown()], CALLS) == (["03"], ["05", "04", "03"])
    assert [path for path, *_ in found.unread()] == paths
    again = Index(store.root, fault=cut_short)
    assert [head.started[8:10] for head in again.sound_of(again.heads())] == ["02", "03"]
    assert CALLS == ["05", "04", "03", "01", "02"]
    assert [head.started[8:10] for head in again.heads()] == ["02", "03"]
    assert len(again.unread()) == 3
    assert [head.started[8:10] for head in Index(store.root, fault=cut_short).shown()] == ["03"]
    assert len(CALLS) == 5
    third.unlink()
    assert [head.started[8:10] for head in Index(store.root, fault=cut_short).shown()] == ["02"]
    assert len(CALLS) == 5


@pytest.mark.parametrize("forked", [False, pytest.param(True, marks=FORKS)])
def test_many_records_are_tried_by_several_processes(
    store: Store, monkeypatch: pytest.MonkeyPatch, forked: bool
) -> None:
    """What is wrong with each stands at its place; one that was spoilt a moment ago is nobody's fault."""
    for day in range(1, 9):
        store.write(at(day, run="cut" if day % 3 else "whole"))
    spoilt = store.write(at(9, run="cut"))
    spoilt.write_text("{")
    paths = [str(path.relative_to(store.root)) for path in store.paths()]
    expected = ["it was cut short" if day % 3 else "" for day in range(1, 9)] + [""]
    alone = list(examine.try_all(store.root, paths, cut_short))
    assert [why for why, _ in alone] == expected
    assert [len(kept) for _, kept in alone] == [0 if day % 3 else 5 for day in range(1, 9)] + [0]
    monkeypatch.setattr(examine, "WORTH_TRYING", 1)
    monkeypatch.setattr(examine, "TRIED_CHUNK", 2)
    monkeypatch.setattr(examine, "has_one_thread", lambda: forked)
    assert list(examine.try_all(store.root, paths, cut_short)) == alone


@pytest.mark.parametrize("fault", [examine.sound, cut_short])
def test_a_record_dated_in_the_future_comes_last_until_that_day(
    store: Store, read: list[str], monkeypatch: pytest.MonkeyPatch, fault: examine.Fault
) -> None:
    """The clock may be set at any time, and nobody touches a file then: no day's answer is kept for the next."""

    class Clock(datetime):
        today = datetime(2026, 1, 9, tzinfo=UTC)

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override] # noqa: ARG003
            return cls.today

    monkeypatch.setattr(index, "datetime", Clock)
    for day in (1, 5):
        store.write(at(day))

    def seen() -> tuple[list[str], list[str]]:
        found = Index(store.root, fault=fault)
        return [head.started[8:10] for head in found.shown()], [head.started[8:10] for head in found.ahead()]

    assert seen() == (["05"], [])
    del read[:]
    Clock.today = datetime(2026, 1, 3, tzinfo=UTC)
    assert seen() == seen() == (["01"], ["05"])
    Clock.today = datetime(2025, 1, 1, tzinfo=UTC)
    assert seen() == (["05"], ["01", "05"])
    Clock.today = datetime(2026, 1, 4, 23, 55, 0, tzinfo=UTC)  # five minutes before the second
    assert seen() == (["05"], [])
    assert read == []
