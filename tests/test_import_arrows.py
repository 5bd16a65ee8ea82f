# SPDX-License-Identifier: Apache-2.0
"""The architecture itself under test: imports point one way, heavy ones stay inside, two modules print."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.paths import ROOT

HEAVY = ("torch", "transformers", "pandas", "lm_eval", "datasets", "bitsandbytes", "llama_cpp", "gguf")
FORKS = {"bench.records.listing"}
"""Its forked child lists a folder and must end there: whatever else it did would be done twice."""
LONGEST = 330
"""Lines of a module."""


def named(path: Path) -> str:
    """`bench.engines.fake` for bench/engines/fake.py, the package for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {named(path): path for folder in ("bench", "suites") for path in (ROOT / folder).rglob("*.py")}
FILES = {name: path for name, path in FILES.items() if not name.startswith(("suites.tasks", "suites.data"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
BENCH = sorted(name for name in FILES if name.split(".")[0] == "bench")
SUITES = sorted(name for name in FILES if name.startswith("suites."))


def imported(node: ast.AST) -> Iterator[str]:
    """Modules of this project that an import statement loads by name, wherever it stands."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in FILES)
    elif isinstance(node, ast.ImportFrom) and node.module:
        assert node.level == 0, "relative imports hide the arrows"
        inner = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in inner if name in FILES)
        if node.module in FILES and not all(name in FILES for name in inner):
            yield node.module


ARROWS = {name: {found for node in ast.walk(tree) for found in imported(node)} for name, tree in TREES.items()}

ROOMS = {
    "records": (),
    "catalog": ("records",),
    "instruments": ("records",),
    "engines": ("instruments", "catalog", "records"),
    "scoring": ("engines", "catalog", "records"),
    "judge": ("engines", "instruments", "catalog", "records"),
    "suite": ("scoring", "engines", "instruments", "records"),
    "suites": ("suite", "judge", "scoring", "engines", "instruments", "catalog", "records"),
    "plan": ("suites", "suite", "engines", "instruments", "catalog", "records"),
    "run": ("plan", "suites", "suite", "scoring", "engines", "instruments", "catalog", "records"),
    "fleet": ("run", "plan", "engines", "instruments", "records"),
    "views": ("judge", "plan", "suites", "engines", "instruments", "catalog", "records"),
    "bench": ("catalog", "judge", "records", "run", "views"),
    "cli": (
        "bench",
        "views",
        "fleet",
        "run",
        "judge",
        "plan",
        "suites",
        "scoring",
        "engines",
        "instruments",
        "catalog",
        "records",
    ),
    "__main__": ("cli",),
}  # fmt: skip
"""The doors: which rooms each may import. `suite` is the contract of suites, `bench` the Python face: loose modules."""
LOOSE = {"errors", "escape", "paths", "processes", "units"}
"""Loose modules that every room may use and that use nobody."""


def room_of(name: str) -> str:
    """`plan` for bench.plan.predict, `suite` for bench.suite, `suites` for suites.memory, `bench` for the package."""
    first, _, rest = name.partition(".")
    return first if first == "suites" or not rest else rest.partition(".")[0]


def inside_an_engine(name: str) -> bool:
    """A module of an engine's folder other than its `__init__`, which declares the engine without its library."""
    return name.startswith("bench.engines.") and name.count(".") > 2


def test_the_arrows_are_seen() -> None:
    """Submodules, packages and imports inside functions are all found, so that the rules below can fail."""
    assert {"bench.plan.selection", "bench.plan.questions", "bench.records.cell", "suites"} <= ARROWS["bench.plan.plan"]
    assert "bench.plan.plan" in ARROWS["bench.cli.selecting"]
    assert "bench.engines.transformers.engine" in ARROWS["bench.engines.transformers"]
    assert "suites.probe" in ARROWS["suites.memory"]
    assert len(BENCH) > 90 and len(SUITES) > 4


def test_imports_form_no_cycle() -> None:
    """Any module can be understood without what uses it, imports inside functions included."""
    left = {name: ARROWS[name] - {name} for name in FILES}
    while free := [name for name, targets in left.items() if not targets & set(left)]:
        for name in free:
            del left[name]
    assert left == {}


def test_every_module_has_a_room_and_few_are_loose() -> None:
    """Eleven rooms, each with an __init__ that says what it is for, and at most seven loose modules beside them."""
    assert {room_of(name) for name in FILES} == {*ROOMS, *LOOSE}
    folders = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert folders == set(ROOMS) - {"suite", "suites", "bench", "__main__"}
    assert len([path for path in (ROOT / "bench").glob("*.py") if path.name != "__init__.py"]) <= 7


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_has_the_doors_of_the_plan_and_no_other(room: str) -> None:
    """Every door that is used is in ROOMS, and every door in ROOMS is used."""
    used = {room_of(target) for name in FILES if room_of(name) == room for target in ARROWS[name]}
    assert used - LOOSE - {room} == set(ROOMS[room])


@pytest.mark.parametrize("room", sorted({path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}))
def test_a_room_names_what_others_may_use(room: str) -> None:
    """`__all__` holds the modules that other rooms import, and no others; commands are imported by nobody."""
    used = {target for name in FILES if room_of(name) != room for target in ARROWS[name] if room_of(target) == room}
    modules = {target.split(".")[2] for target in used if target.count(".") > 1}
    declared = [
        ast.literal_eval(node.value)
        for node in TREES[f"bench.{room}"].body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert set(declared[0] if declared else []) == modules
    assert len((ast.get_docstring(TREES[f"bench.{room}"]) or "").split(". ")) <= 3


def test_the_doors_open_one_way() -> None:
    """No two rooms reach each other, not even through others, and they stand on at most ten floors."""
    floors: dict[str, int] = {}
    while free := [room for room in ROOMS if room not in floors and all(door in floors for door in ROOMS[room])]:
        floors |= {room: 1 + max((floors[door] for door in ROOMS[room]), default=0) for room in free}
    assert set(floors) == set(ROOMS)
    rooms = {room: floor for room, floor in floors.items() if room not in {"suite", "bench", "__main__"}}
    assert max(rooms.values()) <= 10


@pytest.mark.parametrize("name", sorted(f"bench.{name}" for name in LOOSE))
def test_loose_modules_import_nothing_of_the_project(name: str) -> None:
    """Errors, escapes, paths, processes and units need nobody."""
    assert ARROWS[name] == set()


def test_the_runner_never_imports_the_worker() -> None:
    """It starts it by command line; they share the request alone."""
    reached, ahead = set(), {"bench.run.runner"}
    while ahead:
        name = ahead.pop()
        reached.add(name)
        ahead |= ARROWS[name] - reached
    assert "bench.run.worker" not in reached
    assert "bench.run.request" in ARROWS["bench.run.runner"] & ARROWS["bench.run.worker"]
    assert [name for name in FILES if "bench.run.worker" in ARROWS[name]] == []


def test_engines_do_not_know_each_other() -> None:
    """Each imports its own folder, the contract and the weights that all share."""
    shared = {"abilities", "contract", "exported", "http_api", "registry", "token_tree", "weights"}
    for name in FILES:
        parts = name.split(".")
        if room_of(name) == "engines" and len(parts) > 2 and parts[2] not in shared:
            others = {target.split(".")[2] for target in ARROWS[name] if target.startswith("bench.engines.")}
            assert others <= {parts[2], *shared}, name


def test_nobody_imports_the_commands() -> None:
    """They are the top of everything; only `python -m bench` stands above them."""
    above = [name for name in FILES if room_of(name) != "cli" and any(room_of(to) == "cli" for to in ARROWS[name])]
    assert above == ["bench.__main__"]


@pytest.mark.parametrize("name", sorted(name for name in BENCH if room_of(name) in {"judge", "views"}))
def test_judge_and_views_are_pure(name: str) -> None:
    """They open, write and start nothing; what publishes alone writes its files."""
    names = {node.module or "" for node in ast.walk(TREES[name]) if isinstance(node, ast.ImportFrom)}
    names |= {a.name for node in ast.walk(TREES[name]) if isinstance(node, ast.Import) for a in node.names}
    found = names & {"os", "sys", "pathlib", "subprocess", "time", "bench.records.store", "bench.instruments.machine"}
    publishing = ("bench.views.publish", "bench.views.publication", "bench.views.site.publish")
    writes = {**{key: {"pathlib"} for key in publishing}, "bench.views.columns_page": {"sys"}}
    assert found == writes.get(name, set())


@pytest.mark.parametrize("name", sorted(FILES))
def test_only_the_commands_and_the_display_print(name: str) -> None:
    """No print call anywhere; a console belongs to cli and to display (measure hands it through)."""
    calls = [node.func for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)]
    assert [call for call in calls if isinstance(call, ast.Name) and call.id == "print"] == []
    if room_of(name) != "cli" and name != "bench.run.display":
        methods = {call.attr for call in calls if isinstance(call, ast.Attribute)}
        assert "print" not in methods


@pytest.mark.parametrize("name", sorted(FILES))
def test_only_entry_points_exit(name: str) -> None:
    """`sys.exit` and `typer.Exit` belong to cli, and to what is started by `python -m`."""
    tree = TREES[name]
    main = {
        inner
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for inner in ast.walk(node)
    }
    exits = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"sys.exit", "typer.Exit", "os._exit"}
        if node not in main
    ]
    if name in FORKS:
        assert exits == ["os._exit"]
        return
    assert exits == [] or room_of(name) == "cli"


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_is_read_at_one_sitting(name: str) -> None:
    """330 lines at most."""
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_module_says_what_it_is_and_under_which_licence(name: str) -> None:
    """The SPDX line first, then a docstring."""
    assert FILES[name].read_text(encoding="utf-8").startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert ast.get_docstring(TREES[name])


@pytest.mark.parametrize("name", sorted(name for name in FILES if not inside_an_engine(name)))
def test_heavy_libraries_are_never_imported_by_a_module_as_such(name: str) -> None:
    """Only inside functions, inside an engine's folder, and in the two modules that are lm-eval models."""
    top = [node for node in TREES[name].body if isinstance(node, ast.Import | ast.ImportFrom)]
    roots = {a.name.split(".")[0] for node in top if isinstance(node, ast.Import) for a in node.names}
    roots |= {(node.module or "").split(".")[0] for node in top if isinstance(node, ast.ImportFrom)}
    lm_eval = name in {"bench.scoring.lm", "bench.scoring.lm_text"}
    assert roots & set(HEAVY) == ({"lm_eval"} if lm_eval else set())


PROGRAM = """
import json, sys
import bench.cli
calls = json.loads(sys.argv[1])
for call in calls:
    sys.argv = ["bench", *call]
    try:
        bench.cli.main()
    except SystemExit as ended:
        assert ended.code == 0, (call, ended.code)
loaded = [name for name in json.loads(sys.stdin.read()) if name in sys.modules]
print("LOADED", json.dumps(loaded))
"""


def test_help_and_plan_load_no_heavy_library(tmp_path: Path) -> None:
    """In a fresh process: `bench --help`, then plans for the fake and for transformers, in well under a second each."""
    where = ["--results", str(tmp_path / "results"), "--device", "cpu"]
    calls = [["--help"], ["plan", "--backend", "fake", *where], ["plan", "--backend", "transformers", *where]]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(calls)],
        input=json.dumps(HEAVY), capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"BENCH_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cells, about") == 2
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert not (tmp_path / "results").exists()
