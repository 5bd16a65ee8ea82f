# SPDX-License-Identifier: Apache-2.0
"""What the capacity suite found becomes values: the largest, what ended the search, and how it was tried."""

from __future__ import annotations

from builders import make_cell, make_record, sample

from bench.judge.capacity import capacity_answers
from bench.judge.figures import figures
from bench.judge.points import points
from bench.records.record import Unit


def test_an_answer_holds_its_question_its_bound_and_its_trials() -> None:
    """By the name of its figure; a bound of the search says that the answer may be larger."""
    budget = {"budget_bytes": 10**9}
    measured = (
        sample("max_context_tokens", 5400, Unit.TOKEN, bound="tokens", peak_bytes=9, predicted=6100, **budget),
        sample("trial_bytes", [1, 2, 3], of="max_context_tokens"),
        sample("max_batch", 12, Unit.COUNT, prompt_tokens=512, bound="too many", peak_bytes=None, **budget),
        sample("trial_bytes", [1, 2], of="max_batch", prompt_tokens=512, killed=1),
    )
    record = make_record(make_cell("capacity"), measurements=measured)
    context, batch = capacity_answers(record).values()
    assert (context.figure, context.largest, context.predicted, context.peak_bytes) == (
        "max_context_tokens", 5400, 6100, 9,
    )  # fmt: skip
    assert (context.trials, context.killed, context.is_at_least) == (3, 0, True)
    assert (batch.figure, batch.largest, batch.predicted, batch.peak_bytes) == ("max_batch:512", 12, None, None)
    assert (batch.trials, batch.killed, batch.is_at_least) == (2, 1, False)
    assert figures(record)["budget_bytes"].value == 10**9


def test_a_point_without_figures_says_why() -> None:
    """In the suite's own words, or that nobody wrote any; points asked for come by their size."""
    settings = {**make_cell("throughput").settings, "points": [[16, 128], [4, 128]], "point_decode_tokens": 3}
    found = points(make_record(make_cell("throughput", settings=settings)))
    assert [(point.batch, point.prompt_tokens) for point in found] == [(4, 128), (16, 128)]
    assert found[0].why == "batch 4, prompt 128: no reason was recorded"
    masked = points(make_record(make_cell("throughput", settings={**settings, "objective": "masked"})))
    assert {point.why for point in masked} == {"masked models are timed at the main point alone"}
