# SPDX-License-Identifier: Apache-2.0
"""`bench inspect`: a look at a model before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.console import print_facts, print_flat, print_table
from bench.cli.options import Device, Output
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.catalog.contents import Contents
    from bench.catalog.local_model import Format
    from bench.catalog.model import Model
    from bench.records.cell import Weights

HUB = "hf://"


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What to look at."""

    target: Annotated[
        str, typer.Argument(help="An entry, a folder in Hub layout, a GGUF file or hf://ORG/NAME.", metavar="TARGET")
    ] = ""
    device: Device = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """A target that was found."""

    model: Model
    weights: Weights | None
    path: str | None
    where: str
    contents: Contents | None
    held: frozenset[Format] | None = None
    """How the weights lie where there is no path."""


def inspect(looked: Looked, output: Output) -> None:
    """Read a model's headers: what its files hold, what it needs by context, which engines can take it. Loads nothing.

    Example: bench inspect ./model.gguf
    """
    from bench.instruments import machine
    from bench.plan.device_roof import known_memory
    from bench.plan.takers import CONTEXTS, cache_bytes, parameters_of, takers
    from bench.views import inspection

    if not looked.target:
        raise UserError("nothing to inspect", "bench inspect ENTRY, FOLDER, FILE.gguf or hf://ORG/NAME[/FILE.gguf]")
    kind = looked.device.value if looked.device else machine.device_kind()
    described = machine.describe(kind)
    found = _found(looked.target, output.folder)
    able = takers(found.model, found.weights, found.path, described, found.held)
    contexts = sorted({tokens for taker in able for tokens in taker.needs}) or [CONTEXTS[0]]
    cache = {tokens: size for tokens in contexts if (size := cache_bytes(found.model, tokens))}
    seen = inspection.Inspected(
        model=found.model, contents=found.contents, where=found.where, parameters=parameters_of(found.model),
        cache=cache, memory_bytes_per_s=known_memory(described, output.results), takers=able,
    )  # fmt: skip
    if output.format.flat:
        print_flat(inspection.flats(seen), output.format)
        return
    print_facts(list(inspection.facts(seen)), output.format)
    print_table(inspection.table(seen), output.format)


def _found(target: str, catalog: Path) -> Found:
    """The model that a target names. Raises UserError with what would be one."""
    from bench.catalog import contents, gguf_folder
    from bench.catalog.entries import read_catalog, select
    from bench.catalog.local_model import own_model
    from bench.records.cell import Weights

    if target.startswith(HUB):
        from bench.engines.contract import Unsupported
        from bench.engines.weights.remote_headers import looked_up

        try:
            there = looked_up(target.removeprefix(HUB))
        except Unsupported as error:
            raise UserError(str(error), "name another repository, or inspect what lies here") from None
        return Found(
            model=there.model, weights=Weights.HUB, path=None, where=target, contents=there.contents,
            held=frozenset({there.lies}),
        )  # fmt: skip
    path = Path(target)
    if not path.exists() and ("/" in target or path.suffix == ".gguf"):
        raise UserError(f"no folder or file {target}", "bench inspect ENTRY, FOLDER, FILE.gguf or hf://ORG/NAME")
    if not path.exists():
        return _entry(select(read_catalog(catalog), [target])[0])
    if (path / "adapter_config.json").is_file():
        raise UserError(f"{path} is an adapter, which is measured with its base", "inspect the folder of its base")
    model = own_model(path.resolve())
    if path.is_dir() and (any(path.glob("*.safetensors")) or not any(path.glob("*.gguf"))):
        held = contents.of_folder(path, model.architecture or {})
    else:
        held = contents.of_gguf(gguf_folder.chosen(path).header)
    return Found(model=model, weights=Weights.LOCAL, path=str(path), where=path.name, contents=held)


def _entry(model: Model) -> Found:
    """An entry of the catalogue, with the file that its package ships where that is installed."""
    from bench.catalog import contents, gguf_folder
    from bench.engines.weights.locate import package_file

    held, where = None, "entry of the catalogue, no file looked at"
    if model.package:
        try:
            file, version = package_file(model)
            held, where = contents.of_gguf(gguf_folder.header_of(file)), f"{file.name} of {model.package} {version}"
        except UserError as error:
            where = f"entry of the catalogue; {error}"
    return Found(model=model, weights=None, path=None, where=where, contents=held)
