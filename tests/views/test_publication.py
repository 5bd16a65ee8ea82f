# SPDX-License-Identifier: Apache-2.0
"""Tables and plots beside the records: five formats of one content, stale ones told, each file whole."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from judged import FP16, INT4, INT8

from bench.judge.rows import newest
from bench.views import publication
from bench.views.formats import Table

ROWS = newest([*FP16, *INT8, *INT4])


def test_every_format_holds_the_same_rows() -> None:
    """CSV, JSON and Parquet: as many rows, the same bytes of weights."""
    pq = pytest.importorskip("pyarrow.parquet")
    found = publication.made(ROWS).files
    of_csv = list(csv.DictReader(io.StringIO(found["tables/rows.csv"].decode())))
    of_json = json.loads(found["tables/rows.json"])
    of_parquet = pq.read_table(io.BytesIO(found["tables/rows.parquet"])).to_pylist()
    told = [
        [float(row["weights_bytes"]) for row in rows if row["weights_bytes"]] for rows in (of_csv, of_json, of_parquet)
    ]
    assert told == [[860.0, 460.0, 260.0]] * 3
    assert len(of_csv) == len(of_json) == len(of_parquet)


def test_writing_twice_changes_nothing_and_what_is_made_no_more_goes(tmp_path: Path) -> None:
    """An old device's table is removed; a stale one is told by name."""
    found = publication.made(ROWS)
    assert publication.write(tmp_path, found)
    assert not publication.write(tmp_path, found)
    (tmp_path / "tables" / "gone.csv").write_text("x")
    (tmp_path / "tables" / "rows.csv").write_text("edited")
    assert publication.stale(tmp_path, found) == ["tables/rows.csv", "tables/gone.csv"]
    publication.write(tmp_path, found)
    assert publication.stale(tmp_path, found) == []
    assert not list(tmp_path.rglob("*.part"))


def test_without_its_library_a_format_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else is made."""
    monkeypatch.setattr(publication, "is_installed", lambda name: False)
    found = publication.made(ROWS)
    assert found.left_out == (
        ".parquet files need pyarrow", ".svg files need vl-convert-python", ".png files need vl-convert-python",
    )  # fmt: skip
    assert set(found.files) == {
        "tables/rows.csv", "tables/rows.json", "tables/comparisons.csv", "tables/comparisons.json",
        "tables/cpu-test.tex", "README.md",
    }  # fmt: skip


def test_a_table_for_a_paper_holds_no_command_of_a_cell() -> None:
    """Every letter that LaTeX takes for more than text."""
    made = Table(["model", "share"], [[r"a_b & \input{x}", "50 % ±1"]], ["100 % of #1"])
    assert publication.latex(made, "A_1").splitlines() == [
        r"\begin{table}", r"\centering", r"\caption{A\_1}", r"\begin{tabular}{lr}", r"\hline", r"model & share \\",
        r"\hline", r"a\_b \& \textbackslash{}input\{x\} & 50 \% $\pm$1 \\", r"\hline", r"\end{tabular}",
        r"\par\footnotesize [1] 100 \% of \#1", r"\end{table}",
    ]  # fmt: skip


def test_duckdb_reads_the_parquet(tmp_path: Path) -> None:
    """The bytes of the 16-bit row, by a question in SQL."""
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    publication.write(tmp_path, publication.made(ROWS))
    table = duckdb.read_parquet(str(tmp_path / "tables" / "rows.parquet"))
    found = table.filter("scheme = 'fake-fp16' and suite = 'memory'").project("weights_bytes")
    assert found.fetchall() == [(860.0,)]


def test_plots_are_drawn_from_the_page_s_own_specification() -> None:
    """An SVG with the device's name, a PNG of some size, both the same when made again."""
    pytest.importorskip("vl_convert")
    first, second = publication.made(ROWS).files, publication.made(ROWS).files
    assert b"cpu-test" in first["plots/cpu-test.svg"]
    assert first["plots/cpu-test.png"].startswith(b"\x89PNG") and len(first["plots/cpu-test.png"]) > 10_000
    assert first == second


def test_nothing_measured_is_a_page_that_says_where_to_look() -> None:
    """No table of a device, and no error."""
    found = publication.made([])
    assert b"# Results" in found.files["README.md"]
    assert json.loads(found.files["tables/rows.json"]) == []
