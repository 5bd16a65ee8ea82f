# SPDX-License-Identifier: Apache-2.0
"""The answer: what settles a question, what a record refuses, and that every stored field is documented."""

from __future__ import annotations

import ast
import inspect
import math
from itertools import pairwise
from typing import Any

import pytest
from builders import make_condition, make_machine, make_record, sample
from pydantic import ValidationError

from bench.records import record as schema
from bench.records import surroundings
from bench.records.cell import Value
from bench.records.record import Caveat, Ending, Measurement, Outcome, Record, Unit


@pytest.mark.parametrize(
    ("ending", "settled"),
    [
        ("ok", True),
        ("does_not_fit", True),
        ("unsupported", True),
        ("timed_out", False),
        ("killed", False),
        ("stopped", False),
        ("failed", False),
    ],
)
def test_what_asking_again_would_answer_alike_is_settled(ending: str, settled: bool) -> None:
    """A finding stands; an accident is measured again."""
    assert Ending(ending).settled is settled


def test_every_ending_is_tested_above() -> None:
    """A new ending must be decided upon here."""
    assert {str(ending) for ending in Ending} == {
        "ok", "does_not_fit", "unsupported", "timed_out", "killed", "stopped", "failed",
    }  # fmt: skip


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.OK])
def test_every_ending_but_ok_needs_a_reason(ending: Ending) -> None:
    """An empty cell without a reason cannot be stored."""
    assert Outcome(ending=Ending.OK).reason == ""
    with pytest.raises(ValidationError):
        Outcome(ending=ending)


@pytest.mark.parametrize("impossible", [math.nan, math.inf, -math.inf])
def test_a_sample_is_finite(impossible: float) -> None:
    """A figure that is not a number is an error, not a sample."""
    with pytest.raises(ValidationError):
        sample("acc", [0.5, impossible], Unit.FRACTION)


def test_measurements_are_found_by_name_and_labels() -> None:
    """The first whose labels include the ones asked for; None if there is none."""
    short = sample("prefill_s", 1.0, Unit.SECOND, prompt_tokens=128, batch=1)
    long = sample("prefill_s", 4.0, Unit.SECOND, prompt_tokens=512, batch=1)
    record = make_record(measurements=(short, long))
    assert record.measurement("prefill_s") is short
    assert record.measurement("prefill_s", batch=1, prompt_tokens=512) is long
    assert record.measurement("prefill_s", prompt_tokens=64) is None
    assert record.measurement("ttft_s") is None


@pytest.mark.parametrize(
    "value",
    [make_record(), make_machine(), make_condition(), Caveat(kind="a", text="b"), Outcome(ending=Ending.OK)],
    ids=lambda value: type(value).__name__,
)
def test_unknown_fields_are_refused(value: Value) -> None:
    """What the schema does not declare is not stored."""
    data = value.model_dump(mode="json")
    assert type(value).model_validate(data) == value
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(value).model_validate(data | {"flavour": "sweet"})


@pytest.mark.parametrize(
    "change",
    [
        {"id": "0BADCAFE"},
        {"id": "123"},
        {"schema_version": 0},
        {"schema_version": schema.SCHEMA_VERSION + 1},
        {"seconds": None},
        {"outcome": {"ending": "skipped", "reason": "x"}},
    ],
)
def test_a_record_that_is_none_is_refused(change: dict[str, Any]) -> None:
    """Wrong ids, other schema versions, missing times and unknown endings."""
    with pytest.raises(ValidationError):
        Record.model_validate(make_record().model_dump(mode="json") | change)


def test_a_unit_is_one_of_the_base_units() -> None:
    """No figure is stored in a derived unit."""
    with pytest.raises(ValidationError):
        Measurement(name="peak", unit="GiB", values=(1.0,))  # type: ignore[arg-type]


MODELS = [
    kind
    for module in (schema, surroundings)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Value) and kind.__module__ == module.__name__
]
SELF_EXPLAINING = {
    # typed by a documented model or enumeration of the same file
    "Measurement.unit", "Measurement.how", "Outcome.ending", "Record.cell", "Record.outcome", "Record.measurements",
    "Record.texts", "Record.warnings", "Record.predicted", "Record.machine", "Record.versions",
    "Record.before", "Record.after", "Record.schema_version",
    # a name, the words themselves, or what the model's own docstring says
    "Text.name", "Text.text", "Text.sha256", "Text.tokens", "Caveat.text", "Caveat.advice",
    # facts of a machine under their usual names; the unit is in the name, None is explained by the class
    "Machine.os", "Machine.kernel", "Machine.python", "Machine.cpu", "Machine.gpu_memory_bytes", "Machine.driver",
    "Machine.cuda", "Condition.available_bytes", "Condition.cpu_mhz", "Versions.bench",
    # figures of the same name, predicted; the class says what None means
    "Prediction.weights_bytes", "Prediction.kv_bytes", "Prediction.seconds",
}  # fmt: skip
"""Fields whose name and type say all; every other one needs a text in the schema."""


def documented(kind: type[Value]) -> set[str]:
    """Fields with a text beneath their declaration. pydantic would read them at each start, for a tenth of a second."""
    (declared,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(declared, ast.ClassDef)
    return {
        field.target.id
        for field, text in pairwise(declared.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)
    }


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_every_stored_field_is_documented_where_it_is_declared(kind: type[Value]) -> None:
    """The schema is the manual: a text for every field that does not explain itself, and for every model."""
    assert kind.__doc__
    silent = {f"{kind.__name__}.{name}" for name in kind.model_fields.keys() - documented(kind)}
    assert silent <= SELF_EXPLAINING


def test_the_list_of_fields_that_need_no_text_is_short_and_true() -> None:
    """No name stays in it that is gone or documented by now."""
    bare = {f"{kind.__name__}.{name}" for kind in MODELS for name in kind.model_fields.keys() - documented(kind)}
    assert bare == SELF_EXPLAINING
