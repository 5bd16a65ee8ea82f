# SPDX-License-Identifier: Apache-2.0
"""The validation report: exact from known answers, and regenerated in small with real processes."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.instruments.distributions import is_installed
from bench.paths import ROOT
from benchmarks import validate

WORK = (16, 4, 2)


def test_ratios_and_targets_are_read_from_the_rounds_medians() -> None:
    """Ours 100 and 20 tokens/s against 98 and 25: 2 % is within 3 %, 20 % is not; a dead contender says why."""
    everyone = [
        validate.Contender(name="ours", command=(), against="ours"),
        validate.Contender(name="bare loop", command=(), against="ours", target=0.03),
        validate.Contender(name="broken", command=(), against="ours", target=0.03),
    ]
    text = [7, 8, 9]
    answers = {
        "ours": [{"prefill": [90, 100, 300], "decode": [20, 20], "chosen": text, "peak": 990, "wait4": 1000,
                  "counter": "VmHWM"}] * 5,
        "bare loop": [{"prefill": [98, 98], "decode": [25], "chosen": text, "wait4": 1}] * 5,
        "broken": [{"reason": "exit 1: no such model"}] * 5,
    }  # fmt: skip
    page = validate.report(everyone, answers, WORK, "a machine")
    assert "| ours | 100.0 | 20.0 | | | |" in page
    assert (
        "| bare loop | 98.0 | 25.0 | 1.020 (1.020 to 1.020) | 0.800 (0.800 to 0.800) | within 3%: no, decode |" in page
    )
    assert "| broken | not run: exit 1: no such model |" in page
    assert "ratio 0.9900, furthest from 1 in any round 0.0100; within 2 %: yes" in page
    assert "Tokens chosen by ours, bare loop: the same, token for token." in page
    answers["bare loop"] = [{**answers["bare loop"][0], "chosen": [7, 8, 8]}]
    assert "NOT the same" in validate.report(everyone, answers, WORK, "a machine")


def test_optimum_benchmark_is_asked_for_the_same_work(monkeypatch, capsys) -> None:
    """In its own words: float32 on the CPU, one prompt, exactly so many tokens; latencies become tokens a second."""
    said: dict[str, dict] = {}

    def value(name):
        return lambda **fields: said.setdefault(name, fields) or name

    def launch(config):
        latency = [SimpleNamespace(latency=SimpleNamespace(values=seconds)) for seconds in ([0.5, 0.25], [1.0, 2.0])]
        return SimpleNamespace(prefill=latency[0], decode=latency[1])

    names = ("BenchmarkConfig", "InferenceConfig", "InlineConfig", "ProcessConfig", "PyTorchConfig")
    peer = SimpleNamespace(Benchmark=SimpleNamespace(launch=launch), **{name: value(name) for name in names})
    monkeypatch.setitem(sys.modules, "optimum_benchmark", peer)
    monkeypatch.setattr(sys, "argv", ["contender", "process", "/models/one", "16", "5", "2"])
    runpy.run_path(str(ROOT / "benchmarks" / "contender_optimum.py"), run_name="__main__")
    assert json.loads(capsys.readouterr().out) == {"prefill": [32.0, 64.0], "decode": [4.0, 2.0], "chosen": []}
    assert (said["PyTorchConfig"]["model"], said["PyTorchConfig"]["torch_dtype"]) == ("/models/one", "float32")
    assert said["InferenceConfig"]["input_shapes"] == {"batch_size": 1, "sequence_length": 16}
    assert said["InferenceConfig"]["generate_kwargs"] == {"max_new_tokens": 5, "min_new_tokens": 5}
    assert ("ProcessConfig" in said, "InlineConfig" in said) == (True, False)


def test_a_peer_s_python_is_found_from_any_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nox names it relative to the project, and contenders run elsewhere; a venv's link is not followed."""
    monkeypatch.setattr(validate, "default_folder", lambda: Path("/model"))
    found = validate.contenders(WORK, ".nox/peer/bin/python", llama=False)
    commands = [one.command[0] for one in found if "optimum" in one.name]
    assert commands == [str(Path.cwd() / ".nox/peer/bin/python")] * 2


@pytest.mark.usefixtures("default_folder")
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the kernel's own account of a process")
def test_the_report_is_regenerated_in_small(tmp_path: Path) -> None:
    """Real processes on the default model: the same tokens by all three loops, and the kernel's peak within 2 %."""
    sizes = [f"--{name}={value}" for name, value in zip(("prompt", "tokens", "repeats"), WORK, strict=True)]
    out = tmp_path / "peers.md"  # a process of its own: the kernel's mark of a child begins at its parent's size
    command = [sys.executable, "-m", "benchmarks.validate", "--rounds=1", *sizes, "--out", str(out)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    page = out.read_text(encoding="utf-8")
    assert "not run:" not in page
    assert "Tokens chosen by ours, bare loop, generate(): the same, token for token." in page
    assert "within 2 %: yes" in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    names = [line.split(" | ")[0].removeprefix("| ") for line in rows[1:]]
    llama = [name for name in names if "llama" in name]
    assert [name for name in names if name not in llama] == ["---", "ours", "bare loop", "generate()"]
    assert len(llama) == 3 * is_installed("llama_cpp_python")
    absent = "optimum-benchmark" if llama else "llama_cpp_python, optimum-benchmark"
    assert f"Left out, for it is not installed: {absent}." in page
