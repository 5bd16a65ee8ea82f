# SPDX-License-Identifier: Apache-2.0
"""Servers that we launch on this machine (llama-server, vLLM, SGLang, TGI …), measured as their clients see them.

One scheme for each server that is known. Their precision is `served`: the weights it was given are known, and what it
makes of them is its own. Unlike an API's model its memory is here to be measured.
"""

from __future__ import annotations

from bench.engines.contract import LoadRequest, TextEngine
from bench.engines.http_api.declared import asking
from bench.instruments import Instruments

SERVERS = {
    "llama-server": "llama.cpp's own server",
    "llama-cpp-python": "llama-cpp-python's server",
    "vllm": "vLLM",
    "sglang": "SGLang",
    "tgi": "Text Generation Inference",
    "server": "another server",
}


def load(request: LoadRequest) -> TextEngine:
    """Launch it, wait until it is healthy, and ask once."""
    from bench.engines.served.engine import LaunchedEngine

    return LaunchedEngine(request)


def instruments(device: str) -> Instruments:
    """The host's clock, and the memory of the server's processes."""
    from bench.engines.served.memory import counter
    from bench.instruments.clock import HostClock

    return Instruments(HostClock(), counter(device))


BACKEND = asking(
    "served",
    {name: f"as {what} loads the weights it is given" for name, what in SERVERS.items()},
    usual="server",
    summary="servers launched here by --launch, asked as their clients ask",
    load=load,
    instruments=instruments,
    launches=True,
)
