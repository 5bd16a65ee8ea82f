# SPDX-License-Identifier: Apache-2.0
"""Bytes of the tensors alive at the worst moment of a transformers forward pass.

Read from the modelling files of transformers 5.23 and from bitsandbytes 0.50.2, and held against traces of torch's
allocator, which they meet within a few per cent. Rows are tokens read at once, of all sequences.

- The stream: the embedded text, a layer's input, its residual and its normed copy live through every sublayer.
- Attention that torch's fused kernel computes never holds a score. BLOOM, GPT-1, GPT-Neo and GPT-J compute theirs:
  tokens x tokens for each head and sequence, several copies of it, mostly float32. T5 keeps a bias of that size.
- The feed-forward holds inner rows: gate, up and product of a gated one; with an activation written out in Python
  (`gelu_new`, BLOOM's own) one for each step of its formula that is still needed.
- A quantized layer computes in other types than the model, in copies of its input and output and perhaps of its
  weight: its scheme lists them (`Kernel.moments`).
- The head reads the last position alone; a masked model's reads all.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.catalog.architecture import Weight
from bench.catalog.config import Settings
from bench.records.cell import Scheme

FLOAT = 4
"""Bytes of what is computed in float32 whatever the model's type: norms, and the scores that a family writes out."""
GATED = frozenset({"gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"})
GELU_NEW = frozenset({"gpt2", "gpt_neo", "gptj", "openai-gpt"})
"""Whose configuration means `gelu_new` where it names no activation (and, in GPT-1, by `gelu`)."""


def live_bytes(s: Settings, linear: Sequence[Weight], scheme: Scheme, tokens: int, batch: int, apart: float) -> int:
    """Bytes while `tokens` of each of `batch` sequences are read, `apart` the share of columns with outliers.

    `s` has the common key names (`bench.catalog.config.settings`), `linear` are the architecture's linear weights.
    """
    rows, each = tokens * batch, scheme.other_bytes
    stream, norm = 4 * each * rows * s["hidden_size"], 2 * FLOAT * rows * s["hidden_size"]
    activation = each * rows * _inner_rows(s) * s["intermediate_size"]
    multiplying = [_multiplying(weight, s, scheme, rows, apart) for weight in linear]
    worst = max(norm, activation, _attention(s, each, tokens, batch), *multiplying)
    logits = each * batch * (tokens if s["model_type"] == "bert" else 2) * s["vocab_size"]
    return int(stream + worst + _bias(s, each, tokens) + logits)


def _inner_rows(s: Settings) -> int:
    """Rows of inner width that exist during the activation, including its input."""
    kind = s["model_type"]
    if is_gated(s):
        return 3
    if kind == "bloom":
        return 5
    named = s.get("activation_function") or s.get("afn")
    return 4 if named == "gelu_new" or (kind in GELU_NEW and (named is None or kind == "openai-gpt")) else 2


def is_gated(s: Settings) -> bool:
    """Whether its feed-forward network has three matrices: gate, up and down."""
    return s["model_type"] in GATED or str(s.get("feed_forward_proj", "")).startswith("gated")


def _attention(s: Settings, each: int, tokens: int, batch: int) -> int:
    """Query and its rotated copy, key, value, what grouped heads repeat of them, and the output; scores where kept."""
    queries, keys = s["num_attention_heads"] * s["head_dim"], s["num_key_value_heads"] * s["head_dim"]
    repeated = 2 * queries if queries != keys else 0
    rows = each * tokens * batch * (3 * queries + 2 * keys + repeated)
    return int(rows + score_bytes(s["model_type"], each) * batch * s["num_attention_heads"] * tokens**2)


def score_bytes(kind: str, each: int) -> int:
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
    elif weight.name in {"up", "wi_1"} and is_gated(s):
        beside += s["intermediate_size"]  # the activated gate
    return scheme.other_bytes * rows * beside + max(map(sum, copies(weight, scheme, rows, apart)), default=0)


def copies(weight: Weight, scheme: Scheme, rows: int, apart: float) -> list[list[float]]:
    """Bytes of each block that a quantized layer makes, moment by moment."""
    if not scheme.quantizes or weight.keep_fp32:
        return []
    whole = weight.rows * weight.columns
    elements: dict[str, float] = {"input": rows * weight.columns, "output": rows * weight.rows}
    elements |= {"weight": whole, "outliers": apart * whole}
    return [[each * elements[what] for what, each in moment] for moment in scheme.kernel.moments]
