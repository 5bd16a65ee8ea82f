# SPDX-License-Identifier: Apache-2.0
"""Standard streams as they may be after hours of measuring: closed, full, or unable to write what is not ASCII.

What is measured is on disk by then. So what cannot be shown is told once, in the exit code too, and takes nothing with
it: a catalogue that was to be annotated is annotated.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from bench.errors import UserError

LONGEST_LINE = 1000
UNSHOWN = 1
"""Exit code of a command that did its work and could not show it."""


class Mended(io.TextIOBase):
    """A stream that takes what it is given: a character that its encoding lacks is written as an escape.

    A failure to write is remembered, and what follows goes nowhere.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.failure: OSError | None = None
        with contextlib.suppress(AttributeError, io.UnsupportedOperation, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined] # where it is a file's

    @property
    def encoding(self) -> str:  # type: ignore[override] # read by who chooses characters
        """The stream's."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> object:
        """The stream's, for who writes bytes."""
        return self.stream.buffer

    def _try(self, call: Callable[[], object]) -> None:
        if self.failure is not None:
            return
        try:
            call()
        except OSError as error:
            self.failure = error

    def write(self, text: str) -> int:
        """Write it, or remember why not."""
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        """The same."""
        self._try(self.stream.flush)

    def writable(self) -> bool:
        """As far as anybody is told."""
        return True

    def isatty(self) -> bool:
        """Whether people read it."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """The stream's."""
        return self.stream.fileno()


def mend() -> None:
    """Make stdout and stderr usable, whatever they are; closed ones lead nowhere.

    A closed one's number would be given to the next file that is opened, and what is printed would be written into it.
    """
    for number in range(3):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if number == 1:
            sys.stdout = Mended(Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for as long as we run
            sys.stdout.failure = OSError(errno.EBADF, os.strerror(errno.EBADF))
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as we run
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Mended):
            setattr(sys, name, Mended(stream))


def unshown() -> int:
    """Say once that stdout did not take everything, and return the exit code for that; 0 if it did."""
    if not isinstance(sys.stdout, Mended):
        return 0
    sys.stdout.flush()
    failure = sys.stdout.failure
    if failure is None:
        return 0
    if failure.errno != errno.EPIPE:  # whoever closes a pipe has seen enough
        sys.stderr.write(f"bench: stdout: {failure.strerror}; every finished record is kept: `bench show`\n")
    with contextlib.suppress(OSError):  # the interpreter would try the same once more as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return UNSHOWN


def clipped(text: str) -> str:
    """A line that can be read: what was given may have thousands of letters, and the remedy stands at its end."""
    return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE // 2]} … {text[-LONGEST_LINE // 2 :]}"


def check_names(arguments: Iterable[str], folder: Path) -> None:
    """Raise UserError where an argument, or the folder we stand in, has a name that is no UTF-8.

    Records, requests and reports are UTF-8, and such a name can stand in none of them.
    """
    for text in arguments:
        require_utf8(text, "an argument")
    require_utf8(str(folder), "the working folder's name")


def require_utf8(name: str, what: str) -> None:
    """Raise UserError unless a name can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode(errors="backslashreplace").decode()
        raise UserError(f"{what} is not UTF-8: {shown}", "rename the file or folder, or make a link to it") from None


ROOM = "free space (and files: df -i), or set BENCH_CACHE and TMPDIR; every finished record is kept"
REMEDIES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EROFS: "give a folder that can be written to",
    errno.EACCES: "check its permissions, or give another",
    errno.EPERM: "check its permissions, or give another",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "give a folder",
    errno.ELOOP: "mend the links there",
}
"""What to do about what a disk says, by its number: none of these is a fault of ours."""


def of_the_disk(error: OSError) -> UserError | None:
    """One line for a disk that is full or a name that it does not take; None for any other error."""
    if isinstance(error, FileNotFoundError) and "usable temporary directory" in str(error):
        return UserError("no folder for temporary files can be written to", ROOM)
    remedy = REMEDIES.get(error.errno or 0)
    where = str(error.filename or "a file of the cache, the results or the temporary folder")
    return UserError(f"{error.strerror}: {where[:200]}", remedy) if remedy else None
