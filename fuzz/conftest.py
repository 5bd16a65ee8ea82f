# SPDX-License-Identifier: Apache-2.0
"""Surroundings of the odd inputs: nothing of the machine's own is read or written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def surroundings() -> Iterator[None]:
    """A cache of the session's own, no network, no key of the developer's."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", f"{folder}/cache")
        patch.setenv("HF_HOME", f"{folder}/hub")
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
            patch.setenv(name, "1")
        for name in ("BENCH_API_URL", "BENCH_API_KEY", "BENCH_FAKE_FAULT"):
            patch.delenv(name, raising=False)
        patch.setenv("FUZZ_API_KEY", "sk-nothing")
        yield


@pytest.fixture
def folder() -> Iterator[Callable[[], Path]]:
    """A new empty folder each time it is called, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
        made = iter(range(10**9))

        def new() -> Path:
            path = Path(root) / str(next(made))
            path.mkdir()
            return path

        yield new
