# SPDX-License-Identifier: Apache-2.0
"""One odd record is named by every command and hides nothing; records of a clock that was ahead hide nothing either."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from builders import TINY_FAMILY, called, make_cell, make_machine, make_record, memory_samples, speed_samples

from bench.cli.stored import Stored
from bench.errors import UserError
from bench.instruments import machine
from bench.judge.joined import joined
from bench.judge.rows import newest
from bench.records.record import Record
from bench.records.store import Store, read_record
from bench.views.publish import marker
from bench.views.soundness import fault

PAGE = "".join(
    f"{marker(name, 'begin')}{marker(name, 'end')}\n" for name in ("bases", "projects", "measured", "claims")
)
CLAIM = """\
    claims:
      - id: tiny-small
        text: runs in a megabyte
        source: its page
        quantity: peak memory
        precision: fp16
        at_most: 1000000
"""
COMMANDS = (
    ("show", "--columns", "all", "--warnings"), ("show", "--format", "csv"), ("show", "--columns", "points"),
    ("compare", "--details"), ("compare", "--per-byte"), ("compare", "--across", "backend"), ("claims",),
    ("catalog", "tiny"), ("plan", "--backend", "fake", "--model", "tiny", "--device", "cpu", "--missing"),
    ("recommend",), ("cache",),
)  # fmt: skip


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A catalogue of one entry with a claim, and its page."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "test.yaml").write_text(TINY_FAMILY + CLAIM)
    (folder / "README.md").write_text(PAGE)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One sound row, and beside it records that no figure can be made of: of figures, of dates, of no parser."""
    store = Store(tmp_path / "results")
    device = machine.describe("cpu").device
    cell = make_cell("memory", "fp16", device=device)
    store.write(make_record(cell, machine=make_machine(device=device), measurements=memory_samples(weights=640)))
    odd = make_cell("throughput", "int4", device=device)
    store.write(make_record(odd, measurements=speed_samples(per_repeat=0)))
    for index, change in enumerate(
        (
            {"started": "2026-02-30T00:00:00Z"},
            {"started": "yesterday"},
            {"seconds": -1},
            {"predicted": {"weights_bytes": 0}},
        )
    ):
        path = store.write(make_record(odd, measurements=speed_samples()))
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        path.rename(path.with_name(f"changed-{index}.json"))
    path.with_name("digits.json").write_text('{"schema_version": ' + "9" * 5000 + "}")
    return store.root


ODD = 6


def everything(store: Store) -> tuple[list[Record], list[str]]:
    """Every record that something can be made of, read and tried one by one, and a line for each other file."""
    found, unread = [], []
    for path in store.paths():
        try:
            record = read_record(path)
        except UserError as error:
            unread.append(str(error))
            continue
        if why := fault(record):
            unread.append(f"{path}: nothing can be shown of it: {why}; measure it again or delete the file")
        else:
            found.append(record)
    return found, unread


def test_the_index_leaves_out_what_reading_everything_does(results: Path) -> None:
    """Line by line, in its order, when it is made and when it is used again."""
    store = Store(results)
    later = make_cell("memory", "int8")
    ahead = make_record(later, measurements=memory_samples(), started="2996-01-01T00:00:00Z")
    dated = store.write(ahead)
    run = results / "cpu-test" / "runs" / "r.json"
    run.parent.mkdir(parents=True, exist_ok=True)
    run.write_text("[]")
    records, unread = everything(store)
    rows = newest(joined(records, store.runs()))
    lines = [*store.unreadable, *unread]
    for _ in range(2):
        stored = Stored(results)
        found = stored.rows()
        assert (stored.unreadable, stored.ahead) == (lines, [f"{dated}: dated 2996-01-01T00:00:00Z"])
        assert [row.records.keys() for row in found] == [row.records.keys() for row in rows]
        stored.index.save()
    assert len(stored.unreadable) == ODD + 1


@pytest.mark.usefixtures("settled_cache")
def test_a_record_that_turns_out_odd_later_is_named_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What no view shows first is tried when it is looked at: before the line that says that all was shown, or not."""
    store = Store(tmp_path / "results")
    cell = make_cell("throughput", "int4")
    store.write(make_record(cell, measurements=speed_samples(), started="2026-01-02T00:00:00Z"))
    other = cell.model_copy(update={"settings": {"tokens": 5}})
    odd = store.write(make_record(other, measurements=speed_samples(per_repeat=0), started="2026-01-01T00:00:00Z"))
    stored = Stored(store.root)
    (row,) = stored.rows()
    stored.finish()
    assert capsys.readouterr().err == ""
    assert len(row.history["throughput"]) == 1
    with pytest.raises(typer.Exit):
        stored.finish()
    assert capsys.readouterr().err.replace("\n", "").startswith(f"left unread: {odd}: nothing can be shown of it: ")
    assert len(Stored(store.root).unreadable) == 1


def call(
    capsys: pytest.CaptureFixture[str], catalog: Path, results: Path, *words: object
) -> tuple[Any, str, list[str]]:
    """A command over that catalogue and these results: its code, what it wrote, and what it said was left out."""
    where = [] if words[0] in {"show", "compare", "cache"} else ["--catalog", catalog]
    code, out, err = called(capsys, *words, *where, "--results", results)
    assert "Traceback" not in out + err
    return code, out, [line for line in err.splitlines() if line.startswith("left unread: ")]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_names_what_it_leaves_out_and_shows_the_rest(
    catalog: Path, results: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Each odd file once, by its path; the sound row's own figures stand there as without them."""
    code, out, left = call(capsys, catalog, results, *words)
    assert code in {0, 1}
    if words == ("cache",):
        return
    assert len({line.split(".json")[0] for line in left}) == ODD
    assert code == (0 if words[0] == "plan" else 1)
    if words[0] in {"show", "catalog"} and "points" not in words:
        assert "640" in out
    if words[0] == "claims":
        assert "1 claims: " in out


def test_the_rest_is_published_and_the_odd_ones_are_named(
    catalog: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code says that not all are on the page; a model whose only record is odd would be missed there."""
    code, _, left = call(capsys, catalog, results, "publish")
    assert (code, len(left)) == (1, ODD)
    page = (catalog / "README.md").read_text()
    assert "| tiny (random weights) | fp16 | fake-fp16 | 640 B |" in page
    sound = next(path for path in results.glob("*/*/*/memory/*.json"))
    sound.write_text("{}")
    code, _, err = called(capsys, "publish", "--catalog", catalog, "--results", results)
    assert code == 2 and "has figures of tiny, and these records have none" in err
    assert (catalog / "README.md").read_text() == page


def test_a_run_measures_beside_odd_records(catalog: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are named before and after, and what was measured is shown."""
    words = (
        "run",
        "--backend",
        "fake",
        "--model",
        "tiny",
        "--suite",
        "memory",
        "--precision",
        "fp16",
        "--device",
        "cpu",
    )
    code, out, left = call(capsys, catalog, results, *words, "--profile", "smoke")
    assert code == 0
    assert len(left) == 2 * ODD
    assert "tiny" in out


def dated(started: datetime, weights: int) -> Record:
    """A memory record of that moment."""
    written = f"{started:%Y-%m-%dT%H:%M:%SZ}"
    return make_record(make_cell("memory"), started=written, measurements=memory_samples(weights=weights))


def test_a_clock_that_was_ahead_hides_nothing_that_is_measured_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record of next year counts as older than today's, and its date is told; five minutes are no clock's fault."""
    now, store = datetime.now(UTC), Store(tmp_path)
    future = store.write(dated(now + timedelta(days=400), 111))
    code, out, err = called(capsys, "show", "--results", tmp_path)
    assert code == 0 and "111 B" in out
    assert f"dated in the future, so that all others count as newer; set the clock and measure again: {future}" in err
    store.write(dated(now - timedelta(days=1), 222))
    code, out, err = called(capsys, "show", "--results", tmp_path)
    assert "222 B" in out and "111 B" not in out and str(future) in err
    store.write(dated(now + timedelta(minutes=2), 333))
    future.unlink()
    code, out, err = called(capsys, "show", "--results", tmp_path)
    assert "333 B" in out and "future" not in err


def test_what_a_record_looks_like_on_disk_says_nothing_of_the_reader_s_clock(tmp_path: Path) -> None:
    """It is told on reading, and never written."""
    store = Store(tmp_path)
    path = store.write(dated(datetime.now(UTC) + timedelta(days=400), 111))
    (record,) = store.records()
    assert record.ahead
    assert "ahead" not in json.loads(path.read_text())
    assert store.path(record) == path
