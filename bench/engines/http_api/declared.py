# SPDX-License-Identifier: Apache-2.0
"""What every engine declares that asks a server: text goes in and out, at a precision that is the server's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.engines.contract import Backend
from bench.records.cell import Precision, Scheme


def asking(name: str, schemes: Mapping[str, str], usual: str, **else_: Any) -> Backend:
    """An engine of that name over its schemes and what they say; `usual` is the one nobody asked for.

    Its rows are of the precision `served`: one that claimed fp16 would be compared with rows that proved it. What else
    it declares is handed on.
    """
    return Backend(
        name=name,
        schemes=tuple(
            Scheme(name=scheme, precision=Precision.SERVED, bits=None, method=method)
            for scheme, method in schemes.items()
        ),
        defaults={kind: {Precision.SERVED: usual} for kind in ("cpu", "cuda", "mps")},
        requires=("lm_eval",),
        versions=("datasets",),
        install=f'pip install -e ".[{name}]"',
        text_only=True,
        **else_,
    )
