# SPDX-License-Identifier: Apache-2.0
"""Temporary bytes of a transformers forward pass: what is alive at its worst moment, and what a heap cannot reuse.

Read from the modelling files of transformers 5.23 and from bitsandbytes 0.50.2, held against traces of torch's
allocator. What only measuring tells is a named constant that says so. Rows are tokens read at once, of all sequences.

- The stream: the embedded text, a layer's input, its residual and its normed copy live through every sublayer.
- Attention that torch's fused kernel computes never holds a score. BLOOM, GPT-1, GPT-Neo and GPT-J compute theirs:
  tokens x tokens for each head and sequence, several copies of it, mostly float32. T5 keeps a bias of that size.
- The feed-forward holds inner rows: gate, up and product of a gated one; with an activation written out in Python
  (`gelu_new`, BLOOM's own) one for each step of its formula that is still needed.
- A quantized layer computes in other types than the model, in copies of its input and output and perhaps of its
  weight: its scheme lists them (`Scheme.moments`).
- The head reads the last position alone; a masked model's reads all.
- The heap of a CPU: what each layer keeps (its cache) is cut out of the space that temporaries of the layer before
  left, which then no longer holds what it held. The next layer's take new space, and what lies between stays resident.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench import architecture
from bench.architecture import Role, Weight
from bench.cell import Scheme

Settings = Mapping[str, Any]
FLOAT = 4
"""Bytes of what is computed in float32 whatever the model's type: norms, and the scores that a family writes out."""
MMAP_LIMIT = 32 << 20
"""glibc's largest dynamic mmap threshold (mallopt(3), 64 bits): larger blocks go back to the system when freed."""
GATED = frozenset({"gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"})
GELU_NEW = frozenset({"gpt2", "gpt_neo", "gptj", "openai-gpt"})
"""Whose configuration means `gelu_new` where it names no activation (and, in GPT-1, by `gelu`)."""
LOST_FUSED, LOST_WRITTEN, LOST_CAST, LOST_INT8, LOST_APART = 0.5, 1.0, 1.0, 2.75, 0.75
"""What the heap loses in each layer, measured at 128 to 1,024 tokens on models of 30 million to 7 billion weights.

In blocks of one inner row for each token: the fewer sizes of blocks a layer asks for, the better a hole fits the next.
Fused attention in one type; written-out attention, whose scores are other blocks; NF4, which casts; LLM.int8() without
outliers. With outliers, the share of all that one multiplication takes from the heap.
"""
POST_NORM = frozenset({"olmo2"})
"""Whose linear layers read the residual itself, which no norm keeps small: every column has outliers."""
OUTLIERS = 0.08
"""Share of columns in which LLM.int8() finds a value of 6 or more among trained weights elsewhere: measured in the
second feed-forward matrices of the default model at 512 tokens, where it is from 0 to 0.52; below 0.003 in others."""
RUNTIME_BYTES = {"cpu": 75 << 20, "cuda": 90 << 20, "mps": 0}
"""Library state beyond the baseline once a model is loaded and has run; measured on a CPU, a guess elsewhere."""
IMPORTED_BYTES = 40 << 20
"""What of it on a CPU lies in the baseline already where bitsandbytes was imported before; measured."""


def workspace_bytes(
    config: Settings, scheme: Scheme, tokens: int, batch: int = 1, device: str = "cpu", *, trained: bool = True
) -> int:
    """Bytes beyond weights and cache while `tokens` of each of `batch` sequences are read at once.

    `trained` tells real weights from random ones, which have next to no outlier features. Raises UnknownArchitecture.
    """
    s = architecture.settings(config)
    linear = [weight for weight in architecture.weights(config) if weight.role is Role.LINEAR]
    apart = 1.0 if s["model_type"] in POST_NORM else OUTLIERS * trained
    live = _live(s, linear, scheme, tokens, batch, apart)
    return live + (_heap(s, linear, scheme, tokens * batch, apart) if device == "cpu" else 0)


def runtime_bytes(config: Settings, scheme: Scheme, device: str) -> int:
    """Bytes beyond the weights that stay once a model is loaded and has run: library state, and its class's tables."""
    imported = IMPORTED_BYTES if device == "cpu" and scheme.quantizes else 0
    return RUNTIME_BYTES[device] - imported + _tables(architecture.settings(config))


def _live(s: Settings, linear: list[Weight], scheme: Scheme, tokens: int, batch: int, apart: float) -> int:
    """Bytes of tensors alive at the worst moment."""
    rows, each = tokens * batch, scheme.other_bytes
    stream, norm = 4 * each * rows * s["hidden_size"], 2 * FLOAT * rows * s["hidden_size"]
    activation = each * rows * _inner_rows(s) * s["intermediate_size"]
    multiplying = [_multiplying(weight, s, scheme, rows, apart) for weight in linear]
    worst = max(norm, activation, _attention(s, each, tokens, batch), *multiplying)
    logits = each * batch * (tokens if s["model_type"] == "bert" else 2) * s["vocab_size"]
    return int(stream + worst + _bias(s, each, tokens) + logits)


def _inner_rows(s: Settings) -> int:
    """Rows of inner width alive at the activation, the one it reads included."""
    kind = s["model_type"]
    if _is_gated(s):
        return 3
    if kind == "bloom":
        return 5
    named = s.get("activation_function") or s.get("afn")
    return 4 if named == "gelu_new" or (kind in GELU_NEW and (named is None or kind == "openai-gpt")) else 2


def _is_gated(s: Settings) -> bool:
    return s["model_type"] in GATED or str(s.get("feed_forward_proj", "")).startswith("gated")


def _attention(s: Settings, each: int, tokens: int, batch: int) -> int:
    """Query and its rotated copy, key, value, what grouped heads repeat of them, and the output; scores where kept."""
    queries, keys = s["num_attention_heads"] * s["head_dim"], s["num_key_value_heads"] * s["head_dim"]
    repeated = 2 * queries if queries != keys else 0
    rows = each * tokens * batch * (3 * queries + 2 * keys + repeated)
    return int(rows + _score_bytes(s["model_type"], each) * batch * s["num_attention_heads"] * tokens**2)


def _score_bytes(kind: str, each: int) -> int:
    """Bytes for each score at the worst moment, 0 where torch's fused kernel is used.

    BLOOM: scores, masked scores, and softmax from a float32 copy to a float32 result. GPT-J and GPT-Neo: float32
    scores and their scaled or masked copy, and the probabilities that the layer before returned. GPT-1: scores,
    masked scores and their sum.
    """
    written = {"bloom": 2 * each + 2 * FLOAT, "openai-gpt": 3 * each}
    return written.get(kind, 2 * FLOAT + each if kind in {"gptj", "gpt_neo"} else 0)


def _bias(s: Settings, each: int, tokens: int) -> int:
    """T5's relative positions: six 64-bit tables while buckets are made, then every head's bias and its masked copy."""
    if s["model_type"] != "t5":
        return 0
    return tokens**2 * max(6 * 8, 2 * each * int(s["num_attention_heads"]))


def _multiplying(weight: Weight, s: Settings, scheme: Scheme, rows: int, apart: float) -> float:
    """Bytes alive while one linear layer multiplies: its output, inner rows beside it, its scheme's copies."""
    beside = weight.rows
    if weight.name in {"down", "wo"}:
        beside += weight.columns  # the inner row that it reads
    elif weight.name in {"up", "wi_1"} and _is_gated(s):
        beside += s["intermediate_size"]  # the activated gate
    return scheme.other_bytes * rows * beside + max(map(sum, _copies(weight, scheme, rows, apart)), default=0)


def _copies(weight: Weight, scheme: Scheme, rows: int, apart: float) -> list[list[float]]:
    """Bytes of each block that a quantized layer makes, moment by moment."""
    if not scheme.quantizes or weight.keep_fp32:
        return []
    whole = weight.rows * weight.columns
    elements = {"input": rows * weight.columns, "output": rows * weight.rows, "weight": whole}
    elements["outliers"] = apart * whole
    return [[each * elements[what] for what, each in moment] for moment in scheme.moments]


def _heap(s: Settings, linear: list[Weight], scheme: Scheme, rows: int, apart: float) -> int:
    """Bytes that stay resident between what each layer keeps, a layer's share of its inner row block.

    Where outliers are computed apart, their number differs from layer to layer and so does every block: most of what
    the heap gives one multiplication is lost each time.
    """
    block = scheme.other_bytes * rows * s["intermediate_size"]
    moments = [moment for weight in linear for moment in _copies(weight, scheme, rows, apart)]
    if not moments:
        lost = min((LOST_WRITTEN if _score_bytes(s["model_type"], 1) else LOST_FUSED) * block, MMAP_LIMIT)
    elif not _takes_apart(scheme):
        lost = min(LOST_CAST * block, MMAP_LIMIT)
    else:
        lost = min(LOST_INT8 * block, MMAP_LIMIT + MMAP_LIMIT // 2)  # a block of 16 bits and one of 8
        taken = max(sum(part for part in moment if part < MMAP_LIMIT) for moment in moments)
        lost = max(lost, LOST_APART * taken if apart else 0)
    return int(s["num_hidden_layers"] * lost)


def _takes_apart(scheme: Scheme) -> bool:
    return any(what == "outliers" for moment in scheme.moments for what, _ in moment)


def _tables(s: Settings) -> int:
    """Bytes of what a class makes for every layer and no checkpoint holds: causal masks, rotary angles."""
    layers, positions = s["num_hidden_layers"], s["max_position_embeddings"] or 0
    if s["model_type"] == "gpt_neo":
        return int(layers * positions**2)
    if s["model_type"] == "openai-gpt":
        return int(layers * FLOAT * positions**2)
    return int(layers * FLOAT * positions * s.get("rotary_dim", 64)) if s["model_type"] == "gptj" else 0
