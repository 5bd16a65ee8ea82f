# SPDX-License-Identifier: Apache-2.0
"""What decides most in an hour comes first, and what belongs together stays together."""

from __future__ import annotations

from dataclasses import replace

from builders import make_cell, make_model

from bench.engines.fake import BACKEND
from bench.plan.order import jobs, most_decided_first
from bench.plan.plan import Plan
from bench.plan.questions import Planned
from bench.records.record import Prediction


def planned(model: str, scheme: str, seconds: float | None, loading_s: float = 0.0, **cell: str) -> Planned:
    """A cell and what is predicted of it."""
    return Planned(
        cell=make_cell(model=model, scheme=scheme, **cell), model=make_model(), scheme=BACKEND.schemes[0],
        predicted=Prediction(seconds=seconds), loading_s=loading_s,
    )  # fmt: skip


def order(*cells: Planned) -> list[str]:
    """Models and schemes as they would be measured."""
    return [f"{one.cell.model} {one.cell.scheme}" for one in most_decided_first(Plan(cells=cells, left_out=())).cells]


def test_the_job_that_takes_least_for_a_row_comes_first_and_whole() -> None:
    """Four rows in 100 s before one row in 40 s; loads count; the reference stays before what is compared with it."""
    slow = planned("a-one", "bf16", 40.0)
    many = [planned("b-many", scheme, 15.0, 10.0) for scheme in ("bf16", "fp32", "int8", "nf4")]
    assert order(slow, *many) == ["b-many bf16", "b-many fp32", "b-many int8", "b-many nf4", "a-one bf16"]
    loads = [replace(one, loading_s=30.0) for one in many]
    assert order(slow, *loads)[0] == "a-one bf16"


def test_without_seconds_the_order_stays() -> None:
    """As of what servers are asked."""
    assert order(planned("b", "bf16", None), planned("a", "bf16", None)) == ["b bf16", "a bf16"]


def test_a_job_is_one_model_in_one_engine() -> None:
    """Another engine, or other weights of the same name, are another."""
    cells = [planned("a", "bf16", 1.0), planned("a", "nf4", 1.0), planned("a", "q4", 1.0, backend="llamacpp")]
    assert [len(job) for job in jobs([*cells, planned("a", "q4", 1.0, backend="llamacpp", source="other")])] == [
        2,
        1,
        1,
    ]
