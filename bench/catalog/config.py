# SPDX-License-Identifier: Apache-2.0
"""A transformers config under common key names, with the defaults that its config class would fill in.

Families call the same size by different keys (`n_embd`, `d_model`, `hidden_size`) and leave out what equals their
class's default. Aliases and defaults follow the configuration files of transformers 5.23.0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Concatenate, NotRequired, ParamSpec, TypedDict, TypeVar, cast

from pydantic import JsonValue

T = TypeVar("T")
P = ParamSpec("P")
MOST_ANSWERS = 8192
"""Answers of one function that are remembered."""
Config = Mapping[str, JsonValue]
"""The keys of a `config.json`, under whatever names the family uses."""


class Settings(TypedDict):
    """A config under the common key names. Keys that only some families have may be absent."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int | None
    """None for BLOOM and T5, which have no table of positions."""
    tie_word_embeddings: bool
    activation_function: NotRequired[str]
    afn: NotRequired[str]
    attention_bias: NotRequired[bool]
    do_layer_norm_before: NotRequired[bool]
    enable_bias: NotRequired[bool]
    feed_forward_proj: NotRequired[str]
    layer_norm_elementwise_affine: NotRequired[bool]
    layer_norm_eps: NotRequired[float]
    layer_types: NotRequired[list[str]]
    max_window_layers: NotRequired[int]
    mlp_bias: NotRequired[bool]
    no_rope_layer_interval: NotRequired[int]
    no_rope_layers: NotRequired[list[int]]
    num_decoder_layers: NotRequired[int | None]
    relative_attention_num_buckets: NotRequired[int]
    rms_norm_eps: NotRequired[float]
    rope_theta: NotRequired[float]
    rotary_dim: NotRequired[int]
    rotary_pct: NotRequired[float]
    sliding_window: NotRequired[int | None]
    sliding_window_pattern: NotRequired[int]
    type_vocab_size: NotRequired[int]
    use_parallel_residual: NotRequired[bool]
    use_sliding_window: NotRequired[bool]
    word_embed_proj_dim: NotRequired[int]
    _remove_final_layer_norm: NotRequired[bool]


class UnknownArchitecture(ValueError):
    """The config's model_type is not in SIZES, so nothing can be predicted from it."""


def once(function: Callable[Concatenate[Config, P], T]) -> Callable[Concatenate[Config, P], T]:
    """The same function of a config, and of schemes, words and numbers, worked out once for equal ones.

    A plan asks a dozen things of every entry, a catalogue of thousands is planned as one, and half of its entries are
    tunes of another. Nobody changes a config or a scheme that is being asked about.
    """
    known: dict[tuple[object, ...], tuple[tuple[object, ...], T]] = {}

    @wraps(function)
    def call(config: Config, *more: P.args, **named: P.kwargs) -> T:
        others = (*more, *named.values())
        key = (content(config), *(value if isinstance(value, str | int) else id(value) for value in others))
        found = known.get(key)
        if found is None:
            if len(known) >= MOST_ANSWERS:
                known.clear()
            found = known[key] = (others, function(config, *more, **named))  # what is kept keeps its id
        return found[1]

    return cast(Callable[Concatenate[Config, P], T], call)


def content(config: Config) -> str:
    """Equal for configs of equal content."""
    found = _TEXTS.get(id(config))
    if found is None:
        if len(_TEXTS) >= MOST_ANSWERS:
            _TEXTS.clear()
        found = _TEXTS[id(config)] = (config, json.dumps(config, sort_keys=True, default=str))
    return found[1]


_TEXTS: dict[int, tuple[Config, str]] = {}


@once
def settings(config: Config) -> Settings:
    """The config under the common key names, every default filled in. Raises UnknownArchitecture."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in SIZES:
        raise UnknownArchitecture(f"model_type {kind!r} is not one of {', '.join(sorted(SIZES))}")
    defaults = dict(zip(SIZE_KEYS, SIZES[kind], strict=True)) | DEFAULTS.get(kind, {})
    given = {ALIASES.get(key, key): value for key, value in config.items()}
    s = cast(Settings, {"tie_word_embeddings": kind in TIED} | defaults | given)
    s["head_dim"] = s.get("head_dim") or s["hidden_size"] // s["num_attention_heads"]
    s["num_key_value_heads"] = s.get("num_key_value_heads") or s["num_attention_heads"]
    if not s["intermediate_size"] or kind in {"bloom", "openai-gpt"}:  # these two have no such key
        s["intermediate_size"] = 4 * s["hidden_size"]
    return s


SIZES: dict[str, tuple[int | None, ...]] = {
    "bert": (30522, 768, 12, 12, 3072, 512),
    "bloom": (250880, 64, 2, 8, None, None),
    "gemma3_text": (262208, 2304, 26, 8, 9216, 131072),
    "gpt2": (50257, 768, 12, 12, None, 1024),
    "gpt_neo": (50257, 2048, 24, 16, None, 2048),
    "gpt_neox": (50432, 6144, 44, 64, 24576, 2048),
    "gptj": (50400, 4096, 28, 16, None, 2048),
    "llama": (32000, 4096, 32, 32, 11008, 2048),
    "mistral": (32000, 4096, 32, 32, 14336, 131072),
    "olmo2": (50304, 4096, 32, 32, 11008, 2048),
    "openai-gpt": (40478, 768, 12, 12, None, 512),
    "opt": (50272, 768, 12, 12, 3072, 2048),
    "phi3": (32064, 3072, 32, 32, 8192, 4096),
    "qwen2": (151936, 4096, 32, 32, 22016, 32768),
    "qwen3": (151936, 4096, 32, 32, 22016, 32768),
    "smollm3": (128256, 2048, 36, 16, 11008, 32768),
    "t5": (32128, 512, 6, 8, 2048, None),
}
"""By model_type, what its config class takes for the keys of SIZE_KEYS where they are left out."""
SIZE_KEYS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings",
)  # fmt: skip
ALIASES = {
    **dict.fromkeys(("n_embd", "n_embed", "d_model"), "hidden_size"),
    **dict.fromkeys(("n_layer", "num_layers"), "num_hidden_layers"),
    **dict.fromkeys(("n_head", "num_heads"), "num_attention_heads"),
    **dict.fromkeys(("n_inner", "ffn_dim", "d_ff"), "intermediate_size"),
    "n_positions": "max_position_embeddings",
    "d_kv": "head_dim",
}
"""A family's own key to the common one."""
TIED = frozenset({"bert", "bloom", "gemma3_text", "gpt2", "gpt_neo", "openai-gpt", "opt", "smollm3", "t5"})
"""Where `tie_word_embeddings` is true when left out."""
_QWEN: dict[str, JsonValue] = {
    "num_key_value_heads": 32, "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28,
}  # fmt: skip
DEFAULTS: dict[str, dict[str, JsonValue]] = {
    "bert": {"type_vocab_size": 2},
    "gemma3_text": {"num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096},
    "gpt_neox": {"attention_bias": True},
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "opt": {"do_layer_norm_before": True, "enable_bias": True, "layer_norm_elementwise_affine": True},
    "qwen2": _QWEN,
    "qwen3": _QWEN | {"head_dim": 128},
    "smollm3": {"num_key_value_heads": 4, "use_sliding_window": False, "no_rope_layer_interval": 4},
    "t5": {"head_dim": 64, "relative_attention_num_buckets": 32, "feed_forward_proj": "relu"},
}
"""The other keys that a family leaves out; a key missing here too is off."""
