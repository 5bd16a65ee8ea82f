# SPDX-License-Identifier: Apache-2.0
"""Which tables of fingerprints are of the same files: exact where both tell, lenient to what older records left out."""

from __future__ import annotations

import pytest

from bench.records.provenance import same_files, same_mark
from bench.records.record import Provenance

NEW = {"model.safetensors": "9:aaa:bbb", "config.json": "2:ccc", "tokenizer.json": "3:ddd"}
"""As a folder is told today."""
OLD = {"model.safetensors": "9:aaa"}
"""As the same folder was told before: weights alone, sampled at both ends."""


@pytest.mark.parametrize(
    ("theirs", "same"),
    [
        (NEW, True),
        (OLD, True),
        ({"model.safetensors": "9:aab"}, False),
        ({"other.safetensors": "9:aaa"}, False),
        ({**OLD, "more.safetensors": "1:aaa"}, False),
        ({**NEW, "model.safetensors": "9:aaa:bbc"}, False),
        ({**NEW, "config.json": "2:ccd"}, False),
        ({**NEW, "tokenizer.json": "3:dde"}, False),
        ({"model.safetensors": "9:aaa:bbb", "config.json": "2:ccc"}, False),
        ({}, False),
    ],
)
def test_what_both_tell_must_be_equal(theirs: dict[str, str], same: bool) -> None:
    """A byte anywhere, a setting or a tokenizer makes another model; what an older record did not hold does not."""
    assert same_files(NEW, theirs) is same_files(theirs, NEW) is same
    assert Provenance(source="a", files=NEW).same_files(Provenance(source="b", files=theirs)) is same


def test_a_mark_is_compared_by_whole_hashes() -> None:
    """A sample is the beginning of a mark up to a colon, not any beginning of its text."""
    assert same_mark("9:aaa", "9:aaa:bbb") and same_mark("9:aaa:bbb", "9:aaa")
    assert not same_mark("9:aa", "9:aaa") and not same_mark("9", "9:aaa"[1:])
