# SPDX-License-Identifier: Apache-2.0
"""The report on predicted memory: regenerated for one model, and the committed one says the same of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_cell, make_record, memory_samples

from bench.engines.transformers import BACKEND
from bench.paths import RESULTS, ROOT
from bench.records.record import Prediction
from benchmarks import prediction_peers
from benchmarks.prediction_peaks import Peak

MIB = 1 << 20
needs_library = pytest.mark.skipif(bool(BACKEND.missing()), reason="accelerate's own count needs the library")


def test_a_row_has_the_error_of_each_quantity(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 MiB of weights predicted as 450 and by accelerate as 1,000 / 2; a peak of 610 predicted as 671 and 854."""
    monkeypatch.setattr(prediction_peers, "accelerate_bytes", lambda name: 1000 * MIB)
    sizes = {"baseline": 1000, "weights": 500, "unexplained": 0, "slack": 0, "kv": 40, "workspace": 70}
    record = make_record(
        make_cell("memory"),
        measurements=memory_samples(**{name: size * MIB for name, size in sizes.items()}),
        predicted=Prediction(weights_bytes=450 * MIB, kv_bytes=0, peak_bytes=671 * MIB, seconds=1.0),
    )
    found = Peak(record=record, prompt=9, decode=2, batch=4, measured=610 * MIB, then=671 * MIB, now=854 * MIB)
    assert prediction_peers.row(found) == (
        "| tiny | fake fake-fp16 | 9+2 | 500 MiB | -10.0% | +0.0% | 610 MiB | +10.0% | +40.0% | missed by 244 MiB |"
    )
    assert prediction_peers.trial(found) == (
        "| tiny | fake fake-fp16 | 4 x 9+2 | 610 MiB | +40.0% | missed by 244 MiB |"
    )


def test_a_summary_is_of_what_was_predicted() -> None:
    """Errors of a tenth and of a half; what nobody predicted is none."""
    assert prediction_peers.summary([(110.0, 100.0), (50.0, 100.0), (None, 1.0)]) == "median error 30.0%, largest 50.0%"
    assert prediction_peers.summary([(None, 1.0)]) == "none"


@needs_library
def test_the_report_is_regenerated_in_small(tmp_path: Path) -> None:
    """GPT-2's records alone give the rows that are committed for it; a checkout is enough to run it."""
    for folder in RESULTS.glob("*/gpt2"):
        shutil.copytree(folder, tmp_path / "results" / folder.parent.name / "gpt2")
    out = tmp_path / "report.md"
    command = [sys.executable, "-m", "benchmarks.prediction_peers", str(tmp_path / "results"), "--report", str(out)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=env)
    page = out.read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| gpt2 |")]
    assert len(rows) >= 3 and all(line.count(" | ") == 9 for line in rows)
    committed = (RESULTS / "validation" / "prediction.md").read_text(encoding="utf-8").splitlines()
    assert set(rows) <= set(committed)
    assert f"Peak: now {len(rows)} of {len(rows)} within 5% or 150 MiB, median error" in page
