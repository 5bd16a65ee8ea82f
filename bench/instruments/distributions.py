# SPDX-License-Identifier: Apache-2.0
"""What this environment holds, by the names that pip knows."""

from __future__ import annotations

import importlib.metadata


def is_installed(distribution: str) -> bool:
    """Whether that distribution is there, in whatever version."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
