# SPDX-License-Identifier: Apache-2.0
"""Every weight of a model from its transformers config alone: which tensors there are, how large, in which role.

Nothing is loaded, so bytes can be predicted even for models that are too large for this machine. Shapes follow the
modelling files of transformers 5.23.0; tests/catalog/test_architecture_figures.py compares them with the real classes.
All counts are elements, never bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from bench.catalog.config import SIZES, Config, Settings, once, settings


class Role(StrEnum):
    """What a scheme may do with a weight."""

    LINEAR = "linear"
    """Quantized by bitsandbytes: nn.Linear and the Conv1D of GPT-1 and GPT-2, the output head excepted."""
    HEAD = "head"
    """An output head with values of its own; quantizers leave it alone."""
    EMBEDDING = "embedding"
    """Looked up, not multiplied: tokens (and the head tied to them), positions, T5's relative biases."""
    OTHER = "other"
    """Norms and biases."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """`count` tensors of one shape, such as the same projection in every layer."""

    name: str
    """What it is, in the same words for every family; T5's feed-forward keeps its own names."""
    role: Role
    rows: int
    """Output features of a linear weight (Conv1D stores them second); the length of a vector."""
    columns: int = 1
    """Input features; 1 for a vector."""
    count: int = 1
    keep_fp32: bool = False
    """Held in fp32 when the model is asked for in fp16, and then not quantized either: T5's `wo`."""

    @property
    def parameters(self) -> int:
        """Elements of all `count` tensors."""
        return self.rows * self.columns * self.count


def is_known(config: Config | None) -> bool:
    """Whether everything can be predicted of it."""
    return config is not None and config.get("model_type") in SIZES


@once
def weights(config: Config) -> tuple[Weight, ...]:
    """Every tensor of the language model, tied ones once. Raises UnknownArchitecture."""
    s = settings(config)
    return tuple(FAMILIES[s["model_type"]](s))


@once
def parameters(config: Config) -> int:
    """Exact parameter count, tied tensors once. Raises UnknownArchitecture."""
    return sum(weight.parameters for weight in weights(config))


ALIKE = 0.01
"""By so much of their parameters two models of one architecture may differ: tunes add a few rows to the vocabulary."""
NO_SIZE = {"vocab_size", "max_position_embeddings", "rope_theta", "rms_norm_eps", "layer_norm_eps"}
"""Keys of a config that change neither the layers' bytes nor their operations."""


def same_architecture(one: Config | None, other: Config | None) -> bool:
    """Whether two models take the same memory and time: every size alike, the vocabulary nearly so."""
    if one is None or other is None or not is_known(one) or not is_known(other):
        return False
    return shape(one) == shape(other) and abs(parameters(one) / parameters(other) - 1) <= ALIKE


@once
def shape(config: Config) -> str:
    """All sizes but the vocabulary's and what changes none, in one text. Raises UnknownArchitecture."""
    return str(sorted((k, v) for k, v in settings(config).items() if k not in NO_SIZE))


def cache_elements(config: Config, tokens: int, batch: int = 1) -> int:
    """Elements of the keys and values that transformers' DynamicCache holds after `tokens` positions.

    A sliding layer holds at most its window less one (cache_utils.py, DynamicSlidingWindowLayer.update); T5's cross
    attention is left out. 0 for classes without a cache: BERT and GPT-1. Raises UnknownArchitecture.
    """
    s = settings(config)
    if s["model_type"] in {"bert", "openai-gpt"}:
        return 0
    held = sum(min(tokens, window - 1) if window else tokens for window in _windows(s))
    return 2 * batch * held * s["num_key_value_heads"] * s["head_dim"]


def context_length(config: Config) -> int | None:
    """Positions the config allows, None without a limit: BLOOM's ALiBi, T5's biases. Raises UnknownArchitecture."""
    s = settings(config)
    return None if s["model_type"] in {"bloom", "t5"} else s["max_position_embeddings"]


def slides(config: Config) -> bool:
    """Whether any layer attends to a window alone. Raises UnknownArchitecture."""
    return any(window is not None for window in _windows(settings(config)))


def _windows(s: Settings) -> list[int | None]:
    """Each layer's sliding window in positions, None for full attention, derived as the config classes do."""
    layers, window = range(s.get("num_decoder_layers") or s["num_hidden_layers"]), s.get("sliding_window")
    if window is None or s.get("use_sliding_window") is False:
        slides = [False for _ in layers]
    elif s.get("layer_types"):
        slides = [kind == "sliding_attention" for kind in s["layer_types"]]
    elif s["model_type"] == "gemma3_text":
        slides = [(index + 1) % s.get("sliding_window_pattern", 6) != 0 for index in layers]
    elif s["model_type"] == "smollm3":  # only the layers without rotary positions slide
        rotary = s.get("no_rope_layers") or [(index + 1) % s["no_rope_layer_interval"] for index in layers]
        slides = [not rotary[index] for index in layers]
    else:
        slides = [index >= s.get("max_window_layers", 0) for index in layers]
    return [window if slide else None for slide in slides]


def _linear(name: str, rows: int, columns: int, count: int, *, bias: bool = False) -> list[Weight]:
    weight = Weight(name=name, role=Role.LINEAR, rows=rows, columns=columns, count=count)
    return [weight, _vector(f"{name}.bias", rows, count)] if bias else [weight]


def _vector(name: str, size: int, count: int = 1) -> Weight:
    return Weight(name=name, role=Role.OTHER, rows=size, count=count)


def _embedding(name: str, rows: int, columns: int, count: int = 1) -> Weight:
    return Weight(name=name, role=Role.EMBEDDING, rows=rows, columns=columns, count=count)


def _tokens(s: Settings) -> list[Weight]:
    """The token embedding, and the head unless the two are one tensor."""
    rows, columns = s["vocab_size"], s.get("word_embed_proj_dim") or s["hidden_size"]
    head = Weight(name="head", role=Role.HEAD, rows=rows, columns=columns)
    return [_embedding("tokens", rows, columns)] + ([] if s["tie_word_embeddings"] else [head])


def _positions(s: Settings, offset: int = 0) -> list[Weight]:
    return [_embedding("positions", (s["max_position_embeddings"] or 0) + offset, s["hidden_size"])]


def _attention(s: Settings, *, fused: bool = False, bias: bool = False, out_bias: bool = False) -> list[Weight]:
    """The projections of every layer; `fused` has query, key and value in one matrix."""
    hidden, layers = s["hidden_size"], s["num_hidden_layers"]
    queries, keys = s["num_attention_heads"] * s["head_dim"], s["num_key_value_heads"] * s["head_dim"]
    rows = {"query_key_value": queries + 2 * keys} if fused else {"query": queries, "key": keys, "value": keys}
    qkv = [weight for name in rows for weight in _linear(name, rows[name], hidden, layers, bias=bias)]
    return qkv + _linear("attention_output", hidden, queries, layers, bias=out_bias)


def _feed_forward(s: Settings, *ups: str, bias: bool = True, wide: int = 1) -> list[Weight]:
    """One or two matrices up (each `wide` inner widths), one down."""
    hidden, layers, inner = s["hidden_size"], s["num_hidden_layers"], s["intermediate_size"]
    up = [weight for name in ups or ("up",) for weight in _linear(name, wide * inner, hidden, layers, bias=bias)]
    return up + _linear("down", hidden, inner, layers, bias=bias)


def _layer_norms(s: Settings, each: int, *, more: int = 1) -> list[Weight]:
    """`each` in every layer and `more` outside (mostly the final one), with biases."""
    count = each * s["num_hidden_layers"] + more
    return [_vector("layer_norm", s["hidden_size"], count), _vector("layer_norm.bias", s["hidden_size"], count)]


def _llama(s: Settings, *, qkv_bias: bool = False, norms: int = 2, head_norms: bool = False) -> list[Weight]:
    """RMS norms (`norms` a layer), gated feed-forward. Of Gemma 3 the text model alone, without the vision tower."""
    bias, mlp_bias, layers = s.get("attention_bias", False), s.get("mlp_bias", False), s["num_hidden_layers"]
    layer = _attention(s, bias=bias or qkv_bias, out_bias=bias) + _feed_forward(s, "gate", "up", bias=mlp_bias)
    heads = [_vector("head_norm", s["head_dim"], 2 * layers)] if head_norms else []
    return [*_tokens(s), *layer, _vector("layer_norm", s["hidden_size"], norms * layers + 1), *heads]


def _olmo2(s: Settings) -> list[Weight]:
    """Llama with norms over all query and all key features at once."""
    layers, width = s["num_hidden_layers"], s["head_dim"]
    queries, keys = s["num_attention_heads"] * width, s["num_key_value_heads"] * width
    return [*_llama(s), _vector("query_norm", queries, layers), _vector("key_norm", keys, layers)]


def _phi3(s: Settings) -> list[Weight]:
    """Llama with its projections fused, gate and up as well."""
    norms = _vector("layer_norm", s["hidden_size"], 2 * s["num_hidden_layers"] + 1)
    return [*_tokens(s), *_attention(s, fused=True), *_feed_forward(s, "gate_up", bias=False, wide=2), norms]


def _gpt_neox(s: Settings) -> list[Weight]:
    bias = s["attention_bias"]
    return _tokens(s) + _attention(s, fused=True, bias=bias, out_bias=bias) + _feed_forward(s) + _layer_norms(s, 2)


def _bloom(s: Settings) -> list[Weight]:
    """One more norm, after the embedding."""
    attention = _attention(s, fused=True, bias=True, out_bias=True)
    return _tokens(s) + attention + _feed_forward(s) + _layer_norms(s, 2, more=2)


def _gpt2(s: Settings, *, final_norms: int = 1) -> list[Weight]:
    """GPT-1 has no final norm, for its norms come after each sublayer."""
    attention = _attention(s, fused=True, bias=True, out_bias=True)
    return _tokens(s) + _positions(s) + attention + _feed_forward(s) + _layer_norms(s, 2, more=final_norms)


def _gpt_neo(s: Settings) -> list[Weight]:
    return _tokens(s) + _positions(s) + _attention(s, out_bias=True) + _feed_forward(s) + _layer_norms(s, 2)


def _gptj(s: Settings) -> list[Weight]:
    """One norm serves attention and feed-forward; the head has a bias."""
    head_bias = _vector("head.bias", s["vocab_size"])
    return [*_tokens(s), *_attention(s), *_feed_forward(s), *_layer_norms(s, 1), head_bias]


def _opt(s: Settings) -> list[Weight]:
    """The 350m alone has no final norm, and projects a narrower embedding in and out."""
    hidden, width, bias = s["hidden_size"], s.get("word_embed_proj_dim") or s["hidden_size"], s["enable_bias"]
    project = _linear("project_in", hidden, width, 1) + _linear("project_out", width, hidden, 1)
    final = int(s["do_layer_norm_before"] and not s.get("_remove_final_layer_norm"))
    norms = _layer_norms(s, 2, more=final) if s["layer_norm_elementwise_affine"] else []
    layers = _attention(s, bias=bias, out_bias=bias) + _feed_forward(s, bias=bias) + norms
    return [*_tokens(s), *_positions(s, offset=2), *(project if width != hidden else []), *layers]


def _t5(s: Settings) -> list[Weight]:
    """Encoder, decoder and head, untied where the config says so, as in Flan-T5's files.

    (transformers 5 ties the head of every T5 that it builds without loading such a file.)
    """
    heads, encoder, decoder = s["num_attention_heads"], s["num_hidden_layers"], s.get("num_decoder_layers")
    decoder = encoder if decoder is None else decoder
    both: Settings = {**s, "num_hidden_layers": encoder + decoder}
    attentions: Settings = {**s, "num_hidden_layers": encoder + 2 * decoder}
    ups = ("wi_0", "wi_1") if s["feed_forward_proj"].startswith("gated") else ("wi",)
    *up, down = _feed_forward(both, *ups, bias=False)
    wo, norms = replace(down, name="wo", keep_fp32=True), 2 * encoder + 3 * decoder + 2
    bias = _embedding("relative_attention_bias", s["relative_attention_num_buckets"], heads, 2)
    return [*_tokens(s), bias, *_attention(attentions), *up, wo, _vector("layer_norm", s["hidden_size"], norms)]


def _bert(s: Settings) -> list[Weight]:
    """With the masked-language head: its transform is quantized, its bias exists twice where it is untied."""
    hidden, layers = s["hidden_size"], _attention(s, bias=True, out_bias=True) + _feed_forward(s)
    transform = _linear("head.transform", hidden, hidden, 1, bias=True)
    bias = _vector("head.bias", s["vocab_size"], 1 if s["tie_word_embeddings"] else 2)
    types = _embedding("token_types", s["type_vocab_size"], hidden)
    return [*_tokens(s), *_positions(s), types, *layers, *_layer_norms(s, 2, more=2), *transform, bias]


FAMILIES: dict[str, Callable[[Settings], list[Weight]]] = {
    "bert": _bert,
    "bloom": _bloom,
    "gemma3_text": partial(_llama, norms=4, head_norms=True),
    "gpt2": _gpt2,
    "gpt_neo": _gpt_neo,
    "gpt_neox": _gpt_neox,
    "gptj": _gptj,
    "llama": _llama,
    "mistral": _llama,
    "olmo2": _olmo2,
    "openai-gpt": partial(_gpt2, final_norms=0),
    "opt": _opt,
    "phi3": _phi3,
    "qwen2": partial(_llama, qkv_bias=True),
    "qwen3": partial(_llama, head_norms=True),
    "smollm3": _llama,
    "t5": _t5,
}
"""model_type to the inventory of its weights."""
