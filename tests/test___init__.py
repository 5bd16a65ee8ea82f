# SPDX-License-Identifier: Apache-2.0
"""The Python face, by the examples of the README."""

from __future__ import annotations

import re

import pandas as pd
import pytest

import bench
from bench.paths import RESULTS, ROOT

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_readme_s_examples_run_on_committed_records(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each prints something that is not empty."""
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own README
    assert "Empty DataFrame" not in capsys.readouterr().out


def test_there_are_three_examples() -> None:
    """One of each."""
    assert [name in "".join(EXAMPLES) for name in ("load_results", "compare(", "recommend(")] == [True] * 3
    assert len(EXAMPLES) == 3


def test_frames_hold_the_keys_of_the_command() -> None:
    """One row a record; bytes as they were counted."""
    frame = bench.load_results()
    assert len(frame) == len(bench.read(RESULTS))
    memory = frame[(frame.model == "gpt2") & (frame.precision == "fp16") & (frame.suite == "memory")]
    memory = memory[memory.device == "cpu-intel-xeon-2c-amx"]
    assert memory.weights_bytes.tolist() == [248879616.0]
    assert frame.started.dtype == object or pd.api.types.is_string_dtype(frame.started)


def test_a_recommendation_keeps_to_its_limits() -> None:
    """What is taken fits, and is as fast as was asked."""
    found = bench.recommend(memory="1GB", min_decode=20)
    taken = found[found.taken]
    assert len(taken) and (taken.memory_bytes <= 1e9).all() and (taken.decode_tokens_per_s_low >= 20).all()
    assert found[~found.satisfies].misses.notna().any()


def test_a_margin_that_is_none_is_refused() -> None:
    """With what would be one."""
    with pytest.raises(ValueError, match="margin 0: a share between 0 and 1"):
        bench.compare(margin=0)
