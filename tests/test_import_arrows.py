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
LONGEST = 330
"""Lines of a module, cli.py excepted: its commands are lists of options."""


def named(path: Path) -> str:
    """`bench.engines.fake` for bench/engines/fake.py, the package for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {named(path): path for folder in ("bench", "suites") for path in (ROOT / folder).rglob("*.py")}
FILES = {name: path for name, path in FILES.items() if not name.startswith(("suites.tasks", "suites.data"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
BENCH = sorted(name for name in FILES if name.split(".")[0] == "bench")
SUITES = sorted(name for name in FILES if name.startswith("suites."))
BACKENDS = sorted(name for name in FILES if name.startswith("bench.engines."))


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


def test_the_arrows_are_seen() -> None:
    """Submodules, packages and imports inside functions are all found, so that the rules below can fail."""
    assert {"bench.plan.plan.selection", "bench.plan.plan.predict", "bench.records.cell", "suites"} <= ARROWS[
        "bench.plan.plan"
    ]
    assert "bench.plan.plan" in ARROWS["bench.cli"]
    assert "bench.engines.transformers.engine" in ARROWS["bench.engines.transformers"]
    assert "suites.probe" in ARROWS["suites.memory"]
    assert len(BENCH) > 25 and len(SUITES) > 4 and len(BACKENDS) > 4


def test_imports_form_no_cycle() -> None:
    """Any module can be understood without what uses it, imports inside functions included."""
    left = {name: ARROWS[name] - {name} for name in FILES}
    while free := [name for name, targets in left.items() if not targets & set(left)]:
        for name in free:
            del left[name]
    assert left == {}


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


PUBLIC_TO_SUITES = {
    "bench.scoring.anchor", "suites.search", "bench.records.cell", "bench.engines.contract", "bench.errors", "bench.instruments",
    "bench.instruments.energy",
    "bench.instruments.sampler", "bench.scoring.lm", "bench.scoring.lm_text", "bench.records.record", "bench.scoring.reference", "bench.records.scored",
    "bench.judge.stats", "bench.suite", "suites.energy", "suites.noise_floor", "suites.sweep", "suites.probe",
    "suites.served",
}  # fmt: skip


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_imports_what_is_public_to_suites(name: str) -> None:
    """Of the project nothing else, except the probe text's package itself."""
    assert ARROWS[name] - {"suites"} <= PUBLIC_TO_SUITES


PUBLIC_TO_BACKENDS = {
    "bench.records.census", "bench.engines.contract", "bench.records.cell", "bench.errors", "bench.records.record", "bench.paths", "bench.catalog.entries.architecture",
    "bench.instruments.distributions", "bench.catalog.entries.gguf_file", "bench.records.kernel", "bench.catalog.remote", "bench.records.surroundings",
}  # fmt: skip


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_imports_its_library_and_little_else(name: str) -> None:
    """Engine, cell, kernel, errors, instruments, record, places, and the private modules beside it."""
    others = {
        target
        for target in ARROWS[name] - PUBLIC_TO_BACKENDS
        if not target.startswith(("bench.instruments", "bench.engines._")) and target != "bench.engines"
    }
    assert others == set()


def test_nobody_imports_the_commands() -> None:
    """Cli is the top of everything; only `python -m bench` stands above it."""
    assert [name for name in FILES if "bench.cli" in ARROWS[name]] == ["bench.__main__"]


BOTTOM = [
    "bench.catalog.entries.architecture", "suites.search", "bench.records.cell", "bench.instruments.distributions", "bench.errors", "bench.catalog.entries.gguf_file",
    "bench.records.kernel", "bench.paths", "bench.units",
]  # fmt: skip


@pytest.mark.parametrize("name", BOTTOM)
def test_the_bottom_imports_nothing_of_the_project(name: str) -> None:
    """Values, paths and arithmetic need nobody; a scheme alone is told in two parts."""
    assert ARROWS[name] == ({"bench.records.kernel"} if name == "bench.records.cell" else set())


@pytest.mark.parametrize(
    "name",
    [
        "bench.judge.stats",
        "bench.judge.figures",
        "bench.views.table",
        "bench.views.columns",
        "bench.views.formats",
        "bench.judge.compare",
        "bench.judge.cross_engine",
        "bench.instruments.disturbance",
        "bench.judge.claims",
        "bench.views.overview",
        "bench.views.listings",
    ],
)
def test_views_are_pure(name: str) -> None:
    """They open, write and start nothing."""
    names = {node.module or "" for node in ast.walk(TREES[name]) if isinstance(node, ast.ImportFrom)}
    names |= {a.name for node in ast.walk(TREES[name]) if isinstance(node, ast.Import) for a in node.names}
    assert (
        names & {"os", "sys", "pathlib", "subprocess", "time", "bench.records.store", "bench.instruments.machine"}
        == set()
    )


@pytest.mark.parametrize("name", sorted(FILES))
def test_only_the_commands_and_the_display_print(name: str) -> None:
    """No print call anywhere; a console belongs to cli and to display (measure hands it through)."""
    calls = [node.func for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)]
    assert [call for call in calls if isinstance(call, ast.Name) and call.id == "print"] == []
    if name not in {"bench.cli", "bench.run.display"}:
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
    assert exits == [] or name == "bench.cli"


@pytest.mark.parametrize("name", sorted(set(FILES) - {"bench.cli"}))
def test_a_module_is_read_at_one_sitting(name: str) -> None:
    """330 lines at most."""
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_module_says_what_it_is_and_under_which_licence(name: str) -> None:
    """The SPDX line first, then a docstring."""
    assert FILES[name].read_text(encoding="utf-8").startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert ast.get_docstring(TREES[name])


@pytest.mark.parametrize("name", sorted(name for name in FILES if not name.rpartition(".")[2].startswith("_")))
def test_heavy_libraries_are_never_imported_by_a_module_as_such(name: str) -> None:
    """Only inside functions, in backends' private modules, and in bench.scoring.lm and lm_text (suites' own)."""
    top = [node for node in TREES[name].body if isinstance(node, ast.Import | ast.ImportFrom)]
    roots = {a.name.split(".")[0] for node in top if isinstance(node, ast.Import) for a in node.names}
    roots |= {(node.module or "").split(".")[0] for node in top if isinstance(node, ast.ImportFrom)}
    assert roots & set(HEAVY) == ({"lm_eval"} if name in {"bench.scoring.lm", "bench.scoring.lm_text"} else set())


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
