# SPDX-License-Identifier: Apache-2.0
"""Records on disk: whole or not at all, read back equal, and one bad file never hides the good ones."""

from __future__ import annotations

import copy
import errno
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import failed, make_cell, make_record, memory_samples, quality_samples, sample

import bench
from bench.errors import UserError
from bench.records.parsing import parse_json
from bench.records.record import Caveat, MemoryLimit, Prediction, Provenance, Record, Text, Unit
from bench.records.store import Runs, Store, new_id, read_record, to_text


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "results")


def full_record() -> Record:
    """A record with something in every field that can be empty."""
    return make_record(
        measurements=(
            *memory_samples(),
            *quality_samples({"task": [1.0, 0.0]}),
            sample("tiny_nat", [1e-7, 123456.789, 3.0], Unit.NAT, modules=["a", "b"], share=0.5, whole=2),
        ),
        texts=(Text(name="generated", text='Straße "中文"\nline two', sha256="0" * 64, tokens=4),),
        warnings=(Caveat(kind="busy_machine", text="load was 3.0", advice="close other programs"),),
    )


def test_a_record_reads_back_equal(store: Store) -> None:
    """Everything survives: small and whole floats, nested labels, other scripts, None."""
    for record in (full_record(), failed(make_cell("quality", "int4"))):
        assert read_record(store.write(record)) == record


def test_the_path_is_the_identity(store: Store) -> None:
    """Device, model, backend and scheme, suite, then start and id: records of several hosts never collide."""
    record = make_record(make_cell("quality", "int8"), id="0badcafe", started="2026-02-03T04:05:06Z")
    path = store.write(record)
    assert path.relative_to(store.root) == Path("cpu-test/tiny/fake-fake-int8/quality/20260203T040506Z-0badcafe.json")
    assert path == store.path(record)


def test_a_file_is_json_with_a_line_for_each_field_and_each_measurement(store: Store) -> None:
    """A diff can be read, and any JSON reader takes it; whole floats are written without a fraction."""
    record = full_record()
    text = to_text(record)
    assert json.loads(text)["measurements"][0]["values"] == [1000]
    assert '"values": [1000]' in text
    assert sum(line.startswith('  {"name": ') for line in text.splitlines()) == len(record.measurements) + 1
    assert "中文" in text


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free space on it"), (errno.EDQUOT, "free space on it"), (errno.EACCES, "--results FOLDER")],
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_nothing_and_names_the_remedy(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: str, number: int, remedy: str
) -> None:
    """A full disk is the user's to solve; neither a part nor a temporary file stays behind."""

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), refuse)
    record = make_record()
    with pytest.raises(UserError) as caught:
        store.write(record)
    assert str(store.root) in caught.value.message
    assert os.strerror(number) in caught.value.message
    assert remedy in caught.value.remedy
    assert list(store.path(record).parent.iterdir()) == []


def test_a_written_record_is_complete_before_it_has_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are synced under a name that no reader looks for, then the file is renamed."""
    seen: list[tuple[str, int]] = []

    def watch(_: int) -> None:
        seen.append(("fsync", len(list(store.records()))))

    monkeypatch.setattr(os, "fsync", watch)
    store.write(make_record())
    assert seen == [("fsync", 0)]
    assert len(list(store.records())) == 1


def test_a_folder_that_cannot_be_made_is_refused_before_measuring(tmp_path: Path) -> None:
    """`check_writable` says so at once, and leaves nothing where it can write."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write results"):
        Store(tmp_path / "file" / "results").check_writable()
    Store(tmp_path / "results").check_writable()
    assert list((tmp_path / "results").iterdir()) == []


ODD = (
    None,
    True,
    0,
    1,
    1.0,
    1.5,
    -1,
    1e400,
    math.nan,
    10**30,
    "",
    "1",
    "1.5",
    "x",
    "\ud800",
    [],
    [1],
    ["1"],
    {},
    {"x": 1},
)
"""What a file may hold where something else belongs; 1e400 is written as `Infinity`, which Python reads."""


def places(value: object, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something stands in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, found in inner:
        yield (*above, step)
        yield from places(found, (*above, step))


def test_what_the_fast_reader_takes_the_slow_one_reads_alike() -> None:
    """Pydantic reads JSON itself, three times as fast; whatever it refuses is read again, for words and a line."""
    record = make_record(
        make_cell("memory", "int4"), measurements=(*memory_samples(), *quality_samples({"t": [1.0, 0.5]})),
        provenance=Provenance(source="x", files={"a": "1:aa"}), predicted=Prediction(peak_bytes=5, seconds=1.5),
        memory_limit=MemoryLimit(bytes=5, enforced_by="cgroup v2"),
    )  # fmt: skip
    text = to_text(record)
    whole = json.loads(text)
    texts = [text, text.replace('"seconds": 1.5', '"seconds": "x", "seconds": 1.5'), text + "x", "[" * 300 + "]" * 300]
    for at in places(whole):
        for odd in ODD:
            changed = copy.deepcopy(whole)
            inner = changed
            for step in at[:-1]:
                inner = inner[step]
            inner[at[-1]] = odd
            texts.append(json.dumps(changed))
    taken = 0
    for each in texts:
        try:
            fast = Record.model_validate_json(each)
        except ValueError:
            continue
        assert repr(fast) == repr(Record.model_validate(parse_json(each)))
        taken += 1
    assert 200 < taken < len(texts) - 200


def broken(text: str) -> str:
    return text.replace(' "started": ', " started: ", 1)


def wrong(text: str) -> str:
    return text.replace('"seconds": 1.5', '"seconds": "long"', 1)


def future(text: str) -> str:
    return text.replace('"schema_version": 1', '"schema_version": 2', 1)


def extra(text: str) -> str:
    return text.replace(' "seconds": 1.5', ' "flavour": "sweet",\n "seconds": 1.5', 1)


def cut(text: str) -> str:
    return text[: len(text) // 2]


@pytest.mark.parametrize(
    ("damage", "line", "words"),
    [
        (broken, 7, "not JSON"),
        (wrong, 8, "field 'seconds'"),
        (future, 2, "field 'schema_version'"),
        (extra, 8, "field 'flavour'"),
        (cut, None, "not JSON"),
        (lambda text: "", 1, "not JSON"),
        (lambda text: "[]", 1, "field 'entry'"),
    ],
)
def test_a_bad_file_is_named_and_the_others_still_come(store: Store, damage: Any, line: int | None, words: str) -> None:
    """File, line and field of what could not be read; nothing else is lost."""
    good, bad = make_record(), make_record(make_cell("quality"))
    store.write(good)
    path = store.write(bad)
    text = path.read_text(encoding="utf-8")
    path.write_text(damage(text), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    assert list(store.records()) == [good]
    (complaint,) = store.unreadable
    assert complaint.startswith(f"{path}:{line}:" if line else f"{path}:")
    assert words in complaint


def test_a_file_that_is_not_utf8_is_named(store: Store) -> None:
    """Bytes of a damaged disk are a complaint, not a traceback."""
    path = store.write(make_record())
    path.write_bytes(b'{"id": "\xff"}')
    assert list(store.records()) == []
    assert store.unreadable[0].startswith(f"{path}:1: not UTF-8")


def test_unreadable_is_about_the_last_reading(store: Store) -> None:
    """A repaired file is no longer complained about."""
    path = store.write(make_record())
    text = path.read_text(encoding="utf-8")
    path.write_text("{", encoding="utf-8")
    list(store.records())
    assert len(store.unreadable) == 1
    path.write_text(text, encoding="utf-8")
    assert len(list(store.records())) == 1
    assert store.unreadable == []


def test_records_come_in_the_order_of_their_paths(store: Store) -> None:
    """Within a suite that is the order in which they were measured."""
    late = make_record(started="2026-01-02T00:00:00Z")
    early = make_record(started="2026-01-01T00:00:00Z")
    store.write(late)
    store.write(early)
    assert list(store.records()) == [early, late]


def test_the_frame_has_one_row_for_each_record(store: Store) -> None:
    """Flat columns, null where a record has no such figure."""
    store.write(make_record(measurements=memory_samples(weights=500)))
    store.write(failed(make_cell("throughput"), reason="it broke"))
    frame = bench.load_results(store.root)
    assert list(frame["suite"]) == ["memory", "throughput"]
    assert list(frame["weights_bytes"].dropna()) == [500.0]
    assert list(frame["reason"].dropna()) == ["it broke"]


def test_ids_are_eight_hexadecimal_digits() -> None:
    """As the schema demands, and never twice in a row."""
    first, second = new_id(), new_id()
    assert first != second
    assert make_record(id=first).id == first


def test_a_run_is_unfinished_from_begin_to_finish(tmp_path: Path) -> None:
    """Only for its own selection, and again after a newer run has taken its place."""
    runs = Runs(tmp_path)
    assert runs.unfinished("aaaa") is None
    runs.begin("aaaa", "run-1", [make_cell()])
    assert (runs.unfinished("aaaa"), runs.unfinished("bbbb")) == ("run-1", None)
    runs.begin("aaaa", "run-2", [])
    assert Runs(tmp_path).unfinished("aaaa") == "run-2"
    runs.finish("aaaa")
    runs.finish("aaaa")
    assert runs.unfinished("aaaa") is None


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "1"])
def test_a_damaged_run_file_is_no_unfinished_run(tmp_path: Path, text: str) -> None:
    """Then the run begins anew; nothing measured is lost by that."""
    runs = Runs(tmp_path)
    runs.begin("aaaa", "run-1", [])
    (tmp_path / ".runs" / "aaaa.json").write_text(text)
    assert runs.unfinished("aaaa") is None


def test_what_a_run_remembers_is_not_committed(tmp_path: Path) -> None:
    """Git ignores the folder, and no reading takes its files for records."""
    Runs(tmp_path).begin("aaaa", "run-1", [])
    assert (tmp_path / ".runs" / ".gitignore").read_text() == "*\n"
    store = Store(tmp_path)
    assert (list(store.records()), store.unreadable) == ([], [])
