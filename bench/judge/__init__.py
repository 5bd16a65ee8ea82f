# SPDX-License-Identifier: Apache-2.0
"""Samples become figures, intervals and verdicts. Everything here is pure: it returns values and formats nothing."""

__all__ = [
    "capacity",
    "claims",
    "compare",
    "cross_engine",
    "figures",
    "generated",
    "joined",
    "points",
    "reasons",
    "rows",
    "score_per_byte",
    "stats",
]
