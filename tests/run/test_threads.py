# SPDX-License-Identifier: Apache-2.0
"""How many threads serve a model best: each count asked once, the answer kept."""

from dataclasses import replace

import pytest
from builders import make_record, planned, speed_samples

from bench.instruments import machine
from bench.judge.figures import request_seconds
from bench.records.record import Ending, Outcome
from bench.run import threads


def answered(planned_cell, prefill, decode):
    """A record of the sweep's question with those rates."""
    if prefill is None:
        return make_record(planned_cell.cell, outcome=Outcome(ending=Ending.FAILED, reason="broke"))
    gap = 1 / decode
    return make_record(planned_cell.cell, measurements=speed_samples(prefill_s=(100 / prefill,) * 2, itl_s=(gap,) * 4))


def test_threads_are_swept_once_and_the_best_is_kept(tmp_path, monkeypatch):
    """Each candidate answers one smoke cell; the count that serves a request fastest is remembered."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(threads.psutil, "cpu_count", lambda logical: 4)
    described = machine.describe("cpu").model_copy(update={"logical_cpus": 8})
    rates = {1: (100.0, 10.0), 2: (200.0, 19.0), 4: (400.0, 30.0), 8: (800.0, 20.0)}
    asked = []

    def measure(question, count, folder):
        asked.append((question.cell.suite, question.cell.profile, count))
        return [answered(question, *rates[count])]

    item = planned("memory")
    assert threads.chosen(item, described, measure, request_seconds) == 4
    assert asked == [("throughput", "smoke", count) for count in (1, 2, 4, 8)]
    assert threads.chosen(item, described, measure, request_seconds) == 4
    assert len(asked) == 4
    other = replace(item, cell=item.cell.model_copy(update={"scheme": "fake-int4"}))
    threads.chosen(other, described, measure, request_seconds)
    assert len(asked) == 8


def test_the_fewest_threads_win_a_tie_and_failures_are_left_out():
    """Within 2 % more threads are a cost without a gain."""
    assert threads.best({1: 2.0, 2: 1.01, 4: 1.0}) == 2
    assert threads.best({}) is None
    assert request_seconds(answered(planned("throughput"), None, None)) is None
    assert request_seconds(answered(planned("throughput"), 512.0, 64.0)) == pytest.approx(1 + 2)
    assert threads.candidates(1, None) == [1]


def test_a_masked_model_is_swept_by_its_forward_passes():
    """It generates nothing, and its sweep asks with its own objective."""
    item = planned("memory")
    item = replace(item, cell=item.cell.model_copy(update={"settings": {**item.cell.settings, "objective": "masked"}}))
    question = threads._question(item)
    assert question.cell.settings["objective"] == "masked"
    record = answered(question, 512.0, 64.0)
    reading = tuple(m for m in record.measurements if m.name == "prefill_s")
    assert request_seconds(record.model_copy(update={"measurements": reading})) == pytest.approx(1)


def test_candidates_are_few_and_begin_with_one():
    """Powers of two between one thread and all CPUs."""
    assert threads.candidates(16, 8) == [1, 2, 4, 8, 16]
