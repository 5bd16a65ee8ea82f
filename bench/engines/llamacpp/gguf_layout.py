# SPDX-License-Identifier: Apache-2.0
"""Which tensors llama.cpp holds for a model in a scheme, and the memory it needs: names, shapes and types.

They come from the header of the model's own file where there is one, else from its architecture alone: then names
follow gguf's constants. Types are those of llama.cpp's quantizer (`quantizer`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.catalog.config import Config, Settings, UnknownArchitecture, settings
from bench.catalog.gguf_model import header_in
from bench.engines.contract import Footprint
from bench.engines.llamacpp.quantizer import Planned, planned

ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "smollm3": "smollm3", "qwen2": "qwen2", "qwen3": "qwen3",
    "gemma3_text": "gemma3", "olmo2": "olmo2", "gpt2": "gpt2", "gpt_neox": "gptneox", "bloom": "bloom",
}  # fmt: skip
"""transformers' model_type to llama.cpp's name, where it runs it and this module knows its tensors."""
FILE_TYPE = {
    "gguf-f32": "F32", "gguf-f16": "F16", "gguf-q8_0": "Q8_0", "gguf-q6_k": "Q6_K", "gguf-q4_k_m": "Q4_K_M",
    "gguf-q4_0": "Q4_0", "gguf-q4_1": "Q4_1",
}  # fmt: skip
"""Scheme to the name of the file's type."""
CACHE_BYTES = 2
"""llama.cpp keeps keys and values in float16 by default, whatever the weights are."""
CONTEXT_STEP = 256
"""llama.cpp rounds the positions of a context up to this."""
HEADROOM = 256
"""Positions a generation gets beyond its prompt before its context must grow."""
GRAPH_ROWS = 12
"""Float32 rows of hidden or inner size alive for each position of a batch, fitted on files measured here."""
BATCH = 512
"""Positions computed at once (llama.cpp's physical batch)."""
RUNTIME_BYTES = 2 << 20
"""Thread buffers, graph: what an engine holds beyond weights, vocabulary, cache and activations."""
TOKEN_BYTES = 220
"""What the tables of a vocabulary take for each token."""


@dataclass(frozen=True)
class Sizes:
    """What memory beside the weights depends on."""

    hidden: int
    widest: int
    vocabulary: int
    cache_elements: int
    """Of keys and values, for each position."""
    state_bytes: int = 0
    """Of recurrent and convolution layers, whatever the positions."""


def refuses(config: Config | None) -> str | None:
    """Why no GGUF of this architecture can be written here, None if one can."""
    if config is None:
        return "its architecture is not in the catalogue, so random weights cannot be made"
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        return f"llama.cpp runs no {kind} model"
    return None


def tensors(config: Config, scheme: str) -> list[Planned]:
    """Every tensor, in the file's order. Raises UnknownArchitecture."""
    header = header_in(config)
    if header is not None:
        layers = 1 + max(
            (int(name.split(".")[1]) for name, _, _ in header.tensors if name.startswith("blk.")), default=0
        )
        return planned(header.tensors, scheme, experts=header.experts, layers=layers)
    s = settings(config)
    if s["model_type"] not in ARCHITECTURES:
        raise UnknownArchitecture(f"no GGUF layout for {s['model_type']}")
    return planned([(name, shape, "F32") for name, shape in _shapes(s)], scheme, layers=s["num_hidden_layers"])


def weights_bytes(config: Config, scheme: str) -> int:
    """Bytes of all tensors: those of the file that is stored so, where one is. Raises UnknownArchitecture."""
    header = header_in(config)
    if header is not None and FILE_TYPE[scheme] in header.stored:
        return header.stored[FILE_TYPE[scheme]]
    return sum(tensor.bytes for tensor in tensors(config, scheme))


def _sizes(config: Config) -> Sizes:
    """Raises UnknownArchitecture."""
    header = header_in(config)
    if header is not None:
        return Sizes(
            header.hidden, max(header.hidden, header.widest), header.vocabulary, header.cache_elements,
            header.state_bytes,
        )  # fmt: skip
    s = settings(config)
    return Sizes(
        s["hidden_size"], max(s["hidden_size"], s["intermediate_size"]), s["vocab_size"],
        2 * s["num_hidden_layers"] * s["num_key_value_heads"] * s["head_dim"],
    )  # fmt: skip


def cache_bytes(config: Config, tokens: int) -> int:
    """Bytes of the keys and values of so many positions, and of one sequence's states; sliding layers are kept whole.

    Raises UnknownArchitecture.
    """
    sizes = _sizes(config)
    return sizes.cache_elements * CACHE_BYTES * tokens + sizes.state_bytes


def context_size(prompt: int) -> int:
    """Positions of the context that a prompt is given."""
    return -(-(prompt + HEADROOM) // CONTEXT_STEP) * CONTEXT_STEP


def footprint(config: Config, scheme: str, prompt: int, decode: int) -> Footprint:
    """Bytes that reading `prompt` tokens and generating `decode` more will take. Raises UnknownArchitecture."""
    sizes = _sizes(config)
    weights = weights_bytes(config, scheme)
    reserved = cache_bytes(config, context_size(max(prompt, prompt + decode - HEADROOM)))
    graph = 4 * min(prompt, BATCH) * (GRAPH_ROWS * sizes.hidden + 2 * sizes.widest)
    runtime = RUNTIME_BYTES + TOKEN_BYTES * sizes.vocabulary
    kv = cache_bytes(config, prompt + decode)
    return Footprint(
        weights_bytes=weights,
        kv_bytes=kv,
        workspace_bytes=reserved - kv + graph,
        peak_bytes=weights + reserved + graph + runtime,
    )


def _shapes(s: Settings) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes."""
    hidden, vocabulary, kind = s["hidden_size"], s["vocab_size"], s["model_type"]
    biased = kind in {"gpt2", "gpt_neox", "bloom"}
    yield "token_embd.weight", (vocabulary, hidden)
    if kind == "gpt2":
        yield "position_embd.weight", (s["max_position_embeddings"] or 0, hidden)
    if kind == "bloom":
        yield from _norm("token_embd_norm", hidden, bias=True)
    for index in range(s["num_hidden_layers"]):
        for name, shape in _fused_layer(s) if biased else _split_layer(s):
            yield f"blk.{index}.{name}", shape
    yield from _norm("output_norm", hidden, bias=biased)
    if not s["tie_word_embeddings"]:
        yield "output.weight", (vocabulary, hidden)


def _norm(name: str, size: int, *, bias: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (size,)
    if bias:
        yield f"{name}.bias", (size,)


def _fused_layer(s: Settings) -> Iterator[tuple[str, tuple[int, ...]]]:
    """GPT-2, GPT-NeoX, BLOOM: one matrix for query, key and value, biases everywhere."""
    hidden, inner = s["hidden_size"], s["intermediate_size"]
    yield from _norm("attn_norm", hidden, bias=True)
    for name, rows, columns in (
        ("attn_qkv", 3 * hidden, hidden),
        ("attn_output", hidden, hidden),
        ("ffn_up", inner, hidden),
        ("ffn_down", hidden, inner),
    ):
        yield f"{name}.weight", (rows, columns)
        yield f"{name}.bias", (rows,)
    yield from _norm("ffn_norm", hidden, bias=True)


def _split_layer(s: Settings) -> Iterator[tuple[str, tuple[int, ...]]]:
    """LLaMA and its descendants: separate projections, gated feed-forward, norms by family."""
    hidden, inner, kind, head = s["hidden_size"], s["intermediate_size"], s["model_type"], s["head_dim"]
    queries, keys = s["num_attention_heads"] * head, s["num_key_value_heads"] * head
    qkv_bias = kind == "qwen2" or bool(s.get("attention_bias"))
    if kind != "olmo2":
        yield "attn_norm.weight", (hidden,)
    for name, rows in (("attn_q", queries), ("attn_k", keys), ("attn_v", keys)):
        yield f"{name}.weight", (rows, hidden)
        if qkv_bias:
            yield f"{name}.bias", (rows,)
    if kind in {"qwen3", "gemma3_text"}:
        yield "attn_q_norm.weight", (head,)
        yield "attn_k_norm.weight", (head,)
    if kind == "olmo2":
        yield "attn_q_norm.weight", (queries,)
        yield "attn_k_norm.weight", (keys,)
    yield "attn_output.weight", (hidden, queries)
    if s.get("attention_bias") and kind == "llama":
        yield "attn_output.bias", (hidden,)
    if kind in {"gemma3_text", "olmo2"}:
        yield "post_attention_norm.weight", (hidden,)
        yield "post_ffw_norm.weight", (hidden,)
    if kind != "olmo2":
        yield "ffn_norm.weight", (hidden,)
    yield "ffn_gate.weight", (inner, hidden)
    yield "ffn_up.weight", (inner, hidden)
    yield "ffn_down.weight", (hidden, inner)
