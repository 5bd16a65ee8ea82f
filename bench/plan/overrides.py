# SPDX-License-Identifier: Apache-2.0
"""What the user changes in a suite's profile: a text, own task files, a context length, the chat template.

Settings of a cell hold names and hashes, so that records from other machines can be compared; the paths on this
machine travel beside them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from bench.errors import UserError
from bench.paths import ROOT, cache_folder
from bench.processes import module
from bench.records.document import sha256

WIKITEXT = "wikitext2"
"""The name of the test part of WikiText-2 (raw), fetched from the Hub once."""


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """All of these; an empty field keeps the profile's value."""

    text: str | None = None
    """Name of the text that divergence reads, None for the project's probe text."""
    text_path: str | None = None
    text_sha256: str | None = None
    """First 12 hexadecimal digits; None where the text must still be fetched."""
    tasks: dict[str, str] = field(default_factory=dict)
    """Files of the caller's own tasks, by name."""
    tasks_sha256: str | None = None
    max_length: int | None = None
    """Tokens a scored sequence may have, None for the profile's."""
    chat_template: bool = False

    def settings(self, settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """What these change in a suite's settings; a suite that has no such setting ignores it."""
        found: dict[str, JsonValue] = {}
        if "text" in settings and self.text:
            found |= {"text": self.text, "text_sha256": self.text_sha256}
        if "tasks" in settings and self.tasks_sha256:
            found["tasks_sha256"] = self.tasks_sha256
        if "max_length" in settings and self.max_length:
            found["max_length"] = self.max_length
        if "max_length" in settings and self.chat_template:
            found["chat_template"] = True
        return found

    @property
    def files(self) -> dict[str, str]:
        """Paths by what needs them."""
        text = {"text": self.text_path} if self.text_path else {}
        return {**text, **{f"task:{name}": path for name, path in self.tasks.items()}}


def text(argument: str, *, fetch: bool) -> tuple[str, str | None, str | None]:
    """Name, path and hash of a text file, or of WikiText-2, which is fetched into the cache if `fetch` says so.

    Without `fetch` and without a copy in the cache, path and hash are None. Raises UserError.
    """
    if argument == WIKITEXT:
        path = cache_folder() / "texts" / f"{WIKITEXT}.txt"
        if not path.exists() and not fetch:
            return WIKITEXT, None, None
        if not path.exists():
            _fetch(path)
        return WIKITEXT, str(path), sha256(path.read_bytes())
    path = Path(argument)
    if not path.is_file():
        raise UserError(f"no text file {argument}", f"give an existing file, or {WIKITEXT}")
    data = path.read_bytes()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{argument} is not UTF-8: byte {error.start}", "save it as UTF-8") from None
    return path.name, str(path.resolve()), sha256(data)


def _fetch(path: Path) -> None:
    """Fetch it in a separate process: the library is large, and this process must stay small during the measurement."""
    env = os.environ | {"HF_DATASETS_CACHE": str(cache_folder() / "datasets"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(module("bench.plan.wikitext", path), env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
        raise UserError(
            f"WikiText-2 cannot be had from the Hub: {last[:200]}",
            "connect to the network, or give a file: --text FILE",
        )
