# SPDX-License-Identifier: Apache-2.0
"""What a comparison comes to: the verdict of all instruments together, and the row to take."""

from __future__ import annotations

import math
from typing import Any

import pytest
from builders import make_condition, make_record, sample
from judged import FLOOR, FP16, INT4, INT8, choices, judged, row, scored

from bench.judge.answer import Answer, choose
from bench.judge.decisions import Instrument
from bench.judge.stats import Verdict
from bench.records.record import Unit
from bench.records.surroundings import Roof

RIGHT = [1.0] * 190 + [0.0] * 10


def only(*records: Any) -> Answer:
    (answer,) = judged(*records)
    return answer


@pytest.mark.parametrize(
    ("ln_ratio", "verdict"),
    [
        (0.0, Verdict.EQUIVALENT),
        (0.0065, Verdict.EQUIVALENT),  # up to 0.0095, and ln 1.01 is 0.00995
        (0.008, Verdict.WORSE),  # from 0.005 on, and up to 0.011
        (0.231, Verdict.WORSE),
        (-0.02, Verdict.BETTER),
    ],
)
def test_perplexity_decides_within_one_percent(ln_ratio: float, verdict: Verdict) -> None:
    """Equivalent where the whole interval is within the margin, worse where it is beyond zero and reaches further."""
    answer = only(FP16, row("int8", weights=460, ln_ratio=ln_ratio))
    (found,) = answer.findings
    assert (found.instrument, found.verdict, answer.verdict) == (Instrument.PERPLEXITY, verdict, verdict)
    assert found.estimate.value == pytest.approx(math.exp(ln_ratio) - 1)
    assert answer.decided_by is found


def test_nothing_below_a_row_s_own_noise_is_decided() -> None:
    """A row that its neighbours move by half a nat a token has not lost 2 % of perplexity."""
    noisy = only(FP16, row("int8", weights=460, ln_ratio=0.02, more=[FLOOR]))
    assert (noisy.findings[0].verdict, noisy.verdict) == (Verdict.BELOW_FLOOR, Verdict.UNDECIDED)
    assert noisy.decided_by is None


def test_worse_by_any_instrument_is_worse() -> None:
    """Perplexity is equivalent, a task is not: its accuracy fell by 20 points."""
    lost = [0.0] * 40 + [1.0] * 150 + [0.0] * 10
    answer = only(FP16, INT8, scored("fp16", {"a": RIGHT}), scored("int8", {"a": lost}))
    assert [found.verdict for found in answer.findings] == [Verdict.EQUIVALENT, Verdict.WORSE]
    assert answer.verdict is Verdict.WORSE
    assert answer.decided_by is not None and answer.decided_by.instrument is Instrument.ACCURACY


def test_a_task_of_choices_is_judged_by_the_probability_of_the_right_one() -> None:
    """No answer flips, and every right choice is 3 points less probable."""
    base = [0.9 + 0.0001 * i for i in range(200)]
    less = [p - 0.03 - 0.0001 * (i % 3) for i, p in enumerate(base)]
    answer = only(
        FP16, INT8, scored("fp16", {"a": [1.0] * 200}, [choices("a", base)]),
        scored("int8", {"a": [1.0] * 200}, [choices("a", less)]),
    )  # fmt: skip
    text, tasks = answer.findings
    assert (tasks.instrument, tasks.verdict, tasks.of_score) == (Instrument.CHOICE, Verdict.WORSE, False)
    assert tasks.estimate.value == pytest.approx(-0.0301, abs=1e-4)
    assert tasks.tasks == {Verdict.WORSE: 1}
    assert text.verdict is Verdict.EQUIVALENT


def test_old_records_are_judged_by_accuracy_over_all_tasks() -> None:
    """They hold no log-likelihoods of choices, and the comparison says so task by task."""
    answer = only(FP16, INT8, scored("fp16", {"a": RIGHT}), scored("int8", {"a": RIGHT}))
    assert [found.instrument for found in answer.findings] == [Instrument.PERPLEXITY, Instrument.ACCURACY]
    assert answer.findings[1].of_score and answer.findings[1].estimate.value == 1
    assert answer.comparison.tasks[0].blunter.startswith("compared by accuracy alone")


def test_what_was_not_asked_has_no_verdict() -> None:
    """Neither divergence nor tasks: memory and speed are no quality, and nothing is to be taken."""
    answer = only(FP16[:2], INT8[:2])
    assert (answer.findings, answer.verdict, answer.decided_by) == ((), None, None)
    assert choose([answer]) is None


def test_the_least_memory_that_loses_nothing_is_taken() -> None:
    """int8 is equivalent at 600 of 1000 bytes; int4 needs less and is worse."""
    choice = choose(judged(FP16, INT8, INT4))
    assert choice is not None
    assert (choice.take.precision, choice.bytes, choice.ratio) == ("int8", 600, 0.6)
    assert choice.finding is not None and choice.finding.verdict is Verdict.EQUIVALENT
    assert choice.smaller is not None and choice.smaller.row.precision == "int4"
    assert (choice.ties, choice.undecided, choice.faster) == ((), (), None)


def test_the_16_bit_row_is_taken_where_nothing_smaller_is_as_good() -> None:
    """An undecided smaller row is named, not taken."""
    unsure = row("int8", weights=460, ln_ratio=0.02, more=[FLOOR])
    choice = choose(judged(FP16, unsure, INT4))
    assert choice is not None
    assert (choice.take.precision, choice.finding, choice.ratio) == ("fp16", None, None)
    assert [each.precision for each in choice.undecided] == ["int8"]


def test_of_rows_alike_the_one_that_decodes_faster_is_taken() -> None:
    """Peaks of 600 and 606 bytes are one peak."""
    fast = row("int4", weights=466, ln_ratio=0.0, decode_s=0.05)
    choice = choose(judged(FP16, INT8, fast))
    assert choice is not None
    assert (choice.take.precision, [each.precision for each in choice.ties]) == ("int4", ["int8"])


def test_an_emulated_type_names_fp32_for_speed() -> None:
    """The device multiplies float32 13 times faster than the 16-bit row's type."""
    terms = (
        sample("read_bytes_per_step", 40.0, Unit.BYTE, prompt_tokens=100, batch=1),
        sample("operations_per_token", 2.0, Unit.COUNT, compute="bf16"),
    )
    roof = Roof(method=2, engine="x", copy_bytes_per_s=(800,), matrix_per_s={"fp32": (13_000,), "bf16": (1000,)})
    wide = row("fp32", weights=1860, ln_ratio=0.0)
    base = row("fp16", weights=860, speed=terms)
    base[1] = make_record(base[1].cell, measurements=base[1].measurements, before=make_condition(roof=roof))
    choice = choose(judged(wide, base))
    assert choice is not None and choice.faster is not None
    assert (choice.take.precision, choice.faster.precision, choice.faster_times) == ("fp16", "fp32", 13)
