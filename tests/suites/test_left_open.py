# SPDX-License-Identifier: Apache-2.0
"""Whatever ends a measurement early closes the text it had begun: its cache would count in the next cell's memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import engine_of, suite_run

from bench.engines.contract import DoesNotFit, NotFinite
from bench.engines.fake import FakeGeneration
from bench.suite import SuiteRun
from suites import depths, energy, kv, memory, throughput

DEPTH: dict[str, Any] = {"depths": [64], "depth_prompt_tokens": 8, "depth_decode_tokens": 4, "depth_repeats": 1}
SINGLE: Any = SimpleNamespace(window=lambda work: work())
"""A meter that lets the work be done."""


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[FakeGeneration]:
    """The generations that are open."""
    found: list[FakeGeneration] = []
    begin, end = FakeGeneration.__init__, FakeGeneration.close

    def begun(self: FakeGeneration, *about: Any) -> None:
        begin(self, *about)
        found.append(self)

    def ended(self: FakeGeneration) -> None:
        end(self)
        found.remove(self)

    monkeypatch.setattr(FakeGeneration, "__init__", begun)
    monkeypatch.setattr(FakeGeneration, "close", ended)
    return found


def run_of(name: str, tmp_path: Path, **settings: Any) -> SuiteRun:
    run = suite_run(name, engine_of("fake-fp16"), tmp_path)
    run.cell = run.cell.model_copy(update={"settings": {**run.cell.settings, **settings}})
    return run


def full(*about: Any) -> None:
    raise DoesNotFit("generate")


@pytest.mark.parametrize("fault", ["read", "step"])
def test_a_depth_that_does_not_fit_leaves_nothing_open(
    fault: str, tmp_path: Path, held: list[FakeGeneration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left out with a warning, and the next depth finds the memory it had."""
    monkeypatch.setattr(FakeGeneration, fault, full)
    run = run_of("throughput", tmp_path, **DEPTH)
    assert depths.measure(run) == []
    assert [c.text for c in run.caveats] == ["throughput at depth 64: it did not fit in generate"]
    assert held == []


MEASURES: dict[str, Callable[[Path], object]] = {
    "memory": lambda folder: memory.measure(run_of("memory", folder)),
    "throughput": lambda folder: throughput.measure(run_of("throughput", folder)),
    "masked": lambda folder: throughput.measure(run_of("throughput", folder, objective="masked")),
    "kv": lambda folder: kv._decoded(run_of("throughput", folder), [1, 2, 3], 3),
    "energy": lambda folder: energy._decode(run_of("throughput", folder), [1, 2, 3], SINGLE, {"decode_j": 0}),
}


@pytest.mark.parametrize("suite", sorted(set(MEASURES) - {"masked"}))
def test_a_text_that_does_not_fit_is_closed(
    suite: str, tmp_path: Path, held: list[FakeGeneration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step needs more memory than there is."""
    monkeypatch.setattr(FakeGeneration, "step", full)
    if suite == "kv":
        monkeypatch.setattr(SuiteRun, "settings", {"decode_tokens": 2})
    with pytest.raises(DoesNotFit):
        MEASURES[suite](tmp_path)
    assert held == []


@pytest.mark.parametrize("suite", sorted(set(MEASURES) - {"kv", "energy"}))
def test_a_text_whose_logits_are_no_numbers_is_closed(
    suite: str, tmp_path: Path, held: list[FakeGeneration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cell fails, those after it go on in this process."""
    monkeypatch.setattr(FakeGeneration, "finite", False)
    with pytest.raises(NotFinite):
        MEASURES[suite](tmp_path)
    assert held == []
