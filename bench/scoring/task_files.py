# SPDX-License-Identifier: Apache-2.0
"""A user's own lm-eval tasks: their YAML files by name, groups of tasks, and a hash over all their files.

Nothing a file names is run here: `!function` is read as a name, `include` as a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.errors import UserError
from bench.records.document import sha256
from bench.records.parsing import YAML_BYTES, load_yaml, text_of

GROUP_KEYS = {"group", "group_alias", "task", "aggregate_metric_list", "metadata"}
"""What a group may say; anything else would change its members, which are read from their own files."""


Base = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
"""The parser that lm-eval reads the same files with: two parsers may read one file as two."""


class _Loader(Base):  # type: ignore[misc,valid-type]  # whichever is there
    """Reads task files without running what they name."""

    functions: list[str]
    """What stands behind `!function`, wherever in the file: as a value, as a key, in a set."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> str | None:
    if suffix != "function":
        return None
    loader.functions.append(str(node.value))
    return f"!function {node.value}"


_Loader.add_multi_constructor("!", _function)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file that a task consists of."""

    path: Path
    functions: tuple[str, ...]
    """`module.function` of each `!function`, not run."""
    merged: Mapping[str, object]
    """What it configures together with what it includes, as lm-eval merges them."""

    def module(self, function: str) -> Path | None:
        """The Python file of one of its functions, None where that is of an installed package."""
        file = self.path.parent / f"{function.rpartition('.')[0].replace('.', '/')}.py"
        return file.resolve() if file.is_file() else None


@dataclass
class Found:
    """What the files looked at configure."""

    tasks: dict[str, Path] = field(default_factory=dict)
    groups: dict[str, tuple[Path, list[str]]] = field(default_factory=dict)
    """File and members."""

    def read(self, path: Path) -> str | None:
        """Add what a file configures; its name, None if it only is a part of others. Raises UserError."""
        config = _parsed(path)
        task, group = config.get("task"), config.get("group")
        if isinstance(task, str):
            self.tasks[task] = path.resolve()
            return task
        if isinstance(group, str) and isinstance(task, list):
            self.groups[group] = (path.resolve(), _members(path, group, config, task))
            return group
        return None

    def members(self, name: str, within: Sequence[str] = ()) -> Iterator[str]:
        """The tasks that a name stands for: itself, or a group's members, of inner groups too. Raises UserError."""
        if name in self.tasks or name not in self.groups:
            yield name
            return
        path, names = self.groups[name]
        if name in within:
            raise UserError(f"{path}: group {name} contains itself", "leave it out of its own tasks")
        for member in names:
            yield from self.members(member, [*within, name])


def task_files(arguments: Sequence[str], folder: str) -> tuple[list[str], dict[str, str], str | None]:
    """Names of the tasks asked for, files of the caller's own by name, and a hash over all that they consist of.

    `arguments` are names or YAML files, `folder` holds YAML files; a folder alone means all its tasks. A group stands
    for its members, which may be the caller's own or anybody's. Raises UserError for what is not there or does not
    parse.
    """
    found = Found()
    asked: list[str] = []
    if folder:
        asked = _of_folder(found, Path(folder), all_of_it=not arguments)
    for argument in arguments:
        asked.append(_of_file(found, Path(argument)) if argument.endswith((".yaml", ".yml")) else argument)
    names = list(dict.fromkeys(member for name in asked for member in found.members(name)))
    used = {name: str(path) for name, path in found.tasks.items() if name in names}
    return names, used, _sha256(used) if used else None


def _of_folder(found: Found, folder: Path, *, all_of_it: bool) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"no folder {folder}", "give a folder of lm-eval task files (*.yaml)")
    named = [found.read(path) for path in sorted(folder.rglob("*.yaml"))]
    names = [name for name in named if name]
    if not names:
        raise UserError(f"no task in {folder}", "a task file is YAML with `task: NAME`")
    return names if all_of_it else []


def _of_file(found: Found, path: Path) -> str:
    if not path.is_file():
        raise UserError(f"no task file {path}", "give an existing YAML file, or a task's name")
    name = found.read(path)
    if name is None:
        raise UserError(f"{path} names no task", "a task file is YAML with `task: NAME`")
    if name in found.groups:  # its members lie beside it
        for beside in sorted(path.parent.glob("*.yaml")):
            found.read(beside)
    return name


def _members(path: Path, group: str, config: Mapping[str, object], listed: Sequence[object]) -> list[str]:
    """Names of a group's members. Raises UserError where the group changes them."""
    members = [member for member in listed if isinstance(member, str)]
    changes = sorted(set(config) - GROUP_KEYS - {"include"})
    if len(members) < len(listed) or changes:
        what = f"changes its members ({', '.join(changes)})" if changes else "configures members of its own"
        raise UserError(
            f"{path}: group {group} {what}, which is not supported",
            "write each member as a task file and list their names",
        )
    return members


def _parsed(path: Path) -> dict[str, object]:
    """A YAML file's mapping, empty if it holds something else. Raises UserError with file and line."""
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, object], tuple[str, ...]]:
    """A YAML file's mapping, and every function that it names. Raises UserError with file and line."""
    found: list[str] = []

    class Listing(_Loader):
        functions = found

    try:
        config = load_yaml(text_of(path, YAML_BYTES), Listing)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: {error.problem or 'not YAML'}", "mend the task file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}, line 1: {' '.join(str(error).split())[:120]}", "mend the task file") from None
    return (config if isinstance(config, dict) else {}), tuple(dict.fromkeys(found))


def unchanged(used: Mapping[str, str], planned: str | None) -> None:
    """Raise UserError where task files are no longer those of the hash that was planned with."""
    if used and planned and _sha256(used) != planned:
        raise UserError("the task files have changed since the run was planned", "start the run again")


def _sha256(used: Mapping[str, str]) -> str:
    """Over the task files, what they include and the Python files of the functions they name, in order of names."""
    files: dict[Path, None] = {}
    for part in parts(used):
        files[part.path] = None
        modules = (part.module(function) for function in part.functions)
        files |= {module: None for module in modules if module is not None}
    return sha256(b"".join(path.read_bytes() for path in files))


def parts(used: Mapping[str, str]) -> list[Part]:
    """Every file that these tasks (paths by name) consist of, in order of names, each once. Raises UserError."""
    found: dict[Path, Part] = {}
    for _, path in sorted(used.items()):
        _collect(Path(path), found, ())
    return list(found.values())


def _collect(path: Path, found: dict[Path, Part], within: tuple[Path, ...]) -> Mapping[str, object]:
    """What a file and its includes configure together."""
    if path in within:
        raise UserError(f"{path} includes itself", "mend the task file")
    if path in found:
        return found[path].merged
    config, functions = _read(path)
    includes = config.get("include") or []
    merged: dict[str, object] = {}
    found[path] = Part(path=path, functions=functions, merged={})  # its place: a file stands before what it includes
    for include in includes if isinstance(includes, list) else [includes]:
        part = path.parent / str(include)
        if not part.is_file():
            raise UserError(f"{path} includes {include}, which is not there", "mend the task file")
        merged |= _collect(part.resolve(), found, (*within, path))
    merged |= {name: value for name, value in config.items() if name != "include"}
    found[path] = Part(path=path, functions=functions, merged=merged)
    return merged
