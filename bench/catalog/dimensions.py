# SPDX-License-Identifier: Apache-2.0
"""Whether the sizes that a config names can be a model's: everything else divides by them and counts with them."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from bench.catalog.config import ALIASES, SIZE_KEYS, SIZES, Config
from bench.errors import UserError

MOST = 2**31
"""No size of a model comes near: a vocabulary has hundreds of thousands of rows, a context millions of positions."""
MOST_LAYERS = 10_000
LAYERS = {"num_hidden_layers", "num_decoder_layers"}
NEEDED = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"}
"""Common names of what every model has; the others may be null, for their class's own value."""
SMALLEST = {
    **dict.fromkeys(SIZE_KEYS, 1),
    **dict.fromkeys(("head_dim", "num_key_value_heads", "num_decoder_layers", "word_embed_proj_dim"), 1),
    **dict.fromkeys(("relative_attention_num_buckets", "no_rope_layer_interval", "sliding_window_pattern"), 1),
    **dict.fromkeys(("sliding_window", "max_window_layers", "type_vocab_size", "rotary_dim"), 0),
}
"""By common name, the smallest value of the sizes that arithmetic is done with."""
LISTS = {"layer_types": str, "no_rope_layers": int}
"""Keys that hold a value for each layer, and of which type."""


def check(config: Config, path: Path) -> None:
    """Raise UserError, naming the file and the field, where a config's sizes cannot be those of a model."""
    wrong = fault(config)
    if wrong:
        raise UserError(f"{path}: field {wrong[0]!r}: {wrong[1]}", "get the file again, or correct that field")


def fault(config: Config) -> tuple[str, str] | None:
    """The field that cannot be and why, None if every one can.

    Of an architecture that we do not know, only what every architecture calls by these names is looked at.
    """
    kind = config.get("model_type")
    if kind is not None and not isinstance(kind, str):
        return "model_type", f"{_shown(kind)} is no name"
    known = kind in SIZES
    for key, value in config.items():
        name = ALIASES.get(key, key)
        if not known and name not in NEEDED - {"num_attention_heads"}:
            continue
        wrong = _size(name, value) if name in SMALLEST else _list(name, value, config) if name in LISTS else None
        if wrong:
            return key, wrong
    return _narrow(config) if known else None


def _size(name: str, value: JsonValue) -> str | None:
    if value is None:
        return "is null, and no model is without it" if name in NEEDED else None
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{_shown(value)} is no whole number"
    most = MOST_LAYERS if name in LAYERS else MOST
    if not SMALLEST[name] <= value <= most:
        return f"{_shown(value)} is not between {SMALLEST[name]} and {most}"
    return None


def _list(name: str, value: JsonValue, config: Config) -> str | None:
    if value is None:
        return None
    kind, layers = LISTS[name], config.get("num_hidden_layers")
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        return f"{_shown(value)} is no list with a value for each layer"
    if isinstance(layers, int) and len(value) < layers:
        return f"has {len(value)} values for {layers} layers"
    return None


def _narrow(config: Config) -> tuple[str, str] | None:
    """Where no feature is left for a head."""
    given = {ALIASES.get(key, key): (key, value) for key, value in config.items()}
    hidden, heads = (given.get(name, ("", None))[1] for name in ("hidden_size", "num_attention_heads"))
    if isinstance(hidden, int) and isinstance(heads, int) and hidden < heads and "head_dim" not in given:
        return given["hidden_size"][0], f"{hidden} is less than the number of attention heads, {heads}"
    return None


def _shown(value: JsonValue) -> str:
    return repr(value)[:40]
