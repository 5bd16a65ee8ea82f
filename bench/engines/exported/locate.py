# SPDX-License-Identifier: Apache-2.0
"""The folder of an exported model in a scheme: made once of the weights, by processes of its own, and cached."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.weights import locate as sources
from bench.engines.weights.files import made_once
from bench.engines.weights.fingerprints import weight_files
from bench.engines.weights.stored import stored_scheme
from bench.errors import UserError
from bench.instruments.machine import installed
from bench.paths import cache_folder
from bench.processes import sweep
from bench.records.cell import digest
from bench.records.record import Provenance

SPARE_BYTES = 256 << 20
"""Room that a disk keeps."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an engine makes its files."""

    engine: str
    """Its folder in `bench/engines/`, where `export SOURCE FOLDER` makes the first scheme."""
    title: str
    """Its library's name."""
    making: int
    """Raised when its modules make something else of the same weights."""
    makers: tuple[str, ...]
    """Distributions whose versions decide what is made."""
    full: str
    """The scheme that is exported; every other one is made of that."""
    other: str
    """The module that makes another one: `OTHER SOURCE SCHEME FOLDER`."""
    weights: str
    """The file that holds the weights."""
    share: Mapping[str, float]
    """Bytes of a scheme's files as a share of those at float32, at most."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The scheme whose files another one loads."""


@dataclass(frozen=True)
class Exported:
    """The folder to load from, and what a record says of its source."""

    folder: Path
    provenance: Provenance


def exported(request: LoadRequest, recipe: Recipe) -> Exported:
    """Make the folder ready and say where it is. Raises Unsupported, UserError."""
    located = sources.locate(request)
    source = located.folder
    if source is None:
        raise Unsupported(f"{recipe.title}'s files are exported from real weights: random ones are not built")
    if stored := stored_scheme(source):
        raise Unsupported(f"its weights are stored as {stored}: an export starts from 16 or 32 bits")
    own = source.name if _is_made(source) else None
    name = f"{recipe.engine}-{digest([located.provenance.files, own, recipe.making, installed(recipe.makers)])}"
    root = cache_folder() / "weights"
    sweep(root.glob(f"{recipe.engine}-*.part*"))
    scheme = recipe.files.get(request.scheme.name, request.scheme.name)
    full, folder = root / f"{name}-{recipe.full}", root / f"{name}-{scheme}"
    within = f"bench.engines.{recipe.engine}"
    if folder == full or not folder.is_dir():
        if not full.is_dir():
            wide = located.provenance.stored_as not in {"bfloat16", "float16"}
            _require_room(root, sum(file.stat().st_size for file in weight_files(source)) * (1 if wide else 2))
        made_once(full, "export", [source], within=within)
    if folder != full:
        if not folder.is_dir():
            _require_room(root, int(recipe.share[scheme] * (full / recipe.weights).stat().st_size))
        made_once(folder, recipe.other, [full, scheme], within=within)
    return Exported(folder, located.provenance)


def _is_made(source: Path) -> bool:
    """Whether a folder was made in the cache, where its name says of what and how."""
    return source.parent == cache_folder() / "weights"


def _require_room(folder: Path, needed: int) -> None:
    """Raises UserError where a disk cannot take so many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        told = f"{needed / 2**30:.1f} GiB are to be written into {folder}, where {free / 2**30:.1f} GiB are free"
        raise UserError(told, "free space, or set BENCH_CACHE to a larger disk")
