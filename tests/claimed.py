# SPDX-License-Identifier: Apache-2.0
"""A claim of the tiny model, and records that could decide it."""

from __future__ import annotations

from typing import Any

from builders import failed, make_cell, make_model, make_record, memory_samples, sample

from bench.catalog.model import Claim, Model, Quantity
from bench.judge.claims import Judged, judge
from bench.plan.claims import predicted_for
from bench.records.cell import Cell, Precision, Weights
from bench.records.record import Ending, MemoryLimit, Record

GB = 10**9


def make_claim(**overrides: Any) -> Claim:
    """`tiny` in fp16 fits 1 GB at 100 positions."""
    fields: dict[str, Any] = {
        "id": "tiny-1gb",
        "text": "runs in 1 GB",
        "source": "its README",
        "quantity": Quantity.PEAK,
        "precision": Precision.FP16,
        "at_most": GB,
        "tokens": 100,
    }
    return Claim(**fields | overrides)


def model(*claims: Claim, **overrides: Any) -> Model:
    """The tiny model with claims."""
    return make_model(claims=claims or (make_claim(),), **overrides)


def cell(tokens: int = 100, limit: int | None = None, **overrides: Any) -> Cell:
    """A memory cell of transformers that holds so many positions."""
    settings = {"prompt_tokens": tokens - 8, "decode_tokens": 8}
    fields = {
        "backend": "transformers",
        "scheme": "bf16",
        "weights": Weights.HUB,
        "source": "tests/tiny",
        "settings": settings | ({"memory_limit_bytes": limit} if limit else {}),
    }
    return make_cell(**fields | overrides)


def limited(limit: int, ending: Ending = Ending.OK, **overrides: Any) -> Record:
    """A record made under a hard limit."""
    asked = cell(limit=limit, **overrides)
    state = MemoryLimit(bytes=limit, enforced_by="cgroup v2")
    if ending is Ending.OK:
        return make_record(asked, measurements=memory_samples(), memory_limit=state)
    return failed(asked, ending, "needs more", memory_limit=state)


def peaks(peak: int, load: int, **overrides: Any) -> Record:
    """A record without a limit, the whole process's peaks given."""
    kept = tuple(m for m in memory_samples() if m.name not in {"peak_bytes", "load_peak_bytes"})
    measured = (*kept, sample("peak_bytes", peak), sample("load_peak_bytes", load))
    return make_record(cell(**overrides), measurements=measured)


def verdict(*records: Record, claims: tuple[Claim, ...] = (), **overrides: Any) -> Judged:
    """The one claim of the tiny model judged by these records."""
    entry = model(*claims, **overrides)
    (judged,) = judge([entry], records, predicted_for)
    return judged
