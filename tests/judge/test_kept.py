# SPDX-License-Identifier: Apache-2.0
"""What is kept of a record is what is computed of it, and no longer than record, runs and code stay the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import failed, make_cell, make_condition, make_record, memory_samples, quality_samples, speed_samples

import suites
from bench.judge.compare import compare
from bench.judge.figures import figures
from bench.judge.joined import Joiner, from_text, joined, to_text
from bench.judge.kept import kept_of, once
from bench.judge.noise_floor import arithmetic, noise_floor
from bench.judge.pairing import PairedItems, pair, pair_task, tasks_of
from bench.judge.rows import Row, newest, newest_of, with_any
from bench.paths import RESULTS
from bench.records.cell import Weights
from bench.records.index import Index
from bench.records.record import Ending, Provenance, Record, Run
from bench.records.shelved import Shelves
from bench.records.store import Store, read_run
from bench.records.surroundings import Roof

pytestmark = pytest.mark.usefixtures("settled_cache")


def indexed(root: Path) -> tuple[Index, list[Row]]:
    """The rows of a folder by its index."""
    index = Index(root)
    shelves, joiner = Shelves(index), Joiner(index.runs(), lambda head: read_run(root / head.path))
    return index, newest_of(index, lambda head: joiner(shelves.load(head)))


def plain(root: Path) -> list[Row]:
    """The same by reading every record."""
    store = Store(root)
    return newest(joined(store.records(), store.runs()))


def told(rows: list[Row]) -> Iterator[object]:
    """All that is kept of rows and of their comparisons."""
    for row in rows:
        yield row.model, row.precision, row.loaded_as, row.checkpoint, list(row.records), row.figures()
        for record in row.records.values():
            yield record.id, figures(record), noise_floor(record), arithmetic(record), record.warnings
    found, alone = compare(with_any(rows, suites.DEFAULT))
    for item in found:
        yield item.row.scheme, item.reference.scheme, item.ratios, item.tasks, str(item.recovery), item.apart
    yield [(item.row.scheme, item.reason) for item in alone]


def test_the_committed_rows_are_the_same_by_the_index_and_from_what_it_kept() -> None:
    """Every figure, floor, pair and verdict, computed now or before."""
    expected = list(told(plain(RESULTS)))
    for _ in range(2):
        index, rows = indexed(RESULTS)
        assert list(told(rows)) == expected
        index.save()


def test_what_was_kept_is_not_computed_again(tmp_path: Path) -> None:
    """Not while the record is the same; anew once it is another."""
    store = Store(tmp_path / "results")
    path = store.write(make_record(measurements=quality_samples({"t": [1.0]})))
    made: list[int] = []

    def value() -> int:
        index, (row,) = indexed(store.root)
        found = kept_of("value", [row.records["memory"]], int, lambda: made.append(1) or len(made))
        index.save()
        return found

    assert (value(), value(), made) == (1, 1, [1])
    path.write_text(path.read_text(encoding="utf-8").replace('"seconds": 1.5', '"seconds": 2.5'), encoding="utf-8")
    assert (value(), value(), made) == (2, 2, [1, 1])


def test_a_record_that_is_no_index_s_is_computed_each_time() -> None:
    """There is nowhere to keep anything of it."""
    made: list[int] = []
    for _ in range(2):
        kept_of("value", [make_record()], int, lambda: made.append(1) or 0)
    assert len(made) == 2


def test_in_a_trial_it_is_computed_once_and_no_caller_changes_it_for_the_next() -> None:
    """As long as the trial lasts, of the very same record."""
    made: list[int] = []
    one, same = make_record(), make_record()

    def value(record: Record) -> dict[str, int]:
        return kept_of("value", [record], dict[str, int], lambda: made.append(1) or {"made": len(made)})

    with once():
        value(one)["made"] = 9
        assert (value(one), value(same), value(one)) == ({"made": 1}, {"made": 2}, {"made": 1})
    assert value(one) == {"made": 3}


def test_how_far_the_machine_moves_is_part_of_what_a_speed_was_kept_by(tmp_path: Path) -> None:
    """Another run of the device widens the interval of a record that nobody touched."""
    store, roofs = Store(tmp_path / "results"), [Roof(engine="x", copy_bytes_per_s=(c,)) for c in (100, 110, 150)]
    store.write(
        make_record(make_cell("throughput"), measurements=speed_samples(), before=make_condition(roof=roofs[0]))
    )
    widths = []
    for number, roof in enumerate(roofs[1:]):
        before, after = make_condition(roof=roofs[0]), make_condition(roof=roof)
        store.write_run(
            Run(
                run=f"r{number}",
                device="cpu-test",
                ended=f"2026-01-0{number + 1}T00:00:00Z",
                before=before,
                after=after,
            )
        )
        for _ in range(2):
            index, (row,) = indexed(store.root)
            assert row.figures() == plain(store.root)[0].figures()
            index.save()
        widths.append(row.figures()["decode_tokens_per_s"].half_width)
    assert widths[0] is not None and widths[1] is not None and widths[0] < widths[1]


def test_what_was_joined_comes_back_as_it_was() -> None:
    """Caveats beyond the record's own, and how far its machine moves."""
    store = Store(RESULTS)
    for before, after in zip(store.records(), joined(store.records(), store.runs()), strict=True):
        again = from_text(before, to_text(after))
        assert (again.outcome, again.warnings, again.variability) == (
            after.outcome, after.warnings, after.variability
        )  # fmt: skip


def test_of_a_long_history_the_pairs_are_those_of_all_its_records(tmp_path: Path) -> None:
    """Another version, other settings, other items, failures: the index leaves out only what could never be chosen."""
    store = Store(tmp_path / "results")
    for day in range(1, 15):
        for precision in ("fp16", "int4"):
            started = f"2026-01-{day:02}T00:00:0{precision == 'int4':d}Z"
            items = [1.0, 0.0] * (1 + day % 3)
            quality = make_cell("quality", precision, settings={"items": len(items)})
            measured = quality_samples({"t": items, "u": items[: day % 2]}, digest=f"d{day % 6}")
            store.write(make_record(quality, measurements=measured, started=started))
            cell = make_cell("throughput", precision, settings={"tokens": day % 4 + (precision == "int4")})
            store.write(make_record(cell, measurements=speed_samples(), started=started))
    (_, rows), every = indexed(store.root), plain(store.root)
    assert len(rows[0].history["quality"]) < len(every[0].history["quality"])
    for these in ((0, 1), (1, 0)):
        (row, reference), (own, other) = ([found[i] for i in these] for found in (rows, every))
        assert [r.id for r in pair(row, reference, "throughput") or ()] == [
            r.id for r in pair(own, other, "throughput") or ()
        ]
        assert tasks_of(row) == tasks_of(own) == ["t", "u"]
        for task in ("t", "u"):
            assert _said(pair_task(row, reference, task)) == _said(pair_task(own, other, task))


def _said(found: PairedItems | str) -> object:
    return found if isinstance(found, str) else (found.these, found.reference, found.this.id, found.base.id)


FILES = (
    {"a.safetensors": "1000:aaaaaaaaaaaa"},
    {"a.safetensors": "1000:aaaaaaaaaaaa:cccccccccccc", "config.json": "10:dddddddddddd"},
    {"a.safetensors": "2000:bbbbbbbbbbbb"},
    None,
)
"""Of one checkpoint less and more, of another, and of a cell that never got so far."""


@pytest.mark.parametrize("seed", range(12))
def test_rows_of_any_history_are_those_of_all_its_records(tmp_path: Path, seed: int) -> None:
    """Several weights of one name, cells that loaded none, dates in the future, failures, limits, in any order."""
    rng, store = random.Random(seed), Store(tmp_path / "results")
    names = ("m", "n") if seed % 2 else ("m",)
    tables = FILES if seed % 3 else (FILES[0], None)
    for _ in range(60):
        cell = make_cell(
            rng.choice(["memory", "quality"]), rng.choice(["fp16", "int4"]), model=rng.choice(names),
            weights=Weights.LOCAL, source="folder", fingerprint=rng.choice([None, None, "f1", "f2"][: 2 + seed % 3]),
            settings={"items": rng.choice([2, 4])},
        )  # fmt: skip
        changes = {
            "started": f"20{rng.choice([26, 26, 26, 96])}-01-{rng.randint(1, 28):02}T00:00:{rng.randint(0, 59):02}Z",
            "run": rng.choice(["r1", "r2", "r3"]),
        }
        files = rng.choice(tables)
        if files is None:
            store.write(failed(cell, rng.choice([Ending.DOES_NOT_FIT, Ending.FAILED]), **changes))
            continue
        measured = quality_samples({"t": [1.0] * rng.randint(1, 2)}) if cell.suite == "quality" else memory_samples()
        loaded = Provenance(source="folder", files=files)
        store.write(make_record(cell, provenance=loaded, measurements=measured, **changes))
    (_, rows), every = indexed(store.root), plain(store.root)
    assert len(every) > 1
    assert [_row(row) for row in rows] == [_row(row) for row in every]
    assert list(told(rows)) == list(told(every))


def _row(row: Row) -> object:
    shown = {suite: record.id for suite, record in row.records.items()}
    return row.name, row.loaded_as, row.scheme, row.checkpoint, list(row.history), shown
