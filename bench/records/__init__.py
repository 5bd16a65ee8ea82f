# SPDX-License-Identifier: Apache-2.0
"""The question and the answer, on disk: cells, records, and the machine that measured them."""

__all__ = [
    "cell", "census", "code_digest", "document", "head", "index", "kernel", "left_out", "listing", "mirror", "owner",
    "parsing", "progress", "provenance", "record", "scored", "shelved", "store", "surroundings",
]  # fmt: skip
