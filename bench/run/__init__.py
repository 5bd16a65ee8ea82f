# SPDX-License-Identifier: Apache-2.0
"""One process for each loaded model; limits, resume and progress. Nothing here judges what was measured."""

__all__ = [
    "answered",
    "assemble",
    "cache",
    "devices",
    "display",
    "locks",
    "measure",
    "memory_limit",
    "needs",
    "options",
    "runner",
    "stopping",
    "sweep",
    "telling",
]
