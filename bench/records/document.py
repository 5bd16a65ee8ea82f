# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON files read into checked values; every complaint names its file and line."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from bench.errors import UserError
from bench.paths import cache_folder
from bench.records import parsing
from bench.records.parsing import YAML_BYTES, load_yaml, scan, text_of

try:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast, where PyYAML was built with libyaml
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]  # another class, used alike

T = TypeVar("T", bound=BaseModel)
KEY = re.compile(r"[\s-]*([\w.-]{1,60})\s*:(?!\S)")
"""What a line of YAML begins with if it names a field."""
PARSED = "catalog"
"""Folder of the cache for what YAML files hold."""
MOST_PARSED = 8
"""Sets of files whose contents are kept."""


@dataclass(frozen=True)
class Document:
    """A parsed file with its text, in which line numbers are looked up only when there is an error."""

    path: Path
    text: str
    data: object

    def line(self, location: Sequence[str | int]) -> int:
        """The line (from 1) of the deepest node that exists on the way to `location`."""
        if len(self.text) > YAML_BYTES:
            return 1
        try:
            scan(self.text, SafeLoader)
            node = yaml.compose(self.text, Loader=SafeLoader)
        except yaml.YAMLError:  # JSON that is no YAML: a tab, half a character
            return 1
        line = 1
        for step in location:
            child = None
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if key.value == str(step):
                        child, line = value, key.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                child = node.value[step]
                line = child.start_mark.line + 1
            if child is None:
                break
            node = child
        return line


def read_yaml(path: Path) -> Document:
    """Parse one YAML (or JSON, which is YAML) file.

    Raises UserError with file and line when it does not parse, or is made so that no parser should try.
    """
    text = text_of(path, YAML_BYTES)
    try:
        return Document(path, text, load_yaml(text, SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(
            f"{path}:{line}:{_field_on(text, line)} {error.problem or error}", "correct that line"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}:1: {str(error).splitlines()[0]}", "correct the file") from None


def _field_on(text: str, line: int) -> str:
    """The key that a line begins with, where it does."""
    field = KEY.match(next(islice(StringIO(text), line - 1, line), ""))
    return f" field {field[1]!r}:" if field else ""


def read_all(paths: Sequence[Path]) -> list[Document]:
    """Several YAML files that are read together, parsed once: what they hold is kept in the cache by their contents.

    YAML takes half a millisecond an entry of a catalogue, JSON a fiftieth of that. Raises UserError as `read_yaml`.
    """
    said = hashlib.blake2b(Path(parsing.__file__).read_bytes(), digest_size=16)  # what it refuses is never kept
    try:
        texts = [text_of(path, YAML_BYTES) for path in paths]
        said.update(json.dumps([[path.name, text] for path, text in zip(paths, texts, strict=True)]).encode())
        kept = cache_folder() / PARSED / f"{said.hexdigest()}.json"
        found = json.loads(kept.read_text(encoding="utf-8"))
        return [Document(*each) for each in zip(paths, texts, found, strict=True)]
    except UserError:  # not to be read: who reads the files one by one says which
        return [read_yaml(path) for path in paths]
    except (OSError, ValueError, TypeError):  # not kept
        documents = [read_yaml(path) for path in paths]
    data = [document.data for document in documents]
    try:
        text = json.dumps(data)
        if json.loads(text) == data:  # a date, or a number as a key, is none in JSON
            _keep(kept, text)
    except (OSError, ValueError, TypeError):
        pass
    return documents


def _keep(path: Path, text: str) -> None:
    """Write it whole, and drop what was kept before the newest few."""
    from bench.processes import write_whole  # it brings psutil, which a kept catalogue is read without

    write_whole(path, text)
    for old in sorted(path.parent.glob("*.json"), key=lambda other: other.stat().st_mtime)[:-MOST_PARSED]:
        old.unlink(missing_ok=True)


def validate(kind: type[T], data: object, document: Document, at: tuple[str | int, ...] = ()) -> T:
    """`data`, found in the document at `at`, as a `kind`.

    Raises UserError with file, line, entry, field and what was expected.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        # A misspelt key is both unknown and missing under its right name: the former says what to correct.
        first = next((item for item in found if item["type"] == "extra_forbidden"), found[0])
        where = tuple(first["loc"])
        line = document.line((*at, *where))
        entry = data.get("name") or data.get("id") if isinstance(data, Mapping) else None
        field = ".".join(str(step) for step in where) or "entry"
        named = f" entry {entry!r}" if entry else ""
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UserError(
            f"{document.path}:{line}:{named} field {field!r}: {first['msg']}{more}", "correct that field"
        ) from None


def sha256(data: bytes) -> str:
    """First 12 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:12]
