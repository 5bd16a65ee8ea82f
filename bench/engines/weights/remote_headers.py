# SPDX-License-Identifier: Apache-2.0
"""What a repository of the Hub holds, read by its library through range requests: headers and configs, no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from bench.catalog.contents import BITS, Contents, Stored, label_of
from bench.catalog.local_model import objective
from bench.catalog.model import Kind, Model
from bench.engines.weights.files import asking_the_hub
from bench.errors import UserError
from bench.units import slug

if TYPE_CHECKING:
    from huggingface_hub.utils import SafetensorsRepoMetadata


def looked_up(target: str) -> tuple[Model, Contents]:
    """The model of `ORG/NAME` or `ORG/NAME@REVISION`, and what its safetensors hold. Raises as `asking_the_hub`."""
    repo, _, revision = target.strip("/").partition("@")
    if repo.count("/") != 1:
        raise UserError(f"no repository hf://{target}", "hf://ORG/NAME, or hf://ORG/NAME@REVISION")
    try:
        from huggingface_hub import get_safetensors_metadata, hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, NotASafetensorsRepoError
    except ImportError:
        raise UserError("huggingface_hub is not installed", 'pip install "huggingface_hub"') from None
    with asking_the_hub(repo, revision or None):
        try:
            config = json.loads(
                Path(hf_hub_download(repo, "config.json", revision=revision or None)).read_text("utf-8")
            )
            metadata = get_safetensors_metadata(repo, revision=revision or None)
        except (EntryNotFoundError, NotASafetensorsRepoError, ValueError):
            raise UserError(f"{repo} holds no config.json with safetensors", "name a repository that does") from None
    model = Model(
        name=slug(repo), display=repo, family="own", organisation="-", kind=Kind.OPEN, repo=repo,
        objective=objective(config), architecture=config,
    )  # fmt: skip
    return model, Contents(tensors=tuple(_tensors(metadata)), label=label_of(config))


def _tensors(metadata: SafetensorsRepoMetadata) -> list[Stored]:
    found = []
    for file in metadata.files_metadata.values():
        for name, info in file.tensors.items():
            start, end = info.data_offsets
            elements = (end - start) * 8 // BITS.get(info.dtype, 8) if not info.shape else info.parameter_count
            found.append(Stored(name, info.dtype, elements, end - start))
    return found
