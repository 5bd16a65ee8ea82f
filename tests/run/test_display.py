# SPDX-License-Identifier: Apache-2.0
"""What a person sees while cells are measured: one line for each answer, one for all that a failing load settles."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from builders import STAMP, failed, make_cell, make_record, planned
from rich.console import Console

from bench.plan.plan import Plan
from bench.records.record import Ending, Prediction, Record
from bench.run.answered import Answered
from bench.run.display import Expected, LiveDisplay, answers, named

GONE = "the Hub has no tests/tiny: gone, renamed, or private (`hf auth login`)"
SUITES = ("memory", "throughput", "divergence", "quality")


def settled(precision: str = "int4", reason: str = GONE, suites: tuple[str, ...] = SUITES) -> list[Record]:
    """What one load that fails leaves."""
    return [failed(make_cell(suite, precision), Ending.UNSUPPORTED, reason) for suite in suites]


def shown(*events: Any, quiet: bool = False) -> list[str]:
    """The lines a terminal keeps after records, and after cells and loads (given as a method's name and a cell)."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=250, color_system=None)
    with LiveDisplay(Plan(cells=(), left_out=()), console, quiet=quiet) as display:
        for event in events:
            if isinstance(event, Record):
                display.record(event)
            else:
                name, precision = event
                planned: Any = SimpleNamespace(
                    cell=make_cell("memory", precision), predicted=SimpleNamespace(seconds=1)
                )
                getattr(display, name)(planned)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue()).replace("\r", "\n")
    return [line.rstrip() for line in plain.splitlines() if line.startswith("tiny") and "━" not in line]


def test_a_failing_load_is_one_line_with_the_cells_it_settles() -> None:
    """However many suites were asked for; the next load's are another line."""
    lines = shown(("load", "int4"), *settled(), ("load", "int8"), *settled("int8", suites=SUITES[:1]))
    assert lines == [
        f"tiny int4 (fake fake-int4) 4 cells (memory, throughput, divergence, quality): unsupported: {GONE} 1.5 s",
        f"tiny int8 (fake fake-int8) memory: unsupported: {GONE} 1.5 s",
    ]


def test_cells_that_were_loaded_are_told_one_by_one() -> None:
    """Each as it is answered, the last before the display ends."""
    ok = [make_record(make_cell(suite)) for suite in ("memory", "throughput")]
    assert shown(("load", "fp16"), ("cell", "fp16"), *ok) == [
        "tiny fp16 (fake fake-fp16) memory: ok 1.5 s",
        "tiny fp16 (fake fake-fp16) throughput: ok 1.5 s",
    ]


def test_in_a_pipe_each_line_has_its_time_and_the_count_so_far() -> None:
    """What an unattended run leaves in a file is its log; nothing is redrawn in it."""
    text = io.StringIO()
    cells: Any = [SimpleNamespace(cell=make_cell(suite, "int4"), predicted=Prediction()) for suite in SUITES]
    plan = Plan(cells=tuple(cells), left_out=())
    with LiveDisplay(plan, Console(file=text, width=250), quiet=False) as display:
        display.load(plan.cells[0])
        for record in (*settled(suites=SUITES[:2]), make_record(make_cell("memory", "int8"))):
            display.record(record)
    first, second = text.getvalue().splitlines()
    assert re.fullmatch(
        rf"{STAMP} 2/4 tiny int4 \(fake fake-int4\) 2 cells \(memory, throughput\): unsupported: .* 1\.5 s", first
    )
    assert re.fullmatch(rf"{STAMP} 3/4 tiny int8 \(fake fake-int8\) memory: ok 1\.5 s", second)


def test_quiet_says_nothing() -> None:
    """Neither of answers nor of failing loads."""
    assert shown(("load", "int4"), *settled(), quiet=True) == []


@pytest.mark.parametrize(
    "other",
    [
        settled("int8")[0],
        settled(reason="another")[0],
        failed(make_cell("quality", "int4"), Ending.FAILED, GONE),
        settled()[0].model_copy(update={"started": "2026-01-01T00:00:01Z"}),
        settled()[0].model_copy(update={"provenance": make_record().provenance}),
    ],
    ids=["load", "reason", "ending", "start", "loaded"],
)
def test_only_what_one_load_settled_is_counted_together(other: Record) -> None:
    """The same model and scheme, the same moment, the same outcome, and nothing ever loaded."""
    groups = answers(map(Answered.of, (*settled(), other)))
    assert [len(group) for group in groups] == [4, 1]
    assert named(groups[1]) == str(other.cell)


def test_brackets_of_a_reason_are_printed_as_they_stand() -> None:
    """They are no markup."""
    (line,) = shown(*settled(reason='pip install -e ".[gptq]" [/red]', suites=("memory",)))
    assert line.endswith('unsupported: pip install -e ".[gptq]" [/red] 1.5 s')


def test_the_whole_run_s_time_says_what_of_it_is_loading() -> None:
    """Nothing of what is not known."""
    cell = planned("memory")
    cell = replace(cell, predicted=cell.predicted.model_copy(update={"seconds": 405.0}))
    plan = Plan(cells=(cell,), left_out=(), loads={cell.cell.load_key: 45.0, ("another load",): 90.0})
    with LiveDisplay(plan, Console(), quiet=True) as display:
        (whole,) = display.progress.tasks
        assert Expected().render(whole).plain == "of about 7 min 30 s, 45 s of it loading"
    with LiveDisplay(replace(plan, loads={}), Console(), quiet=True) as display:
        assert Expected().render(display.progress.tasks[0]).plain == "of about 6 min 45 s"
