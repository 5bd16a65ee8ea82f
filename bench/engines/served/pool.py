# SPDX-License-Identifier: Apache-2.0
"""The room for keys and values that a server takes at its start: a setting, which is no need of the model's.

What the server says of it counts first; where it says nothing, what its model's architecture makes of the tokens that
the launch asked room for, at 16 bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.catalog import architecture
from bench.catalog.config import UnknownArchitecture
from bench.catalog.gguf_model import header_in
from bench.catalog.model import Model

MIB, GIB = 1 << 20, 1 << 30
LLAMA = re.compile(r"KV buffer size\s*=\s*([\d.]+) MiB")
LLAMA_TOKENS = re.compile(r"n_ctx\s*=\s*(\d+)")
VLLM = re.compile(r"KV cache memory: ([\d.]+) GiB|set \(([\d.]+)/[\d.]+\) GiB for KV cache")
"""On a GPU, and on a CPU, where the size of the host stands behind it."""
TOKENS = re.compile(r"(?:KV cache size: |#tokens: )([\d,]+)")
SGLANG = re.compile(r"K size: ([\d.]+) GB, V size: ([\d.]+) GB")


@dataclass(frozen=True, kw_only=True)
class Pool:
    """That room."""

    total_bytes: int
    tokens: int | None
    """None where the server does not say how many it holds."""
    told: str
    """Who says so."""

    @property
    def position_bytes(self) -> float | None:
        """Bytes of one token."""
        return self.total_bytes / self.tokens if self.tokens else None


def told_by(log: str) -> Pool | None:
    """What a server has printed of its pool, None where it has not."""
    if found := LLAMA.findall(log):
        room = LLAMA_TOKENS.search(log)
        return _pool(sum(map(float, found)) * MIB, int(room[1]) if room else None)
    counted = TOKENS.findall(log)
    tokens = int(counted[-1].replace(",", "")) if counted else None
    if found := SGLANG.findall(log):
        return _pool(sum(map(float, found[-1])) * GIB, tokens)
    if found := VLLM.findall(log):
        return _pool(float("".join(found[-1])) * GIB, tokens)
    return None


def _pool(count: float, tokens: int | None) -> Pool | None:
    return Pool(total_bytes=round(count), tokens=tokens, told="the server's log") if count else None


def computed(model: Model, tokens: int) -> Pool | None:
    """What so many tokens take at 16 bits, None where the architecture is not known."""
    header = header_in(model.architecture)
    try:
        elements = header.cache_elements * tokens if header else _elements(model, tokens)
    except UnknownArchitecture:
        return None
    return Pool(total_bytes=2 * elements, tokens=tokens, told="the architecture, at 16 bits") if elements else None


def _elements(model: Model, tokens: int) -> int:
    return architecture.cache_elements(model.architecture, tokens) if model.architecture else 0
