# SPDX-License-Identifier: Apache-2.0
"""What every test shares: a cache of its own. Builders of values are plain functions in builders.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's cache folder: `$BENCH_TEST_CACHE` where it is set, so that weights are converted once."""
    own = os.environ.get("BENCH_TEST_CACHE")
    return Path(own) if own else tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("BENCH_CACHE", str(cache))
