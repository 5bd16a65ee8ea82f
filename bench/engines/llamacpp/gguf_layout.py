# SPDX-License-Identifier: Apache-2.0
"""Which tensors llama.cpp holds for a model in a scheme, and the memory it needs: names, shapes and types.

They come from the header of the model's own file where there is one, else from its architecture alone: then names
follow gguf's constants. Types are those of llama.cpp's quantizer (`quantizer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bench.catalog.config import Config, Settings, UnknownArchitecture, settings
from bench.catalog.gguf_file import type_bytes
from bench.catalog.gguf_model import header_in
from bench.engines.contract import Footprint
from bench.engines.llamacpp.quantizer import BLOCK, MATRIX, Planned, planned
from bench.records.cell import ATTENTION, KV, UNTRIED

ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "smollm3": "smollm3", "qwen2": "qwen2", "qwen3": "qwen3",
    "gemma3_text": "gemma3", "olmo2": "olmo2", "gpt2": "gpt2", "gpt_neox": "gptneox", "bloom": "bloom",
}  # fmt: skip
"""transformers' model_type to llama.cpp's name, where it runs it and this module knows its tensors."""
FILE_TYPE = {
    "gguf-f32": "F32", "gguf-f16": "F16", "gguf-q8_0": "Q8_0", "gguf-q6_k": "Q6_K", "gguf-q4_k_m": "Q4_K_M",
    "gguf-q4_0": "Q4_0", "gguf-q4_1": "Q4_1", "gguf-q5_k_m": "Q5_K_M", "gguf-q4_k_s": "Q4_K_S",
    "gguf-q3_k_m": "Q3_K_M", "gguf-iq4_nl": "IQ4_NL", "gguf-iq4_xs": "IQ4_XS", "gguf-mxfp4": "MXFP4_MOE",
}  # fmt: skip
"""Scheme to the name of the file's type."""
WITH_MATRIX = ("gguf-q4_k_m", "gguf-q3_k_m", "gguf-iq4_nl", "gguf-iq4_xs")
"""Those that are also made with an importance matrix, under a name of their own."""
FILE_TYPE |= {f"{scheme}{MATRIX}": FILE_TYPE[scheme] for scheme in WITH_MATRIX}
CACHE_BYTES = 2
"""llama.cpp keeps keys and values in float16 by default, whatever the weights are."""
CACHE_TYPES = {"fp16": "F16", "int8": "Q8_0", "int4": "Q4_0"}
"""What keys and values can be kept in, and llama.cpp's name of it: blocks of 32 with a float16 scale, or float16."""
PLAIN = "plain"
"""Attention whose scores are all written down (`bench.engines.llamacpp.attending`)."""
CONTEXT_STEP = 256
"""llama.cpp rounds the positions of a context up to this."""
HEADROOM = 256
"""Positions a generation gets beyond its prompt before its context must grow."""
GRAPH_ROWS = 12
"""Float32 rows of hidden or inner size alive for each position of a batch, fitted on files measured here."""
RESTING_ROWS = 6
"""Of these, rows that are not alive while plain attention's scores are, one for every head, position and token; fitted
on the library's own figures for two sizes at 256 to 4,096 positions."""
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
    heads: int
    """Of queries, in a layer."""
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
        return planned(header.tensors, scheme, experts=header.experts, layers=layers, shared=header.shared)
    s = settings(config)
    if s["model_type"] not in ARCHITECTURES:
        raise UnknownArchitecture(f"no GGUF layout for {s['model_type']}")
    shared = s["num_attention_heads"] // s["num_key_value_heads"]
    made = [(name, shape, "F32") for name, shape in _shapes(s)]
    return planned(made, scheme, layers=s["num_hidden_layers"], shared=shared)


def weights_bytes(config: Config, scheme: str) -> int:
    """Bytes of all tensors: those of the file that is stored so, where one is. Raises UnknownArchitecture."""
    header = header_in(config)
    if header is not None and FILE_TYPE[scheme] in header.stored and not scheme.endswith(MATRIX):
        return header.stored[FILE_TYPE[scheme]]
    return sum(tensor.bytes for tensor in tensors(config, scheme))


def _sizes(config: Config) -> Sizes:
    """Raises UnknownArchitecture."""
    header = header_in(config)
    if header is not None:
        return Sizes(
            header.hidden, max(header.hidden, header.widest), header.vocabulary, header.cache_elements, header.heads,
            header.state_bytes,
        )  # fmt: skip
    s = settings(config)
    return Sizes(
        s["hidden_size"], max(s["hidden_size"], s["intermediate_size"]), s["vocab_size"],
        2 * s["num_hidden_layers"] * s["num_key_value_heads"] * s["head_dim"], s["num_attention_heads"],
    )  # fmt: skip


def cache_bytes(config: Config, tokens: int, keys: str = "fp16", values: str = "fp16") -> int:
    """Bytes of the keys and values of so many positions, and of one sequence's states; sliding layers are kept whole.

    Raises UnknownArchitecture.
    """
    sizes = _sizes(config)
    return round(sizes.cache_elements * element_bytes(keys, values) * tokens) + sizes.state_bytes


def kept_in(kv: object) -> tuple[str, str]:
    """What keys and values are kept in, by a cell's setting: `int8`, `int8/int4`; float16 without one."""
    keys, _, values = str(kv or "fp16").partition("/")
    return keys, values or keys


def refuses_kv(config: Config | None, kv: str) -> str | None:
    """Why no cache of that precision can be kept, as far as the architecture tells; None if it may be."""
    try:
        return refuses_head(settings(config)["head_dim"], kv) if config else None
    except UnknownArchitecture:
        return None


def refuses_head(width: int, kv: str) -> str | None:
    """Why heads of that width cannot be kept in blocks, None if they can.

    Without flash attention the library takes them; then every logit is NaN, while speed and memory look fine.
    """
    if width % BLOCK == 0:
        return None
    return f"its heads of {width} values are no multiple of {BLOCK}, the block of {kv} keys and values"


def element_bytes(keys: str, values: str) -> float:
    """Bytes of an element of keys and values, the scales of blocks included, of as many of the one as of the other."""
    return sum(type_bytes(CACHE_TYPES[kind], BLOCK) for kind in (keys, values)) / (2 * BLOCK)


def context_size(prompt: int) -> int:
    """Positions of the context that a prompt is given."""
    return -(-(prompt + HEADROOM) // CONTEXT_STEP) * CONTEXT_STEP


def footprint(
    config: Config, scheme: str, prompt: int, decode: int, asked: Mapping[str, object] = MappingProxyType({})
) -> Footprint:
    """Bytes that reading `prompt` tokens and generating `decode` more will take, in the way that a cell's settings say.

    Raises UnknownArchitecture.
    """
    sizes, kv_as = _sizes(config), kept_in(asked.get(KV))
    weights, cells = weights_bytes(config, scheme), context_size(max(prompt, prompt + decode - HEADROOM))
    reserved = cache_bytes(config, cells, *kv_as)
    graph = 4 * min(prompt, BATCH) * (GRAPH_ROWS * sizes.hidden + 2 * sizes.widest)
    if asked.get(ATTENTION) in {PLAIN, UNTRIED}:  # the larger of the two
        scores = 4 * min(prompt, BATCH) * cells * sizes.heads
        graph = max(graph, graph - 4 * min(prompt, BATCH) * RESTING_ROWS * sizes.hidden + scores)
    runtime = RUNTIME_BYTES + TOKEN_BYTES * sizes.vocabulary
    kv = cache_bytes(config, prompt + decode, *kv_as)
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
