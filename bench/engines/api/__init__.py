# SPDX-License-Identifier: Apache-2.0
"""Models behind an API, asked over OpenAI's or Anthropic's protocol. They are timed and paid for, never loaded.

One scheme, `remote`, at a precision of its own, `served`: a provider does not say how it stores its weights, and a
row that claimed fp16 would be compared with rows that proved it. Keys come from the variable that the entry names.
"""

from __future__ import annotations

from bench.engines.contract import LoadRequest, TextEngine
from bench.engines.http_api.declared import asking
from bench.instruments import Instruments
from bench.instruments.clock import HostClock


def load(request: LoadRequest) -> TextEngine:
    """Ask once."""
    from bench.engines.http_api.engine import ApiEngine

    return ApiEngine(request)


def instruments(device: str) -> Instruments:
    """The host's clock; memory is the server's."""
    from bench.engines.http_api.engine import NoMemory

    return Instruments(HostClock(), NoMemory())


BACKEND = asking(
    "api",
    {"remote": "as its provider serves it, unknown to us"},
    usual="remote",
    summary="models that someone else serves, by OpenAI's or Anthropic's protocol",
    load=load,
    instruments=instruments,
    needs_repository=False,
    remote=True,
)
