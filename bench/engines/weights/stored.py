# SPDX-License-Identifier: Apache-2.0
"""Checkpoints whose makers quantized them: in which scheme their files are, by their own configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

BITSANDBYTES = ("bnb-int8", "bnb-nf4")
"""Schemes of bitsandbytes, in which a checkpoint may come or which are made of it while it loads."""


TORCHAO = "torchao-int8"
"""The scheme of torchao, made while a model loads."""
COMPRESSED = ("ct-w4a16", "ct-w8a16", "ct-w8a8")
"""Schemes of compressed-tensors: bits of a weight and of an activation, as llm-compressor writes them."""
UNPACKED = ("pack-quantized", "int-quantized", "naive-quantized")
"""Formats of its files in which weights are integers beside their scales."""


def stored_scheme(folder: Path) -> str | None:
    """The scheme in which a checkpoint's weights are stored (`gptq-int4`), None if they are not quantized."""
    config = quantization(folder)
    if config is None:
        return None
    if config.get("quant_method") == "bitsandbytes" or "load_in_4bit" in config or "load_in_8bit" in config:
        return _bitsandbytes(config)
    if config.get("quant_method") == "compressed-tensors":
        return _compressed(config)
    bits = config.get("bits") or config.get("w_bit")
    method = str(config.get("quant_method") or ("gptq" if bits else "an unnamed method"))
    return f"{method}-int{bits}" if bits else method


def quantization(folder: Path) -> Mapping[str, object] | None:
    """How its configuration says that a checkpoint is quantized, None if it does not.

    Of one that reads more than text it stands beside the parts, or in that of the text.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    places = (config, config.get("text_config"))
    found = (place.get("quantization_config") for place in places if isinstance(place, dict))
    return next((told for told in found if isinstance(told, dict)), None)


def _bitsandbytes(config: Mapping[str, object]) -> str:
    if config.get("load_in_8bit") or config.get("_load_in_8bit"):
        return "bnb-int8"
    return f"bnb-{config.get('bnb_4bit_quant_type', 'fp4')}"


def _compressed(config: Mapping[str, object]) -> str:
    """`ct-w4a16`, or what of its groups is otherwise than any scheme here."""
    found = config.get("config_groups")
    groups = found.values() if isinstance(found, dict) else ()
    told = {_group(group) for group in groups if isinstance(group, dict)}
    if len(told) != 1:
        return "compressed-tensors of several schemes" if told else "compressed-tensors"
    (name,) = told
    if config.get("quantization_status") != "compressed" or config.get("format") not in UNPACKED:
        name += f" as {config.get('format')}"
    return f"{name} with quantized keys and values" if config.get("kv_cache_scheme") else name


def _group(group: Mapping[str, object]) -> str:
    weights, inputs = (_arguments(group.get(name)) for name in ("weights", "input_activations"))
    told = f"ct-w{weights.get('num_bits')}a{inputs.get('num_bits', 16)}"
    if weights.get("symmetric") is False:  # their zero points have another shape than transformers 5.23 makes room for
        told += " with zero points"
    kinds = sorted({str(part["type"]) for part in (weights, inputs) if part.get("type", "int") != "int"})
    if inputs.get("dynamic") and inputs.get("strategy") == "tensor":
        kinds.append("activations rounded by the whole pass")
    return " ".join([told, *kinds])


def _arguments(found: object) -> Mapping[str, object]:
    return found if isinstance(found, dict) else {}


def how_stored(folder: Path) -> str:
    """What of bitsandbytes' settings a checkpoint chose otherwise than this project would, empty if nothing."""
    config = quantization(folder) or {}
    told = []
    if config.get("bnb_4bit_use_double_quant") and config.get("load_in_4bit"):
        told.append("scales quantized once more")
    skipped = config.get("llm_int8_skip_modules")
    if isinstance(skipped, list) and set(skipped) - {"lm_head"}:
        told.append(f"{len(skipped)} modules left at 16 bits by name")
    if config.get("load_in_8bit") and config.get("llm_int8_threshold", 6.0) != 6.0:
        told.append(f"outlier threshold {config['llm_int8_threshold']}")
    return ", ".join(told)
