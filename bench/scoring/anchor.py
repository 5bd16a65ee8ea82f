# SPDX-License-Identifier: Apache-2.0
"""The one fp32 reference of a model on this machine, which rows of every engine are compared with.

A row's own reference is its engine's 16-bit row; engines cannot be compared through those. So the fp32 row of a
backend that says `anchor` keeps its distributions under a name that knows neither backend nor scheme, and every other
divergence cell that reads the very same tokens measures its distance from them too. The tokens are no part of the
name: an engine whose tokenizer reads the text differently must find the anchor, to be able to say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from pydantic import JsonValue

from bench.catalog.model import Model
from bench.engines.contract import Backend
from bench.paths import reference_folder
from bench.processes import is_unfinished
from bench.records.cell import WAYS, Cell, Precision, Weights, digest
from bench.records.provenance import same_files, same_mark
from bench.records.record import Provenance

if TYPE_CHECKING:
    from bench.scoring.reference import Reader


class NotPaired(Exception):
    """The anchor exists, but was made for another question; the message says which."""


def anchor_path(model: Model, cell: Cell, backend: Backend) -> Path:
    """Where the anchor for a divergence cell lies on this machine, whichever engine asks.

    Random values belong to the engine that drew them. Local weights have an anchor for each fingerprint. Another
    engine has a file of its own with another one, so it finds the anchor by the model's name, if there is but one:
    which of two checkpoints of a name its file was made from nobody can tell.
    """
    sources: dict[Weights, list[str | None]] = {
        Weights.RANDOM: [cell.backend, cell.source],
        Weights.PACKAGE: [model.package],
        Weights.HUB: [model.repo, model.revision],
        Weights.LOCAL: [],
    }
    weights: JsonValue = [cell.weights, *sources[cell.weights]]
    asked = {name: value for name, value in cell.settings.items() if name not in WAYS}  # an engine's own
    identity = digest([cell.device, cell.model, weights, cell.suite_version, asked])
    path = reference_folder() / f"anchor-{identity}"
    if cell.fingerprint is None:
        return path
    own = path.with_name(f"{path.name}-{cell.fingerprint}")
    if backend.anchor:
        return own
    others = [found for found in path.parent.glob(f"{path.name}-*") if not is_unfinished(found)]
    return others[0] if len(others) == 1 else own


def is_anchor(backend: Backend, cell: Cell) -> bool:
    """Whether this cell writes the anchor."""
    return backend.anchor and cell.precision is Precision.FP32


class About(TypedDict):
    """What an anchor says of itself: who wrote it, from which weights."""

    backend: str
    scheme: str
    source: str
    revision: str | None
    files: dict[str, str]


def about(cell: Cell, provenance: Provenance) -> About:
    """What this cell would say of itself as an anchor."""
    return {
        "backend": cell.backend,
        "scheme": cell.scheme,
        "source": provenance.source,
        "revision": provenance.revision,
        "files": provenance.files,
    }


def label(told: Mapping[str, object]) -> str:
    """The name by which records say which anchor they were compared with."""
    return f"{told['backend']} {told['scheme']} {digest(told)}"


def open_anchor(path: Path, windows: Sequence[Sequence[int]], vocabulary: int, this: About) -> Reader:
    """The anchor at `path` for these windows of tokens; `this` is `about` of the cell that asks.

    Raises NotPaired where it was written for other tokens, another vocabulary or other weights.
    """
    from bench.scoring.reference import Reader

    try:
        reader = Reader(path, windows)
    except ValueError:
        raise NotPaired("its tokens of the probe text are not those of the fp32 reference") from None
    size = reader.codes.shape[1]
    if size != vocabulary:
        raise NotPaired(f"its vocabulary has {vocabulary} tokens, the fp32 reference's {size}")
    told = cast(About, reader.about)
    theirs, own = told["files"], this["files"]
    same_engine = told["backend"] == this["backend"]
    shared = own.keys() & theirs.keys()
    if (same_engine and not same_files(own, theirs)) or not all(same_mark(own[n], theirs[n]) for n in shared):
        raise NotPaired("the fp32 reference was measured from other weight files")
    return reader
