# SPDX-License-Identifier: Apache-2.0
"""Where things lie: the checkout's own folders, and this machine's cache of what can be made again."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CATALOG = ROOT / "catalog"
RESULTS = ROOT / "results"


def cache_folder() -> Path:
    """`$BENCH_CACHE`, else `bench` in the user's cache folder. Deleting it loses time, never results.

    But of results under a URL, what could not be sent there yet waits in it (`bench.records.mirror`).
    """
    own, base = os.environ.get("BENCH_CACHE"), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(own) if own else Path(base) / "affordable-bench"
    # A worker stands in another folder and must find the same one; where nobody has a home, `~` stays a name.
    return Path(os.path.expanduser(folder)).absolute()  # noqa: PTH111 - Path's own raises there


def reference_folder() -> Path:
    """Where the distributions of reference cells lie."""
    return cache_folder() / "reference"


QUOTED = re.compile(r"""(?P<quote>['"])(?:file://)?(?:[A-Za-z]:[\\/]|/|\\\\)(?P<path>[^'"\n]*)(?P=quote)""")
"""An absolute path between quotes, as Python names files in its errors: blanks in it are its own."""
PART = r"[^\s'\",;:()<>|]"
BARE = re.compile(
    rf"(?:(?<=file://)|(?<![\w/.~<>\\-]))(?:[A-Za-z]:[\\/]|\\\\|/(?!/))(?P<quote>)(?P<path>{PART}+[\\/]{PART}*"
    rf"(?: [^\s'\",;:()<>|\\/]+[\\/]{PART}*)*)"
)
"""One that stands bare; not the path of an address, nor `tokens/s`. A word with a slash behind it goes on with it, for
a folder's name may hold a blank."""
SYSTEM = ("/dev/", "/proc/", "/sys/")
"""Paths that are alike on every machine."""
HOME = re.compile(r"(?:home|Users)[\\/][^\\/]*[\\/]?")
"""Somebody's home: its last part is a name."""
LIBRARIES = re.compile(r".*[\\/](?:site-packages|dist-packages|python3\.\d+)[\\/](?=[\w.])")
"""What comes before a file of a library in a traceback."""


def without_paths(text: str) -> str:
    """A text without where things lie on this machine: of each absolute path its last part alone.

    A file of the checkout, or of a library, keeps its path within. Records are published, and folders name people.
    """
    if "/" not in text and "\\" not in text:
        return text
    shown = re.sub(rf"(?<![\w/]){re.escape(str(ROOT))}[\\/](?=[\w.])", "", text)
    for folder in (cache_folder(), Path(tempfile.gettempdir()), Path.home(), Path.cwd()):
        if len(folder.parts) > 2:  # its name may hold a blank, where nothing else tells that the path goes on
            shown = re.sub(rf"(?<![\w/]){re.escape(str(folder))}(?=[/\\])", "/.", shown)
    return BARE.sub(_within, QUOTED.sub(_within, shown))


def _within(found: re.Match[str]) -> str:
    path, quote = found["path"], found["quote"]
    if found[0].removeprefix(quote).startswith(SYSTEM):
        return found[0]
    if HOME.fullmatch(path):
        return f"{quote}~{quote}"
    inner = LIBRARIES.sub("", path)
    return quote + (inner if inner != path else re.split(r"[\\/]", path.rstrip("\\/"))[-1]) + quote
