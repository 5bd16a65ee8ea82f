# SPDX-License-Identifier: Apache-2.0
"""The same rows in two result sets: what regressed, improved, stayed, and what cannot be told."""

from __future__ import annotations

from typing import Any

import pytest
from builders import make_cell, make_record, make_versions, memory_samples, quality_samples, sample, speed_samples

from bench.judge.against import Course, against
from bench.judge.rows import newest
from bench.records.record import Measurement, Provenance, Record, Unit


def courses(now: list[Record], before: list[Record]) -> dict[str, tuple[Course, float]]:
    """By figure what became of it and by how much, of the only row."""
    (one,), lone = against(newest(now), newest(before))
    assert lone == []
    return {change.figure: (change.course, round(change.change.value, 4)) for change in one.changes}


def of(suite: str, *measurements: Measurement, **fields: Any) -> list[Record]:
    return [make_record(make_cell(suite), measurements=measurements, **fields)]


def speeds(tokens_per_s: float, spread: float = 0.01) -> tuple[Measurement, ...]:
    """Six repeats of two gaps each around that rate."""
    gaps = [1 / (tokens_per_s * (1 + spread * at)) for at in (-1, -0.5, 0, 0, 0.5, 1) for _ in range(2)]
    return speed_samples(prefill_s=[0.5] * 6, itl_s=gaps)


@pytest.mark.parametrize(
    ("now", "course"),
    [(8.0, Course.REGRESSED), (12.0, Course.IMPROVED), (10.1, Course.SAME)],
)
def test_a_speed_changed_where_its_whole_interval_lies_on_one_side(now: float, course: Course) -> None:
    """10 tokens/s with 1 % of spread: 20 % are a change, 1 % is none."""
    found = courses(of("throughput", *speeds(now)), of("throughput", *speeds(10.0)))
    assert found["decode_tokens_per_s"] == (course, round(now / 10 - 1, 4))
    assert found["prefill_tokens_per_s"] == (Course.SAME, 0.0)


def test_a_speed_within_its_noise_is_undecided() -> None:
    """8 % less, where repeats differ by 30 %."""
    found = courses(of("throughput", *speeds(9.2, spread=0.3)), of("throughput", *speeds(10.0, spread=0.3)))
    assert found["decode_tokens_per_s"][0] is Course.UNDECIDED


def test_memory_has_no_interval_and_a_margin_of_two_percent() -> None:
    """645 bytes at the peak: 7 more are the same, 64 more are not."""
    base = of("memory", *memory_samples())
    assert courses(of("memory", *memory_samples(workspace=77)), base)["peak_bytes"][0] is Course.SAME
    assert courses(of("memory", *memory_samples(workspace=134)), base) == {
        "weights_bytes": (Course.SAME, 0.0), "peak_bytes": (Course.REGRESSED, 0.1),
    }  # fmt: skip


def test_quality_is_judged_on_the_same_items_and_windows() -> None:
    """40 of 80 right answers lost; perplexity of six windows 10 % up, each by as much."""
    base = [*of("quality", *quality_samples({"t": [1.0] * 80 + [0.0] * 20})), *of("divergence", _nll(2.0))]
    now = [*of("quality", *quality_samples({"t": [0.0] * 40 + [1.0] * 40 + [0.0] * 20})), *of("divergence", _nll(2.1))]
    found = courses(now, base)
    assert found["acc:t"] == (Course.REGRESSED, -0.4)
    assert found["ppl"] == (Course.REGRESSED, 0.1052)
    again = [*of("quality", *quality_samples({"t": [1.0] * 80 + [0.0] * 20})), *of("divergence", _nll(2.0))]
    assert courses(again, base) == {"acc:t": (Course.SAME, 0.0), "ppl": (Course.SAME, 0.0)}


def _nll(middle: float) -> Measurement:
    return sample("nll_nat", [middle + at / 1000 for at in range(6)], Unit.NAT, window_tokens=2)


def test_what_else_changed_is_named() -> None:
    """A package, the driver, the project's revision; nothing that is the same."""
    old = make_record(measurements=memory_samples(), versions=make_versions(torch="2.12.0", numpy="2.4.0"), threads=2)
    new = make_record(measurements=memory_samples(), versions=make_versions(torch="2.13.0", numpy="2.4.0"), threads=4)
    (one,), _ = against(newest([new]), newest([old]))
    assert one.versions == {"torch": ("2.12.0", "2.13.0"), "threads": ("2", "4")}


def test_records_that_are_the_very_same_say_nothing() -> None:
    """A results folder against itself."""
    records = of("memory", *memory_samples())
    assert against(newest(records), newest(records)) == ([], [])


def test_rows_of_another_box_pair_across_devices_and_other_weights_do_not_pair() -> None:
    """No device in common: the rows meet. Other files are another model."""
    there = [make_record(make_cell(device="gpu-there"), measurements=memory_samples())]
    here = of("memory", *memory_samples())
    (one,), _ = against(newest(here), newest(there))
    assert (one.row.device, one.before.device) == ("cpu-test", "gpu-there")
    files = Provenance(source="fake", files={"none": "1:1"})
    found, (alone,) = against(newest(of("memory", *memory_samples(), provenance=files)), newest(here))
    assert found == []
    assert alone.reason.startswith("nothing that was asked in both")


def test_a_row_of_one_set_alone_is_said() -> None:
    """Of either."""
    one, other = of("memory", *memory_samples()), [make_record(make_cell(model="b"), measurements=memory_samples())]
    _, lone = against(newest(one), newest(other))
    assert [(item.row.model, item.reason) for item in lone] == [
        ("tiny", "only in this result set"), ("b", "only in the other result set"),
    ]  # fmt: skip
