# SPDX-License-Identifier: Apache-2.0
"""The reference's answers are found on disk by the row that is compared with them."""

from __future__ import annotations

import pytest
from builders import failed, make_cell, make_record, quality_samples, sample

from bench.engines.fake import BACKEND
from bench.records.record import Provenance, Unit
from bench.records.store import Store
from bench.run.reference_items import reference_items

WEIGHTS = Provenance(source="fake", files={"none": "0:0"})


def cell(precision="fp16", items=60, **settings):
    """A quality cell that asks so many items."""
    made = make_cell("quality", precision)
    return made.model_copy(update={"settings": {**made.settings, "items": items, **settings}})


def found(store, precision="int4", weights=WEIGHTS, **settings):
    """By task, how many items the reference is known to have answered."""
    known = reference_items(store.root, BACKEND, cell(precision, **settings), "cpu", weights)
    return {task: len(measurements[0].values) for task, measurements in known.items()}


@pytest.fixture
def store(tmp_path):
    """Two records of the reference: an older one of more items of one task, a newer one of two tasks."""
    store = Store(tmp_path)
    store.write(make_record(cell(), measurements=quality_samples({"a": [1.0] * 60}), started="2026-01-01T00:00:00Z"))
    newer = quality_samples({"a": [1.0] * 8, "b": [1.0] * 8})
    store.write(make_record(cell(items=8), measurements=newer, started="2026-01-02T00:00:00Z"))
    return store


def test_each_task_comes_from_the_record_that_holds_most_of_it(store):
    """Whatever profile asked for it."""
    assert found(store) == {"a": 60, "b": 8}
    assert found(store, items=8) == {"a": 60, "b": 8}


def test_the_reference_has_none_and_no_more_has_another_suite(store):
    """It is compared with nothing."""
    assert found(store, "fp16") == {}
    assert reference_items(store.root, BACKEND, make_cell("memory", "int4"), "cpu", WEIGHTS) == {}


def test_other_weights_and_other_ways_of_asking_do_not_count(store):
    """Another file, another cut of long items, another template."""
    assert found(store, weights=Provenance(source="fake", files={"none": "1:1"})) == {}
    assert found(store, max_length=64) == {}
    assert found(store, template="alpaca") == {}


def test_what_failed_or_does_not_read_is_passed_over(store):
    """A damaged file is the views' to name."""
    store.write(failed(cell(), started="2026-01-03T00:00:00Z"))
    path = store.write(make_record(cell(), measurements=quality_samples({"c": [1.0]})))
    path.write_text("{")
    assert found(store) == {"a": 60, "b": 8}


def test_texts_scored_by_another_rule_settle_nothing(store):
    """Their beginning token was scored too; what names its aggregation is from after that."""
    old, new = (sample("word_perplexity", [-1.0] * 2, Unit.NAT, task=t, item_weights=[1, 1], **more) for t, more in (
        ("c", {}), ("d", {"aggregation": "weighted_perplexity"}),
    ))  # fmt: skip
    store.write(make_record(cell(), measurements=(old, new), started="2026-01-04T00:00:00Z"))
    assert found(store) == {"a": 60, "b": 8, "d": 2}
