# SPDX-License-Identifier: Apache-2.0
"""Which engines there are: a folder or a file of `bench/engines/` for each, imported when it is asked for."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from bench.engines.contract import Backend
from bench.errors import UserError

NOT_ENGINES = {"abilities", "contract", "exported", "http_api", "registry", "token_tree", "weights"}
"""What engines share."""


@functools.cache  # a plan of the whole catalogue asks hundreds of times, and each looks at the folder
def backend_names() -> tuple[str, ...]:
    """Names of what stands in `bench/engines/`: a folder or a file for each."""
    package = importlib.import_module("bench.engines")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in NOT_ENGINES))


def backend(name: str) -> Backend:
    """The backend of that name. Raises UserError if there is none."""
    if name not in backend_names():
        raise UserError(f"no backend {name!r}", f"one of: {', '.join(backend_names())}")
    found = importlib.import_module(f"bench.engines.{name}").BACKEND
    assert isinstance(found, Backend)
    return found
