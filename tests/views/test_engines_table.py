# SPDX-License-Identifier: Apache-2.0
"""Engines side by side: what stands in one table, and what each cell says."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from builders import (
    ANCHOR,
    divergence_samples,
    failed,
    make_cell,
    make_record,
)
from engine_rows import LLAMA, TORCH, only, reference_rows, rows
from typer.testing import CliRunner

from bench import cli
from bench.errors import UserError
from bench.judge.cross_engine import Group
from bench.judge.rows import newest
from bench.records.record import Caveat, Ending
from bench.records.store import Store
from bench.views import cross_engine as view
from bench.views.table import flat, people


def cells(group: Group) -> dict[str, dict[str, str]]:
    """The table by precision, without its mark, and engine; its titles as keys."""
    table = view.table(group)
    found = [dict(zip(table.titles, row, strict=True)) for row in table.rows]
    return {f"{row['precision'].removesuffix(' *')} {row['engine']}": row for row in found}


def test_engines_of_one_precision_are_neighbours() -> None:
    """fp32 first, then by width; within a precision by engine."""
    group = only([*rows("int8", "q8_0", **LLAMA), *rows("fp16", "f16", **LLAMA), *reference_rows(),
                  *rows("int8", "bnb-int8", **TORCH)])  # fmt: skip
    assert list(cells(group)) == [
        "fp32 transformers fp32",
        "fp16 llamacpp f16",
        "fp16 transformers bf16",
        "int8 llamacpp q8_0",
        "int8 transformers bnb-int8",
    ]
    assert view.title(group) == "tiny on cpu-test, engines side by side"
    assert group.cautions == ()


def test_every_row_has_speed_memory_and_its_distance_from_the_same_fp32_row() -> None:
    """Rates and distances with their intervals; the fp16 row's own stands in the fp32 row's record."""
    found = cells(only([*reference_rows(), *rows("int8", "q8_0", kld=0.3, **LLAMA)]))
    llama = found["int8 llamacpp q8_0"]
    assert (llama["prefill"], llama["decode"]) == ("200 ±150", "7.50 ±2.50")
    assert llama["peak"] == "640 B"
    assert llama["KL to fp32"].startswith("0.3 ±")
    assert llama["same top-1"].startswith("75.0% ±")
    assert found["fp16 transformers bf16"]["KL to fp32"].startswith("0.03 ±")
    assert found["fp16 transformers bf16"]["same top-1"].startswith("75.0% ±")
    assert found["fp32 transformers fp32"]["KL to fp32"] == "reference"
    assert found["fp32 transformers fp32"]["same top-1"] == "reference"


def test_an_empty_cell_has_its_reason() -> None:
    """Not measured, did not fit, no fp32 row, other tokens: each in its own words."""
    cell = make_cell("divergence", "int8", scheme="q8_0", **LLAMA)
    text = "not compared with the fp32 reference: its tokens of the probe text are not those of the fp32 reference"
    other = make_record(
        cell, measurements=divergence_samples(), warnings=(Caveat(kind="anchor_not_paired", text=text),)
    )
    speed = failed(make_cell("throughput", "int8", scheme="q8_0", **LLAMA), Ending.DOES_NOT_FIT, "too large")
    without = make_record(
        make_cell("divergence", "int8", scheme="bnb-int8", **TORCH), measurements=divergence_samples()
    )
    group = only([other, speed, without])
    found, notes = cells(group), view.table(group).notes
    llama, torch = found["int8 llamacpp q8_0"], found["int8 transformers bnb-int8"]
    assert (llama["peak"], torch["prefill"]) == ("-", "-")
    assert llama["prefill"] == llama["decode"] == "does not fit [1]"
    assert llama["KL to fp32"] == "- [2]"
    assert torch["KL to fp32"] == torch["same top-1"] == "- [3]"
    assert notes[0] == "does not fit: too large"
    assert notes[1] == text
    assert "bench run --model tiny --backend transformers --precision fp32 --suite divergence" in notes[2]


def test_marks_say_what_is_tied_and_what_none_beats_and_are_explained() -> None:
    """A line beneath for each mark that stands in the table, and for no other."""
    group = only([*reference_rows(), *rows("fp32", "f32", **LLAMA)])
    found = cells(group)
    assert found["fp32 transformers fp32"]["decode"] == "=7.50 ±2.50"
    assert found["fp32 transformers fp32"]["precision"] == "fp32 *"
    assert found["fp32 llamacpp f32"]["prefill"] == "=200 ±150"
    assert found["fp16 transformers bf16"]["decode"] == "7.50 ±2.50"
    notes = view.views([group])[0].notes
    assert [note[:2] for note in notes if note[1:2] == ":"] == ["*:", "=:"]
    lacking = only([*reference_rows(), *rows("int8", "q8_0", **LLAMA)[:2]])
    assert "-: not measured." in view.views([lacking])[0].notes
    marks = {row["scheme"]: (row["on_front"], row["decode_tokens_per_s_tied"]) for row in view.flats([group])}
    assert marks == {"fp32": (True, True), "f32": (False, True), "bf16": (True, False)}


def test_rows_that_differ_in_their_way_alone_are_told_apart() -> None:
    """Each names its way where the engine has several; one that all rows share stands beneath."""
    plain, narrow = ({"settings": {"attention": "plain", **kv}, **LLAMA} for kv in ({}, {"kv": "int8"}))
    shared = only([*reference_rows(), *rows("int8", "q8_0", **plain)])
    assert "int8 llamacpp q8_0" in cells(shared)
    assert "llamacpp: attention plain in all its rows." in view.views([shared])[0].notes
    both = only([*reference_rows(), *rows("int8", "q8_0", **plain), *rows("int8", "q8_0", **narrow)])
    names = [name for name in cells(both) if "llamacpp" in name]
    assert names == ["int8 llamacpp q8_0 (attention plain)", "int8 llamacpp q8_0 (attention plain, kv int8)"]
    assert not any("in all its rows" in note for note in view.views([both])[0].notes)


def test_flat_rows_hold_base_units_and_name_the_fp32_row() -> None:
    """Every row has every key, null where there is no figure, and says which fp32 row it is measured from."""
    found = {row["scheme"]: row for row in view.flats([only([*reference_rows(), *rows("int8", "q8_0", **LLAMA)])])}
    llama = found["q8_0"]
    assert (llama["backend"], llama["precision"], llama["weights"]) == ("llamacpp", "int8", "package")
    assert (llama["peak_bytes"], llama["prefill_tokens_per_s"]) == (640, 200.0)
    assert (llama["prefill_tokens_per_s_low"], llama["prefill_tokens_per_s_high"]) == (100.0, 400.0)
    assert llama["kld_fp32_mean"] == pytest.approx(0.4)
    assert {row["fp32_reference"] for row in found.values()} == {ANCHOR}
    assert found["bf16"]["kld_fp32_mean"] == pytest.approx(0.03)
    assert (found["fp32"]["kld_fp32_mean"], found["fp32"]["reason"]) == (None, "divergence: reference")
    assert len({tuple(row) for row in found.values()}) == 1


def test_other_views_show_the_16_bit_row_s_distance_too() -> None:
    """The quality view, and the flat row of its divergence record."""
    found = newest(reference_rows())
    table = people(found, ("kld", "kld_fp32"))
    assert [row[-1].split(" ")[0] for row in table.rows] == ["reference", "0.03"]
    fp16 = next(row for row in found if row.precision == "fp16")
    record = fp16.records["divergence"]
    assert flat(record)["kld_fp32_mean"] is None
    assert flat(record, fp16.held_by_fp32_row("divergence"))["kld_fp32_mean"] == pytest.approx(0.03)
    assert fp16.held_by_fp32_row("memory") == {}
    alone = people(newest(rows("int8", "bnb-int8", **TORCH)[:2]), ("kld_fp32",))
    assert alone.rows[0][-1] == "not measured"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A store with both engines."""
    store = Store(tmp_path / "results")
    for record in [
        *reference_rows(), *rows("int4", "bnb-nf4", **TORCH), *rows("int4", "gguf-q4_k_m", **LLAMA),
        *rows("int8", "gguf-q8_0", model="alone", **LLAMA),
    ]:  # fmt: skip
        store.write(record)
    return store.root


def compare(results: Path, *options: str) -> str:
    called = CliRunner().invoke(cli.app, ["compare", "--across", "backend", "--results", str(results), *options])
    assert called.exit_code == 0, called.output
    return called.output


def test_the_command_prints_a_table_of_a_hundred_columns(results: Path) -> None:
    """Rules, rows and every title within 100 columns; models of one engine in a line of their own."""
    printed = compare(results)
    lines = printed.splitlines()
    table = [line.rstrip() for line in lines[: lines.index(next(x for x in lines if x.startswith("prefill and")))]]
    assert max(map(len, table)) <= 100
    assert "tiny on cpu-test, engines side by side" in printed
    assert any("int4" in line and "llamacpp gguf-q4_k_m" in line and "±" in line for line in table)
    assert "alone (package weights, cpu-test): measured with llamacpp alone" in printed


def test_every_format_holds_the_same_rows(results: Path) -> None:
    """Markdown, CSV and JSON: four rows of the model that two engines measured."""
    lines = compare(results, "--format", "md").splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == 2 + 4  # titles and rule
    flats = list(csv.DictReader(io.StringIO(compare(results, "--format", "csv"))))
    assert [row["scheme"] for row in flats] == ["fp32", "bf16", "gguf-q4_k_m", "bnb-nf4"]
    assert [row["scheme"] for row in json.loads(compare(results, "--format", "json"))] == [r["scheme"] for r in flats]


def test_the_selection_holds_for_engines_too(results: Path) -> None:
    """Only the precision asked for, with no 16-bit row added; nothing at all says so."""
    flats = json.loads(compare(results, "--precision", "int4", "--format", "json"))
    assert [row["precision"] for row in flats] == ["int4", "int4"]
    assert "no records match" in compare(results, "--model", "nothing")


def test_anything_else_to_compare_across_is_the_user_s_mistake(results: Path) -> None:
    """One line that names what there is."""
    with pytest.raises(UserError, match="nothing to compare across 'device'") as caught:
        CliRunner().invoke(
            cli.app, ["compare", "--across", "device", "--results", str(results)], catch_exceptions=False
        )
    assert caught.value.remedy == "one of: backend, kv"
