# SPDX-License-Identifier: Apache-2.0
"""Generated answers beside the reference's: what is counted, and what is shown of it."""

from __future__ import annotations

from builders import make_cell, make_record, sample, speed_samples

from bench.judge.compare import compare
from bench.judge.generated import generated_answers
from bench.judge.rows import newest
from bench.records.cell import Weights
from bench.records.record import Record, Text, Unit
from bench.views.generated import flats, generated_table, views


def generated(precision: str, tokens: list[float], empty: list[float], loop: list[float], text: str) -> list[Record]:
    told = {"task": "g", "digest": "d"}
    measurements = (
        sample("exact_match", [1.0] * len(tokens), Unit.FRACTION, chance=0.0, **told),
        sample("answer_tokens", tokens, Unit.TOKEN, **told),
        sample("answer_empty", empty, Unit.FRACTION, **told),
        sample("answer_loop", loop, Unit.FRACTION, **told),
        sample("answer_cut", [0.0] * len(tokens), Unit.FRACTION, **told),
    )
    kept = Text(name="generated", text=text, sha256="0", tokens=32)
    return [
        make_record(make_cell("quality", precision), measurements=measurements),
        make_record(make_cell("throughput", precision), measurements=speed_samples(), texts=(kept,)),
    ]


def test_a_model_that_rambles_is_seen() -> None:
    """Longer, empty and looping answers stand beside the reference's, and the text of the throughput suite."""
    base = generated("fp16", [4.0, 6.0], [0.0, 0.0], [0.0, 0.0], " ".join(map(str, range(32))))
    this = generated("int8", [24.0, 0.0], [0.0, 1.0], [0.9, 0.0], "the same " * 16)
    found, _ = compare(newest([*base, *this]))
    task, text = generated_answers(found[0])
    assert task.length is not None and task.length.value == 7.0
    assert (task.reference_tokens, task.empty, task.looping) == (5.0, (1, 0), (1, 0))
    assert (text.task, text.length, text.looping) == ("throughput text", None, (1, 0))
    assert [row[2:5] for row in generated_table(found).rows] == [["g", "2", "5.0"], ["throughput text", "1", "32.0"]]


def test_what_random_weights_say_drifts_nowhere() -> None:
    """Their text loops or does not, and means nothing."""
    where = {"backend": "transformers", "weights": Weights.RANDOM}
    records = [
        record.model_copy(update={"cell": record.cell.model_copy(update=where)})
        for precision in ("fp16", "int8")
        for record in generated(precision, [4.0], [0.0], [0.0], "the same " * 16)
    ]
    found, _ = compare(newest(records))
    assert generated_answers(found[0]) and views(found) == []


def looked(records: list[Record], changed: list[float]) -> list[Record]:
    """The same, some answers generated once more by themselves."""
    again = sample("answer_changed_alone", changed, Unit.FRACTION, task="g", digest="d")
    quality, speed = records
    return [quality.model_copy(update={"measurements": (*quality.measurements, again)}), speed]


def test_what_a_batch_changes_is_said_once_for_each_row() -> None:
    """The reference's with the first row, and nothing of records that were not looked at."""
    none = [0.0, 0.0]
    plain = [generated(precision, [4.0, 6.0], none, none, "word " * 20) for precision in ("fp16", "int8", "int4")]
    found, _ = compare(newest([*looked(plain[0], none), *looked(plain[1], [1.0, 0.0]), *plain[2]]))
    (view,) = views(found)
    (noise,) = [note for note in view.notes if note.startswith("own noise")]
    model, schemes = found[0].row.model, [found[0].row.scheme, found[0].reference.scheme]
    assert noise.count(model) == 1
    assert all(f"{scheme} {count} of 2" in noise for scheme, count in zip(schemes, (1, 0), strict=True))
    assert flats(found)[0]["answers_changed_alone"] == 1
    kept, _ = compare(newest([record for records in plain for record in records]))
    assert len(views(kept)[0].notes) == 2
