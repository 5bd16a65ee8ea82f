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
from bench.plan.questions import Planned
from bench.plan.selection import Selection
from bench.records.cell import UNTRIED
from bench.views.plan import lines

SLOW, FAST = (0.5, 0.02), (1.0, 0.01)
"""Seconds of the prompt and of a step: over an answer of 128 tokens 3.06 s and 2.28 s."""
TIMED = attending.timed


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An installed library whose trial says that plain attention is faster; the kinds of device it was asked of."""
    asked: list[str] = []

    def timed(kind: str) -> dict[str, list[tuple[float, float]]]:
        asked.append(kind)
        return {"flash": [SLOW, SLOW], "plain": [FAST, FAST]}

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(attending, "timed", timed)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.3.36")
    monkeypatch.setattr(attending, "_failed", {})
    return asked


def test_a_long_answer_decides_by_its_steps() -> None:
    """The prompt is read in half the time by the one way, each token in half the time by the other."""
    assert attending.request_seconds(*SLOW) == pytest.approx(3.06)
    assert attending.faster({"flash": [SLOW], "plain": [FAST]}) == "plain"
    assert attending.faster({"flash": [FAST], "plain": [SLOW]}) == "flash"


def test_the_best_turn_decides() -> None:
    """What another program slowed down says nothing."""
    assert attending.faster({"flash": [(9.0, 1.0), FAST, (9.0, 1.0)], "plain": [SLOW, SLOW, SLOW]}) == "flash"


def test_a_device_that_was_tried_is_known_from_then_on(tries: list[str]) -> None:
    """What was found stays in the cache, with the seconds; asking tries nothing, and another device is unknown."""
    here = make_machine()
    assert attending.chosen(here) == UNTRIED
    assert tries == []
    said = attending.try_ways(here)
    assert said == (
        "llama.cpp attends plain on this device: two layers took flash 3.06 s and plain 2.28 s for a prompt of "
        "2000 tokens and 128 more"
    )
    assert (attending.chosen(here), tries) == ("plain", ["cpu"])
    assert attending.chosen(make_machine(device="cpu-other")) == UNTRIED
    (kept,) = (attending.cache_folder() / "attention").iterdir()
    assert json.loads(kept.read_text())["seconds"]["plain"] == [list(FAST), list(FAST)]


def test_what_is_kept_is_obeyed_and_what_is_damaged_is_not_known(tries: list[str]) -> None:
    """A half-written file is no answer."""
    attending.try_ways(make_machine())
    (kept,) = (attending.cache_folder() / "attention").iterdir()
    for text, told in (('{"attention": "flash"}', "flash"), ('{"atten', UNTRIED), ('{"attention": "auto"}', UNTRIED)):
        kept.write_text(text)
        assert attending.chosen(make_machine()) == told


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        (["sh", "-c", "echo one >&2; echo no memory >&2; exit 3"], "no memory"),
        (["sh", "-c", "exit 3"], "exit code 3"),
        (["sleep", "600"], "not done after 0 s"),
    ],
)
def test_a_trial_that_fails_or_hangs_is_plain_attention_and_not_kept(
    tries: list[str], monkeypatch: pytest.MonkeyPatch, trial: list[str], reason: str
) -> None:
    """Plain attention takes every size of head; the next process tries again, this one does not."""
    monkeypatch.setattr(attending, "timed", TIMED)
    monkeypatch.setattr(attending, "LIMIT_S", 0.2)
    monkeypatch.setattr(attending, "module", lambda *about: trial)
    said = attending.try_ways(make_machine())
    assert said == f"llama.cpp's two ways of attending could not be tried ({reason}): plain attention"
    assert attending.chosen(make_machine()) == "plain"
    assert not (attending.cache_folder() / "attention").exists()


def test_without_the_library_plain_attention_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing will be measured here, and nothing is tried."""
    monkeypatch.setattr(attending, "_known", lambda machine: None)
    assert attending.chosen(make_machine()) == "plain"


@pytest.mark.parametrize(
    ("kv", "told"), [(None, "plain"), ("int8/fp16", "plain"), ("int8", "flash"), ("fp16/int4", "flash")]
)
def test_quantized_values_need_flash_attention(tries: list[str], kv: str | None, told: str) -> None:
    """llama.cpp has no other kernel for them; quantized keys are read by both."""
    assert BACKEND.attention is not None and BACKEND.try_attention is not None
    BACKEND.try_attention(make_machine())
    assert BACKEND.attention(make_machine(), kv) == told


def _model() -> Model:
    from bench.catalog.entries import DEFAULT_MODEL, read_catalog, select

    return select(read_catalog(), [DEFAULT_MODEL])[0]


def _cells(**selection: object) -> list[Planned]:
    asked = Selection(backends=("llamacpp",), **selection)  # type: ignore[arg-type]
    return list(make_plan(asked, [_model()], make_machine(memory_bytes=2**36)).cells)


def test_every_cell_of_a_plan_says_the_same_way(tries: list[str]) -> None:
    """All precisions and suites, so that they may be compared."""
    attending.try_ways(make_machine())
    cells = _cells()
    assert {planned.cell.settings["attention"] for planned in cells} == {"plain"}
    assert len({planned.cell.precision for planned in cells}) == 4
    assert tries == ["cpu"]


def test_another_box_attends_plain_until_its_device_is_known_here(tries: list[str]) -> None:
    """Nothing of it can be tried here, and a cell of it is measured as it was planned."""
    assert {planned.cell.settings["attention"] for planned in _cells(elsewhere=True)} == {"plain"}
    known = next((attending.cache_folder() / "attention").parent.glob("attention/*"), None)
    assert (tries, known) == ([], None)


def test_a_plan_tries_nothing_and_says_what_is_not_known(tries: list[str]) -> None:
    """It predicts the larger scratch; quantized values can be read in one way alone, which is known."""
    unknown, flash = _cells(suites=("memory",)), _cells(suites=("memory",), kv="int8")
    assert {planned.cell.way for planned in unknown} == {"attention untried"}
    assert {planned.cell.way for planned in flash} == {"attention flash, kv int8"}
    made = make_plan(Selection(backends=("llamacpp",)), [_model()], make_machine(memory_bytes=2**36))
    assert lines(made)[0] == (
        "not known yet: which of its ways llamacpp attends faster on this device; the run tries them before it measures"
    )
    attending.try_ways(make_machine())
    known = _cells(suites=("memory",))
    assert [p.predicted for p in known] == [p.predicted for p in unknown]
    assert len(tries) == 1
