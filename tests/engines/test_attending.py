# SPDX-License-Identifier: Apache-2.0
"""llama.cpp attends as is said by name: the faster way of the device, tried once, the same for every precision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import make_machine

from bench.catalog.model import Model
from bench.engines.llamacpp import BACKEND, attending
from bench.plan.plan import make_plan
from bench.plan.selection import Selection

SLOW, FAST = (0.5, 0.02), (1.0, 0.01)
"""Seconds of the prompt and of a step: over an answer of 128 tokens 3.06 s and 2.28 s."""


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An installed library whose trial says that plain attention is faster; the kinds of device it was asked of."""
    asked: list[str] = []

    def tried(kind: str) -> dict[str, list[tuple[float, float]]]:
        asked.append(kind)
        return {"flash": [SLOW, SLOW], "plain": [FAST, FAST]}

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(attending, "tried", tried)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.3.36")
    attending.chosen.cache_clear()
    return asked


def test_a_long_answer_decides_by_its_steps() -> None:
    """The prompt is read in half the time by the one way, each token in half the time by the other."""
    assert attending.request_seconds(*SLOW) == pytest.approx(3.06)
    assert attending.faster({"flash": [SLOW], "plain": [FAST]}) == "plain"
    assert attending.faster({"flash": [FAST], "plain": [SLOW]}) == "flash"


def test_the_best_turn_decides() -> None:
    """What another program slowed down says nothing."""
    assert attending.faster({"flash": [(9.0, 1.0), FAST, (9.0, 1.0)], "plain": [SLOW, SLOW, SLOW]}) == "flash"


def test_a_device_is_tried_once(tries: list[str]) -> None:
    """What was found stays in the cache, with the seconds; another process reads it there."""
    assert attending.chosen(make_machine()) == "plain"
    attending.chosen.cache_clear()
    assert attending.chosen(make_machine()) == "plain"
    assert tries == ["cpu"]
    attending.chosen(make_machine(device="cpu-other"))
    assert tries == ["cpu", "cpu"]


def test_what_is_kept_is_obeyed_and_what_is_damaged_is_tried_again(tries: list[str]) -> None:
    """A half-written file is no answer."""
    attending.chosen(make_machine())
    (kept,) = (attending.cache_folder() / "attention").iterdir()
    assert json.loads(kept.read_text())["seconds"]["plain"] == [list(FAST), list(FAST)]
    for text, told in (('{"attention": "flash"}', "flash"), ('{"atten', "plain"), ('{"attention": "auto"}', "plain")):
        kept.write_text(text)
        attending.chosen.cache_clear()
        assert attending.chosen(make_machine()) == told


def test_a_trial_that_fails_is_plain_and_not_kept(tries: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain attention takes every size of head."""
    monkeypatch.setattr(attending, "tried", lambda kind: None)
    assert attending.chosen(make_machine()) == "plain"
    assert not (attending.cache_folder() / "attention").exists()


@pytest.mark.parametrize(
    ("kv", "told"), [(None, "plain"), ("int8/fp16", "plain"), ("int8", "flash"), ("fp16/int4", "flash")]
)
def test_quantized_values_need_flash_attention(tries: list[str], kv: str | None, told: str) -> None:
    """llama.cpp has no other kernel for them; quantized keys are read by both."""
    assert BACKEND.attention is not None
    assert BACKEND.attention(make_machine(), kv) == told


def _model() -> Model:
    from bench.catalog.entries import DEFAULT_MODEL, read_catalog, select

    return select(read_catalog(), [DEFAULT_MODEL])[0]


def test_every_cell_of_a_plan_says_the_same_way(tries: list[str]) -> None:
    """All precisions and suites, so that they may be compared, and one trial for all of them."""
    cells = make_plan(Selection(backends=("llamacpp",)), [_model()], make_machine(memory_bytes=2**36)).cells
    assert {planned.cell.settings["attention"] for planned in cells} == {"plain"}
    assert len({planned.cell.precision for planned in cells}) == 4
    assert tries == ["cpu"]
