# SPDX-License-Identifier: Apache-2.0
"""The check of a GPU, tried without one: its report, its limits, and what it says where nothing can stand in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import make_cell, make_machine, make_record, memory_samples

from bench.records.record import Ending, Outcome, Prediction
from benchmarks import gpu_check, gpu_check_steps
from benchmarks.gpu_check import Step, report, run
from benchmarks.gpu_check_steps import STEPS, Finding

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "describe", lambda kind: make_machine(kind=kind))


def test_a_report_says_of_every_finding_whether_it_is_as_it_should_be() -> None:
    """A step that is not, or that did not end, is named at the end; what was not begun too."""
    good = Step("roofs", 3.0, [Finding("copy", "2e12/s", holds=True), Finding("told | only", "x")])
    bad = Step("bare", 7.0, [Finding("decode", "1.20 of the loop's", holds=False)])
    died = Step("job", 9.0, [], "stopped after 9 s")
    text = report([good, bad, died], ["phases"], "cuda", "m")
    assert "| copy | 2e12/s | yes |\n| told \\| only | x |  |" in text
    assert "| decode | 1.20 of the loop's | NO |" in text
    assert "FAILED: stopped after 9 s" in text and "Not run: phases." in text
    assert text.endswith("1 of 2 as they should be, 19 s; look at: bare, job.\n")
    assert "proves nothing of a GPU" not in text
    assert "proves nothing of a GPU" in report([good], [], "cpu", "m")


def test_a_step_that_hangs_is_ended_and_what_it_found_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its own time, and nothing of it goes on."""
    line = json.dumps({"what": "first", "found": "1", "holds": True})
    program = f"import time; print({line!r}, flush=True); time.sleep(600)"
    popen = gpu_check.subprocess.Popen
    started: list[Any] = []

    def replaced(command: list[str], **options: Any) -> Any:
        started.append(popen([sys.executable, "-S", "-c", program], **options))
        return started[-1]

    monkeypatch.setattr(gpu_check.subprocess, "Popen", replaced)
    step = run("job", "cpu", "m", tmp_path, 1.0)
    assert (step.findings, step.failure) == ([Finding("first", "1", holds=True)], "stopped after 1 s")
    assert started[0].returncode is not None


def test_a_step_that_fails_says_its_last_line(tmp_path: Path) -> None:
    """An unknown model is a mistake of the caller's, told by the step's own process."""
    step = run("devices", "cpu", "no-such-model", tmp_path, 60.0)
    assert step.failure.startswith("exit 1: ") and "no-such-model" in step.failure
    assert not step.holds


def test_without_a_gpu_the_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And how it can be tried all the same."""
    monkeypatch.setattr(gpu_check, "device_kind", lambda: "cpu")
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    assert gpu_check.main() == 2
    assert "--device cpu" in capsys.readouterr().err


def test_every_step_has_a_limit_and_all_of_them_are_listed() -> None:
    """The command stops at its own end, whatever the steps may take."""
    assert gpu_check.LIMITS.keys() == STEPS.keys()


def test_nothing_stands_in_for_what_only_cuda_shows() -> None:
    """Running out of a GPU's memory is told and not judged on a CPU."""
    (found,) = gpu_check_steps.phases(SimpleNamespace(cuda=False))  # type: ignore[arg-type]
    assert (found.found, found.holds) == (gpu_check_steps.CUDA_ALONE, None)


def test_a_cells_figures_are_held_against_their_predictions() -> None:
    """Weights within a hundredth, a peak within a twentieth or 150 MiB; a cell that failed is not as it should be."""
    here: Any = SimpleNamespace(cuda=False)
    samples = memory_samples(baseline=0, weights=1000 * MIB, workspace=0)
    cell = make_cell("memory")

    def judged(weights: int, peak: int) -> dict[str, bool | None]:
        predicted = Prediction(weights_bytes=weights, peak_bytes=peak)
        record = make_record(cell, measurements=samples, predicted=predicted)
        return {f.what.partition(": ")[2]: f.holds for f in gpu_check_steps._judged(here, record)}

    near = judged(1005 * MIB, 1100 * MIB)
    assert (near["outcome"], near["weights predicted"], near["peak predicted"]) == (True, True, True)
    far = judged(1020 * MIB, 1600 * MIB)
    assert (far["weights predicted"], far["peak predicted"]) == (False, False)
    failed = make_record(cell, outcome=Outcome(ending=Ending.FAILED, reason="broke"))
    assert [f.holds for f in gpu_check_steps._judged(here, failed)] == [False]


def test_the_driver_holds_no_less_than_the_allocator_and_little_more() -> None:
    """Context and kernels are what it may hold beyond."""
    from builders import sample

    here: Any = SimpleNamespace(cuda=True)

    def told(driver: int, reserved: int) -> bool | None:
        record = make_record(
            make_cell("memory"),
            measurements=(sample("peak_bytes", [driver]), sample("peak_reserved_bytes", [reserved], part="reserved")),
        )
        (found,) = gpu_check_steps._counters(here, record, "x")
        return found.holds

    assert told(3000 * MIB, 2500 * MIB) is True
    assert told(2400 * MIB, 2500 * MIB) is False
    assert told(9000 * MIB, 2500 * MIB) is False
