# SPDX-License-Identifier: Apache-2.0
"""How far a machine moves between moments is known from its runs, and widens what no repeats could."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from builders import make_cell, make_condition, make_record, sample, speed_samples

from bench.judge.figures import figures
from bench.judge.joined import joined
from bench.judge.rows import newest
from bench.judge.speeds import point_figures, speed_ratios
from bench.judge.stats import Estimate, ratio_of_medians
from bench.judge.variability import Seen, half_range, looks
from bench.records.head import run_head
from bench.records.record import Run, Unit
from bench.records.store import Store
from bench.records.surroundings import Roof, Variability
from bench.views import footnotes


def roof(copy: float, fp32: float = 100.0, **fields: object) -> Roof:
    """One look."""
    known = {"engine": "x", "threads": 2, "copy_bytes_per_s": (copy,), "matrix_per_s": {"fp32": (fp32,)}}
    return Roof.model_validate(known | fields)


def variability(own: Roof, roofs: list[Roof]) -> Variability | None:
    """What these looks tell a run with that roof."""
    return Seen([[found.rates() if found.method == 1 else found.movable()] for found in roofs]).around(own)


def run(before: Roof, after: Roof, device: str = "cpu-test", others: float | None = None) -> Run:
    """A run that looked twice."""
    conditions = [make_condition(roof=found, others_cpu=others) for found in (before, after)]
    return Run(run="r", device=device, ended="2026-01-01T00:00:00Z", before=conditions[0], after=conditions[1])


def test_few_looks_tell_by_their_range_and_many_by_their_spread() -> None:
    """Two: range / 1.128; five: / 2.326; from six on the standard deviation, unless one look was an odd one."""
    assert half_range([90, 110]) == round(1.96 * (20 / 1.128) / 100, 4)
    assert half_range([90, 95, 100, 105, 110]) == round(1.96 * (20 / 2.326) / 100, 4)
    assert half_range([99, 101, 99, 101, 99, 101]) == round(1.96 * math.sqrt(6 / 5) / 100, 4)
    assert half_range([98, 99, 100, 101, 102, 10]) == round(1.96 * 1.4826 * 1.5 / 99.5, 4)
    assert half_range([100, 100]) == 0


def test_a_normal_machine_is_known_to_within_what_its_looks_can_tell() -> None:
    """A standard deviation of 5 %: half of the 95 % range is 9.8 %; from two looks on average, from twenty nearly."""
    import numpy as np

    draw = np.random.default_rng(0)
    two = [half_range(list(draw.normal(1, 0.05, 2))) for _ in range(2000)]
    twenty = [half_range(list(draw.normal(1, 0.05, 20))) for _ in range(500)]
    assert sum(two) / len(two) == pytest.approx(0.098, rel=0.05)
    assert sum(twenty) / len(twenty) == pytest.approx(0.098, rel=0.15)
    assert sorted(twenty)[12] > 0.05 and sorted(twenty)[-12] < 0.14


def test_only_looks_of_the_same_thing_in_quiet_are_compared() -> None:
    """Other devices, other threads and other libraries are other looks; a busy moment is none; one tells nothing."""
    ends = (
        run_head(end, "")
        for end in [
            run(roof(100), roof(110)),
            run(roof(50), roof(50), others=0.5),
            run(roof(200, threads=1), roof(200, threads=1)),
            run(roof(300), roof(300), device="cpu-other"),
            Run.model_validate(run(roof(7, engine="y"), roof(7)).model_dump()),
        ]
    )
    assert {key: [rates["copy"] for rates in seen.rates] for key, seen in looks(ends).items()} == {
        ("cpu-test", "x", 2, 1): [100, 110, 7],
        ("cpu-test", "x", 1, 1): [200, 200],
        ("cpu-other", "x", 2, 1): [300, 300],
        ("cpu-test", "y", 2, 1): [7],
    }


def test_a_look_at_half_the_speed_saw_another_machine() -> None:
    """Fewer threads than were said, or a quota: no movement; what some look lacks has no share; one look tells none."""
    share = round(1.96 * (10 / 1.128) / 105, 4)
    found = variability(roof(100), [roof(100), roof(110), roof(50), roof(100, 55), roof(200)])
    assert found == Variability(looks=2, shares={"copy": share, "fp32": 0.0})
    assert variability(roof(100), [roof(100), roof(50)]) is None
    bare = variability(roof(1), [roof(1), Roof(engine="x", copy_bytes_per_s=(1,))])
    assert bare is not None and bare.shares == {"copy": 0.0}
    today = [roof(100, method=2, read_bytes_per_s={"bf16": (read,)}) for read in (200, 220)]
    read = variability(today[0], today)
    moved = round(1.96 * (20 / 1.128) / 210, 4)
    assert read == Variability(looks=2, shares={"memory": moved, "fp32": 0.0, "read bf16": moved})


def test_an_independent_error_is_added_in_squares_on_either_side() -> None:
    """100 (97 to 104) with 4 %: 3 and 4 make 5, 4 and 4 make 5.66; without an interval there is none to widen."""
    assert Estimate(100, 97, 104).widened(0.04) == Estimate(100, 95, 100 + math.sqrt(32))
    assert Estimate(100, 97, 104).widened(0) == Estimate(100, 97, 104)
    assert Estimate(100).widened(0.04) == Estimate(100)


def test_what_computes_moves_with_products_and_what_reads_with_copies() -> None:
    """A model that computes in bf16: its prefill by 30 %, its decode by 40 %; without looks nothing is added."""
    terms = sample("operations_per_token", 6.0, Unit.COUNT, compute="bf16")
    speed = (*speed_samples(prefill_s=(0.5, 0.5), itl_s=(0.1, 0.1, 0.1, 0.1)), terms)
    moved = Variability(looks=2, shares={"copy": 0.4, "fp32": 0.1, "bf16": 0.3})
    still = make_record(make_cell("throughput"), measurements=speed)
    record = still.model_copy(update={"variability": moved})
    found, plain = figures(record), figures(still)
    assert found["prefill_tokens_per_s"].half_width == pytest.approx(0.3 * found["prefill_tokens_per_s"].value)
    assert found["ttft_s"].half_width == pytest.approx(
        math.hypot(0.3 * found["ttft_s"].value, plain["ttft_s"].half_width)
    )
    assert found["decode_tokens_per_s"].half_width == pytest.approx(0.4 * 10)
    assert found["itl_s"].half_width == pytest.approx(0.4 * 0.1)
    assert plain["prefill_tokens_per_s"].half_width == 0
    (at,) = point_figures(record).values()
    assert at["decode_each"].half_width == pytest.approx(0.4 * 10)
    ratios = speed_ratios(record, record)
    assert ratios["prefill_tokens_per_s"].half_width == pytest.approx(math.hypot(0.3, 0.3))
    assert ratios["decode_tokens_per_s"].half_width == pytest.approx(math.hypot(0.4, 0.4))
    assert speed_ratios(still, still)["decode_tokens_per_s"] == ratio_of_medians([10, 10], [10, 10])
    today = record.model_copy(update={"variability": Variability(looks=2, shares={"memory": 0.4, "bf16": 0.3})})
    assert figures(today)["decode_tokens_per_s"] == found["decode_tokens_per_s"]
    roof_read = Roof(engine="x", method=2, read_bytes_per_s={"bf16": (2.0,)})
    shares = {"memory": 0.9, "bf16": 0.3, "read bf16": 0.4}
    of_type = today.model_copy(
        update={"variability": Variability(looks=2, shares=shares), "before": make_condition(roof=roof_read)}
    )
    assert figures(of_type)["decode_tokens_per_s"] == found["decode_tokens_per_s"]  # not what copying did
    unknown = record.model_copy(update={"measurements": speed[:-1]})
    assert figures(unknown)["prefill_tokens_per_s"].half_width == pytest.approx(0.1 * 200)  # float32's


def test_rows_of_one_run_share_what_moved_before_it() -> None:
    """Two hosts, 100 and 140 as fast, each still to 2 % within its run: that moves a ratio of one run's rows."""
    hosts = [[{"copy": 100.0}, {"copy": 102.0}], [{"copy": 140.0}, {"copy": 140.0}], [{"copy": 100.0}]]
    moved = Seen(hosts).around(Roof(engine="x", copy_bytes_per_s=(100.0,)))
    assert moved is not None
    assert moved.shares["copy"] == half_range([100, 102, 140, 140, 100])
    assert moved.within == {"copy": round(half_range([100, 102]) / 2, 4)}
    speed = speed_samples(prefill_s=(0.5, 0.5), itl_s=(0.1, 0.1, 0.1, 0.1))
    record = make_record(make_cell("throughput"), measurements=speed).model_copy(update={"variability": moved})
    other = record.model_copy(update={"run": "another"})
    within, between = moved.within["copy"], moved.shares["copy"]
    decode = "decode_tokens_per_s"
    assert speed_ratios(record, record)[decode].half_width == pytest.approx(math.hypot(within, within))
    assert speed_ratios(record, other)[decode].half_width == pytest.approx(math.hypot(between, between))
    assert figures(record)[decode].half_width == pytest.approx(between * 10)


def test_records_carry_it_on_reading_and_no_file_holds_it(tmp_path: Path) -> None:
    """Joined by device, library and threads; tables say where the ± comes from."""
    store = Store(tmp_path)
    speed = speed_samples(prefill_s=(0.5, 0.5), itl_s=(0.1, 0.1, 0.1, 0.1))
    for scheme, looked in (("fake-fp16", roof(100)), ("fake-int8", roof(100, threads=1))):
        cell = make_cell("throughput", scheme=scheme)
        store.write(make_record(cell, measurements=speed, before=make_condition(roof=looked)))
    device = make_cell().device
    store.write_run(run(roof(100), roof(110), device=device))
    records = {record.cell.scheme: record for record in joined(store.records(), store.runs())}
    assert records["fake-int8"].variability is None
    told = records["fake-fp16"].variability
    assert told is not None
    assert told.model_copy(update={"within": {}}) == variability(roof(100), [roof(100), roof(110)])
    assert told.within == told.shares  # a single run
    assert not any("variability" in path.read_text() for path in tmp_path.glob("*/*/*/*/*.json"))
    share = round(1.96 * (10 / 1.128) / 105, 4)
    line, ratio = footnotes.variability(newest(records.values()))
    assert ratio == "Ratios of one run's rows include what moves within a run: copy 16.6%, fp32 0.0%."
    where, found = line.split("): ")
    assert where == f"± of speeds includes how far this machine's own rates move between moments ({device}, x, 2 looks"
    assert found == f"copy {share:.1%}, fp32 0.0%."
    without = records["fake-fp16"].model_copy(update={"variability": Variability(looks=2, shares={})})
    assert footnotes.variability(newest([without])) == []


def test_looks_are_worked_out_once_for_all_who_mean_the_same_ones() -> None:
    """A thousand records of a thousand runs ask; those who mean others than most get others."""
    draw = random.Random(0)
    quick = [roof(draw.uniform(95, 105), draw.uniform(190, 210)) for _ in range(300)]
    slow = [roof(draw.uniform(40, 50), draw.uniform(80, 100)) for _ in range(5)]
    bare = [Roof(engine="x", copy_bytes_per_s=(draw.uniform(95, 105),)) for _ in range(3)]
    every = [*quick, *slow, *bare]
    seen = Seen([[found.rates()] for found in every])
    for own in every:
        assert seen.around(own) == Seen([[found.rates()] for found in every]).around(own)
        near = [found for found in every if _near(found.rates(), own.rates())]
        moved = seen.around(own)
        assert moved is not None and moved.looks == len(near)
    assert len(seen._known) == 3


def _near(these: dict[str, float], those: dict[str, float]) -> bool:
    return all(1 / 1.8 < these[name] / those[name] < 1.8 for name in these.keys() & those.keys())
