# SPDX-License-Identifier: Apache-2.0
"""The answer in words: exact sentences for known values, within the width of a terminal."""

from __future__ import annotations

import pytest
from judged import FLOOR, FP16, INT4, INT8, choices, judged, row, scored

import suites
from bench.judge.answer import answers
from bench.judge.bottleneck import Bottleneck, Lever
from bench.judge.compare import compare
from bench.judge.joined import joined
from bench.judge.rows import newest, with_any
from bench.judge.stats import Estimate
from bench.paths import RESULTS
from bench.records.store import Store
from bench.views import answer_tables
from bench.views.answer import _why, change, flow, markdown, parts, points, share, text
from bench.views.formats import Table

RIGHT = [1.0] * 190 + [0.0] * 10


def said(*records: object, width: int = 100) -> list[str]:
    """The lines of the only part."""
    (part,) = parts(judged(*records))  # type: ignore[arg-type]
    return text(part, width)


def test_each_precision_has_its_costs_its_quality_and_the_last_line_the_choice() -> None:
    """What it saves, what it costs, whether that is decided, and by what."""
    assert said(FP16, INT8, INT4) == [
        "fake-int8: 0.53x weights, 0.60x peak, 1.00x decode, 1.00x prefill",
        "  perplexity +0.5 % [0.2, 0.8]: equivalent",
        "fake-int4: 0.30x weights, 0.40x peak, 2.00x decode, 0.50x prefill",
        "  perplexity +26 % [26, 26]: worse",
        "",
        "Take fake-int8: equivalent by perplexity and the least memory, 600 B at its peak (0.60x);",
        "  if memory is short, fake-int4 needs 400 B and costs +26 % perplexity",
    ]


def test_a_part_names_model_engine_and_reference() -> None:
    """The device is named where there are several; the command is the engine's for what is taken."""
    (part,) = parts(judged(FP16, INT8), lambda row: f"run {row.scheme}")
    assert part.title == "tiny (random weights) in fake, against fake-fp16"
    assert part.command == "run fake-int8"
    there = [*row("fp16", weights=860, device="gpu"), *row("int8", weights=460, ln_ratio=0.0, device="gpu")]
    titles = [part.title for part in parts(judged(FP16, INT8, there))]
    assert titles == [f"tiny (random weights), fake, {where}, against fake-fp16" for where in ("cpu-test", "gpu")]


def test_tasks_say_by_which_instrument() -> None:
    """Old records by accuracy over all tasks; new ones by the probability of the right choice."""
    kept = said(FP16, INT8, scored("fp16", {"a": RIGHT}), scored("int8", {"a": RIGHT}))
    assert kept[1] == (
        "  perplexity +0.5 % [0.2, 0.8]: equivalent; accuracy keeps 100 % [97, 103] of the score: undecided"
    )
    base = [0.9 + 0.0001 * i for i in range(200)]
    less = [p - 0.03 - 0.0001 * (i % 3) for i, p in enumerate(base)]
    sharp = said(
        FP16, INT8, scored("fp16", {"a": RIGHT}, [choices("a", base)]),
        scored("int8", {"a": RIGHT}, [choices("a", less)]),
    )  # fmt: skip
    assert sharp[1] == (
        "  perplexity +0.5 % [0.2, 0.8]: equivalent; choice probability -3.0 points [-3.0, -3.0]: worse"
    )


def test_what_lies_below_a_row_s_own_noise_says_so() -> None:
    """And the 16-bit row is taken until more is measured."""
    lines = said(FP16, row("int8", weights=460, ln_ratio=0.02, more=[FLOOR]))
    assert lines[1] == "  perplexity +2.0 % [1.7, 2.3]: below its noise floor"
    assert lines[-1] == "Take fake-fp16 until more is measured, 1000 B at its peak: nothing smaller is decided"


def test_no_quality_no_choice() -> None:
    """Memory and speed alone say what is saved and nothing of what is lost."""
    assert said(FP16[:2], INT8[:2]) == [
        "fake-int8: 0.53x weights, 0.60x peak, 1.00x decode, 1.00x prefill",
        "  quality: not measured",
    ]


EMULATED = Bottleneck(
    decode_share=Estimate(0.78), decode_lever=Lever.FEWER_BYTES, prefill_share=Estimate(0.5),
    prefill_share_of_fastest=Estimate(0.04), prefill_lever=Lever.ANOTHER_TYPE, compute="bf16", emulated=True,
    fp32_times=13.0, fastest="fp32", fastest_times=13.0,
)  # fmt: skip


def test_why_it_is_as_fast_as_it_is() -> None:
    """Fewer bytes where memory is waited for; another type where this one is emulated."""
    assert list(_why(EMULATED)) == [
        "decode at 78 % of what this memory sustains: fewer bytes is the lever",
        "prefill at 4 % of the fp32 rate: bf16 is emulated here, fp32 is 13x faster",
    ]


@pytest.mark.parametrize(
    ("estimate", "written"),
    [
        (Estimate(0.264, 0.229, 0.2995), "+26 % [23, 30]"),
        (Estimate(0.0613, 0.0483, 0.0746), "+6.1 % [4.8, 7.5]"),
        (Estimate(0.00002, -0.0001, 0.0002), "+0.0 % [0.0, 0.0]"),
        (Estimate(0.1), "+10 %"),
        (Estimate(float("inf")), "beyond all numbers"),
    ],
)
def test_a_change_has_as_many_digits_as_it_deserves(estimate: Estimate, written: str) -> None:
    """One decimal below ten percent; no negative zero."""
    assert change(estimate) == written


def test_shares_and_points() -> None:
    """Of a score, and of a probability."""
    assert share(Estimate(0.917, 0.796, 1.039)) == "92 % [80, 104]"
    assert points(Estimate(-0.031, -0.04, -0.0221)) == "-3.1 points [-4.0, -2.2]"


def test_lines_break_between_clauses_and_within_one_only_where_it_is_longer() -> None:
    """The second line of a sentence stands further in."""
    assert flow(["a is 1", "b is 2"], 80) == ["a is 1; b is 2"]
    assert flow(["a is 1", "b is 2"], 10, indent=2) == ["  a is 1;", "    b is 2"]
    assert flow(["one two three"], 9) == ["one two", "  three"]


@pytest.fixture(scope="module")
def committed() -> list[object]:
    """The default model's committed records, an engine each."""
    store = Store(RESULTS)
    every = with_any(newest(joined(store.records(), store.runs())), suites.DEFAULT)
    rows = [row for row in every if row.model == "smollm2-135m-instruct"]
    return [answers(compare([r for r in rows if r.backend == name])[0]) for name in ("transformers", "llamacpp")]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_is_wider_than_the_terminal(committed: list[object], width: int) -> None:
    """Titles too; commands are for copying and may be longer."""
    for found in committed:
        for part in parts(found):  # type: ignore[arg-type]
            assert max(map(len, [part.title, *text(part, width)])) <= width


def test_at_a_hundred_columns_no_clause_is_broken(committed: list[object]) -> None:
    """Every line ends where a clause does."""
    for found in committed:
        for part in parts(found):  # type: ignore[arg-type]
            whole = {clause for sentences in part.lines for sentence in sentences for clause in sentence}
            for line in text(part, 100)[: -len(part.choice) - 1]:
                assert all(clause.rstrip(";") in whole for clause in line.strip().split("; ")), line


def wide(table: Table) -> int:
    """Columns of a terminal that a table takes: its cells, two between them, one at each side."""
    columns = zip(table.titles, *table.rows, strict=True)
    return sum(max(map(len, column)) for column in columns) + 2 * (len(table.titles) - 1) + 2


def test_both_tables_fit_a_hundred_columns_and_at_most_five_lines_stand_beneath(committed: list[object]) -> None:
    """Costs and savings, then quality: two for each device."""
    for found in committed:
        views = answer_tables.views(found, 0.01)  # type: ignore[arg-type]
        assert [view.title.split(" on ")[0] for view in views] == ["costs and savings", "quality"] * (len(views) // 2)
        for view in views:
            assert wide(view.table) <= 100
            assert all(len(row) == len(view.table.titles) for row in view.table.rows)
            assert sum(-(-len(note) // 100) for note in view.notes) <= 5


def test_the_tables_hold_the_16_bit_row_among_the_others() -> None:
    """Every figure beside its ratio; verdicts beside what they are about."""
    costs, quality = answer_tables.views(judged(FP16, INT8, INT4), 0.01)
    assert [line[:3] for line in costs.table.rows] == [
        ["fake-fp16", "860 B  1.00x", "1000 B  1.00x"],
        ["fake-int8", "460 B  0.53x", "600 B  0.60x"],
        ["fake-int4", "260 B  0.30x", "400 B  0.40x"],
    ]
    assert [line[:3] for line in quality.table.rows] == [
        ["fake-fp16", "reference", ""],
        ["fake-int8", "+0.5 % [0.2, 0.8]", "equivalent"],
        ["fake-int4", "+26 % [26, 26]", "worse"],
    ]


def test_markdown_is_a_list_and_the_choice() -> None:
    """One item for each precision, the command as code."""
    (part,) = parts(judged(FP16, INT8), lambda row: "run it")
    assert markdown(part) == (
        "- **fake-int8:** 0.53x weights, 0.60x peak, 1.00x decode, 1.00x prefill; perplexity +0.5 % [0.2, 0.8]: "
        "equivalent\n\nTake fake-int8: equivalent by perplexity and the least memory, 600 B at its peak (0.60x).\n\n"
        "```\nrun it\n```\n"
    )
