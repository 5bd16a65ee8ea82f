# SPDX-License-Identifier: Apache-2.0
"""The question: exact bytes of a scheme, keys that tell questions apart, values that cannot change."""

from __future__ import annotations

from typing import Any

import pytest
from builders import make_cell, make_model, make_scheme
from pydantic import ValidationError

from bench.records.cell import Cell, Precision, Weights, digest
from bench.records.head import row_key

INT8_ROWS: dict[str, Any] = {"bits": 8, "row_bytes": 4}
NF4_64: dict[str, Any] = {"bits": 4, "group": 64, "group_bytes": 4}


@pytest.mark.parametrize(
    ("scheme", "rows", "columns", "expected"),
    [
        ({"bits": 16}, 3, 5, 30),
        ({"bits": 32}, 3, 5, 60),
        (INT8_ROWS, 576, 1536, 576 * 1536 + 576 * 4),
        (INT8_ROWS, 3, 5, 15 + 12),
        (NF4_64, 576, 1536, 576 * 1536 // 2 + 13_824 * 4),
        (NF4_64, 1, 64, 32 + 4),
        (NF4_64, 1, 65, 33 + 8),
        (NF4_64, 3, 5, 8 + 4),
        (NF4_64 | {"layer_bytes": 64}, 1, 64, 32 + 4 + 64),
        ({"bits": 4.5, "group": 32, "group_bytes": 0.5}, 1, 96, 54 + 1),
    ],
)
def test_linear_bytes_are_exact(scheme: dict[str, Any], rows: int, columns: int, expected: int) -> None:
    """Values are rounded up to whole bytes, a broken group has its own metadata, rows have theirs."""
    assert make_scheme(**scheme).linear_bytes(rows, columns) == expected


@pytest.mark.parametrize(("bits", "expected"), [(4, True), (8, True), (15.9, True), (16, False), (32, False)])
def test_fewer_than_sixteen_bits_is_quantizing(bits: float, expected: bool) -> None:
    """16-bit weights are the reference, not a quantization."""
    assert make_scheme(bits=bits).quantizes is expected


@pytest.mark.parametrize("impossible", [{"bits": 0}, {"bits": -4}, {"group": 0}])
def test_a_scheme_without_bits_or_with_empty_groups_is_refused(impossible: dict[str, Any]) -> None:
    """No bytes can be predicted from it."""
    with pytest.raises(ValidationError):
        make_scheme(**impossible)


CHANGES: dict[str, Any] = {
    "model": "other",
    "weights": Weights.HUB,
    "source": "tests/other",
    "revision": "main",
    "fingerprint": "0123456789ab",
    "backend": "transformers",
    "scheme": "other",
    "precision": Precision.INT8,
    "suite": "quality",
    "suite_version": 99,
    "profile": "full",
    "settings": {"prompt_tokens": 128, "decode_tokens": 9},
    "device": "other",
}


def test_every_field_of_a_cell_is_part_of_its_question() -> None:
    """A changed field is another key; the list of changes names every field there is."""
    assert set(CHANGES) == set(Cell.model_fields)
    keys = {make_cell().key} | {make_cell().model_copy(update={name: CHANGES[name]}).key for name in CHANGES}
    assert len(keys) == len(CHANGES) + 1


def test_the_key_does_not_depend_on_the_order_of_settings() -> None:
    """The same settings in another order are the same question."""
    settings = make_cell().settings
    turned = dict(reversed(settings.items()))
    assert list(turned) != list(settings)
    assert make_cell(settings=turned).key == make_cell().key


def test_a_key_is_twelve_digits_of_the_canonical_json() -> None:
    """Other programs can make it: SHA-256 of sorted, compact JSON in UTF-8."""
    assert digest({"b": 1, "a": "é"}) == "aa58fba84836"


def test_a_copy_has_a_key_of_its_own() -> None:
    """Although a cell remembers its key; and whether it was asked for makes no cell another."""
    cell = make_cell()
    key = cell.key
    assert cell.model_copy(update={"suite_version": 99}).key != key
    assert cell.model_copy().key == key
    assert cell == make_cell()
    assert cell.model_dump() == make_cell().model_dump()


def test_suites_of_one_loaded_model_share_a_load_key() -> None:
    """The suite and its settings need no other load; the scheme, the source and the weights do."""
    first = make_cell("memory").load_key
    assert make_cell("quality").load_key == first
    others = [make_cell(precision="int8"), make_cell(source="x"), make_cell(weights=Weights.HUB)]
    assert all(cell.load_key != first for cell in others)


def test_values_cannot_be_changed() -> None:
    """A change makes a new value."""
    cell = make_cell()
    with pytest.raises(ValidationError, match="frozen"):
        cell.model = "other"  # type: ignore[misc]


def test_unknown_keys_are_refused() -> None:
    """A misspelt key is an error, never ignored."""
    with pytest.raises(ValidationError, match="licens"):
        make_model(licens="MIT")
    with pytest.raises(ValidationError, match="Extra inputs"):
        Cell.model_validate(make_cell().model_dump() | {"batch": 1})


@pytest.mark.parametrize("name", ["Tiny", "a b", "../up", "", ".hidden", "a/b"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    """Names become folders of results/."""
    with pytest.raises(ValidationError, match="pattern"):
        make_cell(model=name)


def test_the_package_is_the_default_source_of_weights() -> None:
    """An entry that ships in a package needs no Hub."""
    assert make_model().default_weights is Weights.HUB
    assert make_model(package="llm-tiny").default_weights is Weights.PACKAGE


def test_a_cell_says_what_it_is() -> None:
    """Model, precision, how and suite, as progress lines print it."""
    assert str(make_cell("quality", "int4")) == "tiny int4 (fake fake-int4) quality"


def test_the_way_of_computing_is_part_of_the_question() -> None:
    """Another attention or cache is another load and another row; a cell that says neither keeps its key."""
    plain = make_cell()
    settings = {**plain.settings, "attention": "plain", "kv": "int8/int4"}
    told = make_cell(settings=settings)
    assert (plain.way, told.way) == ("", "attention plain, kv int8/int4")
    assert told.key != plain.key
    assert told.load_key != plain.load_key
    assert row_key(told) != row_key(plain)
