# SPDX-License-Identifier: Apache-2.0
"""Values become tables, files, pages and annotations. Nothing here measures or judges."""

__all__ = [
    "against",
    "answer",
    "answer_tables",
    "claims",
    "columns",
    "comparison",
    "cross_engine",
    "exports",
    "footnotes",
    "formats",
    "inspection",
    "layout",
    "listings",
    "overview",
    "plan",
    "publication",
    "publish",
    "recommend",
    "roofs",
    "score_per_byte",
    "site",
    "soundness",
    "table",
    "warnings",
]
