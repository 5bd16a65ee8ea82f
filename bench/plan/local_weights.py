# SPDX-License-Identifier: Apache-2.0
"""Weights on this machine: which engine reads them, said before anything starts, and what tells two of a name apart."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from bench.catalog import gguf_model
from bench.catalog.local_model import Format, formats, gguf_config
from bench.catalog.model import Model
from bench.engines.contract import Backend
from bench.engines.registry import backend, backend_names
from bench.engines.weights.fingerprints import fingerprint, fingerprints
from bench.errors import UserError
from bench.records.cell import digest

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""How repositories of the Hub are named."""


def require_readable(paths: str, engines: Sequence[Backend]) -> None:
    """Raise UserError, with the command that works, unless each engine reads what lies at every path."""
    for path in map(Path, paths.split(",")):
        held = formats(path)
        if not held:
            what = "no model folder" if path.is_dir() else "no model"
            raise UserError(f"{path} is {what}", "give a folder in Hub layout (with its config.json), or a GGUF file")
        for engine in engines:
            if engine.remote:
                raise UserError(
                    f"backend {engine.name} asks a server and loads no weights",
                    f"leave --weights out, or: {command(path, held)}",
                )
            if engine.needs_repository and not engine.launches and engine.reads not in held:
                what = "GGUF, and no folder in Hub layout," if held == {Format.GGUF} else "no GGUF,"
                raise UserError(f"{path} is {what} which is all that backend {engine.name} reads", command(path, held))


def unreadable(held: Collection[Format] | None, engine: Backend) -> str:
    """Why an engine cannot load weights that lie in these ways, empty if it can or none are known."""
    if held is None or engine.reads in held:
        return ""
    return f"it reads {engine.reads}, and this is {' and '.join(sorted(held))}"


def command(path: Path | str, held: frozenset[Format]) -> str:
    """The command that measures what lies there, by the first engine that reads it."""
    default = backend("transformers")
    names = [default.name, *backend_names()] if default.reads in held else list(backend_names())
    able = next(name for name in names if (engine := backend(name)).reads in held and not _elsewhere(engine))
    option = "" if able == default.name else f"--backend {able} "
    return f"bench run {option}--weights {shlex.quote(f'local={path}')}"


def _elsewhere(engine: Backend) -> bool:
    """Whether an engine loads nothing from this machine's disk."""
    return engine.text_only or not engine.needs_repository


def refuse_path(name: str) -> None:
    """Raise UserError, with the command that works, where `--model` was given a place instead of a name.

    What is written as a repository of the Hub and lies here too could be either.
    """
    path, repository = Path(name), REPOSITORY.fullmatch(name)
    held = formats(path) if path.exists() else frozenset()
    if held and repository:
        remedy = f"for the folder: {command(name, held)}; for the repository: --weights hub --model {name}"
        raise UserError(f"{name} is a model on this machine, and may be a repository of the Hub", remedy)
    if held:
        raise UserError(f"--model takes names, and {name} is a place on this machine", command(name, held))
    if not repository and ("/" in name or name.endswith(".gguf")):
        raise UserError(f"no folder or file {name}", "give one that exists: bench run --weights local=PATH")


def described(model: Model, paths: str | None, engine: Backend) -> Model:
    """The model as the header describes it, for an engine that reads a GGUF which lies there; unchanged otherwise."""
    path = Path((paths or "").split(",", maxsplit=1)[0])
    reads = engine.launches or engine.reads is Format.GGUF
    if paths is None or not reads or Format.GGUF not in formats(path):
        return model
    config = gguf_config(path)
    header = gguf_model.header_in(config)
    return model.model_copy(update={"architecture": config, "parameters": header.elements if header else None})


def told_apart(paths: str, base: str | None) -> str:
    """Digest of everything that decides what the weights at these paths answer, base included.

    Folders are called alike (every Trainer run has a `checkpoint-100`), so a name is no identity.
    """
    places = [*paths.split(","), *([base] if base else [])]
    return digest([_marks(Path(place).resolve()) for place in places])


def _marks(path: Path) -> dict[str, str]:
    """By name, the fingerprints of the files of a path that decide what its weights answer."""
    if path.is_file():
        return {path.name: fingerprint(path)}
    found = {file.name: fingerprint(file) for file in sorted(path.glob("*.gguf"))}
    with contextlib.suppress(UserError):  # a folder without weights: the engine says so
        found |= fingerprints(path)
    return found
