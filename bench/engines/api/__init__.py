# SPDX-License-Identifier: Apache-2.0
"""Models behind an API, asked over OpenAI's or Anthropic's protocol. They are timed and paid for, never loaded.

One scheme, `remote`, at a precision of its own, `served`: a provider does not say how it stores its weights, and a
row that claimed fp16 would be compared with rows that proved it. Keys come from the variable that the entry names.
"""

from __future__ import annotations

from bench.engines.contract import Backend, LoadRequest, TextEngine
from bench.instruments import Instruments
from bench.instruments.clock import HostClock
from bench.records.cell import Precision, Scheme


def load(request: LoadRequest) -> TextEngine:
    """Ask once."""
    from bench.engines.http_api.engine import ApiEngine

    return ApiEngine(request)


def instruments(device: str) -> Instruments:
    """The host's clock; memory is the server's."""
    from bench.engines.http_api.engine import NoMemory

    return Instruments(HostClock(), NoMemory())


BACKEND = Backend(
    name="api",
    summary="models that someone else serves, by OpenAI's or Anthropic's protocol",
    schemes=(
        Scheme(name="remote", precision=Precision.SERVED, bits=None, method="as its provider serves it, unknown to us"),
    ),
    defaults={kind: {Precision.SERVED: "remote"} for kind in ("cpu", "cuda", "mps")},
    requires=("lm_eval",),
    versions=("datasets",),
    install='pip install -e ".[api]"',
    load=load,
    instruments=instruments,
    needs_repository=False,
    remote=True,
    text_only=True,
)
