# SPDX-License-Identifier: Apache-2.0
"""A server's distance from the fp32 row: windows that it shows otherwise, or not at all, are left out and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import make_cell

from bench.engines.abilities import ScoredToken, TextNotShown
from bench.engines.contract import Unsupported
from bench.suite import TextRun
from suites.served import divergence


class Shows:
    """A server that tells a letter a token, each with the same value, but nothing of a text with a cut character."""

    threads = None

    def unproven(self) -> str:
        """Proven."""
        return ""

    def scored(self, text: str) -> list[ScoredToken]:
        """A token a letter."""
        if "字" in text:
            raise TextNotShown("the server does not show the tokens of every text")
        values = [None, *[-1.0] * (len(text) - 1)]
        return [ScoredToken(c, at, v, likeliest=False) for at, (c, v) in enumerate(zip(text, values, strict=True))]


def run_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *texts: str) -> TextRun:
    windows = [(text, np.full(len(text) - 1, 1.5)) for text in texts]
    monkeypatch.setattr("bench.scoring.reference.read_texts", lambda path: windows)
    asked: Any = make_cell("divergence")
    return TextRun(cell=asked, engine=Shows(), anchor=tmp_path)  # type: ignore[arg-type]


def test_a_window_that_the_server_does_not_show_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The others are compared, and the warning counts it."""
    run = run_of(monkeypatch, tmp_path, "abcd", "ab字d", "efgh")
    found = {one.name: one.values for one in divergence.measure(run)}
    assert found["nll_nat"] == (1.0, 1.0)
    assert found["anchor_nll_nat"] == (1.5, 1.5)
    (caveat,) = run.caveats
    assert caveat.text == "1 of 3 windows are left out: the server splits them otherwise, or does not show how"


def test_too_few_windows_are_no_distance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One has no interval."""
    with pytest.raises(Unsupported, match="only 1 of 3 windows are split into as many tokens as the fp32 row has"):
        divergence.measure(run_of(monkeypatch, tmp_path, "abcd", "ab字d", "字字"))
