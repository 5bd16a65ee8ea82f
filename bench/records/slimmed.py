# SPDX-License-Identifier: Apache-2.0
"""What the index keeps of a record for views: all but its long samples and what no table shows, in parts.

Records of one run have machine, versions and conditions in common, and most views never ask for measurements: each of
these is a part of its own, under the digest of what it holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from bench.records.cell import Value
from bench.records.record import Record, Versions
from bench.records.surroundings import Condition, Machine

SHORT = 16
"""Samples up to which a measurement is kept whole."""
LEFT = ("texts", "after")
SHARED: Mapping[str, type[Value]] = {"machine": Machine, "before": Condition, "versions": Versions}
"""What the records of one run have in common, kept once."""


def content_digest(data: bytes) -> str:
    """What tells one content of a file from another."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def main_part(content: str) -> str:
    """The key of what is neither shared nor measured, of a record whose file has that digest."""
    return f"record:{content}"


def measured_part(content: str) -> str:
    """The key of its measurements."""
    return f"measurements:{content}"


def slim(record: Record, content: str) -> dict[str, str]:
    """The parts of a record by their keys."""
    measurements = [
        measurement.model_dump(mode="json")
        if measurement.count <= SHORT
        else measurement.model_dump(mode="json", exclude={"values"}) | {"count": measurement.count}
        for measurement in record.measurements
    ]
    data = record.model_dump(mode="json", exclude={*LEFT, *SHARED, "measurements"})
    parts = {}
    for name in SHARED:
        text = json.dumps(getattr(record, name).model_dump(mode="json"))
        data[name] = content_digest(text.encode())
        parts[data[name]] = text
    return {**parts, measured_part(content): json.dumps(measurements), main_part(content): json.dumps(data)}
