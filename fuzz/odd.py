# SPDX-License-Identifier: Apache-2.0
"""Odd values, and documents with a few of them: what people mistype and what damaged files hold. All of it harmless."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

DEEP: Any = 1
for _ in range(70):  # a little deeper than we read, and far from what any parser minds
    DEEP = [DEEP]

ODD = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 10**60, 0.5, -0.0, 1e308, 1e-320, float("inf"),
    float("nan"), "", " ", "0", "-1", "nan", "2023-02-30", "x" * 300, "../../../outside", "/etc/hostname", "a\nb",
    "\x1b[31mred\x1b[0m", "\x07\x00", "\u202eright to left", "naïve 中文 🙂", "| a | b |", "=1+1", "<b>&amp;</b>",
    "{{ 1 }}", "%s %d {0}", "[bold]x[/]", [], [[]], [None], [0, -1, "x"], {}, {"": 0}, {"a": {"b": []}}, DEEP,
)  # fmt: skip
"""Values in the place of others."""
SNIPPETS = (
    "!!int x", "!!timestamp x", "!!bool 7", "!!float y", "!!set {a, b}", "!!binary =", "!unknown z", "&a [*a]", "*nope",
    "2023-02-30", "25:61:61", "0x", "1e999", ".nan", "- - - x", ": :", "? [a] : b", "<<: 5", "<<: [*a]", "---", "...",
    "%YAML 9.9", "\t", "\x01", "{", "]", "'", '"', "|", ">", "#", "@", "`", "x: y: z", "9" * 60, '"\\ud83d"', "\ufeff",
)  # fmt: skip
"""Pieces of text that mean something to YAML or JSON."""
odd_values = st.sampled_from(ODD)
texts = st.text(max_size=40) | st.sampled_from([value for value in ODD if isinstance(value, str)])


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a document."""
    if at:
        yield at
    for key in value if isinstance(value, dict) else range(min(len(value), 4)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


@st.composite
def changed(draw: Any, document: Any, most: int = 3) -> Any:
    """A document with up to so many places changed, left out, or added to."""
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        found = list(places(made))
        if not found:
            break
        *way, last = draw(st.sampled_from(found))
        holder = made
        for step in way:
            holder = holder[step]
        what = draw(st.sampled_from(("replace", "replace", "replace", "leave out", "add")))
        if what == "replace":
            holder[last] = copy.deepcopy(draw(odd_values))
        elif what == "leave out":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(texts)] = copy.deepcopy(draw(odd_values))
        else:
            holder.append(copy.deepcopy(draw(odd_values)))
    return made


@st.composite
def damaged(draw: Any, text: str) -> bytes:
    """A text with a snippet put in, a piece cut out, its end lost, or a byte changed."""
    what = draw(st.sampled_from(("snippet", "snippet", "cut", "end", "byte")))
    at = draw(st.integers(0, len(text)))
    if what == "snippet":
        lines = text.splitlines(keepends=True)
        number = draw(st.integers(0, max(0, len(lines) - 1)))
        line = lines[number] if lines else ""
        before, colon, _ = line.partition(":")
        put = draw(st.sampled_from(SNIPPETS))
        lines[number : number + 1] = [f"{before}{colon} {put}\n" if draw(st.booleans()) else f"{put}\n{line}"]
        return "".join(lines).encode()
    if what == "cut":
        return (text[:at] + text[at + draw(st.integers(1, 40)) :]).encode()
    if what == "end":
        return text[:at].encode()
    data = bytearray(text.encode())
    data[min(at, len(data) - 1)] = draw(st.integers(0, 255))
    return bytes(data)


def written(document: Any) -> str:
    """JSON, which is YAML too; infinite numbers as Python writes them."""
    return json.dumps(document, indent=1)


def files(document: Any, text: str | None = None) -> st.SearchStrategy[bytes]:
    """A file that holds something like this document."""
    plain = text or written(document)
    return changed(document).map(lambda found: written(found).encode()) | damaged(plain)
