# SPDX-License-Identifier: Apache-2.0
"""The folder of an exported model in a scheme: made once of the weights, by processes of its own, and cached."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.openvino.files import WEIGHTS
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

MAKING = 1
"""Raised when `export` or `compress` makes something else of the same weights."""
MAKERS = ("openvino", "nncf", "optimum-intel", "torch", "transformers")
"""Whose versions decide what is made."""
FULL = "ov-fp32"
FILES = {"ov-bf16": "ov-fp16"}
"""The scheme whose files another one loads."""
SPARE_BYTES = 256 << 20
"""Room that a disk keeps."""
SHARE = {FULL: 1.0, "ov-fp16": 0.5, "ov-int8": 0.27, "ov-int4": 0.2}
"""Bytes of a scheme's files as a share of those at float32, at most."""


@dataclass(frozen=True)
class Exported:
    """The folder to load from, and what a record says of its source."""

    folder: Path
    provenance: Provenance


def locate(request: LoadRequest) -> Exported:
    """Make the folder ready and say where it is. Raises Unsupported, UserError."""
    located = sources.locate(request)
    source = located.folder
    if source is None:
        raise Unsupported("OpenVINO's files are exported from real weights: random ones are not built")
    if stored := stored_scheme(source):
        raise Unsupported(f"its weights are stored as {stored}: an export starts from 16 or 32 bits")
    made_from = [located.provenance.files, source.name if _is_made(source) else None, MAKING, installed(MAKERS)]
    name = f"openvino-{digest(made_from)}"
    root = cache_folder() / "weights"
    sweep(root.glob("openvino-*.part*"))
    scheme = FILES.get(request.scheme.name, request.scheme.name)
    full, folder = root / f"{name}-{FULL}", root / f"{name}-{scheme}"
    if folder == full or not folder.is_dir():
        if not full.is_dir():
            wide = located.provenance.stored_as not in {"bfloat16", "float16"}
            _require_room(root, sum(file.stat().st_size for file in weight_files(source)) * (1 if wide else 2))
        made_once(full, "export", [source], within="bench.engines.openvino")
    if folder != full:
        if not folder.is_dir():
            _require_room(root, int(SHARE[scheme] * (full / WEIGHTS).stat().st_size))
        made_once(folder, "compress", [full, scheme], within="bench.engines.openvino")
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
