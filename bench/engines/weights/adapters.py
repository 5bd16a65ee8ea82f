# SPDX-License-Identifier: Apache-2.0
"""Models that are published as an addition to a base model: LoRA adapters, chains of them, and weight differences.

They are merged once, at the precision in which the base is stored, into a folder of the cache; every scheme then
loads that folder as any other model and quantizes the merged weights. That is what a user would deploy, and it keeps
the census and the comparison of precisions honest: no 16-bit side path beside quantized layers. The base is the one
that the entry or `--base` names. The one in an adapter's own configuration is never used: it may be gone, or another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.catalog.model import Kind
from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.weights.files import Located, hub_folder, made_once, model_folder, provenance
from bench.engines.weights.fingerprints import fingerprints
from bench.engines.weights.merge_lora import ADAPTER_CONFIG, MERGES
from bench.engines.weights.stored import stored_scheme
from bench.errors import UserError
from bench.instruments.machine import installed
from bench.paths import cache_folder
from bench.records.cell import Weights, digest
from bench.records.provenance import Merge
from bench.records.record import Caveat, Provenance

MERGING = 2
"""Raised when `merge_lora` or `merge_delta` make something else of the same files."""
LOST = 0.1
"""Share of an adapter's own divergence that rounding may make before a reader is told."""
LIBRARIES = ("peft", "safetensors", "tokenizers", "torch", "transformers")
"""Whose versions decide what a merge writes."""


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
        how.append(str(request.model.objective))
    files = {f"base/{name}": mark for name, mark in base.provenance.files.items()}
    for index, folder in enumerate(folders, 1):
        files |= {f"{index}/{name}": mark for name, mark in fingerprints(folder).items()}
    names = " + ".join([base.provenance.source, *(name for name, _ in parts)])
    target = cache_folder() / "weights" / f"merged-{digest([files, how, MERGING, installed(LIBRARIES)])}"
    assert base.folder is not None
    made_once(target, module, [base.folder, *folders, *how])
    stored, commits = provenance(target, names).stored_as, _commits(base, parts, request)
    told = json.loads((target / MERGES).read_text(encoding="utf-8")) if (target / MERGES).is_file() else ()
    merges = tuple(map(Merge.model_validate, told))
    found = Provenance(source=names, revision=commits, files=files, stored_as=stored, merges=merges)
    return Located(target, found)


def caveats(of: Provenance) -> Iterator[Caveat]:
    """What a reader of a merged model must know: a head that had to be parted, an adapter that rounding ate."""
    if any(merge.untied for merge in of.merges):
        yield Caveat(
            kind="untied_head",
            text="its adapter changes the output head or the embedding, which its base keeps in one table: parted",
            advice="its memory is that of two tables, as it must be to answer as it was tuned",
        )
    for merge in of.merges:
        if merge.moved_nat > LOST * merge.adapter_nat:
            yield Caveat(
                kind="rounded_merge",
                text=f"merged into {of.stored_as} its adapter's answers move by {merge.moved_nat:.2g} nats a token, "
                f"where the adapter moves its base's by {merge.adapter_nat:.2g}",
                advice="part of the tuning is lost to rounding: merge into a base stored in float32",
            )


def _commits(base: Located, parts: Sequence[tuple[str, Path]], request: LoadRequest) -> str | None:
    """The commit of each thing that was added up, in the order of the source's names: `-` for a local folder."""
    from_hub = request.weights is not Weights.LOCAL
    found = [base.provenance.revision, *(folder.name if from_hub else None for _, folder in parts)]
    return " + ".join(commit or "-" for commit in found) if any(found) else None


def _base(request: LoadRequest) -> Located:
    """The base, its weights neither packed nor quantized. Raises Unsupported, UserError."""
    found = _base_folder(request)
    assert found.folder is not None
    stored = stored_scheme(found.folder)
    if stored:
        why = f"its base {found.provenance.source} is stored as {stored}, to which nothing can be added"
        raise Unsupported(f"{why}: give the 16-bit checkpoint it was made from with --base")
    return found


def _base_folder(request: LoadRequest) -> Located:
    """The folder given with `--base`, else the repository of the entry that `base_model` names."""
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
