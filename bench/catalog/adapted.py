# SPDX-License-Identifier: Apache-2.0
"""What an adapter makes of its base's architecture: rows for tokens it added, a head apart from the embedding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

EMBEDDINGS = frozenset({"embed_tokens", "wte", "tokens_embed", "word_embeddings", "embed_in", "shared"})
HEADS = frozenset({"lm_head", "embed_out"})
HEADER_BYTES = 8
"""Bytes at the head of a safetensors file that say how long its table of tensors is, little-endian."""
LONGEST = 1 << 24
"""Bytes of a table that is believed: an adapter of 10,000 tensors has 1.5 MB."""


def adapted(config: Mapping[str, JsonValue], folder: Path) -> dict[str, JsonValue]:
    """The architecture of a base once the adapter in `folder` is merged, as far as names and shapes tell.

    `bench.engines.weights.merge_lora` does it by the tensors themselves; this is what is predicted before.
    """
    told = _read(folder / "adapter_config.json")
    kept = told.get("modules_to_save")
    changed = set(kept if isinstance(kept, list) else ()) & (EMBEDDINGS | HEADS)
    rows: set[int] = set()
    for key, shape in _shapes(folder / "adapter_model.safetensors").items():
        table = next((part for part in key.split(".") if part in EMBEDDINGS | HEADS), None)
        if table is None or "token_adapter" in key:
            continue
        if ".lora_" in key:
            changed.add(table)
        if key.endswith(".lora_embedding_A"):
            rows.add(shape[1])
        elif key.endswith(".weight") and (".lora_" not in key or (table in HEADS and ".lora_B." in key)):
            rows.add(shape[0])
    found = dict(config)
    if len(rows) == 1 and "vocab_size" in found:
        found["vocab_size"] = rows.pop()
    if changed and not told.get("ensure_weight_tying"):
        found["tie_word_embeddings"] = False
    return found


def _shapes(path: Path) -> dict[str, list[int]]:
    """Shapes of a safetensors file's tensors by name; none where it cannot be read, for loading it will say why."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(HEADER_BYTES), "little")
            table = json.loads(file.read(length)) if length <= LONGEST else {}
        return {name: told["shape"] for name, told in table.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _read(path: Path) -> dict[str, JsonValue]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
