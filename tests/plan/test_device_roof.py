# SPDX-License-Identifier: Apache-2.0
"""Which look at a device a plan believes."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import make_condition

from bench.catalog.entries import read_catalog
from bench.instruments import machine
from bench.plan import device_roof
from bench.plan.looks import CALLS_S, WITHOUT_RECORDS
from bench.plan.plan import make_plan, timed_again
from bench.plan.selection import Selection
from bench.records.cell import Precision, Weights
from bench.records.surroundings import Roof


@pytest.mark.parametrize(("others", "kept"), [(1.5, False), (0.0, True), (None, True)])
def test_a_look_that_others_disturbed_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: float | None, kept: bool
) -> None:
    """It serves this plan alone: on a crowded machine products were a thousand times too slow."""
    look = Roof(engine="x", copy_bytes_per_s=(5.0,))
    monkeypatch.setattr(device_roof, "condition", lambda kind: make_condition(others_cpu=others))
    monkeypatch.setattr(device_roof, "measure_roof", lambda library, kind: look)
    path = tmp_path / "roofs" / "device.json"
    assert device_roof._kept(path, "torch", "cpu") == look
    assert path.exists() == kept


def test_a_plan_is_timed_again_by_the_look_of_its_run() -> None:
    """The plan looked while something else computed and saw a tenth: but for its calls, a cell is ten times as slow."""
    busy = Roof(engine="x", method=2, copy_bytes_per_s=(1e9,), matrix_per_s={"fp32": (1e10,), "bf16": (1e10,)})
    quiet = Roof(engine="x", method=2, copy_bytes_per_s=(1e10,), matrix_per_s={"fp32": (1e11,), "bf16": (1e11,)})
    asked = Selection(models=("gpt2",), weights=Weights.RANDOM, suites=("throughput",), precisions=(Precision.FP16,))
    here = machine.describe("cpu")
    slow = make_plan(asked, read_catalog(), here, roof=busy)
    again = timed_again(slow, here, [], quiet)
    before, after = slow.cells[0].pace, again.cells[0].pace
    assert before and after
    assert before.prefill_s == pytest.approx(10 * after.prefill_s)
    calls = WITHOUT_RECORDS * 12 * CALLS_S["transformers"]
    assert before.decode_s - calls == pytest.approx(10 * (after.decode_s - calls))
    assert (slow.cells[0].predicted.seconds or 0.0) > (again.cells[0].predicted.seconds or 0.0)
    assert again.cells[0].cell == slow.cells[0].cell
    assert timed_again(slow, here, [], None) is slow
    assert timed_again(slow, here, [], Roof(engine="x", method=2)) is slow
