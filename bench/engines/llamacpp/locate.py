# SPDX-License-Identifier: Apache-2.0
"""Find the GGUF file for a scheme in a package, on the Hub or on disk, or make it from one of these and cache it."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.catalog import gguf_folder, gguf_model
from bench.catalog.gguf_file import FILE_NUMBERS, Gguf
from bench.catalog.gguf_folder import header_of
from bench.catalog.model import Model
from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.llamacpp import gguf_cache, gguf_layout
from bench.engines.llamacpp.gguf_layout import FILE_TYPE
from bench.engines.llamacpp.quantizer import MATRIX, OF_EXPERTS
from bench.engines.weights.files import asking_the_hub
from bench.engines.weights.fingerprints import fingerprint
from bench.engines.weights.gptq import calibrated, calibration_sha256
from bench.engines.weights.locate import package_file
from bench.errors import UserError
from bench.instruments.distributions import is_installed
from bench.processes import module
from bench.records.cell import ATTENTION, KV, Cell, Weights, digest
from bench.records.record import Caveat, Provenance

NO_EXPERTS = "llama.cpp makes MXFP4 of a mixture's experts alone, and this model has none"
FULL_BYTES = 8 << 20
"""A disk with less room than this is full."""
WHOLE = frozenset({"F32", "F16", "BF16"})
"""File types that lost nothing worth a caveat."""


@dataclass(frozen=True)
class Located:
    """The file to load, the header of the source it came from, and what a record says of it."""

    path: Path
    source: Gguf
    provenance: Provenance
    caveats: tuple[Caveat, ...] = ()


@dataclass(frozen=True)
class _Source:
    path: Path
    name: str
    """What a record calls it."""
    revision: str | None = None


def refuses(model: Model, weights: Weights) -> str | None:
    """Why this backend can never load that model from that source, None if it may. Nothing is loaded to find out."""
    if weights is Weights.RANDOM:
        return gguf_layout.refuses(model.architecture)
    if weights is Weights.HUB and not (model.gguf_repo and model.gguf_file):
        return "its entry names no GGUF (gguf_repo, gguf_file): pass --weights local=FILE.gguf"
    return None


def locate(request: LoadRequest) -> Located:
    """Make the file ready and say where it is. Raises Unsupported, UserError."""
    if request.weights is Weights.RANDOM:
        return _random(request)
    source = _find(request)
    header = header_of(source.path)
    if reason := gguf_folder.no_model(header):
        raise Unsupported(f"{source.name} is {reason}")
    if request.scheme.name == OF_EXPERTS and not header.whole(f"{header.architecture}.expert_count", 0):
        raise Unsupported(NO_EXPERTS)
    stored = header.file_type
    mark = fingerprint(source.path)
    provenance = Provenance(
        source=source.name, revision=source.revision, files={source.path.name: mark}, stored_as=stored
    )
    name = FILE_TYPE[request.scheme.name]
    with_matrix = request.scheme.name.endswith(MATRIX)
    if stored == name and not with_matrix:
        return Located(source.path, header, provenance, _caveats(stored, name))
    made = made_name(source.path.name, mark, kind_of(request.scheme.name))
    needed = room(header, request.scheme.name) + source.path.stat().st_size - header.bytes
    threads = request.threads

    def write(part: Path) -> None:
        matrix = _importance(source.path, mark, threads) if with_matrix else None
        quantize(source.path, part, FILE_NUMBERS[name], threads, matrix)

    path = gguf_cache.made(made, needed, write)
    made_with = (calibrated("its importance matrix was made"),) if with_matrix else ()
    return Located(path, header, provenance, (*_caveats(stored, name), *made_with))


def kind_of(scheme: str) -> str:
    """What tells the file of a scheme from those of others made of the same source."""
    return FILE_TYPE[scheme] + (f"{MATRIX}-{calibration_sha256()}" if scheme.endswith(MATRIX) else "")


def _importance(source: Path, mark: str, threads: int | None) -> Path:
    """The importance matrix of a file, made once by a process of its own. Raises UserError."""

    def write(part: Path) -> None:
        _made_apart("importance", part, source, part, threads or 0)

    return gguf_cache.made(made_name(source.name, mark, f"{MATRIX}-{calibration_sha256()}") + ".npz", 0, write)


def room(header: Gguf, scheme: str) -> int:
    """Bytes that the tensors of a file take at most once the quantizer has written them in a scheme."""
    return sum(tensor.room for tensor in gguf_layout.tensors(gguf_model.config([header]), scheme))


def made_name(source: str, mark: str, kind: str) -> str:
    """The name in the cache of what is made from that file, by its fingerprint, as a file type."""
    version = importlib.metadata.version("llama_cpp_python")
    return f"{source.removesuffix('.gguf')}-{mark.replace(':', '-')}-{version}-{kind}.gguf".lower()


def command(model: Model, provenance: Provenance, cell: Cell) -> str | None:
    """llama.cpp's own program on the file that was measured, of the cache or a repository of the Hub, as measured."""
    found = _source(model, provenance, cell.scheme)
    return f"llama-cli {found}{_way(cell)} -p Hello" if found else None


def serve(model: Model, provenance: Provenance, cell: Cell) -> str | None:
    """llama.cpp's own server on the same file, for clients on this machine."""
    found = _source(model, provenance, cell.scheme)
    return f"llama-server {found}{_way(cell)} --host 127.0.0.1 --port 8080" if found else None


def _way(cell: Cell) -> str:
    """How its contexts attended and what they kept keys and values in, in the words of llama.cpp's programs.

    Nothing where a cell does not say it: then it was what these programs do unasked, as in older records.
    """
    attention, kv = (cell.settings.get(name) for name in (ATTENTION, KV))
    told = f" -fa {'off' if attention == gguf_layout.PLAIN else 'on'}" if attention else ""
    if kv:
        keys, values = (gguf_layout.CACHE_TYPES[kind].lower() for kind in gguf_layout.kept_in(kv))
        told += f" -ctk {keys} -ctv {values}"
    return told


def _source(model: Model, provenance: Provenance, scheme: str) -> str | None:
    """What names the file to llama.cpp's programs, None where it lies nowhere."""
    kind = FILE_TYPE[scheme]
    if model.gguf_repo and not scheme.endswith(MATRIX) and provenance.source.startswith(f"{model.gguf_repo}/"):
        return f"-hf {model.gguf_repo}:{kind}"
    if not is_installed("llama_cpp_python"):
        return None
    names = (made_name(file, mark, kind_of(scheme)) for file, mark in provenance.files.items())
    made = [gguf_cache.folder() / name for name in names]
    return next((f"-m {shlex.quote(str(path))}" for path in made if path.is_file()), None)


def widened(path: Path, header: Gguf, threads: int | None) -> Path:
    """The file with every tensor as float32, made once: what its quantized blocks stand for, to the last bit."""
    mark, version = fingerprint(path), importlib.metadata.version("llama_cpp_python")
    needed = 4 * sum(tensor.elements for tensor in header.tensors) + path.stat().st_size - header.bytes
    name = f"{path.stem}-{mark.replace(':', '-')}-{version}-widened.gguf".lower()
    return gguf_cache.made(name, needed, lambda part: quantize(path, part, FILE_NUMBERS["F32"], threads))


def _caveats(stored: str, wanted: str) -> tuple[Caveat, ...]:
    if stored in WHOLE:
        return ()
    if stored == wanted:
        text = f"this is the {stored} file as it was found; its 16-bit row is made from it, so they hardly differ"
    else:
        text = f"made from a file that stores {stored}: what that lost stays lost at every scheme"
    advice = "read what a scheme costs from a 16- or 32-bit source"
    return (Caveat(kind="low_bit_source", text=text, advice=advice),)


def _find(request: LoadRequest) -> _Source:
    model = request.model
    if request.weights is Weights.PACKAGE:
        path, version = package_file(model)
        return _Source(path, f"{model.package} {version}")
    if request.weights is Weights.LOCAL:
        return _local(Path(str(request.path)), request.scheme.name)
    return _hub(model, request.scheme.name)


def _local(path: Path, scheme: str) -> _Source:
    """The file, or the one of a folder that is stored as asked, else the widest."""
    found = gguf_folder.chosen(path, FILE_TYPE[scheme]).path
    return _Source(found, found.name)


def _hub(model: Model, scheme: str) -> _Source:
    from huggingface_hub import errors, hf_hub_download

    reason = refuses(model, Weights.HUB)
    if reason:
        raise Unsupported(f"{model.name}: {reason}")
    repo, pattern = str(model.gguf_repo), str(model.gguf_file)
    names = [pattern]
    if "{type}" in pattern:
        wanted = [FILE_TYPE[scheme], "F16", "BF16", "F32", "Q8_0"]
        names = list(dict.fromkeys(pattern.replace("{type}", name) for name in wanted))
    for name in names:
        try:
            with asking_the_hub(repo, local="FILE.gguf"):
                path = Path(hf_hub_download(repo, name))
        except errors.EntryNotFoundError:
            continue
        return _Source(path, f"{repo}/{name}", path.parent.name)
    raise UserError(f"{repo} holds no {' and no '.join(names)}", "correct gguf_file in the catalogue entry")


def _random(request: LoadRequest) -> Located:
    from bench.engines.llamacpp import random_weights  # numpy: not for who only asks where a file lies

    reason = gguf_layout.refuses(request.model.architecture)
    if reason:
        raise Unsupported(reason)
    if request.scheme.name == OF_EXPERTS:
        raise Unsupported(NO_EXPERTS)
    if request.scheme.name.endswith(MATRIX):
        raise Unsupported("an importance matrix is made from real weights and text: there is nothing to calibrate here")
    architecture = request.model.architecture
    assert architecture is not None
    kind = FILE_TYPE[request.scheme.name]
    name = f"random-{request.model.name}-{digest([architecture, random_weights.VERSION])}-{kind}.gguf".lower()
    needed = gguf_layout.weights_bytes(architecture, request.scheme.name) + random_weights.HEADER_BYTES
    path = gguf_cache.made(name, needed, lambda part: random_weights.write(part, architecture, request.scheme.name))
    provenance = Provenance(source="random", random=True, stored_as=kind)
    return Located(path, header_of(path), provenance)


def quantize(source: Path, target: Path, number: int, threads: int | None, matrix: Path | None = None) -> None:
    """Let llama.cpp write `source` as another file type, with an importance matrix where one is given.

    Raises UserError with llama.cpp's own last error when it fails.
    """
    _made_apart("quantize", target, source, target, number, threads or 0, *([matrix] if matrix else []))


def _made_apart(how: str, target: Path, *arguments: object) -> None:
    """Make a file in a process of its own, so that it leaves no memory here. Raises UserError."""
    done = subprocess.run(
        module(f"bench.engines.llamacpp.{how}", *arguments), check=False, capture_output=True, text=True,
        errors="replace", env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )  # fmt: skip
    if done.returncode == 0:
        return
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = lines[-1] if lines else f"exit code {done.returncode}"
    if "iostream error" in reason and shutil.disk_usage(target.parent).free < FULL_BYTES:
        reason = "the disk is full"  # all that a C++ stream says of it
    raise UserError(
        f"llama.cpp could not make {target.name.partition('.part')[0]}: {reason[:200]}",
        "check the source file and the free space of BENCH_CACHE",
    )
