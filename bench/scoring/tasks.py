# SPDX-License-Identifier: Apache-2.0
"""Load tasks by name: this project's, the user's files, or lm-eval's. One that cannot be loaded is a clear error."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from bench.engines.contract import Unsupported
from bench.errors import UserError
from bench.paths import ROOT
from bench.scoring.task_files import Base

if TYPE_CHECKING:
    from lm_eval.api.task import Task

TASKS = ROOT / "suites" / "tasks"


def offline_tasks() -> dict[str, dict[str, object]]:
    """This project's task configurations by name, their data files made absolute."""
    return deepcopy(_offline())


def offline_names() -> list[str]:
    """Tasks that need no network."""
    return list(_offline())


@cache
def _offline() -> dict[str, dict[str, object]]:
    """Read once: 40 ms each time, in every process of a run."""
    found = {}
    for path in sorted(TASKS.glob("*.yaml")):
        config = yaml.load(path.read_text(encoding="utf-8"), Base)  # noqa: S506 - one of the safe ones
        found[str(config["task"])] = _absolute(config, path.parent)
    return found


def _absolute(config: dict[str, object], folder: Path) -> dict[str, object]:
    """The configuration with its data files found beside it, where they lie there."""
    options = config.get("dataset_kwargs")
    files = options.get("data_files") if isinstance(options, dict) else None
    if not isinstance(options, dict) or files is None:
        return config

    def beside(value: object) -> object:
        if isinstance(value, list):
            return [beside(one) for one in value]
        return str(folder / str(value)) if (folder / str(value)).exists() else value

    placed = {split: beside(value) for split, value in files.items()} if isinstance(files, dict) else beside(files)
    return {**config, "dataset_kwargs": {**options, "data_files": placed}}


def load_tasks(names: Sequence[str], files: Mapping[str, str]) -> dict[str, Task]:
    """lm-eval's task objects by name, groups taken apart; `files` are the caller's own by name.

    Raises Unsupported for a name that nobody knows, and UserError where a task's data cannot be had: both before
    anything is scored, so that no record answers a part of what was asked.
    """
    from lm_eval.tasks import TaskManager

    offline = offline_tasks()
    hub = [name for name in names if name not in offline and name not in files]
    _sandbox_templates()
    manager = TaskManager(include_defaults=bool(hub))
    unknown = [name for name in hub if name not in manager.all_tasks]
    if unknown:
        near = difflib.get_close_matches(unknown[0], [*offline, *manager.all_tasks], n=1, cutoff=0.8)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise Unsupported(f"lm-eval has no task {unknown[0]!r}{meant}; own tasks: {', '.join(offline)}")
    found: dict[str, Task] = {}
    for name in names:
        spec = offline.get(name, name) if name not in files else _own(Path(files[name]))
        try:
            with rendering(name):
                found |= manager.load([spec])["tasks"]
        except OSError as error:
            if name in files or name in offline:
                reason = f"the data of task {name} cannot be read: {_first_line(error)}"
                raise UserError(reason, "mend its data_files") from error
            remedy = (
                f"connect to the network, or leave it out: --task {','.join(n for n in names if n not in hub) or OWN}"
            )
            raise UserError(f"task {name} needs the Hugging Face Hub: {_first_line(error)}", remedy) from error
    return found


def _sandbox_templates() -> None:
    """Have lm-eval render templates in a sandbox: what a task file says of its prompts must not reach the interpreter.

    It keeps lm-eval's own settings and filters; nothing is rendered otherwise, what reaches out of the document raises.
    """
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval import utils

    plain = utils.env
    if isinstance(plain, ImmutableSandboxedEnvironment):
        return
    utils.env = ImmutableSandboxedEnvironment(
        loader=plain.loader, undefined=plain.undefined, keep_trailing_newline=plain.keep_trailing_newline
    )
    utils.env.filters.update(plain.filters)


@contextmanager
def rendering(task: str) -> Iterator[None]:
    """Turn what is wrong with a task's template into one line. Raises UserError."""
    from jinja2 import TemplateError

    try:
        yield
    except TemplateError as error:
        raise UserError(f"a template of task {task} cannot be rendered: {_first_line(error)}", "mend it") from error


OWN = "bench_facts_en"
"""A task that needs no network, to be named in a remedy."""


def _own(path: Path) -> dict[str, object]:
    """A caller's configuration, what it includes and the functions it names resolved as lm-eval does."""
    from lm_eval.tasks._yaml_loader import load_yaml

    return _absolute(load_yaml(path), path.parent)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
