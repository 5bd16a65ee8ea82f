# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON that somebody else wrote: bounded before a parser sees them, and every failure a line of theirs.

Parsers follow nesting by calling themselves, and the one in C that we use for YAML ends the interpreter where a
document is nested deeply enough; aliases make a few hundred bytes into more nodes than a machine has memory for. So a
document's events are looked at first, which needs neither: how deep they go, and how many nodes they stand for.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

from bench.errors import UserError

DEPTH = 64
"""Levels of the deepest document; entries, records and configs of models have fewer than ten."""
NODES = 1_000_000
"""Nodes that a YAML file may stand for, each alias counted as all that it repeats."""
DIGITS = 40
"""Digits of the longest whole number: no count of bytes, tokens or parameters has half as many."""
YAML_BYTES, JSON_BYTES = 4 << 20, 256 << 20
"""The largest files that are read: a hundred times the largest family, a hundred times the longest record."""
WHOLE = re.compile(r"[-+]?(0x[0-9a-fA-F_]+|[0-9][0-9_:]*)")
"""A whole number as YAML 1.1 writes it, in tens, sixties or sixteens."""

ONLY_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
"""Makes every digit a nought and all else a space: then looking for a long number takes no search of patterns."""


class Bounded(yaml.MarkedYAMLError):
    """A document is larger than anything it could be about; the message and its line say in what."""


def _bounded(problem: str, event: Any) -> Bounded:
    """An event's marks are of one of two classes, for the parser in C has its own."""
    return Bounded(problem=problem, problem_mark=event.start_mark)


def scan(text: str, loader: Any) -> None:
    """Raise Bounded where a document is nested too deeply, repeats too much by aliases, or holds an endless number."""
    seen = _Seen()
    for event in yaml.parse(text, Loader=loader):
        seen.add(event)
        if len(seen.anchors) > DEPTH:
            raise _bounded(f"nested more than {DEPTH} levels deep", event)
        if seen.nodes[-1] > NODES:
            raise _bounded(f"stands for more than {NODES:,} values", event)


class _Seen:
    """How many nodes the events so far stand for."""

    def __init__(self) -> None:
        self.nodes = [0]
        """Of each collection that is open, the outermost first."""
        self.anchors: list[str | None] = []
        """Of the same collections."""
        self.sizes: dict[str, int | None] = {}
        """By anchor, the nodes it stands for; None while it is open."""

    def add(self, event: yaml.Event) -> None:
        """One more. Raises Bounded."""
        if isinstance(event, yaml.CollectionStartEvent):
            self.nodes.append(1)
            self.anchors.append(event.anchor)
            self._keep(event.anchor, None)
        elif isinstance(event, yaml.CollectionEndEvent):
            size = self.nodes.pop()
            self.nodes[-1] += size
            self._keep(self.anchors.pop(), size)
        elif isinstance(event, yaml.ScalarEvent):
            _check_number(event)
            self.nodes[-1] += 1
            self._keep(event.anchor, 1)
        elif isinstance(event, yaml.AliasEvent):
            repeated = self.sizes.get(str(event.anchor), 1)
            if repeated is None:
                raise _bounded(f"*{event.anchor} contains itself", event)
            self.nodes[-1] += repeated

    def _keep(self, anchor: str | None, size: int | None) -> None:
        if anchor:
            self.sizes[anchor] = size


def _check_number(event: yaml.ScalarEvent) -> None:
    number = event.implicit[0] or (event.tag or "").endswith(":int")
    if number and len(event.value) > DIGITS and WHOLE.fullmatch(event.value):
        raise _bounded(f"a number of more than {DIGITS} digits", event)


def load_yaml(text: str, loader: Any) -> object:
    """One document as values. Raises yaml.YAMLError, with a line wherever there is one, and nothing else."""
    scan(text, loader)
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506 - one of ours, all safe
    except yaml.YAMLError:
        raise
    except Exception:  # noqa: BLE001 - a value that its own tag or form does not allow: a 30th of February, `!!int x`
        return yaml.load(text, Loader=_marking(loader))  # noqa: S506 - the same


def _marking(loader: Any) -> Any:
    """A loader that says on which line a value cannot be made, for a document in which one cannot."""

    class Marking(loader):  # type: ignore[misc] # one of PyYAML's, chosen when this module is imported
        def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
            try:
                return super().construct_object(node, deep=deep)
            except yaml.YAMLError:
                raise
            except Exception:  # noqa: BLE001 - as above
                kind = node.tag.rpartition(":")[2]
                said = f" {str(node.value)[:40]!r}" if isinstance(node, yaml.ScalarNode) else ""
                problem = f"{said.strip() or 'this'} is no {kind} that there is"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    return Marking


def text_of(path: Path, most_bytes: int) -> str:
    """A file's text. Raises UserError where it cannot be read, is no text, or is larger than anything of its kind."""
    return as_text(bytes_of(path, most_bytes), path)


def bytes_of(path: Path, most_bytes: int) -> bytes:
    """What a file holds. Raises UserError where it cannot be read, or is larger than anything of its kind."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > most_bytes:
                raise UserError(f"{path}: {size} bytes are more than {most_bytes >> 20} MiB", "is it the right file?")
            return file.readall()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "check the path and its permissions") from None


def as_text(data: bytes, path: Path) -> str:
    """What that file holds as text, its lines ended alike. Raises UserError where it is none."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:1: not UTF-8 ({error.reason} at byte {error.start})", "restore the file") from None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def may_hold_long(data: bytes) -> bool:
    """Whether more digits follow each other somewhere than a whole number may have, in words or a fraction too."""
    return b"0" * (DIGITS + 1) in data.translate(ONLY_DIGITS)


def parse_json(text: str) -> object:
    """JSON as values. Raises ValueError where it is none, is nested too deeply or holds an endless number."""
    try:
        return json.loads(text, parse_int=_whole if may_hold_long(text.encode("utf-8", "surrogatepass")) else None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of more than {DIGITS} digits")
    return int(digits)


def read_json(path: Path, most_bytes: int = JSON_BYTES) -> dict[str, Any]:
    """A JSON file that holds an object. Raises UserError naming the file and what is wrong with it."""
    text = text_of(path, most_bytes)
    try:
        found = parse_json(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}", "get the file again") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}", "get the file again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no object (keys with values)", "get the file again")
    return found
