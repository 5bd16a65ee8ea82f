# SPDX-License-Identifier: Apache-2.0
"""What state-space and hybrid models carry from token to token, from their transformers config alone.

Their attention layers keep keys and values, which grow with the text. Their recurrent layers carry one state, and
their convolutions the last inputs, of one size whatever the text's length. Convolutions keep these in the type that the
model computes in; recurrences are in float32 in every family here. Keys, defaults and shapes follow transformers 5.23.0
(the modelling and configuration files of each family); `tests/engines/test_carried.py` holds them against the tensors
that loaded models carry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from bench.catalog.config import Config, UnknownArchitecture, once

FLOAT32 = 4


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Layers that carry something, and elements in each of them for one sequence. A layer may count as both kinds."""

    attention: int
    """Layers that keep keys and values."""
    position: int
    """Elements of these for one position of one layer."""
    window: int | None = None
    """Positions that such a layer keeps at most, None for all."""
    recurrent: int
    """Layers that carry a state or last inputs."""
    inputs: int
    """Elements of a convolution's last inputs, in the model's type."""
    state: int
    """Elements of a recurrent state, float32."""

    def bytes(self, tokens: int, batch: int, element_bytes: int) -> int:
        """All that is carried behind so many positions of each of `batch` sequences."""
        held = tokens if self.window is None else min(tokens, self.window)
        keys = self.attention * self.position * held * element_bytes
        return batch * (keys + self.recurrent * (self.inputs * element_bytes + self.state * FLOAT32))


def is_hybrid(config: Config | None) -> bool:
    """Whether this module knows what it carries."""
    return config is not None and config.get("model_type") in FAMILIES


@once
def carried(config: Config) -> Carried:
    """What a model of that config carries. Raises UnknownArchitecture."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UnknownArchitecture(f"model_type {kind!r} is not one of {', '.join(sorted(FAMILIES))}")
    found = FAMILIES[kind]
    told = {key: value for key, value in config.items() if value is not None}
    try:
        return found({**{key: value for key, value in DEFAULTS[kind].items() if key not in config}, **told})
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise UnknownArchitecture(f"{kind}: {error} in its config") from None


Given = Mapping[str, Any]
"""A config with the defaults of its class; `None` is left out."""
ATTENDS = frozenset({"attention", "full_attention", "hybrid"})
RECURS = frozenset({"mamba", "linear_attention", "conv", "recurrent", "hybrid"})
"""What configs call a layer that has keys and values, and one that has a state; Zamba's `hybrid` has both."""


def _kinds(c: Given, otherwise: Callable[[int], str]) -> list[str]:
    """What each layer is, listed or by its place."""
    listed = c.get("layer_types") or c.get("layers_block_type")
    if listed:
        return [str(kind) for kind in cast(Sequence[object], listed)]
    return [otherwise(index) for index in range(c["num_hidden_layers"])]


def _made(kinds: Sequence[str], *, position: int = 0, inputs: int = 0, state: int = 0) -> Carried:
    attention, recurrent = (sum(kind in names for kind in kinds) for names in (ATTENDS, RECURS))
    return Carried(attention=attention, position=position, recurrent=recurrent, inputs=inputs, state=state)


def _position(c: Given, width: int | None = None) -> int:
    heads = c["num_attention_heads"]
    return int(2 * c.get("num_key_value_heads", heads) * (width or c.get("head_dim") or c["hidden_size"] // heads))


def _mamba(c: Given) -> Carried:
    inner = int(c["expand"] * c["hidden_size"])
    return _made(["mamba"] * c["num_hidden_layers"], inputs=inner * c["conv_kernel"], state=inner * c["state_size"])


def _mamba2(c: Given) -> Carried:
    inner = int(c["expand"] * c["hidden_size"])
    inputs = (inner + 2 * c["n_groups"] * c["state_size"]) * c["conv_kernel"]
    state = c["num_heads"] * c["head_dim"] * c["state_size"]
    return _made(["mamba"] * c["num_hidden_layers"], inputs=inputs, state=state)


def _jamba(c: Given) -> Carried:
    """Mamba layers; of each period one attends."""
    inner = c["mamba_expand"] * c["hidden_size"]
    kinds = [
        "attention" if index % c["attn_layer_period"] == c["attn_layer_offset"] else "mamba"
        for index in range(c["num_hidden_layers"])
    ]
    inputs, state = inner * c["mamba_d_conv"], inner * c["mamba_d_state"]
    return _made(kinds, position=_position(c), inputs=inputs, state=state)


def _zamba(c: Given) -> Carried:
    """Mamba layers, some of them behind an attention that all share; its heads are twice as wide."""
    inner = c["mamba_expand"] * c["hidden_size"]
    period, offset = c["attn_layer_period"], c["attn_layer_offset"]
    kinds = _kinds(c, lambda at: "hybrid" if at == 2 or (at > 2 and (at - 3) % period == offset) else "mamba")
    position = _position(c, c.get("attention_head_dim") or 2 * c["hidden_size"] // c["num_attention_heads"])
    inputs, state = inner * c["mamba_d_conv"], inner * c["mamba_d_state"]
    return _made(kinds, position=position, inputs=inputs, state=state)


def _zamba2(c: Given) -> Carried:
    inner = int(c["mamba_expand"] * c["hidden_size"])
    hybrid = {*range(6, 43, 6), 47, 51}
    kinds = _kinds(c, lambda at: "hybrid" if at in hybrid else "mamba")
    inputs = (inner + 2 * c["mamba_ngroups"] * c["mamba_d_state"]) * c["mamba_d_conv"]
    position = _position(c, 2 * c["hidden_size"] // c["num_attention_heads"])
    return _made(kinds, position=position, inputs=inputs, state=inner * c["mamba_d_state"])


def _mamba2_beside(c: Given, inner: int, kinds: Sequence[str]) -> Carried:
    """Bamba, FalconH1, Granite: Mamba2's layers under common keys, with attention in others or in the same."""
    inputs = (inner + 2 * c["mamba_n_groups"] * c["mamba_d_state"]) * c["mamba_d_conv"]
    return _made(kinds, position=_position(c), inputs=inputs, state=inner * c["mamba_d_state"])


def _bamba(c: Given) -> Carried:
    attends = c.get("attn_layer_indices") or ()
    kinds = ["attention" if index in attends else "mamba" for index in range(c["num_hidden_layers"])]
    return _mamba2_beside(c, c["mamba_expand"] * c["hidden_size"], kinds)


def _falcon_h1(c: Given) -> Carried:
    inner = c.get("mamba_d_ssm") or c["mamba_expand"] * c["hidden_size"]
    return _mamba2_beside(c, inner, ["hybrid"] * c["num_hidden_layers"])


def _granite(c: Given) -> Carried:
    return _mamba2_beside(c, c["mamba_expand"] * c["hidden_size"], _kinds(c, lambda at: "mamba"))


def _nemotron_h(c: Given) -> Carried:
    """Layers of one thing each: a state, an attention or a feed-forward. Older configs spell them as letters."""
    letters = {"M": "mamba", "*": "attention"}
    spelt = [letters.get(letter, "mlp") for letter in c.get("hybrid_override_pattern", "")]
    kinds = c.get("layers_block_type") or c.get("layer_types") or spelt or ["mamba", "moe", "attention", "mlp"]
    heads, width = c["mamba_num_heads"], c["mamba_head_dim"]
    groups, kernel = c.get("mamba_n_groups", c["n_groups"]), c.get("mamba_d_conv", c["conv_kernel"])
    inputs = (heads * width + 2 * groups * c["ssm_state_size"]) * kernel
    return _made(kinds, position=_position(c), inputs=inputs, state=heads * width * c["ssm_state_size"])


def _gated_delta(c: Given) -> Carried:
    """Qwen3-Next, Qwen3.5, OLMo hybrid: linear attention with one matrix for each head of values."""
    every = c.get("full_attention_interval", 4)
    kinds = _kinds(c, lambda at: "linear_attention" if (at + 1) % every else "full_attention")
    keys, values = (c[f"linear_num_{name}_heads"] * c[f"linear_{name}_head_dim"] for name in ("key", "value"))
    state = values * c["linear_key_head_dim"]
    return _made(kinds, position=_position(c), inputs=(2 * keys + values) * c["linear_conv_kernel_dim"], state=state)


def _lfm2(c: Given) -> Carried:
    attends = c.get("full_attn_idxs")
    kinds = _kinds(c, lambda at: "attention" if attends is None or at in attends else "conv")
    return _made(kinds, position=_position(c), inputs=c["hidden_size"] * c["conv_L_cache"])


def _lfm2_moe(c: Given) -> Carried:
    """Its class takes nothing for granted of its layers."""
    return _lfm2({**c, "layer_types": c["layer_types"]})


def _recurrent_gemma(c: Given) -> Carried:
    """Three layers in turn; the attention slides, and its layer keeps one position less than its window."""
    types = c["block_types"]
    kinds = [str(types[index % len(types)]) for index in range(c["num_hidden_layers"])]
    width = c.get("lru_width") or c["hidden_size"]
    made = _made(kinds, position=_position(c), inputs=width * (c["conv1d_width"] - 1), state=width)
    return replace(made, window=c["attention_window_size"] - 1)


FAMILIES: dict[str, Callable[[Given], Carried]] = {
    "bamba": _bamba,
    "falcon_h1": _falcon_h1,
    "falcon_mamba": _mamba,
    "granitemoehybrid": _granite,
    "jamba": _jamba,
    "lfm2": _lfm2,
    "lfm2_moe": _lfm2_moe,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "nemotron_h": _nemotron_h,
    "qwen3_5_text": _gated_delta,
    "qwen3_next": _gated_delta,
    "recurrent_gemma": _recurrent_gemma,
    "zamba": _zamba,
    "zamba2": _zamba2,
}
"""model_type to what it carries."""
_MAMBA: Given = {"hidden_size": 768, "num_hidden_layers": 32, "expand": 2, "conv_kernel": 4, "state_size": 16}
_ATTENTION: Given = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
_BESIDE: Given = {"mamba_expand": 2, "mamba_d_conv": 4, "mamba_d_state": 256, "mamba_n_groups": 1}
_DELTA: Given = {
    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}  # fmt: skip
_PERIODIC: Given = {"mamba_expand": 2, "mamba_d_conv": 4, "mamba_d_state": 16}
DEFAULTS: dict[str, Given] = {
    "bamba": {**_ATTENTION, **_BESIDE},
    "falcon_h1": {**_ATTENTION, **_BESIDE, "mamba_d_ssm": 1024},
    "falcon_mamba": _MAMBA,
    "granitemoehybrid": {key: value for key, value in _ATTENTION.items() if "value" not in key} | {**_BESIDE},
    "jamba": {**_ATTENTION, **_PERIODIC, "attn_layer_period": 8, "attn_layer_offset": 4},
    "lfm2": {**_ATTENTION, "hidden_size": 2560, "conv_L_cache": 3},
    "lfm2_moe": {**_ATTENTION, "hidden_size": 2048, "conv_L_cache": 3},
    "mamba": _MAMBA,
    "mamba2": {
        **_MAMBA, "hidden_size": 4096, "num_hidden_layers": 64, "state_size": 128, "num_heads": 128, "head_dim": 64,
        "n_groups": 8,
    },
    "nemotron_h": {
        **_ATTENTION, "head_dim": 128, "ssm_state_size": 128, "mamba_num_heads": 128, "mamba_head_dim": 64,
        "n_groups": 8, "conv_kernel": 4,
    },
    "qwen3_5_text": {**_ATTENTION, **_DELTA, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256},
    "qwen3_next": {
        **_ATTENTION, **_DELTA, "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16,
        "num_key_value_heads": 2, "head_dim": 256,
    },
    "recurrent_gemma": {
        "hidden_size": 2560, "num_hidden_layers": 26, "num_attention_heads": 10, "attention_window_size": 2048,
        "conv1d_width": 4, "block_types": ("recurrent", "recurrent", "attention"),
    },
    "zamba": {
        **_PERIODIC, "hidden_size": 3712, "num_hidden_layers": 76, "num_attention_heads": 16,
        "num_key_value_heads": 16, "attn_layer_period": 6, "attn_layer_offset": 4,
    },
    "zamba2": {
        "hidden_size": 2560, "num_hidden_layers": 54, "num_attention_heads": 32, "mamba_expand": 2, "mamba_d_conv": 4,
        "mamba_d_state": 64, "mamba_ngroups": 1,
    },
}  # fmt: skip
"""What a family's config class takes for the keys read here where they are left out; a key missing here too is off."""
