# SPDX-License-Identifier: Apache-2.0
"""What a request asks of contexts: how they attend and what they keep keys and values in, all of it by name."""

from __future__ import annotations

from bench.catalog.gguf_file import Gguf
from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.llamacpp import gguf_layout
from bench.engines.llamacpp.context import Caching
from bench.engines.llamacpp.gguf_layout import PLAIN


def asked_of(request: LoadRequest, header: Gguf) -> Caching:
    """How contexts attend and what they keep keys and values in, by name. Raises Unsupported."""
    attention = request.attention or PLAIN
    if request.kv is None:
        return Caching(attention=attention)
    name = header.architecture
    heads = header.whole(f"{name}.attention.head_count", 0)
    width = header.whole(f"{name}.embedding_length", 0) // heads if heads else 0
    for kind in ("key", "value"):
        if refused := gguf_layout.refuses_head(header.whole(f"{name}.attention.{kind}_length", width), request.kv):
            raise Unsupported(refused)
    keys, values = gguf_layout.kept_in(request.kv)
    if values != "fp16" and attention == PLAIN:
        raise Unsupported(f"llama.cpp reads {values} values with flash attention alone")
    return Caching(attention=attention, keys=keys, values=values)
