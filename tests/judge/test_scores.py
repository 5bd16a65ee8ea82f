# SPDX-License-Identifier: Apache-2.0
"""What a task's metrics come to, which of them stands for it, and where a reader meets them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from builders import make_cell, make_record, sample

from bench.judge.figures import figures, mean_of_tasks
from bench.judge.rows import newest
from bench.judge.scores import accuracies, compared, metrics_of, of_tasks, others, scores, shown
from bench.judge.stats import Estimate, Z, mean_estimate, proportion
from bench.records.record import Measurement, Record, Unit
from bench.views.formats import to_json
from bench.views.listings import LISTINGS
from bench.views.table import flats, people


def metric(name: str, values: list[float], task: str = "t", **labels: Any) -> Measurement:
    """A metric as the quality suite stores it."""
    made = sample(name, values, Unit.SCORE, task=task, digest="d", **labels)
    return made.model_copy(update={"counter": "lm-eval"})


def whole(name: str, value: float, error: float | None, items: int, task: str = "t", **labels: Any) -> Measurement:
    """A figure of a whole task."""
    told = {} if error is None else {"standard_error": error}
    return metric(name, [value], task, of_items=items, aggregation=name, **told, **labels)


def record(*measurements: Measurement, precision: str = "fp16") -> Record:
    return make_record(make_cell("quality", precision), measurements=measurements)


MCC = whole("mcc", 0.41, 0.05, 60, "own_mcc")
WORDS = [100.0, 200.0, 50.0, 400.0]
TEXTS = metric(
    "word_perplexity", [-3.1 * 100, -2.9 * 200, -3.0 * 50, -3.0 * 400], "own_roll", item_weights=WORDS,
    aggregation="weighted_perplexity", lower_is_better=True,
)  # fmt: skip


def test_wilsons_interval_is_for_right_and_wrong_items_alone() -> None:
    """A share of each item has the spread of its values: 200 shares near one half are no coin tosses."""
    shares = [0.5 + 0.01 * (index % 5 - 2) for index in range(200)]
    found = figures(record(metric("acc", shares), metric("acc", [1.0] * 30 + [0.0] * 10, "u")))
    assert found["acc:t"] == mean_estimate(shares) == found["score:t:acc"]
    assert found["acc:t"].half_width < 0.003 < proportion(shares).half_width
    assert found["acc:u"] == proportion([1.0] * 30 + [0.0] * 10)


def test_shares_of_subjects_are_no_more_than_their_subjects() -> None:
    """Forty equal shares of each of three subjects: the interval of three values, not of 120."""
    shares, groups = [0.2] * 40 + [0.5] * 40 + [0.8] * 40, [0] * 40 + [1] * 40 + [2] * 40
    found = figures(record(metric("acc", shares, clusters=groups)))["acc:t"]
    assert found.half_width == pytest.approx(mean_estimate([0.2, 0.5, 0.8]).half_width)
    assert mean_of_tasks([metric("acc", [0.5])]).half_width is None


def test_a_figure_of_the_whole_task_has_lm_evals_error_or_none() -> None:
    """Its interval is the normal one of that error; where lm-eval has no error there is no interval."""
    found = {one.metric: one for one in scores(metrics_of(record(MCC, whole("own", 12.5, None, 60, "own_mcc"))))}
    assert found["mcc"].estimate == Estimate(0.41, 0.41 - Z * 0.05, 0.41 + Z * 0.05)
    assert (found["own"].estimate, found["own"].items) == (Estimate(12.5), 60)


def test_perplexities_are_of_sums_over_texts() -> None:
    """Nats a word over all words; bits a byte in bits; of answers without weights a plain mean."""
    nats = (3.1 * 100 + 2.9 * 200 + 3.0 * 50 + 3.0 * 400) / 750
    bits = metric("bits_per_byte", list(TEXTS.values), "b", item_weights=WORDS, aggregation="bits_per_byte")
    plain = metric("perplexity", [-1.0, -2.0, -3.0], "p", aggregation="perplexity", lower_is_better=True)
    found = {one.task: one.estimate for one in scores(metrics_of(record(TEXTS, bits, plain)))}
    assert found["own_roll"].value == pytest.approx(math.exp(nats))
    assert found["b"].value == pytest.approx(nats / math.log(2))
    assert found["p"].value == pytest.approx(math.exp(2))
    assert all(one.low is not None and one.low < one.value < one.high for one in found.values())
    old = TEXTS.model_copy(update={"labels": {"task": "own_roll", "item_weights": WORDS}})
    assert scores({"own_roll": [old]})[0].estimate == found["own_roll"]


def test_accuracy_stands_for_a_task_that_has_one_else_its_first_metric() -> None:
    """Whatever the order; what is compared is the first that has items."""
    f1, acc = whole("f1", 0.5, 0.1, 8), metric("acc", [1.0] * 8)
    norm, rouge = metric("acc_norm", [1.0, 0.0] * 4), metric("rouge1", [0.3] * 8)
    assert shown([f1, norm, acc]).name == "acc"
    assert shown([f1, norm]).name == "acc_norm"
    assert (shown([f1, rouge]).name, compared([f1, rouge]).name) == ("f1", "rouge1")
    assert compared([f1]).name == "f1"
    assert set(accuracies(record(f1, norm, metric("em", [0.0, 2.0], "scaled")))) == {"t"}


def test_each_answer_filter_is_named_as_lm_eval_names_it_and_one_is_shown() -> None:
    """The first one stands in tables; all of them are keys of CSV and JSON."""
    strict = metric("exact_match", [0.0] * 8, "gsm", filter="strict-match")
    flexible = metric("exact_match", [1.0] * 8, "gsm", filter="flexible-extract")
    made = record(strict, flexible)
    assert [(one.metric, one.items) for one in of_tasks(made)] == [("exact_match,strict-match", 8)]
    (flat,) = json.loads(to_json(flats(newest([made]))))
    assert (flat["score_gsm_exact_match,strict-match"], flat["score_gsm_exact_match,flexible-extract"]) == (0.0, 1.0)
    assert (flat["acc"], flat["acc_gsm"], flat["items"]) == (0.0, 0.0, 8)
    assert flat["score_gsm_exact_match,flexible-extract_low"] == pytest.approx(proportion([1.0] * 8).low)


def test_a_task_without_an_accuracy_is_shown_by_its_metrics_name() -> None:
    """One stands in the cell; of several the note tells each; beside accuracies a note says what they leave out."""
    acc = metric("acc", [1.0] * 30 + [0.0] * 10, "facts")
    one, several, beside = (people(newest([record(*found)]), ("acc",)) for found in ([MCC], [MCC, TEXTS], [MCC, acc]))
    assert one.rows[0][3:] == ["mcc 0.41 ±0.1"] and one.notes == []
    assert several.rows[0][3:] == ["n/a [1]"]
    (note,) = several.notes
    assert note.startswith("its tasks count no right answers: own_mcc mcc 0.41 ±0.1, own_roll word_perplexity 19.8 ±")
    assert beside.rows[0][3:] == ["75.0% ±14.0 [1]"]
    assert beside.notes == ["without tasks that count no right answers: own_mcc mcc 0.41 ±0.1"]
    assert [score.task for score in others(record(MCC, acc))] == ["own_mcc"]
    nothing = people(newest([record()]), ("acc",))
    assert (nothing.rows[0][3:], nothing.notes) == (["n/a [1]"], ["its record holds no such figure"])


def test_every_task_has_its_line() -> None:
    """`bench show --columns tasks`: the metric by its name, its items, whatever its scale."""
    table = LISTINGS["tasks"].table(newest([record(MCC, TEXTS, metric("acc", [1.0] * 30 + [0.0] * 10, "facts"))]))
    assert table.titles[-4:] == ["task", "metric", "score", "items"]
    lines = [row[-4:] for row in table.rows]
    assert lines[0] == ["own_mcc", "mcc", "0.41 ±0.1", "60"]
    assert lines[1][:2] == ["own_roll", "word_perplexity"] and lines[1][3] == "4"
    assert lines[2] == ["facts", "acc", "75.0% ±13.0", "40"]


def test_a_perplexity_beyond_all_numbers_is_null_in_json() -> None:
    """And an infinity in no file."""
    made = record(metric("perplexity", [-1000.0, -1000.0], aggregation="perplexity"))
    (flat,) = json.loads(to_json(flats(newest([made]))))
    assert flat["score_t_perplexity"] is None
