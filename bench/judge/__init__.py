# SPDX-License-Identifier: Apache-2.0
"""Samples become figures, intervals and verdicts. Everything here is pure: it returns values and formats nothing."""

__all__ = [
    "against",
    "answer",
    "bottleneck",
    "capacity",
    "claims",
    "compare",
    "costs",
    "cross_engine",
    "decisions",
    "figures",
    "generated",
    "joined",
    "noise_floor",
    "plausible",
    "points",
    "reasons",
    "recommend",
    "recommendation",
    "rows",
    "score_per_byte",
    "sequential",
    "stand_ins",
    "stats",
    "tiers",
]
