# SPDX-License-Identifier: Apache-2.0
"""Records under a URL (`s3://…`, `gs://…`, whatever fsspec opens): a mirror of them lies in the cache, as a folder.

Records are never edited and each has a name of its own, so that mirror and URL differ by whole files alone. Reading
fetches what is new. What is measured is written into the mirror first and sent from there, whole or not at all: where
the network is down it waits there for the next call.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.paths import cache_folder
from bench.processes import unfinished, write_whole
from bench.records.cell import digest
from bench.records.parsing import JSON_BYTES

ADDRESS = ".address"
"""File of a mirror that says of which URL it is."""
SENT = ".sent"
"""File that names, one a line, what is known to lie at the URL: what is gone there goes here, and all else is to be
sent."""
TOGETHER = 256
"""Files that are asked for at a time."""
PART = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
RECORD = re.compile(rf"(?:{PART}/){{2,4}}{PART}\.json", re.ASCII)
"""Below a device: of records and of runs. Nothing else is fetched, so that no name leaves the mirror."""
WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss", "memory"}
"""What stores objects: one is there when all of it is. Elsewhere a file is renamed when it is whole."""
PATIENT = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}


def is_address(text: str) -> bool:
    """Whether this is a URL and no folder."""
    return "://" in text


def shown(address: str) -> str:
    """An address as it may be printed: without a name and a password."""
    return re.sub(r"(?<=://)[^/@]*@", "", address)


def mirror_of(root: Path) -> Mirror | None:
    """The mirror that a folder is, None if it is a folder like any other."""
    file = root / ADDRESS
    return Mirror(file.read_text(encoding="utf-8")) if root.parent == _mirrors() and file.is_file() else None


def _mirrors() -> Path:
    return cache_folder() / "mirrors"


class Mirror:
    """What lies under one URL, and its mirror. Raises UserError for a scheme or package that is unknown here."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.root = _mirrors() / digest(self.address)
        self.unsent = ""
        """Why the last file could not be sent, empty if it could."""
        self.files, self.base = self._opened()

    def _opened(self) -> tuple[Any, str]:
        scheme = self.address.partition("://")[0]
        try:
            import fsspec
        except ImportError:
            raise UserError("results under a URL need the package fsspec", 'pip install -e ".[url]"') from None
        own: dict[str, Any] = {"config_kwargs": PATIENT} if scheme in {"s3", "s3a"} else {}
        try:
            files, base = fsspec.core.url_to_fs(self.address, use_listings_cache=False, **own)
        except ImportError as error:
            raise UserError(f"{scheme}:// needs a package that is not here: {error}", "pip install it") from None
        except ValueError as error:
            known = "s3, gs, abfs, sftp, file"
            raise UserError(f"results cannot lie under {scheme}://: {error}", f"a folder, or one of {known}") from None
        return files, str(base).rstrip("/")

    def fetch(self) -> None:
        """Bring the mirror up to date. Raises UserError where the URL cannot be read."""
        with self._told("read"):
            there = self._there()
        here, sent = set(self._here()), self._sent()
        for gone in (here & sent) - set(there):
            (self.root / gone).unlink(missing_ok=True)
        new = sorted(name for name in set(there) - here if there[name] <= JSON_BYTES)
        for start in range(0, len(new), TOGETHER):
            names = new[start : start + TOGETHER]
            with self._told("read"):
                found = self.files.cat([self._path(name) for name in names], on_error="raise")
            for name in names:
                held = found if isinstance(found, bytes) else found[self._path(name)]
                write_whole(self.root / name, held)
        self.root.mkdir(parents=True, exist_ok=True)
        write_whole(self.root / ADDRESS, self.address)
        write_whole(self.root / SENT, "".join(f"{name}\n" for name in sorted(there)))

    def check_writable(self) -> None:
        """Raise UserError, before anything is measured, if no record could be sent."""
        name = f".write-{digest([str(unfinished(self.root))])}"
        with self._told("write"):
            self._put(name, b"0")
        with contextlib.suppress(Exception):  # some may add and not delete
            self.files.rm_file(self._path(name))

    def send(self, path: Path) -> None:
        """Send one file of the mirror. Where that fails it stays, and `unsent` says why."""
        name = path.relative_to(self.root).as_posix()
        try:
            with self._told("write"):
                self._put(name, path.read_bytes())
        except UserError as error:
            self.unsent = str(error)
            return
        with (self.root / SENT).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")

    def finish(self) -> None:
        """Send what is left. Raises UserError, naming how much stays here."""
        self.unsent, sent = "", self._sent()
        left = [name for name in self._here() if name not in sent]
        for number, name in enumerate(left):
            self.send(self.root / name)
            if self.unsent:
                count = len(left) - number
                kept = f"{count} files of records are kept in {self.root} and not at {shown(self.address)} yet"
                raise UserError(f"{kept}: {self.unsent}", "the next bench run with these results sends them")

    def _put(self, name: str, content: bytes) -> None:
        """Whole or not at all."""
        path = self._path(name)
        protocol = self.files.protocol
        if WHOLE & ({protocol} if isinstance(protocol, str) else set(protocol)):
            self.files.pipe_file(path, content)
            return
        part = f"{path}.part-{digest([str(unfinished(self.root))])}"
        self.files.makedirs(posixpath.dirname(path), exist_ok=True)
        try:
            self.files.pipe_file(part, content)
            self.files.mv(part, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self.files.rm_file(part)
            raise

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}"

    def _there(self) -> dict[str, int]:
        """Bytes of each record at the URL, by its path below it."""
        found = self.files.find(self.base, detail=True)
        names = {path[len(self.base) + 1 :]: about for path, about in found.items() if path.startswith(self.base)}
        return {name: int(about.get("size") or 0) for name, about in names.items() if RECORD.fullmatch(name)}

    def _here(self) -> Iterator[str]:
        for path in self.root.rglob("*.json"):
            name = path.relative_to(self.root).as_posix()
            if RECORD.fullmatch(name):
                yield name

    def _sent(self) -> set[str]:
        file = self.root / SENT
        return set(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else set()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Whatever a file system raises, and each has errors of its own, is said in one line."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise _refusal(what, shown(self.address), error) from error


def _refusal(what: str, address: str, error: Exception) -> UserError:
    kind = type(error).__name__
    if isinstance(error, PermissionError) or "Credentials" in kind or "Token" in kind:
        why = f"no permission to {what} {address}: {_said(error)}"
        return UserError(why, "give credentials that may (AWS_PROFILE, AWS_ACCESS_KEY_ID … for s3)")
    if isinstance(error, FileNotFoundError):
        return UserError(f"cannot {what} {address}: there is no such bucket", "make it first, or mend the address")
    return UserError(f"cannot {what} {address}: {kind}: {_said(error)}", "look at the address and the network")


def _said(error: Exception) -> str:
    return next((text.strip() for text in str(error).splitlines() if text.strip()), "it said nothing")[:200]
