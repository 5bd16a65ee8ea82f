# SPDX-License-Identifier: Apache-2.0
"""Which quantized cache of transformers keeps keys and values in fewer bits: the one measured, and the one printed."""

from __future__ import annotations

from typing import Any

BITS = {"int8": 8, "int4": 4}
GROUP, RESIDUAL = 32, 128
"""Values of a head that share a scale in a quantized cache, and tokens after which it is written anew."""


def kept_in(kv: str) -> dict[str, Any]:
    """The cache of that precision in transformers' words (`cache_config`)."""
    return {
        "backend": "hqq", "nbits": BITS[kv], "axis_key": 1, "axis_value": 1, "q_group_size": GROUP,
        "residual_length": RESIDUAL,
    }  # fmt: skip
