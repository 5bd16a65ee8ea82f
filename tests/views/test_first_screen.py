# SPDX-License-Identifier: Apache-2.0
"""What the README begins with: the plot and eight lines of the model that was judged most."""

from __future__ import annotations

from pathlib import Path

from judged import FP16, INT4, INT8

from bench.judge.rows import newest
from bench.views import first_screen
from bench.views.publish import marker, publish_readme

ROWS = newest([*FP16, *INT8, *INT4])


def test_rows_with_a_verdict_stand_there_the_smallest_first() -> None:
    """Of random weights nothing stands there, unless they are the fake's."""
    lines = first_screen.block(ROWS, "results/plots").splitlines()
    assert lines[0] == "![Decode by memory, every row measured on cpu-test](results/plots/cpu-test.png)"
    assert lines[2] == "tiny on cpu-test:"
    assert [line.split(" | ")[0] for line in lines[6:9]] == ["| fake-int4", "| fake-int8", "| fake-fp16"]
    assert "perplexity +26 % [26, 26]: worse" in lines[6]


def test_nothing_measured_is_one_sentence() -> None:
    """With the command that changes it."""
    assert first_screen.block([], "results/plots") == "Nothing has been measured yet: `nox -s bench`.\n"


def test_the_block_is_brought_up_to_date_and_other_pages_are_left_alone(tmp_path: Path) -> None:
    """Stale, current, and a README that has no such block."""
    path = tmp_path / "README.md"
    path.write_text("# Mine\n")
    assert not publish_readme(path, ROWS, "results/plots", check=False)
    path.write_text(f"# Mine\n{marker('screen', 'begin')}{marker('screen', 'end')}\nthe end\n")
    assert publish_readme(path, ROWS, "results/plots", check=True)
    assert publish_readme(path, ROWS, "results/plots", check=False)
    assert not publish_readme(path, ROWS, "results/plots", check=True)
    assert path.read_text().startswith("# Mine\n") and path.read_text().endswith("\nthe end\n")
