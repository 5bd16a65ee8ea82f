# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON of others: what cannot be is a line of theirs, and what would exhaust a parser never reaches it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from builders import make_cell, make_record

from bench.errors import UserError
from bench.records import parsing
from bench.records.document import SafeLoader, read_yaml
from bench.records.parsing import DEPTH, Bounded, parse_json, read_json, scan
from bench.records.store import Runs, Store, read_record


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("released: 2023-02-30", "'2023-02-30' is no timestamp that there is"),
        ("at: 2001-12-14t21:59:43.10-99:00", "is no timestamp that there is"),
        ("rows: !!int many", "'many' is no int that there is"),
        ("rows: !!int ''", "'' is no int that there is"),
        ("open: !!bool 7", "'7' is no bool that there is"),
        ("share: !!float half", "'half' is no float that there is"),
        ("day: !!timestamp soon", "'soon' is no timestamp that there is"),
        ("rows: !code x", "could not determine a constructor for the tag '!code'"),
        (f"rows: {'9' * 41}", "a number of more than 40 digits"),
        (f"rows: !!int '{'9' * 41}'", "a number of more than 40 digits"),
        (f"rows: 0x{'f' * 40}", "a number of more than 40 digits"),
        ("rows: &a [*a]", "*a contains itself"),
        ("rows: *a", "found undefined alias"),
        (f"rows: {'[' * DEPTH}{']' * DEPTH}", f"nested more than {DEPTH} levels deep"),
        ("rows: {[1]: 2}", "found unhashable key"),
        ("rows: =", "could not determine a constructor"),
    ],
)
def test_a_value_that_cannot_be_is_one_line_with_its_file_line_and_field(line: str, words: str, tmp_path: Path) -> None:
    """And no traceback of a parser's."""
    path = tmp_path / "odd.yaml"
    path.write_text(f"first: 1\n{line}\n")
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    field = line.partition(":")[0]
    assert caught.value.message.startswith(f"{path}:2: field {field!r}: ") and words in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loader", [SafeLoader, yaml.SafeLoader])
def test_what_aliases_repeat_is_counted_before_it_is_made(loader: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three names for three numbers stand for 3 + 9 + 27 of them, the collections apart."""
    text = "- &a [1, 1, 1]\n- &b [*a, *a, *a]\n- [*b, *b, *b]\n"
    nodes = 1 + 4 + 13 + 40
    monkeypatch.setattr(parsing, "NODES", nodes)
    scan(text, loader)
    monkeypatch.setattr(parsing, "NODES", nodes - 1)
    with pytest.raises(Bounded, match=f"stands for more than {nodes - 1} values"):
        scan(text, loader)


def test_an_alias_that_is_used_as_one_should_be_stays_possible(tmp_path: Path) -> None:
    """And so do dates that exist, numbers in every notation, and as many levels as anybody nests."""
    path = tmp_path / "good.yaml"
    depth = DEPTH - 2
    path.write_text(f"a: &a [1, 0x10, 1_000]\nb: *a\nc: {{<<: {{d: 1}}, e: {'[' * depth}{']' * depth}}}\n")
    found = read_yaml(path).data
    assert isinstance(found, dict)
    assert (found["b"], found["c"]["d"]) == ([1, 16, 1000], 1)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is asked first; the limit is lower here."""
    monkeypatch.setattr(parsing, "JSON_BYTES", 1 << 20)
    path = tmp_path / "large.json"
    path.write_text("{}" + " " * (1 << 20))
    with pytest.raises(UserError, match=r"1048578 bytes are more than 1 MiB; is it the right file\?"):
        read_json(path, parsing.JSON_BYTES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "holds no object"),
        ("3", "holds no object"),
        ("", ":1: not JSON"),
        ('{"a": 1,}', ":1: not JSON"),
        ('{"a": ' + "1" * 41 + "}", "a number of more than 40 digits"),
        ('{"a": ' + "[" * 2000 + "]" * 2000 + "}", "nested too deeply"),
        ("\x00", ":1: not JSON"),
    ],
)
def test_json_that_cannot_be_is_one_line_with_its_file(text: str, words: str, tmp_path: Path) -> None:
    """Of a config, a tokenizer's files, or a run."""
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert str(caught.value).startswith(str(path)) and words in str(caught.value)


def test_a_long_run_of_digits_in_a_text_is_no_number() -> None:
    """Models generate such things."""
    assert parse_json(json.dumps({"text": "1" * 100, "n": 12})) == {"text": "1" * 100, "n": 12}


def test_a_record_and_a_run_that_cannot_be_are_named_with_their_field(tmp_path: Path) -> None:
    """The line too, as far as the file is YAML; half a character in it changes nothing of that."""
    store = Store(tmp_path)
    path = store.write(make_record(make_cell()))
    text = path.read_text()
    path.write_text(text.replace('"seconds": ', '"seconds": "\\ud83d", "x": '))
    with pytest.raises(UserError, match=r"field '.*(x|seconds)'"):
        read_record(path)
    path.write_text(text.replace('"seconds": ', '"seconds": 1' + "0" * 50 + ', "x": '))
    with pytest.raises(UserError, match="a number of more than 40 digits"):
        read_record(path)
    run = tmp_path / "cpu-test" / "runs" / "odd.json"
    run.parent.mkdir(parents=True, exist_ok=True)
    run.write_text('{"run": "../../outside", "device": "cpu-test"}')
    assert list(store.runs()) == []
    (line,) = store.unreadable
    assert line.startswith(f"{run}:") and "\n" not in line and "field '" in line


@pytest.mark.parametrize("run", ["../../../outside", "/etc/x", "a/b", "..", "", "x" * 200, 5, None, "a\nb"])
def test_an_unfinished_run_names_no_place_outside_of_results(run: object, tmp_path: Path) -> None:
    """What a file says becomes the name of another one: only a name does."""
    runs = Runs(tmp_path)
    runs.begin("key", "20260101T000000Z-beef", [make_cell()])
    assert runs.unfinished("key") == "20260101T000000Z-beef"
    (tmp_path / ".runs" / "key.json").write_text(json.dumps({"run": run, "cells": []}))
    assert runs.unfinished("key") is None


def test_the_reader_in_use_is_the_fast_one() -> None:
    """The bound on depth is for the parser in C, which would end the interpreter; where it is, it is used."""
    assert SafeLoader is getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    assert sys.getrecursionlimit() > DEPTH
