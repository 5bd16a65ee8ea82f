# SPDX-License-Identifier: Apache-2.0
"""Which layers of a GGUF keep keys and values, and what its others carry instead, by its header alone.

Each sequence has one state in each such layer, in float32 and of one size whatever its text (llama.cpp, as of
llama-cpp-python 0.3.36: src/llama-hparams.cpp, n_embd_r and n_embd_s; src/llama-model.cpp, create_memory). Which layers
these are is told by the names of their tensors; the numbers of heads, where a file lists them, are not the same in
every architecture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.catalog.gguf_file import Gguf

RECURRENT = ("ssm_out", "shortconv", "time_mix_")
"""How tensors of such layers begin: state-space and linear attention, LFM2's convolutions, RWKV."""
ATTENTION = ("attn_k",)
"""How those begin from which keys and values are made."""
FUSED = ("attn_qkv",)
"""As these, but in a recurrent layer: there linear attention (Qwen3-Next) calls its own projection so."""
FLOAT32 = 4


def recurrent_layers(header: Gguf) -> set[int]:
    """The layers that carry a state."""
    return _layers(header, RECURRENT)


def attention_layers(header: Gguf) -> set[int]:
    """The layers that keep keys and values; some hybrids have both in one layer."""
    return _layers(header, ATTENTION) | (_layers(header, FUSED) - recurrent_layers(header))


def _layers(header: Gguf, beginnings: tuple[str, ...]) -> set[int]:
    """The layers that have a tensor of such a name."""
    return {layer for layer, name in _named(header) if name.startswith(beginnings)}


def _named(header: Gguf) -> Iterator[tuple[int, str]]:
    for tensor in header.tensors:
        found = re.match(r"blk\.(\d+)\.(.+)", tensor.name)
        if found:
            yield int(found[1]), found[2]


def state_bytes(header: Gguf) -> int:
    """Bytes of the states of one sequence, 0 without such layers."""

    def of(key: str) -> int:
        return header.whole(f"{header.architecture}.{key}", 0)

    width, head = of("embedding_length"), of("wkv.head_size")
    if head:
        elements = width * (header.whole(f"{header.architecture}.token_shift_count", 2) + head)
    elif of("shortconv.l_cache"):
        elements = width * (of("shortconv.l_cache") - 1)
    else:
        inner, state = of("ssm.inner_size"), of("ssm.state_size")
        elements = max(0, of("ssm.conv_kernel") - 1) * (inner + 2 * of("ssm.group_count") * state) + inner * state
    return FLOAT32 * elements * len(recurrent_layers(header))
