# SPDX-License-Identifier: Apache-2.0
"""The report of predicted peaks, from constructed records."""

from __future__ import annotations

from typing import Any

from builders import failed, make_cell, make_model, make_record, memory_samples, sample

from bench.engines.fake import BACKEND
from bench.plan.baseline import BASELINE_BYTES
from bench.plan.predict import needed
from bench.records.record import Prediction, Record
from benchmarks import prediction_peaks
from benchmarks.prediction_peaks import FLOOR, Peak

MODELS = {"tiny": make_model()}
SCHEME = BACKEND.scheme("fake-fp16")
MIB = 1 << 20
DECODE = 8


def expected(prompt: int, batch: int) -> int:
    """Of so many prompts, eight tokens generated after each."""
    assert SCHEME is not None
    return needed(MODELS["tiny"].architecture or {}, SCHEME, "cpu", prompt, DECODE, batch).peak_bytes


def memory(baseline: int, measured: int, **overrides: Any) -> Record:
    """A memory record of 128 + 8 tokens whose peak above the baseline is `measured`, predicted then as 200 bytes."""
    work = measured - 500 - 30 - 40
    return make_record(measurements=memory_samples(baseline=baseline, workspace=work), **overrides)


def trials(of: str, sizes: list[int], failures: list[str], values: list[int], **labels: Any) -> Any:
    return sample("trial_bytes", values, of=of, sizes=sizes, failures=failures, killed=0, **labels)


def capacity(*measurements: Any) -> Record:
    settings = {"decode_tokens": DECODE, "batch_prompts": [128], "memory_limit_bytes": 10**9}
    return make_record(make_cell("capacity", settings=settings), measurements=measurements)


def test_a_memory_record_is_held_against_both_predictions() -> None:
    """Twice what is predicted now and twice what was predicted then, of one prompt at batch 1."""
    now = expected(128, 1)
    then = Prediction(peak_bytes=now)
    (found,) = prediction_peaks.peaks([memory(1000, 2 * now, predicted=then)], MODELS)
    assert (found.prompt, found.decode, found.batch) == (128, 8, 1)
    assert (found.measured, found.then, found.now) == (2 * now, now, now)
    assert found.line().split()[:7] == ["tiny", "fake-fp16", "128+8", "1", f"{2 * now / MIB:.0f}", "-50.0%", "-50.0%"]


def test_a_trial_is_a_peak_of_its_own_length_and_batch() -> None:
    """Of a context of 2,000 positions 1,992 are read; a batch of 4 has its own prompt; what failed is left out."""
    record = capacity(
        trials("max_context_tokens", [24, 2000, 4000], ["", "", "memory"], [7_000, 8_000, 9_000]),
        trials("max_batch", [1, 4], ["", ""], [7_500, 9_500], prompt_tokens=128),
    )
    before = [memory(900, 10**6, started="2026-01-01T00:00:00Z"), memory(1000, 10**6, started="2026-01-02T00:00:00Z")]
    found = [peak for peak in prediction_peaks.peaks([*before, record], MODELS) if peak.suite == "capacity"]
    assert [(peak.prompt, peak.batch, peak.measured, peak.then) for peak in found] == [
        (16, 1, 6_000, None), (1992, 1, 7_000, None), (128, 1, 6_500, None), (128, 4, 8_500, None),
    ]  # fmt: skip
    assert [peak.now for peak in found] == [expected(16, 1), expected(1992, 1), expected(128, 1), expected(128, 4)]
    assert len({peak.now for peak in found}) == 4
    assert found[3].line().split()[2:6] == ["128+8", "4", "0", "-"]


def test_the_empty_process_is_the_newest_of_its_own_model_or_of_another_s() -> None:
    """A record of another scheme says nothing of it, for it imports other libraries."""
    asked = capacity()
    own = [memory(900, 10**6, started="2026-01-03T00:00:00Z"), memory(800, 10**6, started="2026-01-02T00:00:00Z")]
    other = memory(700, 10**6, started="2026-01-04T00:00:00Z", cell=make_cell(model="other"))
    int4 = memory(600, 10**6, started="2026-01-05T00:00:00Z", cell=make_cell(precision="int4"))
    assert prediction_peaks.baseline_bytes(asked, [*own, other, int4]) == 900
    assert prediction_peaks.baseline_bytes(asked, [other, int4]) == 700
    assert prediction_peaks.baseline_bytes(asked, [int4]) == BASELINE_BYTES["cpu"]["fake"]


def test_the_last_line_counts_records_and_trials_apart() -> None:
    """Off is what misses by more than 5 % and by more than 150 MiB; a failed or unknown record is no line."""

    def peak(suite: str, measured: int, now: int) -> Peak:
        record = make_record(make_cell(suite))
        return Peak(record=record, prompt=1, decode=0, batch=1, measured=measured, then=None, now=now)

    large = 100 * FLOOR
    pairs = [(10, FLOOR + 10), (10, FLOOR + 11), (large, large + large // 20), (large, large - large // 20 - 1)]
    found = [peak("memory", measured, now) for measured, now in pairs]
    assert [one.is_off for one in found] == [False, True, False, True]
    assert [one.line().endswith("OFF") for one in found] == [False, True, False, True]
    lines = prediction_peaks.report([*found, peak("capacity", 10, 10)]).splitlines()
    assert len(lines) == 7
    assert lines[-1] == "2 of 4 memory records and 1 of 1 capacity trials within 5% or 150 MiB"
    unknown = make_record(make_cell(model="nobody"), measurements=memory_samples())
    assert list(prediction_peaks.peaks([failed(make_cell()), unknown], MODELS)) == []
    assert prediction_peaks.report([]).splitlines()[-1] == "nothing within 5% or 150 MiB"


def test_a_masked_model_generates_nothing() -> None:
    """Its settings have a number all the same."""
    settings = {"prompt_tokens": 128, "decode_tokens": 8, "objective": "masked"}
    (found,) = prediction_peaks.peaks([memory(1000, 10**6, cell=make_cell(settings=settings))], MODELS)
    assert (found.prompt, found.decode) == (128, 0)
