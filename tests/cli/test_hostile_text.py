# SPDX-License-Identifier: Apache-2.0
"""What a catalogue, a record and a server say reaches terminal, CSV, JSON, Markdown and page as text and nothing else.

A new format gets its escape in `bench.escape` and its line here.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from builders import called, failed, make_cell, make_machine, make_record, memory_samples, quality_samples
from rich.text import Text as RichText

from bench import escape
from bench.cli.console import Terminal
from bench.records.record import Caveat, Ending
from bench.records.store import Store
from bench.views.publish import marker

CONTROLS = "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b0m\u202egnp.exe\u2066\u200b\x08"
MARKERS = "".join(marker(name, end) for name in ("measured", "claims") for end in ("end", "begin"))
HOSTILE = f"=cmd|'/C calc'!A1 {CONTROLS} {MARKERS} <img src=x onerror=y> [click](http://x) | a\n# head\n```\nb"
LONG = "x" * 200_000
NAMES = ("bases", "projects", "measured", "claims")
PAGE = "# Ours\n" + "".join(f"{marker(n, 'begin')}\nold\n{marker(n, 'end')}\nWords {n}.\n" for n in NAMES)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """An entry whose every text is hostile, and the page."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    told = {
        "family": "test", "organisation": HOSTILE,
        "models": [
            {
                "name": "tiny", "display": HOSTILE, "kind": "open weights", "repo": "tests/tiny", "licence": HOSTILE,
                "base": HOSTILE, "data": HOSTILE, "finetune": HOSTILE, "claim": HOSTILE, "notes": [HOSTILE, LONG],
                "sources": ["seed table", HOSTILE],
                "claims": [
                    {"id": "one", "text": HOSTILE, "source": HOSTILE, "quantity": "peak memory", "precision": "fp16",
                     "at_most": 1e9, "contradiction": HOSTILE},
                    {"id": "two", "text": LONG, "source": HOSTILE, "quantity": "training", "untestable": HOSTILE},
                ],
            },
            {"name": "closed", "display": "Closed", "kind": "api only", "reason": HOSTILE},
        ],
    }  # fmt: skip
    (folder / "test.yaml").write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML
    (folder / "README.md").write_text(PAGE, encoding="utf-8")
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Records whose every text is hostile."""
    store = Store(tmp_path / "results")
    caveats = tuple(Caveat(kind=kind, text=text) for kind, text in (("odd", HOSTILE), ("odder", LONG), ("a|b", "c")))
    host = make_machine(name=HOSTILE)
    task = HOSTILE.replace("\n", " ")
    for precision in ("fp16", "int8"):
        store.write(
            make_record(make_cell("memory", precision), measurements=memory_samples(), warnings=caveats, machine=host)
        )
        answers = quality_samples({task: [1.0, 0.0, 1.0, 1.0]})
        store.write(make_record(make_cell("quality", precision), measurements=answers, warnings=caveats, machine=host))
    store.write(failed(make_cell("throughput"), Ending.FAILED, HOSTILE, machine=host))
    store.write(failed(make_cell("throughput", "int8"), Ending.FAILED, LONG, machine=host))
    store.write(failed(make_cell("divergence", "int8"), Ending.FAILED, "=1+1", machine=host))
    return store.root


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("show", "--warnings"), ("show", "--columns", "all"), ("compare", "--details", "--warnings"),
    ("compare", "--per-byte"), ("claims",), ("catalog",), ("catalog", "tiny"),
)  # fmt: skip


def written(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], form: str, catalog: Path, results: Path) -> str:
    """What a command writes in that format; nothing that it says on stderr is hostile either."""
    where: list[Any] = [] if words[0] in {"show", "compare"} else ["--catalog", catalog]
    code, out, err = called(capsys, *words, *where, "--results", results, "--format", form)
    assert code == 0, err
    assert hidden(out + err) == set()
    return str(out)


def hidden(text: str) -> set[str]:
    """Characters that a terminal obeys or that nobody sees."""
    return set(escape.HIDDEN.findall(text)) - {"\n"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_terminal_gets_no_control_and_no_page_of_text(
    catalog: Path, results: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Controls are seen as what they are, and a text of 200,000 letters says how long it is."""
    out = written(capsys, words, "table", catalog, results)
    assert max(map(len, out.splitlines())) < 3000
    assert "more letters)" in out or "x" * 100 not in out
    assert "\n# head" not in out


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_spreadsheet_gets_no_formula_and_no_control(
    catalog: Path, results: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Every row has every cell, and none begins as what is computed."""
    rows = list(csv.reader(io.StringIO(written(capsys, words, "csv", catalog, results))))
    assert len({len(row) for row in rows}) == 1 and len(rows) > 1
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "@", "\t")) and (cell[:1] not in {"+", "-"} or is_number(cell))


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_json_is_read_as_it_was_meant(
    catalog: Path, results: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Whole, with every hidden character escaped in the file and none in the value."""
    rows = json.loads(written(capsys, words, "json", catalog, results))
    if words[0] == "catalog" and len(words) == 1:
        assert rows[0]["display"] == HOSTILE
    assert rows


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_markdown_gets_no_tag_no_link_and_no_cell_of_its_own(
    catalog: Path, results: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Rows of a table have as many cells as its head; nothing opens a tag, a link or a fence."""
    inert(written(capsys, words, "md", catalog, results))


def inert(page: str) -> None:
    """No line of a page that somebody else wrote."""
    assert "<img" not in page and "\n# head" not in page
    assert not re.search(r"(?<!\\)\]\(http", page)
    assert not re.search(r"^```\nb", page, re.MULTILINE)
    cells = 0
    for line in page.splitlines():
        if not line.startswith("|"):
            cells = 0
            continue
        found = len(re.findall(r"(?<!\\)\|", re.sub(r"\\\\", "", line)))
        assert cells in {0, found}, line
        cells = found


def test_a_page_keeps_its_own_words_however_records_read(
    catalog: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Published twice it is the same, every marker stands there once, and between them is nothing but text."""
    path = catalog / "README.md"
    where = ("--catalog", catalog, "--results", results)
    assert called(capsys, "publish", *where)[0] == 0
    once = path.read_text(encoding="utf-8")
    assert called(capsys, "publish", *where)[1].endswith("is up to date\n")
    assert path.read_text(encoding="utf-8") == once
    assert hidden(once) == set()
    for name in NAMES:
        assert once.count(marker(name, "begin")) == once.count(marker(name, "end")) == 1
        assert f"{marker(name, 'end')}\nWords {name}.\n" in once
    assert once.count("<!--") == 2 * len(NAMES)
    assert len(once) < 60_000
    inert(once)


def test_what_is_printed_past_every_function_has_no_control_either() -> None:
    """The console itself: texts, markup and tables; colours are its own."""
    file = io.StringIO()
    console = Terminal(file=file, force_terminal=True, width=200, color_system="standard", highlight=False)
    console.print(RichText(CONTROLS, style="red"))
    console.print(CONTROLS, markup=False, style="bold")
    console.out(CONTROLS)
    shown = file.getvalue()
    own = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert hidden(own) == set()
    assert own.count(r"\x1b]0;owned") == 3
    assert shown.count("\x1b[") == 4
