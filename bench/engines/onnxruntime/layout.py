# SPDX-License-Identifier: Apache-2.0
"""Bytes of an exported model in a scheme, and of the process that runs it, from the architecture alone."""

from __future__ import annotations

from collections.abc import Mapping

from bench.catalog import architecture
from bench.catalog.architecture import Role, Weight
from bench.catalog.config import Config
from bench.engines.contract import Footprint
from bench.records.cell import Scheme

HELD = {"ort-fp32": 1.2, "ort-fp16": 3.05, "ort-int8": 1.5, "ort-int4-acc4": 1.5, "ort-int4-acc1": 1.5}
"""Bytes at the peak by bytes of the file: a tied head is held twice, float16 weights as float32 beside the file. Of one
model of 135 million weights on a CPU with AVX2 (1.32.0) at 32 and 16 bits, with `BASE_BYTES` for what does not grow;
quantized ones were not measured yet, so that theirs is a guess above the packed copy of what is multiplied."""
BASE_BYTES = 48 << 20


def footprint(config: Config, scheme: Scheme, prompt: int, decode: int, settings: Mapping[str, object]) -> Footprint:
    """Bytes of a cell. Raises UnknownArchitecture."""
    weights = weights_bytes(config, scheme)
    kv = 4 * architecture.cache_elements(config, prompt + decode)
    peak = int(HELD[scheme.name] * weights) + kv + BASE_BYTES
    return Footprint(weights_bytes=weights, kv_bytes=kv, workspace_bytes=peak - weights - kv, peak_bytes=peak)


def weights_bytes(config: Config, scheme: Scheme) -> int:
    """Bytes of the tensors that are a model's weights, scales and zero points included."""
    if not scheme.quantizes:
        return sum(weight.parameters for weight in architecture.weights(config)) * (
            2 if scheme.name == "ort-fp16" else 4
        )
    weights = architecture.weights(config)
    total = 0
    for weight in weights:
        narrow = weight.role in {Role.LINEAR, Role.HEAD}
        total += _rounded(weight, scheme) if narrow else 4 * weight.parameters
    if not any(weight.role is Role.HEAD for weight in weights):  # the head is the table: it gets a matrix of its own
        table = max((w for w in weights if w.role is Role.EMBEDDING), key=lambda w: w.rows * w.columns)
        total += _rounded(table, scheme)
    return total


def _rounded(weight: Weight, scheme: Scheme) -> int:
    """Bytes of rounded matrices: 8 bits and 5 bytes a row, or 4 bits, 4 bytes a group and half a byte more for each."""
    if scheme.group is None:
        return weight.parameters + 5 * weight.rows * weight.count
    groups = -(-weight.columns // scheme.group)
    return weight.rows * weight.count * (groups * (scheme.group // 2 + 4) + -(-groups // 2))
