# SPDX-License-Identifier: Apache-2.0
"""Expected seconds of loads, from pauses between records."""

from __future__ import annotations

from typing import Any

import pytest
from builders import failed, make_cell, make_record, sample

from bench.plan.loading import Loading, loads
from bench.plan.predict import RATES
from bench.records.cell import Cell
from bench.records.record import Prediction, Record, Unit

MB = 10**6


def at(
    second: int, of: Cell, seconds: float, *, megabytes: int = 100, read_s: float | None = None, **more: Any
) -> Record:
    """A record that began at that second of the run."""
    read = () if read_s is None else (sample("load_s", read_s, Unit.SECOND),)
    return make_record(
        of, started=f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}Z", seconds=seconds, measurements=read,
        predicted=Prediction(weights_bytes=megabytes * MB), **more,
    )  # fmt: skip


def run(**more: Any) -> list[Record]:
    """fp16: two cells until 0:12. int8: 6 s until its first, of which 1 s read; int4: 8 s, of which 2."""
    return [
        at(5, make_cell("memory"), 2.0, read_s=0.5, **more),
        at(8, make_cell("throughput"), 4.0, **more),
        at(18, make_cell("memory", "int8"), 2.0, megabytes=50, read_s=1.0, **more),
        at(28, make_cell("memory", "int4"), 2.0, megabytes=40, read_s=2.0, **more),
    ]


def test_a_load_is_the_pause_before_its_first_cell() -> None:
    """Nothing tells that of a run's first."""
    assert [(load.cell.scheme, load.whole_s, load.read_s) for load in loads(run())] == [
        ("fake-int4", 8.0, 2.0), ("fake-int8", 6.0, 1.0), ("fake-fp16", None, 0.5),
    ]  # fmt: skip


def test_a_failed_cell_is_no_pause() -> None:
    """It took its time before the next load."""
    ended = failed(make_cell("divergence", "int8"), started="2026-01-01T00:00:20Z", seconds=6.0)
    assert next(load.whole_s for load in loads([*run(), ended])) == 2.0


def test_a_load_is_expected_to_take_what_it_took_here() -> None:
    """The newest of the same model, engine and scheme."""
    assert Loading(run(), "cpu").seconds(make_cell("memory", "int8"), Prediction(weights_bytes=50 * MB)) == 6.0


def test_another_model_waits_as_long_and_takes_by_its_bytes() -> None:
    """5 s for the process (the lower of 5 and 6), and int4's 2 s for 40 MB ten times over."""
    larger = make_cell("memory", "int4", model="larger")
    assert Loading(run(), "cpu").seconds(larger, Prediction(weights_bytes=400 * MB)) == pytest.approx(5 + 20)


def test_a_scheme_nobody_loaded_takes_by_the_bytes_of_others() -> None:
    """The three that are there took 5, 20 and 50 ns a byte."""
    fp32 = make_cell("memory", "fp32")
    assert Loading(run(), "cpu").seconds(fp32, Prediction(weights_bytes=200 * MB)) == pytest.approx(5 + 4)


def test_a_pause_that_will_not_come_again_does_not_count() -> None:
    """Nearly ten minutes where int4 took 16 s, 2 of them to read: weights were made, or records between are gone."""
    late = [record for record in run() if record.cell.scheme != "fake-int8"]
    late.append(at(600, make_cell("memory", "int8"), 2.0, megabytes=50, read_s=1.0))
    found = Loading(late, "cpu").seconds(make_cell("memory", "int8"), Prediction(weights_bytes=50 * MB))
    assert found == pytest.approx(14 + 1)


def test_without_records_constants_are_the_last_resort() -> None:
    """Of a kind of device."""
    for kind, usual in RATES.items():
        found = Loading([], kind).seconds(make_cell(), Prediction(weights_bytes=10**10))
        assert found == pytest.approx(usual.load_s + 10**10 / usual.load_bytes_per_s)
