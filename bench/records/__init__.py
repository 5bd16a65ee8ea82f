# SPDX-License-Identifier: Apache-2.0
"""The question and the answer, on disk: cells, records, and the machine that measured them."""

__all__ = [
    "cell", "census", "document", "examine", "head", "index", "kernel", "listing", "parsing", "provenance", "record",
    "scored", "shelved", "store", "surroundings",
]  # fmt: skip
