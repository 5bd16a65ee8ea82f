# SPDX-License-Identifier: Apache-2.0
"""The default model in one scheme of an engine, for the scripts that time it: asked for, made ready and loaded."""

from __future__ import annotations

from typing import Any

from bench.catalog.entries import DEFAULT_MODEL, read_catalog, select
from bench.engines.contract import Backend, LoadRequest
from bench.records.cell import Scheme, Weights


def asked_for(
    engines: Backend, scheme: Scheme | None, *, folder: str | None = None, threads: int | None = None,
    attention: str | None = None, kv: str | None = None, launch: tuple[str, str] | None = None,
) -> LoadRequest:  # fmt: skip
    """What that engine is told to load on the CPU: the weights of the package, or of `folder` in Hub layout."""
    assert scheme is not None, "the engine has no such scheme"
    (model,) = select(read_catalog(), [DEFAULT_MODEL])
    weights = Weights.LOCAL if folder else Weights.PACKAGE
    return LoadRequest(
        model=model, weights=weights, scheme=scheme, device="cpu", path=folder, threads=threads, attention=attention,
        kv=kv, launch=launch,
    )  # fmt: skip


def load(
    engines: Backend, scheme: Scheme | None, *, folder: str | None = None, threads: int | None = None,
    attention: str | None = None, kv: str | None = None,
) -> Any:  # fmt: skip
    """Its engine, ready to run; the first time the weights are converted. Scripts reach into what engines keep."""
    asked = asked_for(engines, scheme, folder=folder, threads=threads, attention=attention, kv=kv)
    engines.prepare(asked)
    return engines.load(asked)
