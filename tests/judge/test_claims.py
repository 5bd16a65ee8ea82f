# SPDX-License-Identifier: Apache-2.0
"""Every claim is judged by what was measured, else by what can be computed, and never by more than that."""

from __future__ import annotations

from typing import Any

import pytest
from builders import failed, make_cell, make_model, make_record, memory_samples, speed_samples
from claimed import GB, cell, limited, make_claim, model, peaks, verdict
from pydantic import ValidationError

from bench.catalog.entries import read_catalog
from bench.catalog.model import Quantity
from bench.engines.registry import backend, backend_names
from bench.judge.claims import Basis, Evidence, Origin, Verdict, judge
from bench.plan.claims import predicted_for
from bench.records.cell import Precision, Weights, digest
from bench.records.record import Ending, MemoryLimit, Outcome, Provenance, Record
from bench.views.claims import evidence, flats


def test_a_run_under_a_hard_limit_of_the_budget_decides() -> None:
    """It ran, or it did not; the record is named."""
    ran = limited(GB)
    judged = verdict(ran)
    assert (judged.verdict, judged.record) == (Verdict.HOLDS, ran)
    assert judged.evidence == Evidence(basis=Basis.RAN)
    assert evidence(judged) == "ran under a hard limit of 1 GB (cgroup v2); transformers bf16 on cpu-test"
    assert verdict(limited(GB, Ending.DOES_NOT_FIT)).verdict is Verdict.FAILS


@pytest.mark.parametrize(
    ("limit", "ending"),
    [(2 * GB, Ending.OK), (GB // 2, Ending.DOES_NOT_FIT), (GB, Ending.FAILED), (GB, Ending.TIMED_OUT)],
)
def test_a_limit_that_says_nothing_of_the_budget_does_not_decide(limit: int, ending: Ending) -> None:
    """Too loose and passed, too tight and failed, or ended for another reason."""
    record = limited(limit, ending).model_copy(update={"measurements": ()})
    assert verdict(record).verdict is Verdict.COMPUTED


@pytest.mark.parametrize("ending", [Ending.OK, Ending.DOES_NOT_FIT])
def test_a_crude_limit_proves_nothing(ending: Ending) -> None:
    """RLIMIT_DATA counts what is never touched and misses what is mapped: the peak decides, if there is one."""
    record = limited(GB, ending)
    assert record.memory_limit is not None
    crude = record.model_copy(update={"memory_limit": MemoryLimit(bytes=GB, enforced_by="RLIMIT_DATA")})
    judged = verdict(crude)
    if ending is Ending.OK:
        assert judged.verdict is Verdict.HOLDS
        assert judged.evidence.basis is Basis.MEASURED
    else:
        assert judged.verdict is Verdict.COMPUTED


def test_pages_charged_elsewhere_prove_nothing() -> None:
    """More was resident than the limit allows: another process had cached the weights' file."""
    state = MemoryLimit(bytes=GB, enforced_by="cgroup v2")
    record = peaks(GB + 1, GB, limit=GB).model_copy(update={"memory_limit": state})
    judged = verdict(record)
    assert judged.verdict is Verdict.UNTESTED
    assert judged.evidence == Evidence(basis=Basis.RESIDENT_MORE, value=GB + 1)
    assert "drop the page cache" in evidence(judged)


def test_a_gpu_s_limit_that_held_the_allocator_alone_proves_nothing_beyond_the_budget() -> None:
    """The driver's own figure decides: within the budget it fits, above it the question is open."""
    for highest, expected in ((GB, Verdict.HOLDS), (GB + 1, Verdict.UNTESTED)):
        state = MemoryLimit(bytes=GB - 10**8, enforced_by="CUDA allocator", highest_bytes=highest)
        judged = verdict(peaks(GB // 2, GB // 2, limit=GB - 10**8).model_copy(update={"memory_limit": state}))
        assert judged.verdict is expected
    assert judged.evidence == Evidence(basis=Basis.COUNTED_MORE, value=GB + 1)
    assert "but 954 MiB were counted for the process" in evidence(judged)


def test_a_prediction_that_it_will_not_fit_is_no_proof() -> None:
    """The plan writes such records without having tried."""
    unrun = failed(cell(limit=GB), Ending.DOES_NOT_FIT, "predicted too large")
    assert verdict(unrun).verdict is Verdict.COMPUTED


@pytest.mark.parametrize(
    ("peak", "load", "expected"),
    [
        (GB, GB, Verdict.HOLDS),
        (GB + 1, GB, Verdict.FAILS),
        (GB // 2, 2 * GB, Verdict.UNTESTED),
        (2 * GB, 2 * GB, Verdict.FAILS),
    ],
)
def test_without_a_limit_the_whole_process_is_weighed(peak: int, load: int, expected: Verdict) -> None:
    """A loader that took more than the budget only because it was there decides nothing."""
    assert verdict(peaks(peak, load)).verdict is expected


def test_a_limit_counts_before_a_newer_measurement_without_one() -> None:
    """What was tried is worth more than what was weighed."""
    newer = peaks(2 * GB, 2 * GB).model_copy(update={"started": "2027-01-01T00:00:00Z"})
    assert verdict(newer, limited(GB)).verdict is Verdict.HOLDS


def test_the_schemes_that_the_catalogue_s_claims_name_exist() -> None:
    """In some backend, and of the precision claimed; BELLE's are GPTQ's and ggml's, as its makers used."""
    schemes = {scheme.name: scheme for name in backend_names() for scheme in backend(name).schemes}
    named = {claim.id: claim for entry in read_catalog() for claim in entry.claims if claim.scheme}
    assert {claim.id for claim in named.values() if schemes[str(claim.scheme)].precision != claim.precision} == set()
    assert (named["belle-bloom-gptq8-12gb"].scheme, named["belle-bloom-gptq4"].scheme) == ("gptq-int8", "gptq-int4")


@pytest.mark.parametrize(
    "record",
    [
        limited(GB, tokens=99),
        limited(GB, precision=Precision.INT8),
        limited(GB, model="other"),
        limited(GB, backend="fake"),
    ],
)
def test_records_of_another_question_are_left_aside(record: Record) -> None:
    """A shorter context, another precision, another model, an instrument's test."""
    assert verdict(record).verdict is Verdict.COMPUTED


def test_that_it_does_not_fit_can_be_the_claim() -> None:
    """A lower bound on memory turns the same experiment round."""
    claim = make_claim(at_most=None, at_least=GB)
    assert verdict(limited(GB), claims=(claim,)).verdict is Verdict.FAILS
    assert verdict(limited(GB, Ending.DOES_NOT_FIT), claims=(claim,)).verdict is Verdict.HOLDS


def test_weights_and_speed_are_measured_figures() -> None:
    """The census and the decode rate, each within its bounds or not."""
    claim = make_claim(quantity=Quantity.WEIGHTS, at_least=400, at_most=500)
    assert (
        verdict(make_record(cell(), measurements=memory_samples(weights=500)), claims=(claim,)).verdict is Verdict.HOLDS
    )
    assert (
        verdict(make_record(cell(), measurements=memory_samples(weights=501)), claims=(claim,)).verdict is Verdict.FAILS
    )
    claim = make_claim(quantity=Quantity.DECODE, at_least=5, at_most=None)
    speed = make_record(make_cell("throughput", backend="transformers"), measurements=speed_samples(itl_s=[0.1] * 4))
    judged = verdict(speed, claims=(claim,))
    assert judged.verdict is Verdict.HOLDS
    assert evidence(judged).startswith("measured 10 tokens/s of at least 5 tokens/s")
    assert verdict(claims=(claim,)).verdict is Verdict.UNTESTED


LLAMA = {
    "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 128,
}  # fmt: skip


@pytest.mark.parametrize(
    ("quantity", "low", "high", "expected"),
    [
        (Quantity.VOCABULARY, 100, 100, Verdict.HOLDS),
        (Quantity.VOCABULARY, 101, None, Verdict.FAILS),
        (Quantity.GROWTH, 40, 40, Verdict.HOLDS),
        (Quantity.GROWTH, 50, None, Verdict.FAILS),
        (Quantity.PARAMETERS, 12345, 12345, Verdict.HOLDS),
        (Quantity.PARAMETERS, None, 12344, Verdict.FAILS),
        (Quantity.TRAINED, 24, 24, Verdict.HOLDS),
    ],
)
def test_what_can_be_counted_needs_no_record(
    quantity: Quantity, low: float | None, high: float | None, expected: Verdict
) -> None:
    """Rows, rows beyond the base's, parameters, and products of the claim's own factors."""
    claim = make_claim(quantity=quantity, at_least=low, at_most=high, factors=(2, 3, 4))
    entry = model(claim, architecture=LLAMA, parameters=12345, base_model="base")
    base = make_model(name="base", architecture=LLAMA | {"vocab_size": 60})
    (judged,) = judge([entry], [], predicted_for, [entry, base])
    assert judged.verdict is expected


def test_an_unknown_architecture_is_untested() -> None:
    """Nothing is guessed."""
    assert verdict(architecture=None).verdict is Verdict.UNTESTED
    assert verdict(architecture={"model_type": "unheard-of"}).verdict is Verdict.UNTESTED


def test_what_cannot_be_tested_gives_its_reason() -> None:
    """Whatever records there are."""
    claim = make_claim(untestable="it is about training")
    judged = verdict(limited(GB), claims=(claim,))
    assert (judged.verdict, evidence(judged)) == (Verdict.NOT_TESTABLE, "it is about training")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"at_most": None}, "needs `at_least` or `at_most`"),
        ({"quantity": Quantity.TRAINING}, "training is not measured here"),
        ({"quantity": Quantity.TRAINED}, "need `factors`"),
        ({"precision": None}, "needs a `precision`"),
        ({"quantity": "taste"}, "Input should be"),
        ({"budget": 3}, "Extra inputs are not permitted"),
        ({"tokens": 0}, "greater than 0"),
    ],
)
def test_a_claim_that_nothing_could_decide_is_refused(overrides: dict[str, Any], words: str) -> None:
    """Without a bound, a precision or factors there is nothing to hold against a figure."""
    with pytest.raises(ValidationError, match=words):
        make_claim(**overrides)


FACTS = {
    "alpaca-train-112gb": "alpaca-7b", "alpaca-infer-fp16": "alpaca-native-7b",
    "instruct-gptj-fp16-t4": "instruct-gpt-j", "belle-bloom-gptq8-12gb": "belle-7b-2m",
    "belle-base-fp32": "belle-7b-2m", "belle-bloom-gptq4": "belle-7b-2m",
    "belle-llama-ggml4-m1": "belle-llama-7b-2m", "alpaca-lora-train-24gb": "alpaca-lora-7b",
    "dolly-v1-train-v100": "dolly-v1-6b", "dolly-v2-12b-v100-train": "dolly-v2-12b",
    "dolly-v2-12b-a10-int8": "dolly-v2-12b", "dolly-v2-small-a10": "dolly-v2-7b", "gpt4all-16gb": "gpt4all-lora-7b",
    "cla-sizes": "chinese-alpaca-7b", "cla-vocab": "chinese-llama-7b", "chatglm-fp16-13gb": "chatglm-6b",
    "chatglm-int8": "chatglm-6b", "chatglm-int4": "chatglm-6b", "llama-adapter-1.2m": "llama-adapter-7b",
    "vicuna-7b-14gb": "vicuna-7b-v1.3", "vicuna-13b-28gb": "vicuna-13b-v1.3",
    "vicuna-13b-int8-16gb": "vicuna-13b-v1.3", "vicuna-cpu": "vicuna-7b-v1.3", "koala-infer": "koala-13b",
    "baize-fp16": "baize-7b", "baize-train-int8": "baize-7b", "firefly-vocab": "firefly-bloom-1b4",
    "firefly-1gpu": "firefly-bloom-2b6", "stackllama-70gb": "stackllama-7b", "stackllama-60b-int8": "stackllama-7b",
    "stackllama-int8-7gb": "stackllama-7b", "dschat-single-gpu": "deepspeed-chat", "coati-1.62gb": "colossalchat",
    "colossal-llama-table": "llama-7b",
}  # fmt: skip
"""The 34 claims that were collected, and the entry each concerns; a table of several figures has one claim for each."""


@pytest.mark.parametrize(("claim", "name"), FACTS.items())
def test_every_collected_claim_stands_in_its_entry(claim: str, name: str) -> None:
    """Under its own id, or with a suffix for each figure of a table."""
    (entry,) = (entry for entry in read_catalog() if entry.name == name)
    assert any(found.id == claim or found.id.startswith(f"{claim}-") for found in entry.claims)


def test_the_refuted_and_the_contradicted_say_so() -> None:
    """The claims that their own sources contradict carry it beside them."""
    by_id = {claim.id: claim for entry in read_catalog() for claim in entry.claims}
    for claim in (
        "dolly-v2-12b-v100-train", "stackllama-70gb", "colossal-llama-table-7b-int4", "vicuna-13b-int8-16gb",
        "belle-base-fp32", "belle-llama-ggml4-m1", "chatglm-parameters", "cla-vocab", "alpaca-train-hours",
        "gopher-parameters", "gpt-j-parameters", "firefly-parameters-1b4", "alpaca-train-112gb",
    ):  # fmt: skip
        assert by_id[claim].contradiction, claim


@pytest.mark.parametrize(
    ("claim", "expected", "words"),
    [
        ("cla-vocab", Verdict.FAILS, "17,953"),
        ("llama-adapter-1.2m", Verdict.HOLDS, "1,228,800"),
        ("firefly-vocab", Verdict.HOLDS, "46,145"),
        ("chatglm-parameters", Verdict.FAILS, "6,707,929,088"),
        ("instruct-gptj-fp16-t4", Verdict.COMPUTED, "would hold"),
        ("belle-bloom-gptq8-12gb", Verdict.COMPUTED, "would hold"),
        ("colossal-llama-table-7b-int4", Verdict.COMPUTED, "would fail"),
        ("dolly-v2-12b-v100-train", Verdict.NOT_TESTABLE, "training"),
    ],
)
def test_the_catalogue_s_claims_are_judged_without_any_record(claim: str, expected: Verdict, words: str) -> None:
    """What the facts already decide, and what they point to."""
    judged = {item.claim.id: item for item in judge(read_catalog(), [], predicted_for)}
    assert judged[claim].verdict is expected
    assert words in evidence(judged[claim])


def test_outcomes_of_unlimited_failures_decide_nothing() -> None:
    """A crash is no verdict."""
    crashed = make_record(
        cell(), outcome=Outcome(ending=Ending.FAILED, reason="it broke"), measurements=memory_samples()
    )
    assert verdict(crashed).verdict is Verdict.COMPUTED


FIRST, SECOND = {"model.safetensors": "1000:aaaaaaaaaaaa"}, {"model.safetensors": "2000:bbbbbbbbbbbb"}


def of(weights: Weights, files: dict[str, str] | None = None, *, peak: int = GB, **changes: Any) -> Record:
    """A measured peak of weights that are called `tiny`."""
    source = {Weights.LOCAL: "tiny", Weights.RANDOM: "random"}.get(weights, "tests/tiny")
    found = Provenance(
        source=source, files=files or {}, random=weights is Weights.RANDOM, revision=changes.pop("revision", None)
    )
    return peaks(peak, 0, weights=weights, source=source).model_copy(update={"provenance": found, **changes})


LATER = "2027-01-01T00:00:00Z"


@pytest.mark.parametrize("other", [of(Weights.LOCAL, SECOND, peak=2 * GB), of(Weights.RANDOM, peak=2 * GB)])
def test_the_entry_s_own_weights_decide_before_others_of_its_name(other: Record) -> None:
    """However new the others are, and even where they alone ran under a hard limit."""
    own = of(Weights.HUB, FIRST)
    limit = MemoryLimit(bytes=GB, enforced_by="cgroup v2")
    for later in (other, other.model_copy(update={"memory_limit": limit})):
        judged = verdict(own, later.model_copy(update={"started": LATER}))
        assert (judged.verdict, judged.record, judged.origin) == (Verdict.HOLDS, own, Origin.OWN)
        assert evidence(judged).endswith("transformers bf16 on cpu-test")


def test_other_weights_of_the_name_are_named_where_they_decide() -> None:
    """Two local checkpoints are two models; the evidence says which it is from, and random values what they are."""
    one, two = of(Weights.LOCAL, FIRST), of(Weights.LOCAL, SECOND, peak=2 * GB, started=LATER)
    judged = verdict(one, two)
    assert (judged.verdict, judged.record, judged.origin) == (Verdict.FAILS, two, Origin.LOCAL)
    assert evidence(judged).endswith(f"on cpu-test, local weights tiny #{digest(SECOND)[:6]}")
    alone = verdict(one)
    assert evidence(alone).endswith(f"on cpu-test, local weights tiny #{digest(FIRST)[:6]}")
    assert evidence(verdict(of(Weights.RANDOM))).endswith("on cpu-test, random weights")
    assert evidence(verdict(limited(GB, Ending.DOES_NOT_FIT, weights=Weights.RANDOM))).endswith(", random weights")
    (flat,) = flats([judged])
    assert (flat["weights"], flat["checkpoint"]) == ("local weights", digest(SECOND))


def test_local_files_that_are_the_entry_s_own_are_its_own() -> None:
    """By their fingerprints: the same file from the Hub's cache and from a folder is one model."""
    far, near = of(Weights.HUB, FIRST), of(Weights.LOCAL, FIRST, peak=2 * GB, started=LATER)
    judged = verdict(far, near)
    assert (judged.verdict, judged.record, judged.origin) == (Verdict.FAILS, near, Origin.OWN)


def test_another_revision_than_the_entry_names_is_told() -> None:
    """A tune that was published again is another model; what is measured at the named revision counts first."""
    old, new = of(Weights.HUB, FIRST, revision="a" * 40), of(Weights.HUB, SECOND, revision="b" * 40, started=LATER)
    judged = verdict(old, new, revision="a" * 40)
    assert (judged.record, judged.origin) == (old, Origin.OWN)
    assert evidence(judged).endswith(f", weights #{digest(FIRST)[:6]}")
    judged = verdict(new, revision="a" * 40)
    assert judged.origin is Origin.REVISION
    assert evidence(judged).endswith(f", revision {'b' * 40} and not the entry's")


def test_what_own_weights_leave_open_others_may_decide() -> None:
    """A loader that took more without a limit proves nothing; a hard limit that random weights ran under does."""
    open_ = peaks(GB // 2, 2 * GB, weights=Weights.HUB, source="tests/tiny")
    random = limited(GB, weights=Weights.RANDOM, source="random")
    judged = verdict(open_, random)
    assert (judged.verdict, judged.record, judged.origin) == (Verdict.HOLDS, random, Origin.RANDOM)
    assert verdict(open_).verdict is Verdict.UNTESTED
