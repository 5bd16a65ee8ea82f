# SPDX-License-Identifier: Apache-2.0
"""Bytes of an exported model in a scheme, and of the process that runs it, from the architecture alone."""

from __future__ import annotations

from collections.abc import Mapping

from bench.catalog import architecture
from bench.catalog.architecture import Role
from bench.catalog.config import Config
from bench.engines.contract import Footprint
from bench.records.cell import KV, Scheme

HELD = {"ov-fp32": 2.4, "ov-fp16": 2.7, "ov-bf16": 1.9, "ov-int8": 2.0, "ov-int4": 2.1}
"""Bytes at the peak by bytes of the file: the file stays mapped beside what kernels make of it, and a tied head is held
twice. Of one model of 135 million weights on a CPU with AVX-512 (2026.4.1), with `BASE_BYTES` for what does not grow;
larger models may hold less."""
BASE_BYTES = 150 << 20
KV_BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}
"""Bytes of a number of keys or values."""
KV_SCALES = 8
"""Bytes of the scale and the zero point of a head's quantized keys or values at one position."""


def kept_in(kv: object) -> tuple[str, str]:
    """What keys and values are kept in, by a cell's setting: `int8`, `int8/int4`."""
    keys, _, values = str(kv).partition("/")
    return keys, values or keys


def footprint(config: Config, scheme: Scheme, prompt: int, decode: int, settings: Mapping[str, object]) -> Footprint:
    """Bytes of a cell. Raises UnknownArchitecture."""
    weights = weights_bytes(config, scheme)
    kept = kept_in(settings.get(KV, "fp32" if scheme.name == "ov-fp32" else "fp16"))
    kv = int(architecture.cache_elements(config, prompt + decode) * sum(KV_BYTES[one] for one in kept) / 2)
    peak = int(HELD[scheme.name] * weights) + kv + BASE_BYTES
    return Footprint(weights_bytes=weights, kv_bytes=kv, workspace_bytes=peak - weights - kv, peak_bytes=peak)


def weights_bytes(config: Config, scheme: Scheme) -> int:
    """Bytes of the constants that are a model's weights, scales and zero points included."""
    total = 0
    for weight in architecture.weights(config):
        if weight.role is Role.LINEAR:
            narrow = scheme.group_else if scheme.group and weight.columns % scheme.group else scheme.group
            total += weight.count * scheme.model_copy(update={"group": narrow}).linear_bytes(
                weight.rows, weight.columns
            )
        elif not scheme.quantizes:
            total += weight.parameters * (4 if scheme.name == "ov-fp32" else 2)
        elif weight.role is Role.OTHER:
            total += 4 * weight.parameters
        else:  # 8 bits, and a scale and a zero point a row
            total += weight.parameters + 3 * weight.rows * weight.count
    return total
