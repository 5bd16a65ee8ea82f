# SPDX-License-Identifier: Apache-2.0
"""Models that are published as an addition to a base model: LoRA adapters, chains of them, and weight differences.

They are merged once, at the precision in which the base is stored, into a folder of the cache; every scheme then
loads that folder as any other model and quantizes the merged weights. That is what a user would deploy, and it keeps
the census and the comparison of precisions honest: no 16-bit side path beside quantized layers. The base is the one
that the entry or `--base` names. The one in an adapter's own configuration is never used: it may be gone, or another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.catalog.model import Kind
from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.weights.files import Located, hub_folder, made_once, model_folder, provenance
from bench.engines.weights.fingerprints import fingerprint, weight_files
from bench.errors import UserError
from bench.paths import cache_folder
from bench.records.cell import Weights, digest
from bench.records.record import Provenance

ADAPTER_CONFIG = "adapter_config.json"


def is_derived(request: LoadRequest) -> bool:
    """Whether the weights are to be added to a base.

    A local folder that holds a whole model (merged by its user) is loaded as it stands, unless it is a difference,
    which looks whole and is nonsense alone.
    """
    if request.model.kind is Kind.DELTA:
        return True
    if request.model.kind not in {Kind.ADAPTER, Kind.ADAPTER_CHAIN}:
        return False
    if request.weights is not Weights.LOCAL:
        return True
    first = _paths(request)[0]
    return (first / ADAPTER_CONFIG).is_file() or not (first / "config.json").is_file()


def merged(request: LoadRequest) -> Located:
    """The folder of the merged model, made if it is not there. Raises Unsupported, UserError."""
    base = _base(request)
    parts = _parts(request)
    how: list[str] = []
    if request.model.kind is Kind.DELTA:
        module, folders = "merge_delta", [model_folder(folder) for _, folder in parts]
        how.append(request.model.added_rows)
    else:
        module, folders = "merge_lora", [_adapter_folder(folder) for _, folder in parts]
    files = {f"base/{name}": mark for name, mark in base.provenance.files.items()}
    for index, folder in enumerate(folders, 1):
        files |= {f"{index}/{path.name}": fingerprint(path) for path in weight_files(folder)}
    names = " + ".join([base.provenance.source, *(name for name, _ in parts)])
    target = cache_folder() / "weights" / f"merged-{digest([files, how])}"
    assert base.folder is not None
    made_once(target, module, [base.folder, *folders, *how])
    stored, commits = provenance(target, names).stored_as, _commits(base, parts, request)
    return Located(target, Provenance(source=names, revision=commits, files=files, stored_as=stored))


def _commits(base: Located, parts: Sequence[tuple[str, Path]], request: LoadRequest) -> str | None:
    """The commit of each thing that was added up, in the order of the source's names: `-` for a local folder."""
    from_hub = request.weights is not Weights.LOCAL
    found = [base.provenance.revision, *(folder.name if from_hub else None for _, folder in parts)]
    return " + ".join(commit or "-" for commit in found) if any(found) else None


def _base(request: LoadRequest) -> Located:
    """The base: the folder given with `--base`, else the repository of the entry that `base_model` names."""
    if request.base_path is not None:
        folder = model_folder(request.base_path)
        return Located(folder, provenance(folder, folder.name))
    base = request.base
    what = "a difference" if request.model.kind is Kind.DELTA else "an adapter"
    if base is None:
        raise UserError(
            f"{request.model.name} is {what} and nothing without its base", "pass --base FOLDER, or name `base_model`"
        )
    if base.repo is None or base.kind not in {Kind.OPEN, Kind.GATED}:
        raise Unsupported(f"its base {base.name} has no weights to load")
    folder = hub_folder(base.repo, base.revision)
    return Located(folder, provenance(folder, base.repo, revision=folder.name))


def _paths(request: LoadRequest) -> list[Path]:
    return [Path(part) for part in str(request.path).split(",")]


def _parts(request: LoadRequest) -> list[tuple[str, Path]]:
    """Name and folder of what is added, in order."""
    model = request.model
    if request.weights is Weights.LOCAL:
        return [(folder.name, folder) for folder in _paths(request)]
    repos: Sequence[str] = model.adapters or ([model.repo] if model.repo else [])
    if not repos:
        raise Unsupported(f"{model.name} names no repository to add to its base")
    return [(repo, hub_folder(repo, model.revision if repo == model.repo else None)) for repo in repos]


def _adapter_folder(folder: Path) -> Path:
    """A folder that holds a LoRA adapter. Raises UserError, Unsupported."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except OSError:
        raise UserError(
            f"{folder} is no adapter: it holds no {ADAPTER_CONFIG}", "give the adapter's folder in Hub layout"
        ) from None
    except ValueError as error:
        raise UserError(f"{folder / ADAPTER_CONFIG} cannot be read ({error})", "download it again") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise Unsupported(f"its adapter is of type {kind}: only LoRA adapters can be merged")
    return folder
