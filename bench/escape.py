# SPDX-License-Identifier: Apache-2.0
"""Foreign text at the edge: what a catalogue, a record or a server says, made harmless for whoever reads it.

One function for each thing that text is written to: `visible` for a terminal and a pipe, `markdown` for a page, `cell`
for CSV, `json` for JSON, `latex` for a paper. Another format gets its function here and its line in
`tests/test_escape.py`. The site escapes by its template library.
"""

from __future__ import annotations

import functools
import os
import re

LONGEST = 2000
"""Letters of one text that people are shown: a server's error may be a whole page."""
BLANK = re.compile(r"[\t-\r]+")
HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
"""What a terminal obeys or nobody sees: C0, C1, bidirectional and zero-width characters, separators, tags, halves of
surrogate pairs."""
FORMULA = re.compile(r"[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")
"""How a cell begins that a spreadsheet computes, fullwidth forms included (owasp.org, CSV injection)."""
SPECIAL = re.compile(r"\\|\||\*|~|(?<!\w)_|_(?!\w)|^\[|\](?=[(\[])|&(?=#|\w)|[<>]")
"""What Markdown takes for more than text; not a bracket that begins no link, nor an underscore within a word."""
QUOTED = re.compile(r"\||[<>]")
"""What it, or a table, takes for more than text even between backticks."""
ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
"""As entities and not behind a backslash: a marker of a generated block must not stand there letter by letter."""


LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "→": r"$\rightarrow$", "≤": r"$\leq$",
    "≥": r"$\geq$", "·": r"$\cdot$", "…": r"\dots{}", **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}  # fmt: skip
"""What LaTeX takes for more than text."""


HIDES = "***"
"""What stands where a secret stood."""
FORMS = re.compile(
    r"hf_[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bxox[abposr]-[A-Za-z0-9-]{10,}|\bAIza[\w-]{30,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
    r"|(?i:(?<=bearer )[\w.~+/=-]{8,})|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
"""Keys and tokens by the forms that those who give them out have chosen, and names with passwords in addresses."""
NAMED = re.compile(
    r"(?i)(\b(?:authorization|api[-_]?key|access[-_]?key|(?:access|api|auth|bearer|hf|refresh|session)[-_]token|passw(?:or)?d"
    r"|secret|token(?=[\"']\s*[:=]|\s*=))[\"']?\s*[:=]\s*[\"']?)(?!bearer )"
    r"(?![-+]?\d[\d.e+-]*(?:[\s\"',;&)\]}]|$))[^\s\"',;&]{8,}"
)
"""What is called a secret where it stands: no number, and no token of a text (`bytes_per_token`, `end_token`)."""
KEPT_SECRET = re.compile(r"(?i)TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|CREDENTIAL")
"""Names of variables of the environment whose values are."""
LEAST = 8


def masked(text: str) -> str:
    """A text without secrets: those of this process's environment, and whatever looks like one.

    Libraries put the address, the header or the command that failed into their errors, and these are published.
    """
    for secret in _secrets():
        text = text.replace(secret, HIDES)
    return NAMED.sub(rf"\1{HIDES}", FORMS.sub(HIDES, text))


@functools.cache
def _secrets() -> tuple[str, ...]:
    """The longest first, for one may begin with another."""
    found = {value for name, value in os.environ.items() if KEPT_SECRET.search(name) and len(value) >= LEAST}
    return tuple(sorted((value for value in found if not value.startswith("/")), key=len, reverse=True))


class Markup(str):
    """Markdown that is written already: our own markup around escaped text. Putting it into another string undoes it.

    So whoever forgets to escape gets visible backslashes, never a page that somebody else wrote.
    """

    __slots__ = ()


def visible(text: str, most: int | None = LONGEST) -> str:
    r"""One line in which every character is seen: blanks for line ends and tabs, `\x1b` for a control.

    Beyond `most` letters it ends with how many there were.
    """
    whole = text if most is None or len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more letters)"
    return HIDDEN.sub(_escaped, BLANK.sub(" ", whole))


def printed(text: str) -> str:
    """The same of text that may have lines: its line ends stay, and nothing is left out but secrets."""
    text = masked(text)
    return HIDDEN.sub(lambda found: "\n" if found[0] == "\n" else _escaped(found), text)


def markdown(text: str) -> Markup:
    """Text that stays text in a page and in a cell of its tables. Markup is returned as it is.

    Backticks in pairs stay, for messages quote commands in them; in others nobody could tell what is quoted.
    """
    if isinstance(text, Markup):
        return text
    shown = visible(text)
    pairs = shown.count("`") % 2 == 0 and "``" not in shown
    parts = shown.split("`") if pairs else [shown.replace("`", "'")]
    return Markup("`".join((QUOTED if index % 2 else SPECIAL).sub(_harmless, part) for index, part in enumerate(parts)))


def cell(text: str) -> str:
    """Text for a cell of CSV: no control, and an apostrophe before what a spreadsheet would compute."""
    return ("'" if FORMULA.match(text) else "") + visible(text)


def latex(text: str) -> str:
    """Text for a LaTeX document: nothing of it is a command."""
    shown = visible(text)
    return "".join(LATEX.get(letter, letter) for letter in shown)


def json(text: str) -> str:
    r"""Written JSON in which every character is seen, as `\u202e`: reading it gives the very same values."""
    return HIDDEN.sub(lambda found: found[0] if found[0] == "\n" else _unicode(found[0]), text)


def _harmless(found: re.Match[str]) -> str:
    return ENTITIES.get(found[0], "\\" + found[0])


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _unicode(character: str) -> str:
    halves = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[i]:02x}{halves[i + 1]:02x}" for i in range(0, len(halves), 2))
