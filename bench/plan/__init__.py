# SPDX-License-Identifier: Apache-2.0
"""A selection becomes cells with predictions; what cannot run has a reason."""

__all__ = [
    "claims",
    "device_roof",
    "expected",
    "looks",
    "needs",
    "order",
    "overrides",
    "plan",
    "predict",
    "questions",
    "seconds",
    "selection",
    "takers",
]
