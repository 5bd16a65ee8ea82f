# SPDX-License-Identifier: Apache-2.0
"""Caches side by side: a line for each depth and cache, within 80 characters, and the same in flat rows."""

from __future__ import annotations

from builders import make_cell, make_record, memory_samples, sample

from bench.judge.caches import caches_side_by_side
from bench.judge.rows import newest
from bench.records.record import Record, Unit
from bench.views import caches
from bench.views.layout import widths
from suites import kv


def measured(kept: str | None, attention: str, distance: float | None, floor: float, step_s: float) -> list[Record]:
    """Records of one cache at depth 512 and 2,048, where its distance is twice as great."""
    settings = {"depths": [512, 2048], "attention": attention, **({"kv": kept} if kept else {})}
    found = []
    for depth, times in ((512, 1), (2048, 2)):
        labels = {"depth": depth}
        found.append(sample("kv_floor_nat", [floor] * 4, Unit.NAT, window_tokens=2, **labels))
        if distance is not None:
            found.append(sample("kv_kld_nat", [times * distance] * 4, Unit.NAT, window_tokens=2, **labels))
        found.append(sample("kv_step_s", [times * step_s] * 4, Unit.SECOND, **labels))
        found.append(sample("kv_cache_bytes", [2048.0 * depth], Unit.BYTE, tokens=depth, **labels))
    where = {"backend": "llamacpp", "scheme": "gguf-q8_0"}
    memory = {"prompt_tokens": 512, "decode_tokens": 32, **{k: v for k, v in settings.items() if k != "depths"}}
    return [
        make_record(make_cell("kv", "int8", settings={**kv.PROFILES["smoke"], **settings}, **where),
                    measurements=tuple(found)),
        make_record(make_cell("memory", "int8", settings=memory, **where), measurements=memory_samples(workspace=2048)),
    ]  # fmt: skip


RECORDS = [
    *measured("int4", "flash", 0.04, 0.0001, 0.02), *measured(None, "flash", None, 0.0002, 0.01),
    *measured("int8", "flash", 0.002, 0.0001, 0.0125), *measured("int8/fp16", "plain", 0.001, 0.0001, 0.01),
]  # fmt: skip


def test_what_is_compared_stands_one_beneath_the_other() -> None:
    """Depth by depth, the own cache first, and beside each how it attends."""
    (view,) = caches.views(caches_side_by_side(newest(RECORDS)))
    assert view.title == "tiny llamacpp gguf-q8_0 on cpu-test, caches side by side"
    assert view.table.titles == ["depth", "cache", "KL, nats", "floor", "decode", "per 1,000 tokens", "scratch"]
    assert [row[:5] for row in view.table.rows] == [
        ["512", "own (flash)", "reference", "0.0002", "100 ±0"],
        ["512", "int8 (flash)", "0.002", "0.0001", "80.0 ±0.0"],
        ["512", "int8/fp16 (plain)", "0.001", "0.0001", "100 ±0"],
        ["512", "int4 (flash)", "0.04", "0.0001", "50.0 ±0.0"],
        ["2,048", "own (flash)", "reference", "0.0002", "50.0 ±0.0"],
        ["2,048", "int8 (flash)", "0.004", "0.0001", "40.0 ±0.0"],
        ["2,048", "int8/fp16 (plain)", "0.002", "0.0001", "50.0 ±0.0"],
        ["2,048", "int4 (flash)", "0.08", "0.0001", "25.0 ±0.0"],
    ]
    assert {row[5] for row in view.table.rows} == {"1.95 MiB"}
    assert {row[6] for row in view.table.rows} == {"2.00 KiB"}


def test_the_table_has_room_in_80_characters() -> None:
    """As a table, not as blocks."""
    (view,) = caches.views(caches_side_by_side(newest(RECORDS)))
    found = widths(view.table, 80)
    assert found is not None and sum(found) + 2 * len(found) <= 80


def test_a_cache_that_was_not_measured_at_a_depth_has_no_line_there() -> None:
    """Nor a scratch where the memory suite did not measure it."""
    deep, _ = measured("int8", "flash", 0.002, 0.0001, 0.0125)
    shallow = deep.model_copy(
        update={
            "cell": deep.cell.model_copy(update={"settings": {**deep.cell.settings, "kv": "int4"}}),
            "measurements": tuple(one for one in deep.measurements if one.labels["depth"] == 512),
            "id": "0a0b0c0d",
        }
    )
    (view,) = caches.views(caches_side_by_side(newest([deep, shallow])))
    assert [row[:2] for row in view.table.rows] == [
        ["512", "int8 (flash)"], ["512", "int4 (flash)"], ["2,048", "int8 (flash)"],
    ]  # fmt: skip
    assert {row[6] for row in view.table.rows} == {"-"}


def test_flat_rows_hold_the_same_in_base_units() -> None:
    """One for each cache and depth."""
    found = caches.flats(caches_side_by_side(newest(RECORDS)))
    assert len(found) == 8
    (row,) = [one for one in found if one["kv"] == "int4" and one["depth"] == 2048]
    assert (row["kv_kld"], row["kv_floor"], row["kv_bytes_per_token"]) == (0.08, 0.0001, 2048.0)
    assert (row["workspace_bytes"], row["way"]) == (2048, "attention flash, kv int4")
