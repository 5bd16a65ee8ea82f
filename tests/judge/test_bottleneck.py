# SPDX-License-Identifier: Apache-2.0
"""Shares of roofs that are roofs, and what a row's speeds say of its device: known rates in, known answers out."""

from __future__ import annotations

from typing import Any

import pytest
from builders import make_cell, make_condition, make_record, sample, speed_samples

from bench.engines import fake
from bench.judge.bottleneck import Lever, why_this_fast
from bench.judge.figures import figures
from bench.judge.joined import joined
from bench.judge.reasons import no_share
from bench.judge.speeds import exceeds, held_against, main_point, quantities_used
from bench.judge.stats import Estimate
from bench.paths import ROOT
from bench.records.record import Record, Unit
from bench.records.store import Store
from bench.records.surroundings import Roof

AVX2 = Roof(
    method=2, engine="x", copy_bytes_per_s=(800,), read_bytes_per_s={"fp32": (1000,), "bf16": (100,)},
    matrix_per_s={"fp32": (13_000,), "bf16": (1000,), "fp16": (900,), "int8": (30_000,)},
)  # fmt: skip
"""A device without units for 16-bit types."""


def row(roof: Roof | None, compute: str | None = "bf16", *, read: float = 40.0, operations: float = 2.0) -> Record:
    """200 tokens/s of prefill and 10 tokens/s of decode: `read` bytes a step, `operations` a token."""
    terms = (
        sample("read_bytes_per_step", read, Unit.BYTE, prompt_tokens=100, batch=1),
        sample("operations_per_token", operations, Unit.COUNT, compute=compute),
    )
    speed = speed_samples(prefill_s=(0.5, 0.5), itl_s=(0.1, 0.1, 0.1, 0.1))
    return make_record(make_cell("throughput"), measurements=speed + terms, before=make_condition(roof=roof))


def test_an_emulated_type_is_told_with_how_much_faster_float32_is() -> None:
    """Prefill at 40 % of bf16's rate is 3 % of float32's; decode at 40 % of memory, and float32 reads five times."""
    found = why_this_fast(row(AVX2))
    assert found.decode_share is not None and found.decode_share.value == pytest.approx(0.4)
    assert found.prefill_share is not None and found.prefill_share.value == pytest.approx(0.4)
    assert found.prefill_share_of_fastest is not None
    assert found.prefill_share_of_fastest.value == pytest.approx(0.4 / 13)
    assert (found.compute, found.emulated, found.fp32_times) == ("bf16", True, 13)
    assert (found.fastest, found.fastest_times) == ("fp32", 13)
    assert (found.decode_lever, found.prefill_lever) == (Lever.ANOTHER_TYPE, Lever.ANOTHER_TYPE)


def test_what_memory_holds_back_wants_fewer_bytes() -> None:
    """Decode at 78 % of what memory sustains; prefill is at the best type's rate already."""
    found = why_this_fast(row(AVX2, "fp32", read=78.0))
    assert found.decode_share is not None and found.decode_share.value == pytest.approx(0.78)
    assert (found.decode_lever, found.prefill_lever) == (Lever.FEWER_BYTES, Lever.NOTHING)
    assert (found.emulated, found.fp32_times, found.fastest, found.fastest_times) == (False, 1, "fp32", 1)


def test_kernels_that_wait_for_neither_have_no_lever() -> None:
    """A twentieth of memory and of the matrix rate in the fastest type: no format and no type would help."""
    found = why_this_fast(row(AVX2, "fp32", read=5.0))
    assert (found.decode_lever, found.prefill_lever) == (Lever.NOTHING, Lever.NOTHING)


def test_a_type_that_is_hardly_slower_is_not_emulated() -> None:
    """fp16 at 93 % of float32's rate, as on the AMX machine: a look differs by more; bf16 there is the fastest."""
    amx = Roof(method=2, engine="x", matrix_per_s={"fp32": (100,), "fp16": (93,), "bf16": (700,)})
    half, brain = why_this_fast(row(amx, "fp16")), why_this_fast(row(amx, "bf16"))
    assert (half.emulated, half.fastest, half.fastest_times) == (False, "bf16", pytest.approx(700 / 93))
    assert (brain.emulated, brain.fp32_times, brain.prefill_lever) == (False, pytest.approx(1 / 7), Lever.NOTHING)
    assert brain.decode_share is None and brain.decode_lever is None


@pytest.mark.parametrize(
    "record", [row(None), row(AVX2, None), row(AVX2.model_copy(update={"method": 1})), make_record()]
)
def test_what_no_roof_tells_is_none(record: Record) -> None:
    """No look, no known type, a look by the older method, which may have been of the wrong layout; or no speeds."""
    found = why_this_fast(record)
    assert (found.emulated, found.fp32_times, found.fastest, found.prefill_lever) == (None, None, None, None)


def test_the_fakes_shares_are_known() -> None:
    """Copying, at 1 GB/s, is more than any product of one row reads."""
    found = why_this_fast(row(fake.ROOF, read=4e7, operations=5e7))
    assert found.decode_share is not None and found.decode_share.value == pytest.approx(0.4)
    assert found.prefill_share is not None and found.prefill_share.value == pytest.approx(0.2)
    assert (found.emulated, found.fp32_times) == (True, 2)


def test_a_roof_that_a_row_exceeds_is_none_and_says_so() -> None:
    """13 times the rate of row-major bf16: no share but the reason; the other share stands."""
    old = Roof(engine="x", copy_bytes_per_s=(1000,), matrix_per_s={"bf16": (30,)})
    record = row(old)
    assert "prefill_matrix_share" not in figures(record)
    assert figures(record)["decode_bandwidth_share"].value == pytest.approx(0.4)
    assert no_share(record, "prefill_matrix_share") == (
        "faster than the matrix rate of bf16 as its run measured that, by an older method: no roof; measure again"
    )
    today = row(old.model_copy(update={"method": 2}), read=120.0)
    assert no_share(today, "decode_bandwidth_share") == (
        "faster than what memory sustains as its run measured that: no roof; measure again"
    )


def test_a_share_may_touch_1_within_its_interval() -> None:
    """Of today's method; of the older one 1 is exceeded by the value alone."""
    near = Estimate(1.02, 0.97, 1.07)
    assert not exceeds(near, AVX2)
    assert exceeds(near, AVX2.model_copy(update={"method": 1}))
    assert exceeds(Estimate(1.02), AVX2) and exceeds(Estimate(1.1, 1.01, 1.2), AVX2)


@pytest.mark.parametrize(
    ("compute", "left_out", "used"),
    [
        ("bf16", "", ("bf16", "read bf16")),
        (None, "", ("memory",)),
        ("fp32", "itl_s", ("fp32",)),
        ("fp32", "prefill_s", ("read fp32",)),
    ],
)
def test_a_row_uses_the_type_it_computes_in_and_reads(compute: Any, left_out: str, used: tuple[str, ...]) -> None:
    """A masked model generates nothing; an unknown type tells memory alone, as do looks that read no weights."""
    record = row(AVX2, compute)
    kept = tuple(m for m in record.measurements if m.name != left_out)
    assert quantities_used(record.model_copy(update={"measurements": kept})) == used
    assert quantities_used(make_record()) == ()
    bare = AVX2.model_copy(update={"read_bytes_per_s": {}})
    assert quantities_used(row(bare, "bf16")) == ("bf16", "memory")


def test_no_committed_row_exceeds_its_roof() -> None:
    """What is shown is at most 1, and a roof of today's method is one for every row: 1 within the row's interval."""
    store = Store(ROOT / "results")
    shown = 0
    for record in joined(store.records(), store.runs()):
        roof = record.before.roof
        held = held_against(main_point(record), roof)
        for name in held.keys() & figures(record).keys():
            share = figures(record)[name]
            low = share.value if share.low is None else share.low
            assert low <= 1, (record.cell.model, record.cell.scheme, name, share)
            shown += 1
        if roof is not None and roof.method > 1:
            assert not [name for name, share in held.items() if exceeds(share, roof)], record.id
    assert shown > 20
