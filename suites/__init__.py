# SPDX-License-Identifier: Apache-2.0
"""What is measured and how: one short file per suite, its docstring is the method."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.suite import Suite, TextSuite

ORDER = ("memory", "throughput", "divergence", "quality", "kv", "capacity")
"""The order in which one loaded model answers them: the cheap and the fragile first, what goes to the limit last."""
DEFAULT = ORDER[:4]
"""What is measured where no suite is named; the rest is asked for by name."""
KV_DEFAULT = ("memory", "throughput", "kv")
"""What is measured where a cache's precision is asked for (`--kv`) and no suite."""
DEATHS = {"capacity": 4}
"""How often a cell is begun again when its process is killed for memory, where the suite learns from that."""
BATCHED = ("quality",)
"""Suites whose batches are the engine's choice: where memory runs out, smaller ones answer the same question. What the
others hold at once, a prompt of so many tokens or one window, is the question itself."""


def suite(name: str) -> Suite:
    """The suite of that name. Raises UserError if there is none."""
    return cast("Suite", _module(name, "suites"))


def text_suite(name: str) -> TextSuite:
    """The suite of that name for served models. Raises UserError if there is none."""
    return cast("TextSuite", _module(name, "suites.served"))


def launched_profiles(name: str) -> Mapping[str, Mapping[str, JsonValue]]:
    """The profiles of a suite for a server that is launched here: it may be asked more than one that is paid for."""
    module = _module(name, "suites.served")
    return cast(Mapping[str, Mapping[str, JsonValue]], getattr(module, "LAUNCHED", module.PROFILES))


def _module(name: str, package: str) -> ModuleType:
    if name not in ORDER:
        raise UserError(f"no suite {name!r}", f"one of: {', '.join(ORDER)}")
    return importlib.import_module(f"{package}.{name}")


def suite_sha256(name: str, *, served: bool = False) -> str:
    """First 12 hexadecimal digits of the hash of the suite's file."""
    module = _module(name, "suites.served" if served else "suites")
    return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:12]
