# SPDX-License-Identifier: Apache-2.0
"""What is run so that a record decides a claim."""

from __future__ import annotations

from builders import make_model
from claimed import GB, limited, make_claim, model

from bench.judge.claims import judge, undecided
from bench.plan.claims import predicted_for, selections
from bench.plan.plan import Selection
from bench.records.cell import Precision


def test_open_memory_claims_become_limited_cells() -> None:
    """The budget is the limit, the context the claim's, tried whatever is predicted; each question once."""
    entries = [model(make_claim(), make_claim(id="same"), make_claim(id="huge", at_most=100 * GB))]
    entries.append(make_model(name="done", claims=(make_claim(id="done"),)))
    judged = judge(entries, [limited(GB, model="done")], predicted_for)
    found, left = selections(undecided(judged), Selection(device="cpu"), 8 * GB)
    assert len(found) == 1
    (asked,) = found
    assert (asked.models, asked.precisions, asked.suites) == (("tiny",), (Precision.FP16,), ("memory",))
    assert (asked.memory_limit_bytes, asked.tokens, asked.force) == (GB, 100, True)
    assert left == ["huge: 100 GB are claimed, 7.45 GiB are there"]
