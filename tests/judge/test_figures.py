# SPDX-License-Identifier: Apache-2.0
"""Samples become figures: the ledger adds up, rates come from samples, tasks weigh alike."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from builders import (
    ANCHOR,
    anchor_row,
    anchor_samples,
    divergence_samples,
    failed,
    make_cell,
    make_record,
    memory_samples,
    quality_samples,
    sample,
    speed_samples,
)

from bench.judge.figures import anchor_of, figures, reference_figures, wrote_anchor
from bench.judge.scores import accuracies
from bench.judge.speeds import decode_rates, prefill_rates
from bench.judge.stats import Estimate, clustered_mean, proportion
from bench.records.record import Unit
from bench.views import fields
from bench.views.cells import written
from bench.views.formats import to_json
from bench.views.table import flat


def values(record: Any) -> dict[str, float]:
    return {name: estimate.value for name, estimate in figures(record).items()}


def test_the_memory_ledger_adds_up() -> None:
    """Peak above baseline is weights, cache, workspace and what is left unexplained, each as stored."""
    samples = memory_samples(baseline=1000, weights=500, unexplained=30, slack=20, kv=40, workspace=70)
    found = values(make_record(measurements=samples))
    parts = ("weights_bytes", "kv_bytes", "workspace_bytes", "unexplained_bytes")
    assert [found[name] for name in parts] == [500, 40, 70, 30]
    assert found["peak_bytes"] == sum(found[name] for name in parts) == 640
    assert found["load_peak_bytes"] == 500 + 30 + 20 + 5
    assert found["slack_bytes"] == 20
    assert found["baseline_bytes"] == 1000
    assert found["kv_bytes_per_token"] == 4.0


def test_what_is_left_unexplained_may_be_negative() -> None:
    """Weights that are mapped but not resident make the process smaller than its census; that is printed too."""
    found = values(make_record(measurements=memory_samples(unexplained=-60)))
    assert found["unexplained_bytes"] == -60
    assert found["peak_bytes"] == 500 + 40 + 70 - 60


def test_a_record_of_an_older_method_still_has_its_other_figures() -> None:
    """Records stay for ever: one that lacks a count added later must not take every view down."""
    older = tuple(m for m in memory_samples() if m.name != "ready_bytes")
    found = values(make_record(measurements=older))
    assert found["weights_bytes"] == 500
    assert found["peak_bytes"] == 640


def test_a_part_of_a_count_never_stands_for_the_whole() -> None:
    """Measurements labelled by part or storage are no figures, in whatever order they come."""
    samples = memory_samples()
    part = sample("weights_bytes", 1, storage="bfloat16"), sample("peak_bytes", 1, part="anonymous")
    assert figures(make_record(measurements=(*part, *samples, *part))) == figures(make_record(measurements=samples))


def test_rates_come_from_each_repeat() -> None:
    """Prefill is tokens over seconds; decode is a repeat's gaps over their sum, so one slow gap weighs what it took."""
    prefill, _, gaps = speed_samples(
        prefill_s=(0.5, 0.25), itl_s=(0.1, 0.1, 0.3, 0.1, 0.2, 0.2), per_repeat=2, prompt_tokens=100
    )
    assert prefill_rates(prefill) == [200.0, 400.0]
    assert decode_rates(gaps) == pytest.approx([10.0, 5.0, 5.0])


def test_rates_count_every_sequence_of_a_batch() -> None:
    """Four sequences at once are four times the tokens."""
    prefill, _, gaps = speed_samples(prefill_s=(0.5,), itl_s=(0.1, 0.1), batch=4)
    assert prefill_rates(prefill) == [800.0]
    assert decode_rates(gaps) == pytest.approx([40.0])


def test_speed_is_a_median_with_its_interval() -> None:
    """The median of the repeats' rates between the slowest and the fastest; single gaps have a tail of their own."""
    record = make_record(
        make_cell("throughput"),
        measurements=speed_samples(prefill_s=(0.5, 0.25, 1.0), itl_s=(0.1, 0.2, 0.4), per_repeat=1),
    )
    found = figures(record)
    assert found["prefill_tokens_per_s"] == Estimate(200.0, 100.0, 400.0)
    assert found["ttft_s"] == Estimate(0.5, 0.25, 1.0)
    assert found["decode_tokens_per_s"] == Estimate(5.0, 2.5, 10.0)
    assert found["itl_s"] == Estimate(0.2, 0.1, 0.4)
    assert found["itl_p99_s"].value == pytest.approx(0.2 + 0.98 * 0.2)


def test_divergence_is_a_mean_over_windows_with_its_tail() -> None:
    """Four tokens in two windows: mean and median of the tokens, interval of the windows, pairs for the perplexity."""
    samples = divergence_samples(kld=(0.1, 0.3, 0.2, 0.6), nll=(2.0, 3.0), reference=(1.5, 2.0), window_tokens=2)
    found = figures(make_record(make_cell("divergence"), measurements=samples))
    assert found["kld_mean"].value == pytest.approx(0.3)
    assert found["kld_mean"].half_width is not None
    assert found["kld_median"].value == pytest.approx(0.25)
    assert found["kld_p99"].value == pytest.approx(0.3 + 0.97 * 0.3)
    assert found["kld_max"].value == 0.6
    assert found["same_top1"].value == 0.75
    assert found["ln_ppl_ratio"].value == pytest.approx(0.75)
    assert found["ppl"].value == pytest.approx(math.exp(2.5))
    low, high = found["ppl"].low, found["ppl"].high
    assert low is not None and high is not None
    assert math.log(high) - 2.5 == pytest.approx(2.5 - math.log(low))


@pytest.mark.parametrize(("nll", "text"), [((800.0, 900.0), "inf"), ((706.0, 708.5), "1.43e+307")])
def test_the_perplexity_of_a_broken_model_is_infinite_and_no_error(nll: tuple[float, float], text: str) -> None:
    """Beyond exp(709) no number holds it; where only the interval's end is beyond, there is no interval."""
    record = make_record(make_cell("divergence"), measurements=divergence_samples(nll=nll))
    assert written(figures(record)["ppl"], fields.Unit.RATIO) == text
    (flat_row,) = json.loads(to_json([flat(record)]))
    assert flat_row["ppl"] == (None if text == "inf" else pytest.approx(math.exp(707.25)))


def test_the_reference_has_a_perplexity_and_no_distance() -> None:
    """It is compared with nothing."""
    record = make_record(make_cell("divergence"), measurements=(sample("nll_nat", [2.0, 3.0], Unit.NAT),))
    assert set(figures(record)) == {"ppl"}


def test_accuracy_is_the_unweighted_mean_of_tasks() -> None:
    """A task of two items weighs as much as one of four; each task has its Wilson interval."""
    record = make_record(
        make_cell("quality"), measurements=quality_samples({"a": [1.0, 1.0, 1.0, 0.0], "b": [0.0, 1.0]})
    )
    found = figures(record)
    assert found["acc:a"] == proportion([1.0, 1.0, 1.0, 0.0])
    assert found["acc"].value == pytest.approx((0.75 + 0.5) / 2)
    assert found["items"].value == 6.0


def test_the_errors_of_independent_tasks_add_in_squares() -> None:
    """Two tasks alike: the mean's half interval is theirs over the square root of two."""
    answers = [1.0, 0.0] * 50
    one = figures(make_record(make_cell("quality"), measurements=quality_samples({"a": answers})))["acc"]
    two = figures(make_record(make_cell("quality"), measurements=quality_samples({"a": answers, "b": answers})))["acc"]
    assert one.half_width is not None and two.half_width is not None
    assert two.half_width == pytest.approx(one.half_width / math.sqrt(2))


def test_a_task_counts_by_its_first_metric() -> None:
    """Acc before exact_match; other metrics are stored and not counted; other names are no accuracy."""
    samples = (
        sample("exact_match", [0.0], Unit.FRACTION, task="a"),
        sample("acc", [1.0], Unit.FRACTION, task="a"),
        sample("exact_match", [0.5], Unit.FRACTION, task="b"),
        sample("acc_norm", [0.0], Unit.FRACTION, task="a"),
    )
    tasks = accuracies(make_record(make_cell("quality"), measurements=samples))
    assert {task: m.values for task, m in tasks.items()} == {"a": (1.0,), "b": (0.5,)}


def test_a_record_without_measurements_has_no_figures() -> None:
    """Whatever its suite was."""
    assert figures(failed(make_cell("memory"))) == {}


def test_the_distance_from_fp32_is_a_mean_over_windows() -> None:
    """Like the distance from the 16-bit row: tokens' mean, interval of the windows; both stand side by side."""
    record = make_record(make_cell("divergence", "int8"), measurements=(*divergence_samples(), *anchor_samples()))
    found = figures(record)
    assert found["kld_fp32_mean"].value == pytest.approx(0.4)
    assert found["kld_fp32_mean"] == clustered_mean([0.2, 0.4, 0.3, 0.7], 2)
    assert found["same_top1_fp32"].value == 0.75
    assert found["kld_mean"].value == pytest.approx(0.3)
    assert (anchor_of(record), wrote_anchor(record)) == (ANCHOR, False)


def test_the_16_bit_row_s_distance_stands_in_the_fp32_row_s_record() -> None:
    """It ran first: the fp32 row measured it, of that very cell alone; its same top-1 is symmetric."""
    reference = make_record(make_cell("divergence"), measurements=(sample("nll_nat", [2.0], Unit.NAT),))
    record = anchor_row(reference.cell)
    found = reference_figures(record, reference)
    assert found["kld_fp32_mean"] == clustered_mean([0.01, 0.03, 0.02, 0.06], 2)
    assert found["same_top1_fp32"].value == 0.75
    assert reference_figures(record, make_record(make_cell("divergence", profile="full"))) == {}
    assert reference_figures(reference, reference) == {}
    assert (anchor_of(record), wrote_anchor(record)) == (ANCHOR, True)
    assert "kld_fp32_mean" not in figures(record)
    assert anchor_of(reference) is None


def test_a_mean_of_all_wrong_answers_still_has_an_interval() -> None:
    """Where no answer differs from another, Wilson's interval stands for the one that would be nothing."""
    samples = quality_samples({"a": [0.0] * 60})
    found = figures(make_record(make_cell("quality"), measurements=samples))["acc"]
    assert found.value == 0.0
    assert found.half_width == pytest.approx(0.0301, abs=1e-3)
