# SPDX-License-Identifier: Apache-2.0
"""What cannot be true of a record that somebody else measured."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from builders import make_cell, make_condition, make_record, memory_samples, quality_samples, sample, speed_samples

from bench.judge.plausible import doubts, repeated
from bench.records.cell import Weights
from bench.records.record import Measurement, Record, Unit
from bench.records.surroundings import Roof

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ROOF = Roof(engine="x", method=2, copy_bytes_per_s=(1000.0,), matrix_per_s={"bf16": (1e6,)})


def doubted(*measurements: Measurement, suite: str = "memory", weights: int | None = None, **fields: Any) -> list[str]:
    """Reasons against a record, whose weights should have 500 bytes unless said otherwise."""
    cell = fields.pop("cell", make_cell(suite))
    return doubts(make_record(cell, measurements=measurements, **fields), lambda record: weights, NOW)


def speeds(*, itl_s: float = 0.1, prefill_s: float = 0.5, reads: float = 50.0) -> tuple[Measurement, ...]:
    """A throughput cell that reads so many bytes a step."""
    return (
        *speed_samples(prefill_s=[prefill_s] * 2, itl_s=[itl_s] * 4),
        sample("read_bytes_per_step", reads),
        sample("operations_per_token", 100.0, Unit.COUNT, compute="bf16"),
    )


def test_nothing_speaks_against_what_can_be_true() -> None:
    """A ledger, speeds below the roof, answers of a model that was loaded."""
    assert doubted(*memory_samples(), weights=500) == []
    assert doubted(*speeds(), suite="throughput", seconds=5.0, before=make_condition(roof=ROOF)) == []
    assert doubted(*quality_samples({"t": [1.0, 0.0]}), suite="quality") == []


def test_nothing_is_read_faster_than_its_device_sustains() -> None:
    """10 steps a second of 150 bytes are 1,500 of 1,000."""
    (reason,) = doubted(*speeds(reads=150), suite="throughput", seconds=5.0, before=make_condition(roof=ROOF))
    assert reason == "decodes at 150% of what its own device sustains at most"


def test_weights_have_the_bytes_of_their_architecture() -> None:
    """A tenth may differ, a quarter may not."""
    assert doubted(*memory_samples(weights=549), weights=500) == []
    assert doubted(*memory_samples(weights=625), weights=500) == [
        "weights of 625 B where tiny at fake-fp16 has 500 B"
    ]  # fmt: skip


def test_repeats_take_no_longer_than_their_cell() -> None:
    """1.4 s of samples in a cell of half a second."""
    assert doubted(*speeds(), suite="throughput", seconds=0.5) == ["its repeats take 1.4 s, the whole cell 0.5 s"]


def test_a_single_sample_has_no_interval() -> None:
    """Where no budget cut it."""
    one = speed_samples(prefill_s=[0.5], itl_s=[0.1, 0.1])
    assert sorted(doubted(*one, suite="throughput")) == [
        f"{name} has a single sample, which has no interval, and no budget cut it" for name in ("prefill_s", "ttft_s")
    ]  # fmt: skip


def test_random_weights_have_no_quality() -> None:
    """Of any engine but the fake, whose answers are known."""
    cell = make_cell("quality", weights=Weights.RANDOM, backend="transformers")
    assert doubted(*quality_samples({"t": [1.0]}), cell=cell) == ["figures of quality from random weights"]


def test_nothing_was_measured_in_the_future() -> None:
    """The schema refuses what is no moment, and seconds below zero."""
    said = doubted(*memory_samples(), started="2026-03-01T00:00:00Z")
    assert said == ["started in the future: 2026-03-01 00:00 UTC"]


def test_bytes_and_seconds_are_not_negative() -> None:
    """A change of log-probability may be."""
    assert doubted(sample("peak_bytes", -5.0)) == ["peak_bytes is negative: -5 byte"]
    assert doubted(sample("true_token_change", -5.0, Unit.NAT), suite="divergence") == []
    assert doubted() == ["ended well without a single measurement"]


def test_an_id_stands_once_on_a_device() -> None:
    """Twice on one, once on another."""

    def of(device: str) -> Record:
        return make_record(make_cell(device=device), id="0000aaaa")

    assert repeated([of("a"), of("a"), of("b")]) == {("a", "0000aaaa"): 2}
