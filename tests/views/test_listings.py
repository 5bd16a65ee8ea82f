# SPDX-License-Identifier: Apache-2.0
"""Tables with several lines for a row: points of throughput and what fits a budget, every figure exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import failed, make_cell, make_record, memory_samples, sample, speed_samples

from bench.cli import app, guarded
from bench.judge.rows import newest
from bench.records.cell import Weights
from bench.records.record import Caveat, Ending, Measurement, Record, Unit
from bench.records.store import Store
from bench.views.columns import VIEWS
from bench.views.formats import markdown
from bench.views.listings import LISTINGS, capacity, listed, points
from bench.views.table import flat, people

POINTED = {"points": [[4, 128], [16, 128], [16, 2048]], "point_decode_tokens": 3}
POINTS = ["model", "precision", "scheme", "batch", "prompt", "prefill tok/s", "decode tok/s", "each sequence", "TTFT",
          "gap p50", "gap p95"]  # fmt: skip


def labelled(measurements: tuple[Measurement, ...], **labels: Any) -> tuple[Measurement, ...]:
    return tuple(m.model_copy(update={"labels": {**m.labels, **labels}}) for m in measurements)


def pointed(**changes: Any) -> Record:
    """A full profile's record: the main point, batch 4 at prompt 128, one that did not fit and one without a word."""
    cell = make_cell("throughput", settings={**make_cell("throughput").settings, **POINTED})
    small = speed_samples(prefill_s=(2.0, 2.0), itl_s=(0.5, 0.5, 0.5, 1.5), prompt_tokens=128, batch=4)
    found = (*speed_samples(prefill_s=(0.5, 0.5), itl_s=(0.1, 0.1, 0.1, 0.1)), *labelled(small, point=True))
    told = Caveat(kind="not_measured", text="throughput at batch 16, prompt 2048: it did not fit in generate")
    busy = Caveat(kind="busy_machine", text="load was 2.0")
    return make_record(cell, measurements=found, warnings=(told, busy), **changes)


def test_every_point_has_a_line_with_its_rates() -> None:
    """The main point first; rates are of the batch, its share of one sequence beside them."""
    table = points(newest([pointed()]))
    assert table.titles == POINTS
    head = ["tiny (random weights)", "fp16", "fake-fp16"]
    assert table.rows[0] == [*head, "1", "100", "200 ±0", "10.0 ±0.0", "10.0 ±0.0", "500 ms", "100 ms", "100 ms"]
    # 4 x 2 tokens in 1.0 s and in 2.0 s: 8 and 4 a second, the median 6 between them; a sequence's own is a quarter
    assert table.rows[1][3:9] == ["4", "128", "256 ±0", "6.00 ±2.00", "1.50 ±0.50", "2.0 s"]
    assert table.rows[1][9:] == ["500 ms", "1.3 s"]  # the 95 % quantile of .5 .5 .5 1.5: just below 1.35
    assert [row[3:6] for row in table.rows[2:]] == [
        ["16", "128", "not measured [1]"], ["16", "2,048", "not measured [2]"],
    ]  # fmt: skip
    assert table.notes == [
        "batch 16, prompt 128: no reason was recorded", "batch 16, prompt 2048: it did not fit in generate",
    ]  # fmt: skip


def test_a_record_without_figures_has_one_line_with_its_reason() -> None:
    """And a model that fills blanks has no decode."""
    table = points(newest([failed(make_cell("throughput"), Ending.TIMED_OUT, "took too long")]))
    assert [row[3:7] for row in table.rows] == [["", "", "timed out [1]", "timed out [1]"]]
    assert table.notes == ["timed out: took too long"]
    masked = make_cell("throughput", settings={**make_cell("throughput").settings, "objective": "masked"})
    only = speed_samples(prefill_s=(0.5, 0.5))[:1]
    table = points(newest([make_record(masked, measurements=only)]))
    assert table.rows[0][5:7] == ["200 ±0", "n/a [1]"]


def test_rows_without_the_suite_have_no_line() -> None:
    """Nobody asked them."""
    rows = newest([pointed(), make_record(make_cell(precision="int8"), measurements=memory_samples())])
    assert [row.precision for row in listed(rows, LISTINGS["points"])] == ["fp16"]
    assert listed(rows, LISTINGS["capacity"]) == []


def found(bound: str = "memory", tokens: int = 5400, limit: int | None = 10**9, **cell: Any) -> Record:
    """A capacity record: a context, 12 sequences of 512, none of 2048."""
    labels = {"budget_bytes": limit or 8 * 2**30, "held_back_bytes": 1, "decode_tokens": 8}
    settings = {**make_cell("capacity").settings, **({"memory_limit_bytes": limit} if limit else {})}
    measurements = (
        sample("max_context_tokens", tokens, Unit.TOKEN, bound=bound, peak_bytes=950 * 2**20, predicted=6100, **labels),
        sample("trial_bytes", [1, 2, 3], of="max_context_tokens", sizes=[24, 1500, tokens]),
        sample("max_batch", 12, Unit.COUNT, prompt_tokens=512, bound="too many sequences", peak_bytes=2**30,
               predicted=None, **labels),
        sample("trial_bytes", [1, 2], of="max_batch", prompt_tokens=512, sizes=[1, 12], killed=1),
        sample("max_batch", 0, Unit.COUNT, prompt_tokens=2048, bound="memory", peak_bytes=None, predicted=1, **labels),
    )  # fmt: skip
    caveat = Caveat(kind="not_measured", text="batch of prompt 9000: 9008 tokens are more than its context of 8192")
    return make_record(make_cell("capacity", settings=settings, **cell), measurements=measurements, warnings=(caveat,))


def test_every_question_has_a_line_with_its_answer_and_its_bound() -> None:
    """Budget in its own column and so not in the name; what the engine said and what was not asked are notes."""
    table = capacity(newest([found()]))
    titles = ["budget", "question", "largest", "predicted", "peak at it", "trials", "bounded by"]
    assert table.titles == ["model", "precision", "scheme", *titles]
    assert {tuple(row[:4]) for row in table.rows[:3]} == {("tiny (random weights)", "fp16", "fake-fp16", "1 GB")}
    assert [row[4:] for row in table.rows] == [
        ["longest context", "5,400 tokens", "6,100", "950 MiB", "3", "memory"],
        ["batch of prompt 512", "12 sequences", "unknown", "1.00 GiB", "2 (1 killed)", "engine [1]"],
        ["batch of prompt 2048", "0 sequences", "1", "", "0", "memory"],
        ["batch of prompt 9000", "n/a [2]", "", "", "", ""],
    ]
    assert table.notes == [
        "too many sequences", "batch of prompt 9000: 9008 tokens are more than its context of 8192",
    ]  # fmt: skip
    assert "| longest context | 5,400 tokens |" in markdown(table)


@pytest.mark.parametrize(
    ("bound", "largest", "words"),
    [
        ("context", "5,400 tokens", "the model's own context"),
        ("tokens", "≥ 5,400 tokens", "profile: tokens of one trial"),
        ("seconds", "≥ 5,400 tokens", "profile: seconds of one trial"),
        ("trials", "≥ 5,400 tokens", "profile: number of trials"),
        ("spent", "≥ 5,400 tokens", "the call's time budget"),
    ],
)
def test_an_answer_that_may_be_larger_says_at_least(bound: str, largest: str, words: str) -> None:
    """Only the model's own context and the memory are ends of the thing itself."""
    row = capacity(newest([found(bound)])).rows[0]
    assert (row[5], row[9]) == (largest, words)


def test_a_capacity_that_does_not_fit_says_why() -> None:
    """With the budget it did not fit."""
    settings = {**make_cell("capacity").settings, "memory_limit_bytes": 10**9}
    cell = make_cell("capacity", settings=settings)
    table = capacity(newest([failed(cell, Ending.DOES_NOT_FIT, "out of memory in load")]))
    assert [row[3:6] for row in table.rows] == [["1 GB", "all", "does not fit [1]"]]
    assert table.notes == ["does not fit: out of memory in load"]


def test_flat_rows_hold_the_answers_and_their_bounds() -> None:
    """In base units, the batch by its prompt."""
    row = flat(found("context"))
    names = ("max_context_tokens", "max_context_tokens_bound", "max_batch_512", "max_batch_512_bound", "budget_bytes")
    assert [row[name] for name in names] == [5400, "context", 12, "too many sequences", 10**9]
    assert flat(make_record(measurements=memory_samples()))["max_context_tokens"] is None


def test_a_table_that_mixes_engines_names_each() -> None:
    """Only then: a table of one engine does not need the column."""
    one = make_record(measurements=memory_samples())
    other = make_record(
        make_cell(backend="llamacpp", scheme="gguf-f16", weights=Weights.PACKAGE), measurements=memory_samples()
    )
    table = people(newest([one, other]), VIEWS["default"])
    assert table.titles[:4] == ["model", "precision", "scheme", "engine"]
    assert sorted(row[2:4] for row in table.rows) == [["fake-fp16", "fake"], ["gguf-f16", "llamacpp"]]
    assert "engine" not in people(newest([one]), VIEWS["default"]).titles
    backend = make_cell("throughput", backend="llamacpp", scheme="gguf-f16")
    both = newest([pointed(), make_record(backend, measurements=speed_samples())])
    assert points(both).titles == [*POINTS[:3], "engine", *POINTS[3:]]
    assert {row[3] for row in points(both).rows} == {"fake", "llamacpp"}
    mixed = newest([found(), found(backend="llamacpp", scheme="gguf-f16")])
    assert [row[3] for row in capacity(mixed).rows[::4]] == ["fake", "llamacpp"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """One call of the command line: exit code, output, errors."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["bench", *words])
        try:
            code = guarded(app)
        except SystemExit as stop:
            code = int(str(stop.code or 0))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_show_prints_a_listing_by_its_name(bench: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """As a table and as Markdown, with what its columns mean; without a record it says how to make one."""
    where = ("--results", str(tmp_path))
    code, out, _ = bench("show", "--columns", "capacity", *where)
    assert (code, out) == (0, "no records of capacity match; `bench run --suite capacity` makes some\n")
    store = Store(tmp_path)
    for record in (found(), pointed()):
        store.write(record)
    code, out, _ = bench("show", "--columns", "capacity", *where)
    assert code == 0
    assert "5,400 tokens" in out
    assert "No trial is run whose peak is expected within 2 % of a hard limit" in out
    code, out, _ = bench("show", "--columns", "points", "--format", "md", *where)
    assert "| tiny (random weights) | fp16 | fake-fp16 | 4 | 128 | 256 ±0 |" in out
    assert out.count("did not fit in generate") == 1
    assert "- warning, tiny fp16 (throughput): busy machine: load was 2.0" in out
    code, _, err = bench("show", "--columns", "banana", *where)
    assert (code, "points, capacity, roof, all" in err) == (2, True)
    rows = json.loads(bench("show", "--suite", "capacity", "--format", "json", *where)[1])
    assert [row["max_context_tokens"] for row in rows] == [5400]


def test_a_plan_says_what_is_predicted_to_fit(bench: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """For people in words, for machines in columns; other suites have no such column."""
    call = ("plan", "--suite", "capacity", "--precision", "fp16", "--memory-limit", "2GB", "--device", "cpu",
            "--results", str(tmp_path))  # fmt: skip
    code, out, _ = bench(*call)
    assert code == 0
    assert "predicted to fit, smollm2-135m-instruct fp16 (transformers bf16) capacity: context of " in out
    (row,) = json.loads(bench(*call, "--format", "json")[1])
    assert row["predicted_context_tokens"] > 1000
    assert row["predicted_batch_512"] > 1
    others = json.loads(bench("plan", "--suite", "memory", "--device", "cpu", "--format", "json", *call[-2:])[1])
    assert all("predicted_context_tokens" not in row for row in others)


def test_a_run_of_this_suite_ends_with_its_own_table(
    bench: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not with one of columns that nobody measured."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    call = ("run", "--backend", "fake", "--profile", "smoke", "--precision", "fp16", "--device", "cpu", "--quiet",
            "--results", str(tmp_path / "results"))  # fmt: skip
    code, out, _ = bench(*call, "--suite", "capacity")
    assert code == 0
    assert "longest context" in out
    assert "peak memory" not in out
    code, out, _ = bench(*call, "--suite", "memory")
    assert "longest context" not in out
    assert "peak memory" in out
