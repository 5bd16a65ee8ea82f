# SPDX-License-Identifier: Apache-2.0
"""Documents cannot rot: what they name exists, and what the forge reads of ours has the keys that it needs."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bench.cli import app
from bench.paths import ROOT

DOCUMENTS = ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]
GITHUB = ROOT / ".github"
TEMPLATES = sorted(str(p.relative_to(ROOT)) for p in GITHUB.rglob("*") if p.suffix in {".md", ".yml"})
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
FOLDERS = ("bench", "suites", "docs", "tests", "results", "catalog", "benchmarks", "findings", r"\.ci", r"\.github")
PATH = re.compile(rf"(?<![\w/.~-])(?:{'|'.join(FOLDERS)})/[\w./*-]*")
"""A path of this repository, wherever it stands: in backticks, in a command, in prose."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACEHOLDER = re.compile(r"[A-Z]{2,}")
"""A part of a path that the reader fills in: NAME, DEVICE."""
each_document = pytest.mark.parametrize("name", DOCUMENTS)
each_text = pytest.mark.parametrize("name", [*DOCUMENTS, *TEMPLATES])


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pyproject() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


def anchors(text: str) -> set[str]:
    """What a link within a Markdown page may name: its headings as the forge writes them."""
    titles = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def known_part(path: str) -> str:
    """The path up to the first part that the reader fills in."""
    parts = path.rstrip(".").split("/")
    unknown = [index for index, part in enumerate(parts) if PLACEHOLDER.search(part) and part != "README.md"]
    return "/".join(parts[: unknown[0]] if unknown else parts)


def test_paths_are_found_and_placeholders_left_out() -> None:
    """The rules below can fail."""
    text = "see `bench/paths.py`, tests/engines/test_NAME.py and https://example.org/docs/x; also results/*.md."
    assert PATH.findall(text) == ["bench/paths.py", "tests/engines/test_NAME.py", "results/*.md."]
    assert known_part("tests/engines/test_NAME.py") == "tests/engines"
    assert known_part("catalog/README.md") == "catalog/README.md"
    assert anchors("# One\n\n## Add `two`, three\n") == {"one", "add-two-three"}


@each_document
def test_relative_links_lead_somewhere(name: str) -> None:
    """A link names a file that exists and, after `#`, a heading of it."""
    for target in LINK.findall(read(name)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target


@each_text
def test_paths_that_are_named_exist(name: str) -> None:
    """A path with `*` names at least one file."""
    missing = [path for path in PATH.findall(read(name)) if not any(ROOT.glob(known_part(path)))]
    assert missing == []


@each_text
def test_commands_and_sessions_that_are_named_exist(name: str) -> None:
    """`bench WORD` in a command line or in backticks, and `nox -s WORD` anywhere."""
    commands = set(typer.main.get_command(app).commands)
    code = [*re.findall(r"`([^`\n]+)`", read(name)), *re.findall(r"(?m)^ {4,}(.+)$", read(name))]
    typed = {word for line in code for word in re.findall(r"(?:^|&& |/)bench ([a-z]+)\b", line)}
    assert typed <= commands
    declared = re.findall(r'@nox\.session(?:\(name="([\w-]+)"\))?\ndef (\w+)', read("noxfile.py"))
    sessions = {by_name or function for by_name, function in declared}
    named = {word for words in re.findall(r"nox -s ((?:[a-z][a-z-]*\b ?)+)", read(name)) for word in words.split()}
    assert named <= sessions


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_what_the_forge_requires(path: Path) -> None:
    """A form without these keys, or with an id that stands twice, is not offered to anybody."""
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert all(form.get(key) for key in ("name", "description", "body"))
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    for field in form["body"]:
        assert field["attributes"].get("value" if field["type"] == "markdown" else "label")
        assert (field["type"] in {"dropdown", "checkboxes"}) == bool(field["attributes"].get("options"))
    for kind in ("id", "label"):
        values = [field.get(kind) or field["attributes"].get(kind) for field in fields]
        assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[\w-]+", field["id"]) for field in fields)


def test_issue_forms_ask_for_what_a_maintainer_needs() -> None:
    """The record, what was expected and from where; the machine."""
    ids = {path.stem: {field.get("id") for field in yaml.safe_load(path.read_text("utf-8"))["body"]} for path in FORMS}
    assert {"record", "expected", "source", "doctor"} <= ids["figure-looks-wrong"]
    assert {"records", "doctor"} <= ids["results-from-my-box"]


def test_the_citation_says_what_the_project_says() -> None:
    """Version and licence are those of pyproject.toml."""
    citation, project = yaml.safe_load(read("CITATION.cff")), pyproject()["project"]
    assert citation["cff-version"] == "1.2.0"
    assert all(citation.get(key) for key in ("message", "title", "authors"))
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_hooks_use_the_pins_of_the_project() -> None:
    """A commit is checked by the same versions as `nox -s lint types`, and no hook comes from elsewhere."""
    found, groups = yaml.safe_load(read(".pre-commit-config.yaml")), pyproject()["dependency-groups"]
    assert [repo["repo"] for repo in found["repos"]] == ["local"]
    hooks = {hook["id"]: set(hook["additional_dependencies"]) for hook in found["repos"][0]["hooks"]}
    assert hooks["ruff-check"] == hooks["ruff-format"] == set(groups["lint"])
    assert set(groups["types"]) <= hooks["mypy"] <= {*groups["types"], *pyproject()["project"]["dependencies"]}


def test_the_workflow_only_calls_our_script() -> None:
    """What CI does can be done on any machine."""
    steps = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]["ci"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["bash .ci/run"]


def rooms_table() -> str:
    """The table of `docs/architecture.md`: each room's first sentence and its modules, as the tree has them."""
    lines = ["| room | what it is for | modules |", "|---|---|---|"]
    for init in sorted((ROOT / "bench").glob("*/__init__.py")):
        folder = init.parent
        told = (ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        files = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
        folders = [f"{path.parent.name}/" for path in folder.glob("*/__init__.py")]
        named = ", ".join(sorted([*files, *folders]))
        lines.append(f"| `bench/{folder.name}/` | {' '.join(told.split())} | {named} |")
    return "\n".join(lines) + "\n"


def test_the_rooms_of_the_architecture_page_are_those_of_the_tree() -> None:
    """A room or a module that comes or goes is told there."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    start, end = "<!-- rooms: this table equals the tree -->\n", "<!-- /rooms -->"
    assert page.partition(start)[2].partition(end)[0] == rooms_table()


def lines_of_engines() -> list[list[str]]:
    """The cells of each line of the page on what libraries do."""
    rows = [line.strip("|").split(" | ") for line in read("docs/engines.md").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if row[0].strip() != "library"]


@pytest.mark.parametrize("line", lines_of_engines(), ids=lambda line: f"{line[0]}: {line[2][:40]}")
def test_what_a_library_does_is_shown_by_what_it_names_at_the_version_that_is_pinned(line: list[str]) -> None:
    """A line without proof, or of another version, is hearsay."""
    library, version, _, _, shown = line
    optional = pyproject()["project"]["optional-dependencies"]
    pins = {pin for group in optional.values() for pin in group if pin.startswith(f"{library}==")}
    assert f"{library}=={version}" in pins  # engines with environments of their own may pin another
    path, _, test = shown.strip("`").partition("::")
    assert (ROOT / path).is_file()
    assert not test or re.search(rf"(?m)^def {test}\(", read(path))


def test_the_page_on_libraries_has_lines() -> None:
    """The rule above can fail."""
    assert {line[0] for line in lines_of_engines()} >= {"bitsandbytes", "transformers", "llama-cpp-python", "lm-eval"}


def test_locks_hold_every_pin_with_its_hashes_and_no_address() -> None:
    """`nox -s lock` writes them; a pin that was changed without it is named."""
    declared = pyproject()
    pins = {
        "base": declared["project"]["dependencies"],
        "publish": declared["project"]["dependencies"] + declared["project"]["optional-dependencies"]["publish"],
        "lint": declared["dependency-groups"]["lint"],
        "types": declared["project"]["dependencies"] + declared["dependency-groups"]["types"],
    }
    for name, wanted in pins.items():
        text = read(f"locks/{name}.txt")
        named = [pin.replace("_", "-").lower() for pin in wanted]  # as package indexes spell it
        assert [pin for pin in named if f"\n{pin} " not in f"\n{text}"] == [], name
        assert "://" not in text
        blocks = re.split(r"(?m)^(?=[a-z])", text)[1:]
        assert all("--hash=sha256:" in block for block in blocks), name
