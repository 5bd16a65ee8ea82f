# SPDX-License-Identifier: Apache-2.0
"""Expected seconds from records of one device whose roof is known, against sums worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from builders import DEVICE, make_cell, make_machine, make_record, sample, speed_samples

from bench.catalog.entries import read_catalog
from bench.engines.registry import backend
from bench.plan.looks import CALLS_S, WITHOUT_RECORDS, typical
from bench.plan.predict import multiplied
from bench.plan.seconds import COMPARED_S, Estimator
from bench.records.cell import Cell, Precision
from bench.records.record import Caveat, Measurement, Prediction, Record, Unit
from bench.records.surroundings import Roof
from bench.suite import Pace
from suites import suite

CATALOGUE = read_catalog()
MODELS = {model.name: model for model in CATALOGUE}
MATRIX, MEMORY = {"fp32": 1e11, "bf16": 4e11}, 1e10
ROOF = Roof(
    engine="x", method=2, read_bytes_per_s={"bf16": (MEMORY,)}, matrix_per_s={k: (v,) for k, v in MATRIX.items()}
)
WEIGHTS = 250_000_000
PREFILL_S, STEP_S = 0.002, 0.05


def cell(suite_name: str, model: str = "gpt2", scheme: str = "bf16", profile: str = "smoke", **settings: Any) -> Cell:
    """A cell of the transformers backend on the test's device."""
    precision = {"bf16": Precision.FP16, "fp32": Precision.FP32, "bnb-nf4": Precision.INT4}.get(scheme, Precision.INT4)
    own = {**suite(suite_name).PROFILES[profile], **settings}
    engine = "llamacpp" if scheme.startswith("gguf") else "transformers"
    return make_cell(
        suite_name, model=model, backend=engine, scheme=scheme, precision=precision, profile=profile, settings=own
    )


def record(of: Cell, seconds: float, *measurements: Measurement, weights: int = WEIGHTS, **more: Any) -> Record:
    """What that cell took."""
    return make_record(
        of, seconds=seconds, measurements=measurements, predicted=Prediction(weights_bytes=weights), **more
    )


def timed(model: str = "gpt2", scheme: str = "bf16", slower: float = 1.0, **more: Any) -> Record:
    """A throughput record: four rounds of 128 tokens, prompts of 2 ms a token, steps of 50 ms, and 0.4 s beside."""
    itl, prefill = [slower * STEP_S] * 30, [slower * PREFILL_S * 128] * 2
    labels = {"prompt_tokens": 128, "batch": 1}
    warm = sample("warmup_prefill_s", prefill, Unit.SECOND, **labels)
    samples = speed_samples(prefill_s=prefill, itl_s=itl, per_repeat=15, prompt_tokens=128)
    seconds = slower * (4 * 128 * PREFILL_S + 32 * STEP_S) + 0.4
    return record(cell("throughput", model, scheme), seconds, *samples, warm, **more)


def expected(of: Cell, *records: Record, weights: int = WEIGHTS, **predicted: Any) -> tuple[float, Pace]:
    """Seconds and pace of a cell by these records."""
    estimator = Estimator(make_machine(device=DEVICE), records, CATALOGUE, ROOF)
    found = Prediction(weights_bytes=weights, **predicted)
    scheme = backend(of.backend).scheme(of.scheme)
    assert scheme is not None
    work = estimator.work(of, found)
    pace = estimator.pace(of, MODELS[of.model], scheme, found, work)
    assert pace is not None
    return pace.seconds(work), pace


def test_tokens_take_what_prompts_and_steps_were_timed_to_take() -> None:
    """A memory cell after a throughput cell: 128 tokens of 2 ms, 8 steps of 50 ms, and nothing known beside them."""
    assert expected(cell("memory"), timed())[0] == pytest.approx(128 * PREFILL_S + 8 * STEP_S)


def test_what_a_round_takes_beside_its_tokens_comes_from_its_suite() -> None:
    """0.3 s of a shorter memory cell; a throughput cell's 0.4 s are of four rounds."""
    shorter = record(cell("memory"), 128 * PREFILL_S + 8 * STEP_S + 0.3)
    longer = cell("memory", profile="standard")
    assert expected(longer, timed(), shorter)[0] == pytest.approx(512 * PREFILL_S + 32 * STEP_S + 0.3)
    again = cell("throughput", decode_tokens=20)
    assert expected(again, timed())[1].round_s == pytest.approx(0.1)


def test_a_cell_faster_than_its_tokens_takes_no_time_beside_them() -> None:
    """A second is never given back."""
    shorter = record(cell("memory"), 0.1)
    assert expected(cell("memory", profile="standard"), timed(), shorter)[1].round_s == 0


def test_a_disturbed_neighbour_does_not_count_where_two_are_known() -> None:
    """Something else slowed it down tenfold, and nothing makes a machine faster."""
    quiet, busy = timed("gpt-neo-125m"), timed("opt-350m", slower=10)
    one, both = expected(cell("memory"), quiet)[0], expected(cell("memory"), quiet, busy)[0]
    assert both == pytest.approx(one)
    looks = Estimator(make_machine(device=DEVICE), [busy, quiet], CATALOGUE, ROOF).looks
    assert typical(looks, "gpt2", WEIGHTS, lambda look: look.record.seconds) == quiet.seconds
    assert typical(looks, "opt-350m", WEIGHTS, lambda look: look.record.seconds) == busy.seconds


def test_a_class_without_a_cache_reads_its_prompt_again_with_every_step() -> None:
    """GPT-1 by what GPT-2 was timed to take: 128 tokens more for each step, and its own steps tell GPT-2 nothing."""
    size = multiplied(MODELS["gpt-1"], WEIGHTS) / multiplied(MODELS["gpt2"], WEIGHTS)
    pace = expected(cell("memory", "gpt-1"), timed())[1]
    assert pace.prefill_s == pytest.approx(size * PREFILL_S)
    assert pace.decode_s == pytest.approx(STEP_S + 128 * size * PREFILL_S)
    fast = timed("gpt-1", slower=0.1)
    assert expected(cell("memory"), timed("gpt-neo-125m"), fast)[1].decode_s == pytest.approx(STEP_S)


def test_a_scheme_nobody_measured_lies_between_the_same_seconds_and_what_the_roofs_tell() -> None:
    """fp32 by bf16: products four times as slow at the roof are twice as slow; steps read twice the bytes."""
    pace = expected(cell("memory", scheme="fp32"), timed(), weights=2 * WEIGHTS)[1]
    calls = 12 * CALLS_S["transformers"]
    roofs = (2 * WEIGHTS / MEMORY + calls) / (WEIGHTS / MEMORY + calls)
    assert pace.prefill_s == pytest.approx(PREFILL_S * 2)
    assert pace.decode_s == pytest.approx(STEP_S * roofs**0.5)


def test_an_engine_nobody_measured_is_as_far_from_the_roof_as_another_at_the_same_bits() -> None:
    """Else as the last resort says, and its pace is a guess."""
    asked = cell("memory", scheme="gguf-q4_0")
    roof = 2 * multiplied(MODELS["gpt2"], WEIGHTS) / MATRIX["fp32"]
    assert expected(asked, timed(scheme="bnb-nf4"))[1].prefill_s == pytest.approx(PREFILL_S)
    pace = expected(asked, timed())[1]
    assert pace.prefill_s == pytest.approx(WITHOUT_RECORDS * roof)
    assert pace.guess


def test_half_of_an_encoder_and_decoder_reads_a_prompt() -> None:
    """At the roof."""
    whole = expected(cell("memory", "t5-small"))[1].prefill_s
    assert expected(cell("memory", "t5-small", objective="seq2seq"))[1].prefill_s == pytest.approx(whole / 2)


def test_comparing_distributions_costs_by_the_vocabulary() -> None:
    """GPT-2's record tells seconds of one probability; OPT has 50,272 of them. Before all records a constant does."""
    done = 2 * 64  # windows and their tokens
    nll = sample("nll_nat", [2.0, 3.0], Unit.NAT)
    known = record(cell("divergence"), done * (PREFILL_S + 0.001), nll)
    pace = expected(cell("divergence", "opt-350m"), timed(), known)[1]
    assert pace.compared_s == pytest.approx(0.001 * 50272 / 50257)
    assert expected(cell("divergence"), timed())[1].compared_s == pytest.approx(COMPARED_S * 50257)


def test_items_take_so_many_times_their_tokens_as_they_took_before() -> None:
    """Half of what prompts of their length were timed to take."""
    before = cell("quality", tasks=["a"], items=10)
    scores = sample("acc", [1.0] * 10, Unit.FRACTION, task="a", item_hashes=["0"] * 10)
    known = record(before, 10 * 66 * PREFILL_S / 2, scores)
    asked = cell("quality", tasks=["b"], items=20)
    assert expected(asked, timed(), known)[0] == pytest.approx(20 * 66 * PREFILL_S / 2)


def test_the_same_cell_takes_what_it_took_for_the_repeats_that_are_expected_now() -> None:
    """Ten repeats before, for noise; of three cells two are half and one is all of the way from five to ten."""
    asked = cell("throughput", profile="standard")
    labels = {"prompt_tokens": 512, "batch": 1}
    prefill = [1.0] * 10
    warm = sample("warmup_prefill_s", [1.0] * 3, Unit.SECOND, **labels), sample("warmup_itl_s", [0.05] * 3, Unit.SECOND)
    samples = speed_samples(prefill_s=prefill, itl_s=[STEP_S] * 1270, per_repeat=127, prompt_tokens=512)
    noisy = record(asked, 100.0, *samples, *warm)
    seconds, pace = expected(asked, noisy)
    work = suite("throughput").done(asked.settings, noisy.measurements)
    assert pace.seconds(work) == pytest.approx(100.0)
    repeats = 5 * 2**0.75
    assert seconds == pytest.approx(100 * (128 * repeats + 24) / 1304, rel=0.02)


@pytest.mark.parametrize(("cut", "seconds"), [(False, 7.0), (True, 14.0)])
def test_a_cell_whose_items_were_settled_takes_as_long_again_and_one_that_was_cut_longer(
    cut: bool, seconds: float
) -> None:
    """Half of the items were answered."""
    asked = cell("quality", tasks=["a"], items=20)
    scores = sample("acc", [1.0] * 10, Unit.FRACTION, task="a", item_hashes=["0"] * 10)
    warnings = (Caveat(kind="cut_by_budget", text="half"),) if cut else ()
    assert expected(asked, timed(), record(asked, 7.0, scores, warnings=warnings))[0] == pytest.approx(seconds)


def test_a_search_is_expected_by_what_fits_and_by_what_trials_took() -> None:
    """Trials before: 1,000 tokens and 0.5 s beside each; now 12 trials, and 2.6 times the tokens of the last ones."""
    before = cell("capacity", decode_tokens=9)
    trials = sample("trial_bytes", [1, 2], sizes=[24, 976], of="max_context_tokens")
    known = record(before, 1000 * PREFILL_S + 20 * STEP_S + 2 * 0.5, trials)
    asked = cell("capacity")
    seconds, _ = expected(asked, timed(), known, context_tokens=2000, batch={"128": 4})
    tokens = 2.6 * (2000 + 4 * 136)
    assert seconds == pytest.approx(tokens * PREFILL_S + 12 * 9 * STEP_S + 12 * 0.5, rel=1e-3)


def test_nothing_is_expected_without_a_size() -> None:
    """An architecture that nobody knows."""
    estimator = Estimator(make_machine(device=DEVICE), [], CATALOGUE, ROOF)
    asked, scheme = cell("memory"), backend("transformers").scheme("bf16")
    assert scheme is not None
    work = estimator.work(asked, Prediction())
    assert estimator.pace(asked, MODELS["gpt2"], scheme, Prediction(), work) is None
