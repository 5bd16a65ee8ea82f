# SPDX-License-Identifier: Apache-2.0
"""What a terminal of few columns gets: every figure whole, no line beyond its edge, and where the rest is."""

from __future__ import annotations

import io
import re

import pytest
from builders import divergence_samples, make_cell, make_record, memory_samples, speed_samples

from bench.cli import console
from bench.cli.console import WHOLE, Format, Terminal, print_views
from bench.judge.rows import newest
from bench.records.record import Record
from bench.views import table
from bench.views.columns import COLUMNS, VIEWS


class Screen(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def records() -> list[Record]:
    """Two precisions with speeds, bytes and distances."""
    found = []
    for precision in ("fp16", "int4"):
        found.append(make_record(make_cell("memory", precision), measurements=memory_samples(weights=123_456_789)))
        speeds = speed_samples(itl_s=(0.1, 0.11, 0.2, 0.19))
        found.append(make_record(make_cell("throughput", precision), measurements=speeds))
    kld = divergence_samples(kld=(0.00071, 0.00072, 0.00074, 0.00075))
    found.append(make_record(make_cell("divergence", "int4"), measurements=kld))
    return found


@pytest.mark.parametrize("columns", ["default", "memory", "speed", "all"])
@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_figure_is_broken_at_any_width(monkeypatch: pytest.MonkeyPatch, width: int, columns: str) -> None:
    """Every cell with a figure stands on one line, in a table or in blocks, and blocks say where the table is."""
    names = tuple(COLUMNS) if columns == "all" else VIEWS[columns]
    rows, screen = newest(records()), Screen()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr(console, "out", Terminal(highlight=False, emoji=False))  # as it is made on a terminal
    print_views(table.views(rows, names), Format.TABLE)
    drawn = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    lines = drawn.splitlines()
    assert max(map(len, lines)) <= width
    figures = [cell for row in table.people(rows, names).rows for cell in row if re.search(r"\d", cell)]
    assert len(figures) > 4
    assert [figure for figure in figures if figure not in drawn] == []
    flowing = " ".join(drawn.split())
    assert flowing.count(WHOLE) == (0 if "─" in drawn else 1)
    if columns == "all":
        assert "─" not in drawn
    if width == 200 and columns != "all":
        assert "─" in drawn


def test_a_pipe_is_as_wide_as_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """Up to its own bound no terminal limits them."""
    print_views(table.views(newest(records()), VIEWS["memory"]), Format.TABLE)
    out = capsys.readouterr().out
    assert "─" in out and WHOLE not in out
    assert 120 < max(map(len, out.splitlines())) <= console.PIPE_WIDTH
