# SPDX-License-Identifier: Apache-2.0
"""Text for people, at the edge only: bytes in binary units, seconds, rates, and names that can be folders."""

from __future__ import annotations

import re

EVERYDAY = 1e9
"""Larger numbers are written with an exponent."""
LONGEST_NAME = 100
"""Letters of a name that can be a folder everywhere: file systems take 255 bytes, and files in it have names too."""
LONGEST_S = 366 * 86_400.0
"""The longest time that anybody waits for: a year."""


def human_bytes(count: float) -> str:
    """`1.5 GiB`: three significant digits in the largest binary unit that is at least one."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024:
            break
        size, unit = size / 1024, larger
    digits = 0 if unit == "B" or abs(size) >= 99.95 else 1 if abs(size) >= 9.995 else 2
    return f"{size:.{digits}f} {unit}"


def human_limit(count: int) -> str:
    """A number of bytes that somebody chose, as it was chosen: `12 GB`, `12 GiB` or `512 MiB`, whichever is shortest.

    Exact up to five digits, for a limit of 12 GB that is shown as 11.2 GiB looks like another one.
    """
    units = [(f"{prefix}B", 1000**power) for power, prefix in enumerate(("", "k", "M", "G", "T"))]
    units += [(f"{prefix}iB", 1024**power) for power, prefix in enumerate(("", "K", "M", "G", "T")) if power]
    exact = [(f"{count / size:.5g}", name) for name, size in units if size <= count]
    exact = [(text, name) for text, name in exact if "e" not in text and float(text) * dict(units)[name] == count]
    if not exact:
        return human_bytes(count)
    text, name = min(exact, key=lambda found: len(found[0]))
    return f"{text} {name}"


def human_seconds(seconds: float) -> str:
    """`45 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def parse_seconds(text: str) -> float:
    """`20min`, `90s`, `1.5h` or bare seconds, a year at most. Raises ValueError."""
    units = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower(), re.ASCII)
    seconds = float(found[1]) * units.get(found[2], 0.0) if found else 0.0
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(text)
    return seconds


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, without an exponent for everyday sizes."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text and abs(value) < EVERYDAY else text


def signed(value: float, digits: int = 1) -> str:
    """A change with its sign, none of which is `-0.0`."""
    text = f"{value:+.{digits}f}"
    return f"{0.0:+.{digits}f}" if float(text) == 0 else text


def slug(name: str) -> str:
    """A name that can be a folder of `results/`."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower())[:LONGEST_NAME].strip("-._") or "model"
