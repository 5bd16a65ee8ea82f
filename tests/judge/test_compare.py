# SPDX-License-Identifier: Apache-2.0
"""Each precision against its own 16-bit row: what is paired, what is refused, and what the tables then say."""

from __future__ import annotations

from typing import Any

import pytest
from builders import (
    make_cell,
    make_machine,
    make_record,
    make_versions,
    memory_samples,
    quality_samples,
    speed_samples,
)
from compared import LOST, RIGHT, memory, only, quality

from bench.judge.compare import TaskComparison, compare
from bench.judge.rows import newest
from bench.judge.stats import Verdict
from bench.records.cell import Cell, Weights
from bench.records.record import Provenance, Record
from bench.views.comparison import lines, ratio_table


def speed(precision: str, prefill_s: tuple[float, ...], settings: dict[str, Any] | None = None) -> Record:
    cell = make_cell("throughput", precision)
    cell = cell.model_copy(update={"settings": {**cell.settings, **(settings or {})}})
    return make_record(cell, measurements=speed_samples(prefill_s=prefill_s))


def task(records: list[Record]) -> TaskComparison:
    (found,) = only(records).tasks
    return found


def test_ratios_are_this_divided_by_the_reference() -> None:
    """A fourth of the weights is 0.25x; half the seconds are twice the rate, with an interval."""
    found = only(
        [memory("fp16", 800), memory("int4", 200), speed("fp16", (1.0, 1.0, 1.0)), speed("int4", (0.5, 0.5, 0.5))]
    )
    assert (found.row.precision, found.reference.precision) == ("int4", "fp16")
    assert found.ratios["weights_bytes"].value == 0.25
    assert found.ratios["peak_bytes"].value == pytest.approx((200 + 140) / (800 + 140))
    prefill = found.ratios["prefill_tokens_per_s"]
    assert (prefill.value, prefill.low, prefill.high) == (2.0, 2.0, 2.0)
    assert found.ratios["decode_tokens_per_s"].value == 1.0


@pytest.mark.parametrize(
    "other",
    [
        make_cell("memory", "int8", model="other"),
        make_cell("memory", "int8", device="other"),
        make_cell("memory", "int8", backend="transformers"),
        make_cell("memory", "int8", weights=Weights.HUB),
    ],
    ids=["model", "device", "backend", "weights"],
)
def test_a_row_is_compared_with_its_own_reference_only(other: Cell) -> None:
    """Another model, device, backend or source of weights has no reference here, and that is said."""
    found, alone = compare(newest([memory("fp16", 800), make_record(other, measurements=memory_samples())]))
    assert found == []
    (left,) = alone
    assert (left.row.model, left.row.precision, left.reason) == (other.model, "int8", "no fp16 row to compare with")
    assert lines(alone) == [f"{other.model} int8 ({other.backend}, {other.device}): no fp16 row to compare with"]


def test_the_reference_is_not_compared_with_itself() -> None:
    """One row alone gives neither a comparison nor a complaint."""
    assert compare(newest([memory("fp16", 800)])) == ([], [])


def test_the_reference_is_the_scheme_that_distances_are_measured_from() -> None:
    """Of two 16-bit rows on CUDA the default one, as `bench.plan.questions` has it, not the first by name."""
    where: dict[str, Any] = {"backend": "transformers", "device": "cuda-test"}
    found, _ = compare(
        newest(
            make_record(
                make_cell("memory", precision, scheme=scheme, **where),
                machine=make_machine(kind="cuda", device="cuda-test"),
                measurements=memory_samples(),
            )
            for precision, scheme in (("fp16", "fp16"), ("fp16", "native16"), ("int8", "bnb-int8"))
        )
    )
    assert {item.row.scheme: item.reference.scheme for item in found} == {"fp16": "native16", "bnb-int8": "native16"}


def test_different_weight_files_are_not_paired() -> None:
    """The same name on other bytes is another model: same weights, or no ratio and no verdict."""
    base = quality("fp16", RIGHT, provenance=Provenance(source="folder", files={"a": "1:aaaa"}))
    this = quality("int8", LOST, provenance=Provenance(source="folder", files={"a": "1:bbbb"}))
    same = quality("int8", LOST, provenance=Provenance(source="folder", files={"a": "1:aaaa"}))
    assert task([base, same]).result is not None
    found, alone = compare(newest([base, this]))
    assert found == []
    assert [item.reason for item in alone] == [
        "no fp16 row of these very weights to compare with; others of this name are another model"
    ]


def test_different_settings_give_no_ratio() -> None:
    """A rate at another prompt length is another question; the table says so."""
    found = only([speed("fp16", (1.0, 1.0)), speed("int8", (0.5, 0.5), {"prompt_tokens": 7})])
    assert found.ratios == {}
    row = dict(zip(ratio_table([found]).titles, ratio_table([found]).rows[0], strict=True))
    assert row["prefill"] == row["decode"] == "settings differ"
    assert row["weights"] == row["peak memory"] == "not measured"


def test_different_suite_versions_give_no_ratio() -> None:
    """A newer method is not compared with an older one."""
    found = only([memory("fp16", 800, suite_version=1), memory("int8", 400, suite_version=2)])
    assert found.ratios == {}


def test_the_same_items_are_paired_one_by_one() -> None:
    """40 of 100 items lost and none gained is worse, whatever the shares alone would say."""
    found = task([quality("fp16", RIGHT), quality("int8", LOST)])
    assert found.reason == ""
    assert found.result is not None
    assert (found.result.lost, found.result.gained, found.result.verdict) == (40, 0, Verdict.WORSE)
    assert found.result.difference.value == pytest.approx(-0.4)


@pytest.mark.parametrize(
    ("this", "words"),
    [
        (quality("int8", LOST, digest="d2"), "different items or prompts"),
        (quality("int8", LOST, versions=make_versions(lm_eval="0.4.12")), "different lm-eval versions"),
        (quality("int8", {"other": LOST["task"]}), "the reference did not answer this task"),
    ],
    ids=["digest", "version", "task"],
)
def test_what_is_not_the_same_question_is_not_paired(this: Record, words: str) -> None:
    """Other items, another lm-eval or a task that only one of them answered: a reason instead of a verdict."""
    base = quality("fp16", RIGHT, versions=make_versions(lm_eval="0.4.13"))
    found = task([base, this])
    assert found.result is None
    assert words in found.reason


def test_a_task_s_chance_decides_what_is_measurable() -> None:
    """At 80 % with chance 0.79 nothing can be lost."""
    base, this = (
        make_record(make_cell("quality", p), measurements=quality_samples(RIGHT, chance=0.79)) for p in ("fp16", "int8")
    )
    found = task([base, this])
    assert found.result is not None and found.result.verdict is Verdict.NOT_MEASURABLE
