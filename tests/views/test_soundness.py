# SPDX-License-Identifier: Apache-2.0
"""A record that the schema lets pass and no figure can be made of is named, and hides nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from builders import (
    anchor_samples,
    divergence_samples,
    failed,
    make_cell,
    make_record,
    memory_samples,
    quality_samples,
    sample,
    speed_samples,
)

from bench.records.record import Measurement, Prediction, Record, Unit
from bench.views.soundness import fault


def changed(found: Sequence[Measurement], name: str, **changes: Any) -> tuple[Measurement, ...]:
    """The same measurements, one of them changed."""
    assert any(m.name == name for m in found)
    return tuple(m.model_copy(update=changes) if m.name == name else m for m in found)


def without(found: Sequence[Measurement], name: str, label: str = "") -> tuple[Measurement, ...]:
    """The same without a measurement, or without a label of it."""
    if not label:
        return tuple(m for m in found if m.name != name)
    return tuple(
        m.model_copy(update={"labels": {k: v for k, v in m.labels.items() if k != label}}) if m.name == name else m
        for m in found
    )


def asked(**labels: Any) -> tuple[Measurement, ...]:
    """A task of three items whose labels are these."""
    own = {"task": "t", "digest": "d", "chance": 0.5, **labels}
    return (sample("acc", [1.0, 0.0, 1.0], Unit.FRACTION, **own),)


def choices(**labels: Any) -> tuple[Measurement, ...]:
    """The same with two choices for each item."""
    own = {"task": "t", "digest": "d", "choices": 2, "right": [0, 1, 0], **labels}
    return (*asked(), sample("choice_loglikelihood", [-1.0, -2.0] * 3, Unit.NAT, **own))


LEARNED = [
    sample("read_bytes_per_step", 100.0),
    sample("operations_per_token", 200.0, Unit.COUNT, compute="fp32"),
]
ODD: dict[str, Record] = {
    name: make_record(make_cell(suite, **cell), measurements=measurements)
    for name, suite, measurements, cell in (
        ("a cache without its tokens", "memory", without(memory_samples(), "kv_bytes", "tokens"), {}),
        ("no bytes when loaded", "memory", without(memory_samples(), "loaded_bytes"), {}),
        ("no weights", "memory", without(memory_samples(), "weights_bytes"), {}),
        ("an empty baseline", "memory", changed(memory_samples(), "baseline_bytes", values=()), {}),
        ("a part of nothing", "memory", (*memory_samples(), sample("weights_part_bytes", 3)), {}),
        ("weights of no bytes", "memory", changed(memory_samples(), "weights_bytes", values=(0.0,)), {}),
        ("no prompt", "throughput", without(speed_samples(), "prefill_s", "prompt_tokens"), {}),
        ("a batch in words", "throughput", changed(speed_samples(), "prefill_s", labels={"batch": "one"}), {}),
        ("repeats of no step", "throughput", speed_samples(per_repeat=0), {}),
        ("steps of no time", "throughput", speed_samples(itl_s=(0.0, 0.0)), {}),
        ("a prompt read in no time", "throughput", speed_samples(prefill_s=(0.0,)), {}),
        ("no first token", "throughput", without(speed_samples(), "ttft_s"), {}),
        ("a window in no seconds", "throughput", (*speed_samples(), sample("idle_j", 5.0, seconds=0)), {}),
        ("a point in words", "throughput",
         (*speed_samples(), sample("prefill_s", 1.0, Unit.SECOND, point=1, batch="x", prompt_tokens=8)), {}),
        ("no text", "divergence", changed(divergence_samples(), "nll_nat", values=()), {"precision": "int8"}),
        ("no windows", "divergence", without(divergence_samples(), "kld_nat", "window_tokens"), {"precision": "int8"}),
        ("half a reference", "divergence", divergence_samples(reference=(1.5,)), {"precision": "int8"}),
        ("half an anchor", "divergence", (*divergence_samples(), anchor_samples()[0]), {"precision": "int8"}),
        ("no answers", "quality", quality_samples({"t": ()}), {}),
        ("subjects in words", "quality", asked(clusters=["a", "b", "c"]), {}),
        ("fewer subjects than items", "quality", asked(clusters=[1, 2]), {}),
        ("nothing to win", "quality", asked(chance=1.0), {}),
        ("a task of two lines", "quality", asked(task="a\nb"), {}),
        ("fewer choices than items", "quality", choices(right=[0]), {}),
        ("a right choice that is none", "quality", choices(right=[0, 1, 7]), {}),
        ("answers that do not loop alike", "quality",
         (*asked(), sample("answer_tokens", [5.0, 6.0, 7.0], Unit.COUNT, task="t", digest="d"),
          sample("answer_loop", [0.0], Unit.FRACTION, task="t")), {}),
        ("a context without its budget", "capacity", (sample("max_context_tokens", 5.0, bound="memory"),), {}),
        ("a batch of negative prompts", "capacity",
         (sample("max_batch", 5.0, bound="memory", budget_bytes=9, prompt_tokens=-5),), {}),
    )
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_no_figure_can_be_made_of_is_a_fault(name: str) -> None:
    """The schema lets it pass, as its file shows; the fault is one bounded line."""
    assert Record.model_validate_json(ODD[name].model_dump_json()) == ODD[name]
    why = fault(ODD[name])
    assert why and len(why) <= 200 and "\n" not in why


@pytest.mark.parametrize(
    "record",
    [
        make_record(make_cell("memory"), measurements=memory_samples()),
        make_record(make_cell("throughput"), measurements=(*speed_samples(), *LEARNED)),
        make_record(make_cell("divergence", "int8"), measurements=(*divergence_samples(), *anchor_samples())),
        make_record(make_cell("divergence"), measurements=(sample("nll_nat", [2.0, 3.0], Unit.NAT, window_tokens=2),)),
        make_record(make_cell("quality"), measurements=choices()),
        make_record(make_cell("quality"), measurements=asked(clusters=[1, 1, 2], item_hashes="0123456789" * 3)),
        make_record(make_cell("memory"), measurements=memory_samples(), predicted=Prediction()),
        failed(make_cell("throughput")),
        make_record(make_cell("memory", suite="suite-of-others")),
    ],
    ids=lambda record: record.cell.suite,
)
def test_a_sound_record_has_no_fault(record: Record) -> None:
    """Of each suite, of one that ended without figures, and of a suite that is not known here."""
    assert fault(record) == ""
