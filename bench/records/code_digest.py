# SPDX-License-Identifier: Apache-2.0
"""Which code is running: what the index keeps was made by some, and other code must not show it."""

from __future__ import annotations

import hashlib
import json
import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path


@lru_cache
def sources() -> str:
    """Digest of the harness's own code, whichever libraries it uses."""
    here = Path(__file__).resolve().parent.parent
    said = hashlib.blake2b(digest_size=8)
    for folder in (here, here.parent / "suites"):
        for path in sorted(folder.rglob("*.py")):
            said.update(path.read_bytes())
    return said.hexdigest()


@lru_cache
def code() -> str:
    """Digest of all code that makes what is kept, a record's fault by every view, and of the libraries it uses."""
    said = hashlib.blake2b(sources().encode(), digest_size=8)
    libraries = [version(name) for name in ("numpy", "scipy", "pydantic", "rich", "PyYAML")]
    said.update(json.dumps([sys.version, *libraries]).encode())
    return said.hexdigest()
