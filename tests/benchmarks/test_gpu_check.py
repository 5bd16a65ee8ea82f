# SPDX-License-Identifier: Apache-2.0
"""The check of a GPU, tried without one: its report, its limits, and what it says where nothing can stand in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import make_cell, make_machine, make_record, memory_samples

from bench.engines.contract import DoesNotFit
from bench.paths import ROOT
from bench.records.record import Ending, Outcome, Prediction
from benchmarks import gpu_check, gpu_check_steps
from benchmarks.gpu_check import Step, report, run
from benchmarks.gpu_check_steps import STEPS, Finding

MIB = 1 << 20


def test_a_report_says_of_every_finding_whether_it_is_as_it_should_be() -> None:
    """A step that is not, or that did not end, is named at the end; what was not begun too."""
    good = Step("roofs", 3.0, [Finding("copy", "2e12/s", holds=True), Finding("told | only", "x")])
    bad = Step("bare", 7.0, [Finding("decode", "1.20 of the loop's", holds=False)])
    died = Step("job", 9.0, [], "stopped after 9 s")
    text = report([good, bad, died], ["phases"], make_machine(kind="cuda"), "m")
    assert "| copy | 2e12/s | yes |\n| told \\| only | x |  |" in text
    assert "| decode | 1.20 of the loop's | NO |" in text
    assert "FAILED: stopped after 9 s" in text and "Not run: phases." in text
    assert text.endswith("1 of 2 as they should be, 19 s; look at: bare, job.\n")
    assert "proves nothing of a GPU" not in text
    assert "proves nothing of a GPU" in report([good], [], make_machine(kind="cpu"), "m")


def test_a_step_that_hangs_is_ended_and_what_it_found_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its own time, and nothing of it goes on; lines that are no findings are nobody's."""
    line = json.dumps({"what": "first", "found": "1", "holds": True})
    other = ("{'loss': 1}", '{"what": "x"', "[1]", '{"else": 1}')  # a library's, and what was cut off
    program = f"import time; print({line!r}, *{other!r}, sep=chr(10), flush=True); time.sleep(600)"
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


def test_a_step_leaves_something_for_those_behind_it() -> None:
    """Its own limit while there is enough; never less than it takes to begin."""
    assert gpu_check.step_seconds("job", 520.0, 4) == 240
    assert gpu_check.step_seconds("job", 200.0, 4) == 200 - 4 * 15
    assert gpu_check.step_seconds("job", 30.0, 4) == 10
    left, order = 520.0, list(STEPS)
    for place, name in enumerate(order):
        left -= gpu_check.step_seconds(name, left, len(order) - place - 1)
    assert left >= 0


def test_a_step_has_no_network_and_a_cache_beside_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries read both when they are imported."""
    monkeypatch.delenv("BENCH_CACHE", raising=False)
    program = (
        "import json, os; print(json.dumps({'what': os.environ['HF_HUB_OFFLINE'], 'found': os.environ['BENCH_CACHE']}))"
    )
    popen = gpu_check.subprocess.Popen
    monkeypatch.setattr(
        gpu_check.subprocess, "Popen", lambda command, **o: popen([sys.executable, "-S", "-c", program], **o)
    )
    assert run("job", "cpu", "m", tmp_path, 60.0).findings == [Finding("1", str(tmp_path / "cache"))]


def test_an_unknown_step_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line with the ones there are."""
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "cpu", "--steps", "job,jop", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        gpu_check.main()
    assert "no step jop: there are devices, roofs," in capsys.readouterr().err


def test_without_a_package_it_says_which_in_one_line(tmp_path: Path) -> None:
    """A machine without a network gets what is missing in a folder."""
    (tmp_path / "psutil.py").write_text("raise ModuleNotFoundError(name='psutil')\n")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "psutil is not installed here: what is needed, and how it comes along, say the file's first lines"
    ]


def test_what_fails_is_a_finding_and_the_rest_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """One scheme whose library breaks does not end the others."""

    def cells(scheme: str, *, suites: tuple[str, ...]) -> list[Any]:
        if scheme == "bnb-int8":
            raise RuntimeError("CUDA error: no kernel image\nfor this card")
        return [make_record(make_cell("memory", scheme=scheme), outcome=Outcome(ending=Ending.FAILED, reason="broke"))]

    monkeypatch.setattr(gpu_check_steps.machine, "installed", lambda names: dict.fromkeys(names, "1"))
    here: Any = SimpleNamespace(cuda=True, cells=cells)
    assert list(gpu_check_steps.job(here)) == [
        Finding("bf16 memory: outcome", "failed broke", holds=False),
        Finding("bnb-int8", "failed: RuntimeError: CUDA error: no kernel image", holds=False),
        Finding("bnb-nf4 memory: outcome", "failed broke", holds=False),
    ]


def test_a_look_at_the_roofs_that_did_not_end_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what hangs there would cost every step behind it."""

    def hangs(library: str, device: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_check_steps, "measure_roof", hangs)
    here = gpu_check_steps.Here("cpu", "gpt2", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        here.roof()
    assert here.roof() is None


class Card:
    """A CUDA of known answers: two cards, of which the second does not compute."""

    def __init__(self, *, uuid: str | None = "GPU-a") -> None:
        self.fractions: list[float] = []
        told = {} if uuid is None else {"uuid": uuid}
        self.card = SimpleNamespace(name="Card", major=9, minor=0, total_memory=1 << 30, **told)
        self.version = SimpleNamespace(cuda="13.0")
        self.cuda = SimpleNamespace(
            is_available=lambda: True, device_count=lambda: 2, get_device_properties=lambda index: self.card,
            mem_get_info=lambda index: (1 << 29, 1 << 30), empty_cache=lambda: None, memory_reserved=lambda: 512 * MIB,
            set_per_process_memory_fraction=self.fractions.append,
        )  # fmt: skip

    def ones(self, count: int, *, device: str) -> Any:
        """On a card that computes."""
        if device == "cuda:1":
            raise RuntimeError("CUDA error: device-side assert")
        return SimpleNamespace(sum=lambda: count)


@pytest.mark.parametrize(("uuid", "same"), [("GPU-a", True), ("GPU-b", False), (None, None)])
def test_every_card_is_made_to_compute(monkeypatch: pytest.MonkeyPatch, uuid: str | None, same: bool | None) -> None:
    """One that does not is said; the driver's first card is torch's, unless an older torch does not tell which."""
    monkeypatch.setitem(sys.modules, "torch", Card(uuid=uuid))  # type: ignore[arg-type]
    driver = {"name": "Card", "driver": "580", "cuda": "13.0", "uuid": "GPU-a"}
    monkeypatch.setattr(gpu_check_steps.machine, "gpu", lambda: driver)
    here: Any = SimpleNamespace(cuda=True)
    found = {finding.what: finding for finding in gpu_check_steps.devices(here)}
    assert found["CUDA device 0 computes"] == Finding(
        "CUDA device 0 computes", "1000 of 1000 ones, 512 MiB free", holds=True
    )
    assert found["CUDA device 1 computes"].holds is False
    assert "device-side assert" in found["CUDA device 1 computes"].found
    assert found["first card of driver and torch"].holds is same


class Full:
    """An engine that runs out of memory wherever it works."""

    def __init__(self, *, at: str = "generate, on the GPU") -> None:
        self.at, self.free = at, 1

    def prefill(self, prompts: Any) -> Any:
        """The first does not fit."""
        if self.free:  # the second prompt fits, and its answer does not
            self.free -= 1
            raise DoesNotFit(self.at, 64 * MIB)
        return self

    def step(self) -> None:
        """No step fits."""
        raise DoesNotFit(self.at, 8 * MIB)

    def close(self) -> None:
        """Nothing is held."""

    def score(self, rows: Any) -> None:
        """Another mistake."""
        raise ValueError("something else")


def test_running_out_of_memory_is_told_phase_by_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the engine's own words for a card; what fails otherwise ends no other phase, and memory is given back."""
    card, loads = Card(), [DoesNotFit("load, on the GPU", 100 * MIB)]
    monkeypatch.setitem(sys.modules, "torch", card)  # type: ignore[arg-type]

    def loaded(scheme: str) -> Any:
        if loads:
            raise loads.pop()
        return Full()

    here: Any = SimpleNamespace(cuda=True, loaded=loaded)
    assert [(f.what, f.found, f.holds) for f in gpu_check_steps.phases(here)] == [
        ("no room for the weights", "out of memory in load, on the GPU, wanted 100 MiB", True),
        ("the model, loaded with all the memory there is", "loaded", True),
        ("no room for a prompt", "out of memory in generate, on the GPU, wanted 64.0 MiB", True),
        ("no room for the cache to grow", "out of memory in generate, on the GPU, wanted 8.00 MiB", True),
        ("no room for rows to score", "failed: ValueError: something else", False),
    ]
    assert card.fractions == [0.75, 1.0, (512 + 16) / 1024, 1.0, (512 + 4) / 1024, 1.0, (512 + 16) / 1024, 1.0]


def test_memory_that_runs_out_in_another_phase_is_not_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what fits although it should not."""
    monkeypatch.setitem(sys.modules, "torch", Card())  # type: ignore[arg-type]
    here: Any = SimpleNamespace(cuda=True, loaded=lambda scheme: Full(at="score, on the GPU"))
    found = {f.what: f for f in gpu_check_steps.phases(here)}
    assert found["no room for the weights"] == Finding("no room for the weights", "it fitted", holds=False)
    assert found["no room for a prompt"].holds is False


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
