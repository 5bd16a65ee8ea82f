# SPDX-License-Identifier: Apache-2.0
"""Code that a caller's own task files would run: what it is, where it lies, and whether the caller has agreed to it.

A task file looks like data. But `!function` imports a Python file beside it, in any other folder, or any installed
module, wherever in the YAML the tag stands and whichever file includes it; and a metric that lm-eval does not know is
fetched from the Hub and run. Who names a file has agreed to what lies in its own folder, and is told of it; whatever
comes from elsewhere runs only if it is named too (`--trust-task-code`). Templates are no code: they are rendered in a
sandbox (`bench.scoring.tasks`). lm-eval's own tasks are the installed package.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from bench.errors import UserError
from bench.scoring.task_files import Part, parts

REGISTERED = re.compile(r"@register_metric\(\s*metric=\"([^\"]+)\"")
"""How lm-eval's source names each metric of its own."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """One piece of code that task files name."""

    name: str
    """What it is agreed to by: a file's name, an installed module, `evaluate:METRIC`."""
    where: str
    """Its path, or what it is."""
    used: tuple[str, ...]
    """Functions that are named of it."""
    beside: bool
    """Whether it lies in the folder of a file that the caller named by its path."""

    def __str__(self) -> str:
        functions = f": {', '.join(self.used)}" if self.used else ""
        return f"{self.name} ({self.where}{functions})"


def code_of(files: Mapping[str, str], named: Sequence[str]) -> list[Code]:
    """All code that these task files (paths by task) would run; `named` are the files that the caller named by path."""
    folders = {Path(path).resolve().parent for path in named}
    found: dict[str, Code] = {}
    for part in parts(files):
        for name, where, function, file in (*_functions(part), *_metrics(part)):
            if file is not None and _is_lm_evals(file):
                continue
            known = found.get(where)
            used = (*(known.used if known else ()), *([function] if function else ()))
            beside = file is not None and file.parent in folders
            found[where] = Code(name=name, where=where, used=tuple(dict.fromkeys(used)), beside=beside)
    return [_apart(code, found.values()) for code in found.values()]


def _apart(code: Code, every: Iterable[Code]) -> Code:
    """The same, with its folder in its name where another file has that name too: consent is to one of them."""
    alike = [other for other in every if other.name == code.name and other.where != code.where]
    return replace(code, name="/".join(Path(code.where).parts[-2:])) if alike else code


def require_consent(found: Sequence[Code], agreed: Collection[str]) -> None:
    """Raise UserError for code from elsewhere that the caller has not named."""
    foreign = [code for code in found if not code.beside and code.name not in agreed]
    if foreign:
        listed = "; ".join(map(str, foreign))
        names = ",".join(dict.fromkeys([*agreed, *(code.name for code in foreign)]))
        raise UserError(f"the task files run code: {listed}", f"read it, then allow it: --trust-task-code {names}")


Found = tuple[str, str, str, Path | None]
"""Name, place, function, and the file if it is one."""


def _functions(part: Part) -> Iterator[Found]:
    for qualified in part.functions:
        module, _, function = qualified.rpartition(".")
        file = part.module(qualified)
        if file is not None:
            yield file.name, str(file), function, file
        else:
            yield module, f"installed module {module}", function, None


def _metrics(part: Part) -> Iterator[Found]:
    """Metrics that lm-eval would have the `evaluate` library fetch; a task with its own scoring loads none."""
    listed = part.merged.get("metric_list")
    if part.merged.get("process_results") is not None or not isinstance(listed, list):
        return
    for metric in listed:
        name = metric.get("metric") if isinstance(metric, dict) else None
        if isinstance(name, str) and (metric.get("hf_evaluate") is True or name not in _known_metrics()):
            yield f"evaluate:{name}", f"metric {name} of the Hub, or the folder of that name", "", None


@cache
def _known_metrics() -> frozenset[str]:
    """lm-eval's own metrics, read from its source: importing it would make this process large beside a measurement."""
    package = _package()
    return (
        frozenset(REGISTERED.findall((package / "api" / "metrics.py").read_text(encoding="utf-8")))
        if package
        else (frozenset())
    )


@cache
def _package() -> Path | None:
    found = find_spec("lm_eval")
    return Path(found.origin).resolve().parent if found and found.origin else None


def _is_lm_evals(file: Path) -> bool:
    package = _package()
    return package is not None and package in file.parents
