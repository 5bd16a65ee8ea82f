# SPDX-License-Identifier: Apache-2.0
"""Foreign text at the edge of each format: nothing that a terminal, a page or a spreadsheet would obey is left."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata

import pytest

from bench import escape
from bench.escape import LONGEST, Markup, cell, markdown, printed, visible

HOSTILE = (
    "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m \x9b31m \u202eabc\u202c \u2066x\u2069 \u200b\ufeff\x00 \r\n|a|\tb "
    "<!-- bench:measured:end --> <script>x</script> [link](javascript:x) ![i](http://x) `open *bold* \U000e0041 \u2028"
)
"""One text with all of it."""


def is_hidden(character: str) -> bool:
    """By the Unicode database: controls, separators of lines, halves of pairs, and what changes direction."""
    kind, direction = unicodedata.category(character), unicodedata.bidirectional(character)
    return kind in {"Cc", "Zl", "Zp", "Cs"} or direction in {
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    }


def test_every_control_of_unicode_is_hidden() -> None:
    """All that the database knows, zero-width characters and tags too; letters of every script stay."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    hidden = set(escape.HIDDEN.findall(every))
    assert {c for c in every if is_hidden(c)} <= hidden
    assert set("\u200b\u200d\u200e\u200f\u061c\ufeff\u00ad\u2060\U000e0041") <= hidden
    assert all(unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp", "Cs", "Cn"} for c in hidden)
    assert visible("Ünïcödé 模型 мо́дель نموذج 🦙") == "Ünïcödé 模型 мо́дель نموذج 🦙"


def test_a_line_stays_a_line_and_shows_its_controls() -> None:
    """Escaped as a programmer writes them; line ends and tabs become one blank."""
    assert visible("a\r\n\tb") == "a b"
    assert visible("\x1b[31m") == r"\x1b[31m"
    assert visible("\u202e\U000e0041") == r"\u202e\U000e0041"
    assert not any(map(is_hidden, visible(HOSTILE)))


def test_long_texts_end_with_how_much_there_was() -> None:
    """200,000 letters are no line."""
    assert visible("x" * LONGEST) == "x" * LONGEST
    assert visible("x" * 200_000) == "x" * LONGEST + " … (198,000 more letters)"
    assert visible("abcdef", 4) == "abcd … (2 more letters)"
    assert len(visible("x" * 200_000, None)) == 200_000


def test_printed_lines_keep_their_ends_alone() -> None:
    """What is printed in one piece (CSV, a page) has lines."""
    assert printed("a\nb\r\tc\x1b") == "a\nb\\x0d\\x09c\\x1b"


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("<!-- bench:measured:end -->", "&lt;!-- bench:measured:end --&gt;"),
        ("&lt; AT&T a & b", "&amp;lt; AT&amp;T a & b"),
        ("see [x](y) ![z](w) [1] [a][b] [c]: d", r"see [x\](y) ![z\](w) [1] [a\][b] [c]: d"),
        ("[c]: d", r"\[c]: d"),
        ("smollm2-* truthfulqa_mc2 _em_ ~~x~~", r"smollm2-\* truthfulqa_mc2 \_em\_ \~\~x\~\~"),
        ("run `bench run --model x`", "run `bench run --model x`"),
        ("run `bench show a_*_ <!-- x -->` _x_", r"run `bench show a_*_ &lt;!-- x --&gt;` \_x\_"),
        ("one ` tick", "one ' tick"),
        ("``` [a](b) `", r"''' [a\](b) '"),
        ("two\nlines\n# head", "two lines # head"),
        ("\x1b[2J", r"\\x1b[2J"),
    ],
)
def test_text_in_a_page_is_text(text: str, page: str) -> None:
    """Exact escapes; what our own messages quote stays readable."""
    assert markdown(text) == page


def test_markup_is_escaped_once_and_never_trusted_after_it_was_put_into_text() -> None:
    """A string made of markup is text again: forgetting to say otherwise shows backslashes, and opens nothing."""
    once = markdown("a|b")
    assert markdown(once) is once
    assert markdown(Markup("[here](#here)")) == "[here](#here)"
    assert markdown(f"{once}") == r"a\\\|b"


def test_hostile_text_cannot_write_a_page() -> None:
    """No tag, no comment, no link, no cell and no line of its own."""
    page = markdown(HOSTILE)
    assert "<" not in page and ">" not in page and "\n" not in page
    assert page.count("|") == page.count("\\|") == 2
    assert "](" not in page.replace("\\](", "")
    assert not any(map(is_hidden, page))


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t=", "\r", "\n", "\uff1d"])
def test_a_spreadsheet_computes_no_cell(begins: str) -> None:
    """Every beginning that one computes gets an apostrophe before it."""
    assert cell(f"{begins}HYPERLINK(1)").startswith("'")
    assert cell("a=b, -1") == "a=b, -1"


def test_a_cell_survives_the_writer() -> None:
    """Written and read again it is the same line."""
    out = io.StringIO()
    csv.writer(out).writerow([cell(HOSTILE), "next"])
    [row] = csv.reader(io.StringIO(out.getvalue()))
    assert row == [visible(HOSTILE), "next"]


def test_json_loses_nothing() -> None:
    """Every hidden character is written as an escape, those beyond 16 bits as two, and reads as it was."""
    written = escape.json(json.dumps({"reason": HOSTILE, HOSTILE: 1}, indent=1, ensure_ascii=False))
    assert not any(is_hidden(c) for c in written if c != "\n")
    assert json.loads(written) == {"reason": HOSTILE, HOSTILE: 1}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "401 for https://huggingface.co/x: token hf_abcdefghijklmnopqrst",
            "401 for https://huggingface.co/x: token ***",
        ),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer ***"),
        ("{'api_key': 'abcdefgh12'}", "{'api_key': '***'}"),
        ("https://me:pass@host/v1 refused", "https://***@host/v1 refused"),
        ("sk-proj-0123456789abcdef", "***"),
        ("HF_TOKEN=abcdefgh1 bench run", "HF_TOKEN=*** bench run"),
        ("the value of-the-variable stands here", "the value *** stands here"),
        ("token 8 of the text, tokens: 123456789, 12 tokens/s", "token 8 of the text, tokens: 123456789, 12 tokens/s"),
        ('"read_bytes_per_token": 78139392,', '"read_bytes_per_token": 78139392,'),
        ('"token": 0.00012345678}', '"token": 0.00012345678}'),
        ('"bos_token": "<|begin_of_text|>"', '"bos_token": "<|begin_of_text|>"'),
        ("the first other token: internationally", "the first other token: internationally"),
        ('{"token": "abcdefgh12"}', '{"token": "***"}'),
        ("end_token: </s>, ratio 1:2, 12:30:05", "end_token: </s>, ratio 1:2, 12:30:05"),
    ],
)
def test_no_secret_is_printed_or_recorded(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment keeps as one, what has the form of one, and what is called one."""
    monkeypatch.setenv("SOME_API_KEY", "of-the-variable")
    monkeypatch.setenv("OTHER_TOKEN", "short")
    escape._secrets.cache_clear()
    assert escape.masked(text) == shown
    assert escape.printed(text) == shown
    monkeypatch.undo()
    escape._secrets.cache_clear()
