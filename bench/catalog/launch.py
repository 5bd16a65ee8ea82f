# SPDX-License-Identifier: Apache-2.0
"""A command line that serves a model: which server it is, what we fill in, how a record tells it. Pure text.

`llama-server -m {path} --port {port} -c {pool} -np {clients}`. It is split as a shell splits it and run without one;
words of the form NAME=VALUE before the program are its environment. In braces stands what is ours to choose.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from bench.errors import UserError

CONTEXT, CLIENTS = 2048, 4
"""Tokens that one sequence may have, and clients that ask at once: `{pool}` is their product."""
PLACES = ("path", "repo", "port", "context", "clients", "pool")
"""What may stand in braces: the weights on this disk, the Hub repository, a free port, tokens of one sequence, clients
at once, and tokens of all of them together."""
PLACE = re.compile(r"\{([a-z_]+)\}")
ASSIGNED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
SECRET = re.compile(r"(?i)(api[-_]?key|token|secret|password)$")
"""An option or variable whose value is nobody's to read. Options that count tokens end in an s."""
EXAMPLE = "llama-server -m {path} --port {port} -c {pool} -np {clients}"
PROGRAMS = (
    ("llama-cpp-python", re.compile(r"llama_cpp\.server")),
    ("llama-server", re.compile(r"(^|/)llama-server(\.exe)?$")),
    ("vllm", re.compile(r"(^|/)vllm$|^vllm\.entrypoints")),
    ("sglang", re.compile(r"(^|/)sglang$|^sglang\.launch_server")),
    ("tgi", re.compile(r"(^|/)text-generation-launcher$")),
)
"""Servers that are known, and a word of the command by which each is."""
OTHER = "server"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A command line, split."""

    words: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def places(self) -> frozenset[str]:
        """What is ours to fill in."""
        return frozenset(name for text in (*self.words, *self.environment.values()) for name in PLACE.findall(text))

    @property
    def sizes_the_pool(self) -> bool:
        """Whether the room for keys and values is ours to choose."""
        return bool({"pool", "context"} & self.places)

    @property
    def server(self) -> str:
        """Which server this is, `server` for one that is not known."""
        return next((name for name, word in PROGRAMS if any(map(word.search, self.words))), OTHER)

    @property
    def told(self) -> str:
        """The line as a record may hold it: places on this machine by their last part, secrets as stars."""
        kept = [f"{name}={_told(name, value)}" for name, value in self.environment.items()]
        before = ""
        for word in self.words:
            name, equals, value = word.partition("=")
            if equals and name.startswith("-"):
                kept.append(f"{name}={_told(name, value)}")
            else:
                kept.append(_told(before, word))
            before = word if word.startswith("-") else ""
        return " ".join(kept)

    def filled(self, **values: object) -> tuple[list[str], dict[str, str]]:
        """The words and the environment with what stands in braces put in."""

        def fill(text: str) -> str:
            return PLACE.sub(lambda found: str(values[found[1]]), text)

        return [*map(fill, self.words)], {name: fill(value) for name, value in self.environment.items()}


def _told(name: str, value: str) -> str:
    if SECRET.search(name):
        return "***"
    return PurePath(value).name if value.startswith(("/", "~", ".")) and "/" in value else value


def parsed(line: str) -> Launch:
    """A command line in its parts. Raises UserError where it can serve nothing."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UserError(f"--launch is no command line: {error}", f"for example: --launch {EXAMPLE!r}") from None
    environment = {}
    while words and ASSIGNED.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    found = Launch(words=tuple(words), environment=environment)
    if not words:
        raise UserError("--launch names no program", f"for example: --launch {EXAMPLE!r}")
    if unknown := sorted(found.places - {*PLACES}):
        raise UserError(f"--launch holds {{{unknown[0]}}}, which nothing fills in", f"one of: {_listed()}")
    if "port" not in found.places:
        raise UserError("--launch does not say where its port goes", f"write {{port}} there, as in: {EXAMPLE}")
    return found


def _listed() -> str:
    return ", ".join(f"{{{name}}}" for name in PLACES)


def require_program(launch: Launch) -> None:
    """Raise UserError unless the program is on this machine and may be run."""
    program = launch.words[0]
    if shutil.which(program) is None:
        raise UserError(f"no program {program!r} to launch", "install it, or give the path of its file")
