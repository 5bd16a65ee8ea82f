# SPDX-License-Identifier: Apache-2.0
"""Tests mirror the rooms: who knows where a module is knows where its tests are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.paths import ROOT

TESTS = ROOT / "tests"
FILES = sorted(TESTS.glob("*/test_*.py"))
ROOMS = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")} | {"suites", "benchmarks"}
LOOSE = {"documents", "import_arrows", "rooms"}
"""Tests of the whole tree beside those of the loose modules."""


def modules(room: str) -> set[str]:
    """Names of what stands in a room, engines' folders and what is in them among it."""
    folder = ROOT / room if (ROOT / room).is_dir() else ROOT / "bench" / room
    return {path.stem for path in folder.rglob("*.py")} | {path.name for path in folder.rglob("*") if path.is_dir()}


def test_every_folder_of_tests_is_a_room_and_every_room_has_one() -> None:
    """No test lies in a place that has nothing to be tested."""
    assert {path.parent.name for path in FILES} == ROOMS


def test_a_test_that_lies_in_no_room_tests_what_lies_in_none() -> None:
    """A loose module of `bench/`, or the tree itself."""
    loose = {path.stem for path in (ROOT / "bench").glob("*.py")}
    assert {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")} <= loose | LOOSE


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(TESTS)) for file in FILES])
def test_a_test_lies_in_the_room_of_what_it_tests(file: Path) -> None:
    """It names something of that room, or runs commands; where its own name is a module's, that module is there."""
    room, name = file.parent.name, file.stem.removeprefix("test_")
    package = room if (ROOT / room).is_dir() else f"bench.{room}"
    text = file.read_text(encoding="utf-8")
    runs_commands = room == "cli" and "called(" in text
    assert runs_commands or re.search(rf"\b{re.escape(package)}\b", text), f"nothing of {package} is named"
    homes = {other for other in ROOMS if name in modules(other)}
    assert not homes or room in homes, f"{name} lies in {sorted(homes)}"


@pytest.mark.parametrize("file", ["noxfile.py", ".ci/run"])
def test_the_tests_that_sessions_name_are_there(file: str) -> None:
    """A session that names a file which was moved would run nothing."""
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not [name for name in re.findall(r"tests/[\w/]+\.py", text) if not (ROOT / name).is_file()]
