# SPDX-License-Identifier: Apache-2.0
"""Claims as people read them: verdict, evidence in a sentence, and what speaks against them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from builders import make_model
from claimed import GB, limited, make_claim, model, peaks, verdict

from bench.catalog.model import Quantity
from bench.judge.claims import Verdict, judge
from bench.plan.baseline import BASELINE_BYTES
from bench.plan.claims import predicted_for
from bench.records.cell import Precision, Weights
from bench.records.record import Provenance
from bench.views.claims import bounds, counts, evidence, flats, people, terms


def test_the_scheme_that_a_claim_names_counts_before_its_stand_ins() -> None:
    """And a stand-in is named as one."""
    claim = make_claim(precision=Precision.INT8, scheme="gptq-int8")
    stand_in = limited(GB, scheme="bnb-int8", precision=Precision.INT8)
    assert evidence(verdict(stand_in, claims=(claim,))).endswith(
        "transformers bnb-int8 in place of gptq-int8 on cpu-test"
    )
    real = peaks(2 * GB, 2 * GB, scheme="gptq-int8", precision=Precision.INT8)
    assert verdict(stand_in, real, claims=(claim,)).verdict is Verdict.FAILS


def test_without_a_record_the_scheme_that_a_claim_names_is_predicted() -> None:
    """A default of the precision stands in only for one that no backend has, and is named as such."""
    claim = make_claim(precision=Precision.INT8)
    own, other, unknown = (
        verdict(claims=(claim.model_copy(update={"scheme": name}),)) for name in ("gptq-int8", "gguf-q8_0", "exl2")
    )
    assert re.match(
        r"predicted [\d.]+ MiB as gptq-int8 \(450 MiB of it before loading\) of at most 1 GB", evidence(own)
    )
    assert re.match(r"predicted [\d.]+ \wiB as gguf-q8_0 \(", evidence(other))
    assert re.match(r"predicted [\d.]+ MiB as bnb-int8 in place of exl2 \(", evidence(unknown))
    assert " as " not in evidence(verdict(claims=(claim,)))
    assert evidence(own).split(" as ")[0] != evidence(other).split(" as ")[0]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"precision": Precision.INT8, "scheme": "gptq-int8"}, " (int8, gptq-int8)"),
        ({"precision": Precision.INT8, "scheme": "gptq-int8", "text": "fits as int8"}, " (gptq-int8)"),
        ({"text": "runs in fp16"}, ""),
        ({"quantity": Quantity.PARAMETERS, "precision": None}, ""),
    ],
)
def test_what_is_stated_names_precision_and_scheme(overrides: dict[str, Any], words: str) -> None:
    """Where the text does not."""
    assert terms(make_claim(**overrides)) == words


def test_random_weights_and_stand_ins_are_named() -> None:
    """Both are honest for memory, and a reader must know."""
    claim = make_claim(stand_in="other")
    record = limited(GB, model="other", weights=Weights.RANDOM)
    record = record.model_copy(update={"provenance": Provenance(source="random", random=True)})
    other = make_model(name="other")
    (judged,) = judge([model(claim)], [record], predicted_for, [model(claim), other])
    assert judged.verdict is Verdict.HOLDS
    assert evidence(judged).endswith("on cpu-test, other standing in, random weights")


@pytest.mark.parametrize(
    ("budget", "words"),
    [(10 * GB, ": would hold"), (1000, ": would fail"), (61 * 2**20, ": would fail (not if GB means GiB)")],
)
def test_without_a_record_the_prediction_only_points(budget: int, words: str) -> None:
    """Never more than `computed only`, and a budget missed by the unit alone says so."""
    if "GiB" in words:  # the prediction's own figure, less than the two units differ by
        said = evidence(verdict()).split()
        predicted = float(said[1]) * {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[said[2]]
        budget = int(predicted / 1.03)
    judged = verdict(claims=(make_claim(at_most=budget),))
    assert judged.verdict is Verdict.COMPUTED
    assert evidence(judged).endswith(words)


def test_a_predicted_peak_is_the_whole_process_s_as_a_limit_would_count_it() -> None:
    """What the driver takes before loading is in it, and said; weights are weights."""
    mine = 1 + BASELINE_BYTES["cuda"]["transformers"]
    assert evidence(verdict(claims=(make_claim(at_most=mine),))).endswith(": would fail")
    assert " (450 MiB of it before loading) of at most " in evidence(verdict())
    weights = make_claim(quantity=Quantity.WEIGHTS, at_least=1, at_most=mine)
    assert evidence(verdict(claims=(weights,))).endswith(": would hold")
    assert "before loading" not in evidence(verdict(claims=(weights,)))


def test_bounds_read_in_the_unit_of_their_quantity() -> None:
    """Bytes in binary units, counts in full."""
    assert bounds(make_claim()) == "at most 1 GB"
    assert bounds(make_claim(quantity=Quantity.DECODE, at_most=None, at_least=5)) == "at least 5 tokens/s"
    assert bounds(make_claim(quantity=Quantity.PARAMETERS, at_least=1000, at_most=2000)) == "1,000 to 2,000"
    assert bounds(make_claim(quantity=Quantity.PARAMETERS, at_least=1000, at_most=1000)) == "1,000"


def test_the_table_shows_evidence_record_and_contradiction() -> None:
    """What speaks against a claim elsewhere is a footnote of its text."""
    ran = limited(GB)
    judged = [verdict(ran, claims=(make_claim(contradiction="another page says 2 GB"),))]
    table = people(judged)
    assert table.rows[0][:4] == ["tiny-1gb", "tiny", "runs in 1 GB (fp16) [1]", "holds"]
    assert table.rows[0][4].endswith(f"(record {ran.id})")
    assert table.notes == ["another page says 2 GB"]
    (row,) = flats(judged)
    assert (row["verdict"], row["record"], row["at_most"], row["tokens"]) == ("holds", ran.id, GB, 100)
    assert counts(judged) == "1 claims: holds 1, fails 0, computed only 0, untested 0, not testable 0"


def test_a_peak_of_loading_alone_says_how_it_is_decided() -> None:
    """Both figures, and the command that measures under the claimed budget."""
    assert evidence(verdict(peaks(GB // 2, 2 * GB))) == (
        "measured 477 MiB of at most 1 GB, but 1.86 GiB while loading, without a limit: "
        "`bench claims --run` decides it; transformers bf16 on cpu-test"
    )
