# SPDX-License-Identifier: Apache-2.0
"""Which look at a device a plan believes."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import make_condition

from bench.plan import device_roof
from bench.records.surroundings import Roof


@pytest.mark.parametrize(("others", "kept"), [(1.5, False), (0.0, True), (None, True)])
def test_a_look_that_others_disturbed_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: float | None, kept: bool
) -> None:
    """It serves this plan alone: on a crowded machine products were a thousand times too slow."""
    look = Roof(engine="x", copy_bytes_per_s=(5.0,))
    monkeypatch.setattr(device_roof, "condition", lambda kind: make_condition(others_cpu=others))
    monkeypatch.setattr(device_roof, "measure_roof", lambda library, kind: look)
    path = tmp_path / "roofs" / "device.json"
    assert device_roof._kept(path, "torch", "cpu") == look
    assert path.exists() == kept
