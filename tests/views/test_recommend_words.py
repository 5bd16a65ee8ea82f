# SPDX-License-Identifier: Apache-2.0
"""A recommendation as people and programs read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import called, make_cell, make_record, memory_samples, quality_samples, speed_samples

from bench.catalog.entries import read_catalog
from bench.engines.registry import backend
from bench.instruments.machine import describe, device_kind
from bench.judge.recommend import Limits
from bench.paths import ROOT
from bench.plan.baseline import BASELINE_BYTES
from bench.plan.needs import needs
from bench.records.cell import Precision
from bench.records.record import Record
from bench.records.store import Store
from bench.views.recommend import asked


def model(name: str, right: int, *, weights: int, itl_s: float = 0.1) -> list[Record]:
    """A 16-bit row that answers the first `right` of 400 items."""
    answers = {"task": [1.0] * right + [0.0] * (400 - right)}
    return [
        make_record(make_cell("memory", model=name), measurements=memory_samples(weights=weights)),
        make_record(make_cell("throughput", model=name), measurements=speed_samples(itl_s=[itl_s] * 4)),
        make_record(make_cell("quality", model=name), measurements=quality_samples(answers)),
    ]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two models: `good` is better and larger, `small` decodes twice as fast."""
    store = Store(tmp_path)
    for record in [*model("good", 300, weights=860), *model("small", 240, weights=460, itl_s=0.05)]:
        store.write(record)
    return tmp_path


@pytest.mark.parametrize(
    ("count", "text"), [(12e9, "12 GB"), (1.5e9, "1.5 GB"), (500e6, "500 MB"), (12 * 2**30, "12 GiB"), (900, "900 B")]
)
def test_a_limit_is_written_as_it_was_given(count: float, text: str) -> None:
    """In the unit that is shortest and exact."""
    assert asked(Limits(memory_bytes=count)) == f"at most {text}"


def recommended(capsys: pytest.CaptureFixture[str], results: Path, *options: Any) -> tuple[int, str, str]:
    """`bench recommend` on these records."""
    code, said, error = called(capsys, "recommend", "--results", results, *options)
    return code, " ".join(said.split()), error


def test_the_best_tier_is_taken_and_stands_first(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The better model under a limit that both keep, the smaller one where only it fits."""
    code, said, _ = recommended(capsys, results, "--memory", "2000")
    assert code == 0
    assert said.startswith("Take good at fake-fp16 in fake; 1.95 KiB with its process; 10.0 ±0.0 tokens/s")
    code, said, _ = recommended(capsys, results, "--memory", "1900")
    assert said.startswith("Take small at fake-fp16 in fake; 1.56 KiB with its process")
    assert "100 B too much" in said
    assert code == 0


def test_limits_that_nothing_satisfies_show_the_nearest_miss(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, the misses, and exit code 1."""
    code, said, _ = recommended(capsys, results, "--min-decode", "25")
    assert code == 1
    assert said.startswith("nothing measured here satisfies at least 25 tokens/s")
    assert "5 tokens/s too slow" in said


def test_a_price_says_what_a_million_tokens_cost_and_when_the_box_pays(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """20 tokens/s at 0.72 an hour: 10 a million; 17.28 a day buy 864,000 tokens at 20 a million."""
    _, said, _ = recommended(
        capsys, results, "--memory", "1900", "--price", "0.72/h", "--api-price", "20/1M"
    )  # fmt: skip
    assert "a million tokens cost 10 here, one sequence at a time" in said
    assert "above 860,000 tokens a day this box is cheaper than 20 a million" in said


def test_json_holds_every_row_with_what_it_misses(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are taken first; bytes and rates in base units."""
    _, said, _ = called(capsys, "recommend", "--results", results, "--memory", "1900", "--format", "json")
    first, second = json.loads(said)
    assert (first["model"], first["taken"], first["tier"], first["memory_bytes"]) == ("small", True, 1, 1600)
    assert (second["model"], second["taken"], second["misses"]) == ("good", False, "100 B too much")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--memory", "much"), "no amount of memory: 'much'"),
        (("--max-loss", "banana"), "bench: no loss 'banana'; 1% or 0.01, above 0 and at most 50%"),
        (("--max-loss", "0"), "bench: no loss '0'; 1% or 0.01, above 0 and at most 50%"),
        (("--price", "0.60"), "bench: no price '0.60'; --price 0.60/h"),
        (("--tariff", "0.30/h"), "bench: no price '0.30/h'; --tariff 0.30/kWh"),
        (("--api-price", "1/1M"), "bench: an API's price is compared with nothing; say what the box costs"),
        (("--measure",), "bench: --measure needs a model"),
    ],
)
def test_a_bad_limit_is_one_line(
    results: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    """With its remedy, and nothing is recommended."""
    code, said, error = called(capsys, "recommend", "--results", results, *options)
    assert (code, said) == (2, "")
    assert message in error
    assert error.count("\n") == 1


def test_a_device_without_a_record_is_one_line_with_those_that_have_some(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pattern that meets one is none of them."""
    code, said, error = called(capsys, "recommend", "--results", results, "--device", "cuda-*")
    assert (code, said, error) == (2, "", "bench: no record is of a device 'cuda-*'; one of: cpu-test\n")
    assert recommended(capsys, results, "--device", "cpu-*")[0] == 0


def test_what_is_predicted_to_fit_is_told_with_its_whole_process(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As measured rows are: the peak, and what a worker holds before it loads."""
    options = ("--predicted", "--model", "gpt2", "--memory", "2GB", "--format", "json")
    (row,) = json.loads(called(capsys, "recommend", "--results", results, *options)[1])
    kind = device_kind()
    model = next(one for one in read_catalog(ROOT / "catalog") if one.name == "gpt2")
    need = needs(model, backend("transformers"), describe(kind), 2 * 10**9)[Precision(row["precision"])]
    assert need.peak_bytes is not None
    assert row["memory_bytes"] == need.whole_bytes == need.peak_bytes + BASELINE_BYTES[kind]["transformers"]


def test_a_model_without_a_record_gets_the_command_that_decides(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is guessed."""
    code, said, _ = recommended(capsys, results, "--model", "gpt2")
    assert code == 1
    assert said == "no record of gpt2: bench run --model gpt2 --budget 8min decides"


def test_measure_tries_from_16_bits_down_until_one_satisfies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake's 16-bit row needs more than 8 bits: two precisions are measured, int4 is not."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    results = tmp_path / "results"
    options = ("--measure", "--backend", "fake", "--model", "smollm2-135m-instruct")
    called(capsys, "recommend", "--results", results, *options, "--memory", "1TB")
    assert {record.cell.scheme for record in Store(results).records()} == {"fake-fp16"}
    need = json.loads(called(capsys, "recommend", "--results", results, "--format", "json")[1])[0]["memory_bytes"]
    called(capsys, "recommend", "--results", results, *options, "--memory", f"{int(need) - 1}")
    assert {record.cell.scheme for record in Store(results).records()} == {"fake-fp16", "fake-int8"}
