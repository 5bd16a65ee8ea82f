# SPDX-License-Identifier: Apache-2.0
"""Tables in little room: no figure is ever broken, and where columns have no room a row is a block."""

from __future__ import annotations

import io

import pytest
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from bench.cli import console
from bench.views.formats import Table
from bench.views.layout import BETWEEN, blocks, lines, shown, widths

TABLE = Table(
    ["model", "precision", "KL, nats", "peak memory", "reason"],
    [
        ["smollm2-135m-instruct", "int4", "0.000732 ±0.0001", "312 MiB  0.45x", "measured"],
        ["gpt2", "fp16", "reference", "1.02 GiB", "does not fit: out of memory while the prompt was read"],
    ],
)
WIDE = 21 + 9 + 16 + 14 + 53 + 5 * BETWEEN
LEAST = 21 + 9 + 16 + 14 + 8 + 5 * BETWEEN


def test_columns_have_their_own_widths_where_there_is_room() -> None:
    """Nothing is made narrower than it need be."""
    assert widths(TABLE, WIDE) == widths(TABLE, 500) == [21, 9, 16, 14, 53]


@pytest.mark.parametrize("room", range(LEAST, WIDE + 1))
def test_a_narrower_table_breaks_sentences_between_words_and_no_figure(room: int) -> None:
    """It fits to the letter; a figure and its interval stay together."""
    found = widths(TABLE, room)
    assert found is not None
    assert sum(found) + BETWEEN * 5 == room
    assert found[:4] == [21, 9, 16, 14] and found[4] >= len("measured")


def test_what_would_break_a_figure_is_no_table() -> None:
    """One character less, and each row is a block."""
    assert widths(TABLE, LEAST - 1) is None


def test_a_block_begins_with_what_it_is_and_lines_up_the_rest() -> None:
    """Short values side by side, a sentence on lines of its own, within the room."""
    (one, lines), (other, more) = blocks(TABLE, 70)
    assert (one, other) == ("smollm2-135m-instruct  int4", "gpt2  fp16")
    assert lines == ["  KL, nats     0.000732 ±0.0001  peak memory  312 MiB  0.45x", "  reason       measured"]
    assert more == [
        "  KL, nats     reference         peak memory  1.02 GiB",
        "  reason       does not fit: out of memory while the prompt was read",
    ]
    for room in range(40, 120):
        for _, block in blocks(TABLE, room):
            assert all(len(line) <= room for line in block)
            assert "±0.0001" not in [word for line in block for word in line.split()[:1]]


def test_wide_letters_take_two_places() -> None:
    """As terminals draw them."""
    assert widths(Table(["model", "n"], [["模型", "1"]]), 80) == [5, 1]
    assert widths(Table(["model", "n"], [["模型模型", "1"]]), 80) == [8, 1]


def test_what_is_shown_has_lines_and_controls_no_more() -> None:
    """Before widths are counted."""
    made = shown(Table(["a\nb"], [["\x1b[2J"]], ["c\td"]))
    assert (made.titles, made.rows, made.notes) == (["a b"], [["\\x1b[2J"]], ["c d"])


@pytest.mark.parametrize("room", [LEAST, LEAST + 20, WIDE])
def test_what_is_drawn_is_as_wide_as_was_counted(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is longer than the terminal, and no figure stands on two lines."""
    drawn = io.StringIO()
    found = widths(TABLE, room)
    assert found is not None
    monkeypatch.setattr("sys.stdout", drawn)
    console._print_rows(TABLE, found)
    lines = drawn.getvalue().splitlines()
    assert max(map(len, lines)) <= room
    assert any("0.000732 ±0.0001" in line and "312 MiB  0.45x" in line for line in lines)


def by_rich(table: Table, found: list[int]) -> list[str]:
    """The lines of rich's own table in columns of these widths."""
    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title, width in zip(table.titles, found, strict=True):
        made.add_column(title, justify="left" if title in {"model", "precision"} else "right", width=width)
    for row in table.rows:
        made.add_row(*row)
    drawn = io.StringIO()
    Console(file=drawn, width=500).print(made)
    return drawn.getvalue().splitlines()


@pytest.mark.parametrize("room", [LEAST, LEAST + 7, LEAST + 20, WIDE])
def test_rows_are_drawn_as_a_library_of_terminals_draws_them(room: int) -> None:
    """Wide letters, texts of several lines and empty cells too."""
    more = [
        ["模型 é", "int8", "", "0", "two  blanks and 模型模型 and more words than there is room for"],
        ["", "", "", "", ""],
    ]
    table = Table(TABLE.titles, [*TABLE.rows, *more])
    found = widths(table, room)
    assert found is not None
    blank, head, _, *body = by_rich(table, found)
    assert list(lines([table.titles], table.titles, found)) == [head]
    assert [*lines(table.rows, table.titles, found), *lines([[""] * 5], table.titles, found)] == body
    assert body[-1] == blank
